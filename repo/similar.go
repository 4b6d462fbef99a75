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

// Similar finds, for a Writer, chunks that a new one is probably alike. Its methods are called
// concurrently.
type Similar interface {
	// Bases returns up to delta.MaxBases chunks of which plaintext, a new data chunk, is probably
	// made up but for small differences, in the order in which they make it up; none if it knows
	// none. near is what PutNear was given. Before it takes any trouble to get a chunk's contents it asks
	// canBe, which says whether that may be a base. An error ends the run: what only makes that bases
	// can't be had is none.
	Bases(ctx context.Context, plaintext []byte, near []chunk.ID, canBe func(chunk.ID) (bool, error)) ([]Base, error)
	// Stored is told of each data chunk that was stored, and whether whole or as a delta. It does not
	// keep plaintext.
	Stored(id chunk.ID, plaintext []byte, whole bool)
}

// A delta is kept if it is smaller than a share of the whole chunk, as it ties the two chunks
// together, and is read more slowly. Where it is much smaller than the plaintext, the
// whole chunk isn't encoded at all to compare them.
const (
	deltaShare = 0.5
	smallDelta = 1. / 32
)

// encode encodes a chunk, as a delta if that is worth it, and says in e how.
func (w *Writer) encode(plaintext []byte, near []chunk.ID, e *pack.Entry) ([]byte, error) {
	asDelta, bases, err := w.encodeDelta(plaintext, near, e)
	if err != nil {
		return nil, err
	}
	if bases != (pack.Bases{}) && float64(len(asDelta)) <= smallDelta*float64(len(plaintext)) {
		e.Encoding, e.Bases = pack.Delta, bases
		return asDelta, nil
	}
	whole, encoding := w.encoder.Encode(w.space(), plaintext)
	if bases != (pack.Bases{}) && float64(len(asDelta)) <= deltaShare*float64(len(whole)) {
		w.recycle(whole)
		e.Encoding, e.Bases = pack.Delta, bases
		return asDelta, nil
	}
	w.recycle(asDelta)
	e.Encoding = encoding
	return whole, nil
}

// encodeDelta returns no bases if there are none, or there is nothing to gain.
func (w *Writer) encodeDelta(plaintext []byte, near []chunk.ID, e *pack.Entry) (encoded []byte, of pack.Bases, err error) {
	if w.similar == nil || e.Kind != chunk.Data {
		return nil, of, nil
	}
	bases, err := w.basesFor(plaintext, near, e.ID)
	if len(bases) == 0 || err != nil {
		return nil, of, err
	}
	var contents [delta.MaxBases][]byte
	for i, b := range bases {
		of[i], contents[i] = b.ID, b.Plaintext
	}
	encoded, ok, err := w.encoder.EncodeDelta(w.space(), plaintext, contents[:len(bases)]...)
	if !ok {
		of = pack.Bases{}
	}
	return encoded, of, err
}

// basesFor returns the bases to try for a chunk. It believes nobody: contents must be those of
// the ID, and a base must be one that the snapshot may rely on.
func (w *Writer) basesFor(plaintext []byte, near []chunk.ID, of chunk.ID) ([]Base, error) {
	bases, err := w.similar.Bases(w.ctx, plaintext, near, w.canBeBase)
	if err != nil || len(bases) == 0 {
		return nil, err
	}
	if len(bases) > delta.MaxBases {
		return nil, fmt.Errorf("%d bases for a chunk, %d are the most", len(bases), delta.MaxBases)
	}
	for i, b := range bases {
		if b.ID == of || i > 0 && bases[i-1].ID == b.ID {
			return nil, nil
		}
		if !w.repo.IsChunk(Ref{b.ID, chunk.Data}, b.Plaintext) {
			return nil, nil // of a damaged cache
		}
		ok, err := w.relyOnBase(b.ID)
		if !ok || err != nil {
			return nil, err
		}
	}
	return bases, nil
}

// canBeBase reports whether a chunk has a whole home that this snapshot may rely on.
func (w *Writer) canBeBase(id chunk.ID) (bool, error) {
	_, ok, err := w.wholeHome(id)
	return ok, err
}

// relyOnBase is canBeBase, and notes that the snapshot relies on the home.
func (w *Writer) relyOnBase(id chunk.ID) (bool, error) {
	p, ok, err := w.wholeHome(id)
	if ok && w.repo.does(stepUseBases) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.used[p.Pack] = p.PackSize
	}
	return ok, err
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
