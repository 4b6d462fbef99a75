package index_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// world makes segments, the same ones for the same seed.
type world struct {
	t       testing.TB
	rng     *rand.Rand
	random  *rand.ChaCha8
	ring    *seal.Keyring
	admin   ed25519.PrivateKey
	writers []ed25519.PrivateKey
	chunks  []chunk.ID // every chunk that some segment has
	packs   []pack.Finished
}

var epoch1 = seal.Place{Epoch: 1}

func newWorld(t testing.TB, seed byte) *world {
	random := rand.NewChaCha8([32]byte{seed})
	w := &world{t: t, rng: rand.New(random), random: random, ring: seal.NewKeyring(seal.RepositoryID{1, seed})}
	w.ring.Add(epoch1, [32]byte{2})
	w.ring.Add(seal.Place{Epoch: 2, Domain: 3}, [32]byte{3})
	w.admin = w.key()
	w.writers = []ed25519.PrivateKey{w.key(), w.key()}
	return w
}

func (w *world) key() ed25519.PrivateKey {
	var seed [32]byte
	w.random.Read(seed[:])
	return ed25519.NewKeyFromSeed(seed[:])
}

func (w *world) id() (id [32]byte) {
	w.random.Read(id[:])
	return id
}

// pack makes a pack of n chunks, of which some are in other packs too.
func (w *world) pack(n int) pack.Finished {
	f := pack.Finished{ID: w.id(), Kind: seal.DataPack}
	offset := uint32(pack.PrefixSize)
	if w.rng.IntN(3) == 0 {
		f.Kind = seal.MetaPack
	}
	for range n {
		e := pack.Entry{ID: w.id(), Offset: offset, Kind: chunk.Data, Encoding: pack.Zstd, Raw: 1 + w.rng.Uint32N(1<<20)}
		if len(w.chunks) > 0 && w.rng.IntN(8) == 0 {
			e.ID = w.chunks[w.rng.IntN(len(w.chunks))]
		}
		if f.Kind == seal.MetaPack {
			e.Kind = chunk.Node
		}
		e.Stored = 17 + w.rng.Uint32N(1<<15)
		switch w.rng.IntN(10) {
		case 0:
			e.Encoding, e.Stored = pack.Plain, e.Raw+seal.Overhead
		case 1:
			if e.Kind != chunk.Data {
				break
			}
			e.Encoding, e.Bases = pack.Delta, pack.Bases{w.id()}
			if len(w.chunks) > 0 {
				e.Bases[1] = w.chunks[w.rng.IntN(len(w.chunks))]
			}
			if e.Bases[1] == e.ID {
				e.Bases[1] = chunk.ID{}
			}
		}
		offset += e.Stored
		f.Entries = append(f.Entries, e)
		w.chunks = append(w.chunks, e.ID)
	}
	f.Size = int64(offset) + 1000
	w.packs = append(w.packs, f)
	return f
}

// object makes a segment of packs.
func (w *world) object(key ed25519.PrivateKey, place seal.Place, supersedes []index.SegmentID, packs ...pack.Finished) []byte {
	w.t.Helper()
	b := index.NewBuilder()
	for _, f := range packs {
		if err := b.AddPack(f); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, id := range supersedes {
		b.Supersede(id)
	}
	keys, _ := w.ring.Keys(place)
	object, id, err := b.Encode(w.random, seal.Header{Kind: seal.Segment, Repository: w.ring.Repository, Place: place}, keys, key)
	if err != nil {
		w.t.Fatal(err)
	}
	if id != blake3.Sum256(object) {
		w.t.Fatal("the ID is not the hash of the object")
	}
	return object
}

func (w *world) open(object []byte) *index.Segment {
	w.t.Helper()
	s, err := index.Open(object, w.ring)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// segments makes n segments of about per entries. Some repeat packs of others, some
// of the admin's supersede, and some of the writers' claim to.
func (w *world) segments(n, per int) []*index.Segment {
	var all []*index.Segment
	for range n {
		key, place := w.admin, epoch1
		if w.rng.IntN(2) == 0 {
			key = w.writers[w.rng.IntN(len(w.writers))]
			place = seal.Place{Epoch: 2, Domain: 3}
		}
		var supersedes []index.SegmentID
		for _, s := range all {
			if w.rng.IntN(12) == 0 {
				supersedes = append(supersedes, s.ID)
			}
		}
		packs := []pack.Finished{w.pack(1 + w.rng.IntN(per))}
		for range w.rng.IntN(3) {
			if f := w.packs[w.rng.IntN(len(w.packs))]; !slices.ContainsFunc(packs, func(p pack.Finished) bool { return p.ID == f.ID }) {
				packs = append(packs, f)
			}
		}
		all = append(all, w.open(w.object(key, place, supersedes, packs...)))
	}
	return all
}

func (w *world) adminSigner() seal.Signer { return seal.SignerOf(w.admin) }

// local opens a local index in a new directory.
func (w *world) local() (*index.Local, string) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "index")
	return w.localAt(path), path
}

