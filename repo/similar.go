package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Base is a stored data chunk that new ones may be stored as differences to.
type Base struct {
	ID        chunk.ID
	Plaintext []byte // nobody changes it while it is put
}

// NewChunk is a data chunk that is about to be stored.
type NewChunk struct {
	ID        chunk.ID
	Plaintext []byte
	Near      []chunk.ID // what PutNear was given

	tried  int // how often bases were asked for, and were of no use
	sketch sketched
}

// Home says where a chunk is that may be a base; ok is false if it may not.
type Home func(chunk.ID) (home index.Place, ok bool, err error)

// Similar finds, for a Writer, chunks that a new one is probably alike. Its methods are called
// concurrently, but not with the same chunk, and keep neither that nor its contents.
type Similar interface {
	// Bases returns up to delta.MaxBases chunks of which c is probably
	// made up but for small differences, in the order in which they make it up; none if it knows
	// none. If they were of no use it is asked once more. Before it takes any trouble to get a chunk's contents it asks
	// home whether that may be a base. An error ends the run: what only makes that bases
	// can't be had is none.
	Bases(ctx context.Context, c *NewChunk, home Home) ([]Base, error)
	// Stored is told of each data chunk that was stored, as encoded, without seal.
	Stored(c *NewChunk, encoded []byte, encoding pack.Encoding)
}

// A delta is kept if it is smaller than a share of the whole chunk, as it ties the two chunks
// together, and is read more slowly. Where it is much smaller than the plaintext, the
// whole chunk isn't encoded at all to compare them.
const (
	deltaShare = 0.5
	smallDelta = 1. / 32
)

// maxTries is how often bases are asked for, for one chunk.
const maxTries = 2

// encode encodes a chunk, as a delta if that is worth it, and says in e how. whole is about how
// much a delta would have taken otherwise, in bytes.
func (w *Writer) encode(c *NewChunk, e *pack.Entry) (encoded []byte, whole int, err error) {
	var plain []byte // the whole chunk, encoded, if it had to be
	for c.tried = 0; w.similar != nil && e.Kind == chunk.Data && c.tried < maxTries; c.tried++ {
		d, err := w.encodeDelta(c)
		if err != nil {
			return nil, 0, err
		}
		if d.asked == 0 {
			break
		}
		if !d.ok {
			w.recycle(d.encoded)
			continue
		}
		small := float64(len(d.encoded)) <= smallDelta*float64(len(c.Plaintext))
		if !small && plain == nil {
			plain, e.Encoding = w.encoder.Encode(w.space(), c.Plaintext)
		}
		if small || float64(len(d.encoded)) <= deltaShare*float64(len(plain)) {
			if whole = d.whole; plain != nil {
				whole = len(plain)
			}
			w.recycle(plain)
			e.Encoding, e.Bases = pack.Delta, d.bases
			return d.encoded, whole, nil
		}
		w.recycle(d.encoded)
	}
	if plain == nil {
		plain, e.Encoding = w.encoder.Encode(w.space(), c.Plaintext)
	}
	return plain, 0, nil
}

// madeDelta is a delta that may be stored.
type madeDelta struct {
	asked   int // how many bases there were to try
	ok      bool
	encoded []byte
	bases   pack.Bases
	whole   int // about what the whole chunk would take, as its bases do
}

// encodeDelta makes a delta. It isn't ok if there is nothing to gain.
func (w *Writer) encodeDelta(c *NewChunk) (d madeDelta, err error) {
	bases, homes, err := w.basesFor(c)
	if d.asked = len(bases); d.asked == 0 || err != nil {
		return d, err
	}
	var contents [delta.MaxBases][]byte
	var stored, raw int
	for i, b := range bases {
		d.bases[i], contents[i] = b.ID, b.Plaintext
		stored, raw = stored+int(homes[i].Entry.Stored), raw+int(homes[i].Entry.Raw)
	}
	d.whole = int(float64(len(c.Plaintext)) * float64(stored) / float64(raw))
	d.encoded, d.ok, err = w.encoder.EncodeDelta(w.space(), c.Plaintext, contents[:len(bases)]...)
	return d, err
}

// basesFor returns the bases to try for a chunk. It believes nobody: contents must be those of
// the ID, and a base must be one that the snapshot may rely on.
func (w *Writer) basesFor(c *NewChunk) (bases []Base, homes [delta.MaxBases]index.Place, err error) {
	bases, err = w.similar.Bases(w.ctx, c, w.wholeHome)
	if err != nil || len(bases) == 0 {
		return nil, homes, err
	}
	if len(bases) > delta.MaxBases {
		return nil, homes, fmt.Errorf("%d bases for a chunk, %d are the most", len(bases), delta.MaxBases)
	}
	for i, b := range bases {
		if b.ID == c.ID || i > 0 && bases[i-1].ID == b.ID {
			return nil, homes, nil
		}
		if !w.repo.IsChunk(Ref{b.ID, chunk.Data}, b.Plaintext) {
			return nil, homes, nil // of a damaged cache
		}
		var ok bool
		if homes[i], ok, err = w.relyOnBase(b.ID); !ok || err != nil {
			return nil, homes, err
		}
	}
	return bases, homes, nil
}

// relyOnBase is wholeHome, and notes that the snapshot relies on the home.
func (w *Writer) relyOnBase(id chunk.ID) (home index.Place, ok bool, err error) {
	home, ok, err = w.wholeHome(id)
	if ok && w.repo.does(stepUseBases) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.used[home.Pack] = home.PackSize
	}
	return home, ok, err
}

// wholeHome returns where a data chunk is that this snapshot may rely on, and hangs on no other.
func (w *Writer) wholeHome(id chunk.ID) (home index.Place, ok bool, err error) {
	var buf [4]index.Place
	places, err := w.repo.lookup(buf[:0], id)
	if err != nil {
		return home, false, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(places, func(p index.Place) bool {
		return p.Entry.Encoding != pack.Delta && w.counts(p, chunk.Data)
	})
	if i < 0 {
		return home, false, nil
	}
	return places[i], true, nil
}

// counts reports whether the snapshot may rely on a place, but for its bases.
func (w *Writer) counts(p index.Place, kind chunk.Kind) bool {
	trusted := p.Signer == seal.SignerOf(w.repo.signing) || p.Signer == w.repo.config.Admin
	return trusted && p.Entry.Kind == kind && w.stays(p.Pack, p.PackSize)
}

// relyOnDelta reports whether a delta at a place is stored, as all its bases are, and notes that the
// snapshot relies on them all.
func (w *Writer) relyOnDelta(p index.Place) (bool, error) {
	homes := []index.Place{p}
	for _, id := range w.repo.hangsOn(&p.Entry) {
		home, ok, err := w.wholeHome(id)
		if err != nil || !ok && w.repo.does(stepWholeBase) {
			return false, err
		}
		if ok && w.repo.does(stepUseBases) {
			homes = append(homes, home)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range homes {
		w.used[h.Pack] = h.PackSize
	}
	return true, nil
}

// isDamage reports whether an error says that something stored is not as it should be.
func isDamage(err error) bool { return errors.Is(err, ErrDamage) || errors.Is(err, seal.ErrDamaged) }
