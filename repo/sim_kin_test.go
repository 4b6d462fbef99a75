package repo_test

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

// kin knows of chunks of data which others each is similar to. Writers that have it store
// deltas. It does not change while any runs.
type kin struct {
	contents map[chunk.ID][]byte
	near     map[string][]chunk.ID // by contents
}

func newKin() *kin { return &kin{make(map[chunk.ID][]byte), make(map[string][]chunk.ID)} }

func (k *kin) clone() *kin { return &kin{maps.Clone(k.contents), maps.Clone(k.near)} }

// Bases implements repo.Similar.
func (k *kin) Bases(_ context.Context, c *repo.NewChunk, home repo.Home) (bases []repo.Base, err error) {
	for _, id := range k.near[string(c.Plaintext)] {
		_, ok, err := home(id)
		if err != nil {
			return nil, err
		}
		if ok {
			bases = append(bases, repo.Base{ID: id, Plaintext: k.contents[id]})
		}
	}
	return bases, nil
}

// Stored implements repo.Similar.
func (*kin) Stored(*repo.NewChunk, []byte, pack.Encoding) {}

// relate makes a chunk similar to others, of which it is made up but for a few bytes.
func (b *book) relate(p []byte, to ...[]byte) {
	b.Helper()
	var ids []chunk.ID
	for _, q := range to {
		id := b.dataID(q)
		b.kin.contents[id] = q
		ids = append(ids, id)
	}
	b.kin.near[string(p)] = ids
}

// altered returns p with a byte changed.
func altered(p []byte) []byte {
	q := bytes.Clone(p)
	q[len(q)/3]++
	return q
}

// across returns the end of one and the beginning of another, with a byte changed: what a
// chunk is like after a boundary has moved.
func across(p, q []byte) []byte {
	return altered(append(bytes.Clone(p[len(p)/2:]), q[:len(q)/2]...))
}

// beside runs scripts one after the other, each on the storage as it is now, as if none knew
// of the others.
func (b *book) beside(m *mem.Mem, scripts map[string]script) (said []string) {
	b.Helper()
	before := m.Clone()
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		own := before.Clone()
		said = append(said, b.mustDirect(own, name, scripts[name])...)
		for _, object := range b.names(own, "") {
			if _, err := m.Stat(context.Background(), object); err != nil {
				b.must(backend.PutBytes(context.Background(), m, object, b.object(own, object)))
			}
		}
	}
	return said
}

// stored returns how many homes of either sort a chunk has.
func (b *book) stored(m *mem.Mem, p []byte) (whole, deltas int) {
	b.Helper()
	id := b.dataID(p)
	for _, name := range b.names(m, "data/") {
		entries, err := b.entries(name, b.object(m, name))
		b.must(err)
		for _, e := range entries {
			switch {
			case e.ID != id:
			case len(e.Bases.IDs()) > 0:
				deltas++
			default:
				whole++
			}
		}
	}
	return whole, deltas
}

// mustStore fails the test unless a chunk has so many homes.
func (b *book) mustStore(m *mem.Mem, p []byte, whole, deltas int) {
	b.Helper()
	if w, d := b.stored(m, p); w != whole || d != deltas {
		b.Fatalf("a chunk is stored %d times whole and %d times as a delta, not %d and %d times", w, d, whole, deltas)
	}
}