func (w *world) localAt(path string) *index.Local {
	w.t.Helper()
	l, err := index.OpenLocal(path, w.ring.Repository, index.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

func (w *world) absorb(l *index.Local, segments ...*index.Segment) {
	w.t.Helper()
	if err := l.Absorb(context.Background(), w.adminSigner(), segments...); err != nil {
		w.t.Fatal(err)
	}
}

// live returns the segments that speak: those that no live segment of the admin
// supersedes.
func (w *world) live(segments []*index.Segment) []*index.Segment {
	memo := make(map[index.SegmentID]bool)
	var alive func(s *index.Segment) bool
	alive = func(s *index.Segment) bool {
		if v, ok := memo[s.ID]; ok {
			return v
		}
		v := !slices.ContainsFunc(segments, func(o *index.Segment) bool {
			return o.Signer == w.adminSigner() && slices.Contains(o.Supersedes, s.ID) && alive(o)
		})
		memo[s.ID] = v
		return v
	}
	var out []*index.Segment
	for _, s := range segments {
		if alive(s) {
			out = append(out, s)
		}
	}
	return out
}

// places is the model of a local index that has absorbed the segments.
func (w *world) places(segments []*index.Segment) map[chunk.ID][]index.Place {
	m := make(map[chunk.ID][]index.Place)
	for _, s := range w.live(segments) {
		for e := range s.Entries() {
			p := s.Packs[e.Pack]
			m[e.ID] = append(m[e.ID], index.Place{Pack: p.ID, PackKind: p.Kind, PackSize: p.Size, Entry: e.Entry, Signer: s.Signer, SignerPlace: s.Header.Place})
		}
	}
	for id, list := range m {
		slices.SortFunc(list, func(a, b index.Place) int {
			return cmp.Or(bytes.Compare(a.Pack[:], b.Pack[:]), cmp.Compare(a.Entry.Offset, b.Entry.Offset), bytes.Compare(a.Signer[:], b.Signer[:]), cmp.Compare(a.SignerPlace.Epoch, b.SignerPlace.Epoch))
		})
		m[id] = slices.Compact(list)
	}
	return m
}

// compare checks the answers for n chunks of the world, or all if n is 0, and for
// chunks that do not exist.
func (w *world) compare(l *index.Local, segments []*index.Segment, n int) error {
	want := w.places(segments)
	ids := slices.Clip(w.chunks)
	if n > 0 {
		ids = nil
		for range n {
			ids = append(ids, w.chunks[w.rng.IntN(len(w.chunks))])
		}
	}
	for i := range min(len(ids), 200) {
		near := ids[i] // the neighbours of a chunk are the hardest to deny
		binary.BigEndian.PutUint64(near[24:], binary.BigEndian.Uint64(near[24:])+uint64(i%3)-1)
		ids = append(ids, near)
	}
	var got []index.Place
	for _, id := range ids {
		var err error
		if got, err = l.AppendPlaces(got[:0], id); err != nil {
			return err
		}
		if !slices.Equal(got, want[id]) {
			return &wrongAnswer{id, got, want[id]}
		}
	}
	return nil
}

type wrongAnswer struct {
	id        chunk.ID
	got, want []index.Place
}

func (e *wrongAnswer) Error() string {
	return "chunk " + e.id.Short() + ": wrong places"
}

// mustCompare is compare that fails the test.
func (w *world) mustCompare(l *index.Local, segments []*index.Segment, n int) {
	w.t.Helper()
	err := w.compare(l, segments, n)
	if wrong := (*wrongAnswer)(nil); errors.As(err, &wrong) {
		w.t.Fatalf("%v:\ngot  %+v\nwant %+v", err, wrong.got, wrong.want)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
