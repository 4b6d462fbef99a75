package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// snapshotOf makes a snapshot with a file of given chunks, wherever those are.
func (w *world) snapshotOf(r *repo.Repository, chunks ...chunk.ID) snapshot.ID {
	w.Helper()
	keys, err := r.WriteKeys()
	w.must(err)
	wr := w.begin(r)
	b := snapshot.NewBuilder(keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) { return wr.PutNode(chunk.Node, p) })
	w.must(b.Add(w.Context(), &snapshot.Entry{Key: "", Type: snapshot.Directory}))
	e := &snapshot.Entry{Key: snapshot.Key("").Child("file"), Type: snapshot.File, Size: uint64(1000 * len(chunks)), Hash: [16]byte{1}}
	for _, id := range chunks {
		e.Extents = append(e.Extents, snapshot.Extent{Chunk: id, ChunkSize: 1000, Length: 1000})
	}
	w.must(b.Add(w.Context(), e))
	root, err := b.Finish(w.Context())
	w.must(err)
	id, err := commit(w.Context(), wr, root, fmt.Sprint(len(chunks)), w.now())
	w.must(err)
	return id
}

// delta is a frame that says to be what differs from a base. Nobody can make anything of it, but
// prune does not read what the admin vouches for.
func (w *world) delta(id, base chunk.ID) frame {
	return frame{pack.Entry{ID: id, Kind: chunk.Data, Encoding: pack.Delta, Bases: pack.Bases{base}, Raw: 1000}, w.random.bytes(100)}
}

// deltas is a repository in which the admin has stored chunks as deltas, with IDs that tests
// choose.
type deltas struct {
	*world
	admin *attacker // forges what no writer writes
}

func newDeltas(t *testing.T) *deltas {
	w := newRepository(t)
	r := w.stranger(admin)
	return &deltas{w, &attacker{world: w, Sealer: w.sealer(r), repo: r, storage: w.storage}}
}

// id returns a chunk's ID that begins with a byte, so that tests choose which comes first.
func (d *deltas) id(first byte) chunk.ID {
	id := chunk.ID(d.random.bytes(32))
	id[0] = first
	return id
}

func (d *deltas) pack(frames ...frame) string { return d.admin.forgePack(seal.DataPack, frames...) }

func (d *deltas) whole(id chunk.ID) frame {
	return junk(repo.Ref{ID: id, Kind: chunk.Data}, d.random.bytes(1000))
}

// keeps prunes, and fails the test unless just the given packs of data are left.
func (d *deltas) keeps(packs ...string) {
	d.Helper()
	for range 2 {
		d.prune(repo.PruneOptions{})
	}
	slices.Sort(packs)
	if got := d.names("data/"); !slices.Equal(got, packs) {
		d.Errorf("left are %v, want %v", got, packs)
	}
}

// A base stays while anything hangs on it, and no longer.
func TestPruneKeepsBases(t *testing.T) {
	for _, order := range [][2]byte{{1, 2}, {2, 1}} { // which of the two is met first
		d := newDeltas(t)
		x, base := d.id(order[0]), d.id(order[1])
		dead := d.pack(d.whole(d.id(3)))
		of, on := d.pack(d.delta(x, base)), d.pack(d.whole(base))
		id := d.snapshotOf(d.admin.repo, x)
		d.keeps(of, on)
		if slices.Contains(d.names("data/"), dead) {
			t.Error("the dead pack is there")
		}
		d.forget(id)
		d.keeps()
	}
}

// A whole copy is worth more than a delta, which then goes, and its base with it.
func TestPrunePrefersWhole(t *testing.T) {
	d := newDeltas(t)
	x, base := d.id(1), d.id(2)
	d.pack(d.delta(x, base))
	d.pack(d.whole(base))
	full := d.pack(d.whole(x))
	d.snapshotOf(d.admin.repo, x)
	d.keeps(full)
}

// Each of two chunks is stored whole, and as what differs from the other. It looks as if
// each had two copies.
func TestPruneDeltasOfEachOther(t *testing.T) {
	for _, wholes := range []int{0, 1, 2} {
		d := newDeltas(t)
		x, y := d.id(1), d.id(2)
		both := d.pack(d.delta(x, y), d.delta(y, x))
		var want []string
		for _, id := range []chunk.ID{x, y}[:wholes] {
			want = append(want, d.pack(d.whole(id)))
		}
		id := d.snapshotOf(d.admin.repo, x, y)
		if wholes == 0 {
			before := d.names("data/")
			_, err := d.stranger(admin).Prune(t.Context(), repo.PruneOptions{})
			d.wants(err, repo.ErrDamage)
			d.saying(err, "which no pack has whole")
			if !slices.Equal(before, d.names("data/")) {
				t.Error("it deleted something")
			}
			d.forget(id)
			d.keeps()
			continue
		}
		if wholes == 1 {
			want = append(want, both)
		}
		d.keeps(want...)
	}
}

// A base of which only a delta is left serves nobody. What hangs on it has no home, unless it
// has another.
func TestPruneLostBase(t *testing.T) {
	d := newDeltas(t)
	x, y, lost := d.id(1), d.id(2), d.id(0)
	d.pack(d.delta(x, lost), d.delta(lost, y))
	good, base := d.pack(d.delta(x, y)), d.pack(d.whole(y))
	id := d.snapshotOf(d.admin.repo, x)
	d.keeps(good, base)
	d.delete(base)
	_, err := d.stranger(admin).Prune(t.Context(), repo.PruneOptions{})
	d.wants(err, repo.ErrDamage)
	d.forget(id)
	d.keeps()
}

// Without the rule that a base must be whole, what is needed goes.
func TestPruneWithoutNeededFull(t *testing.T) {
	d := newDeltas(t)
	x, base := d.id(1), d.id(2)
	d.pack(d.delta(x, base))
	on := d.pack(d.whole(base))
	d.snapshotOf(d.admin.repo, x)
	r := d.stranger(admin)
	r.Omit(repo.StepNeededFull)
	_, err := r.Prune(t.Context(), repo.PruneOptions{})
	d.must(err)
	if slices.Contains(d.names("data/"), on) {
		t.Error("the base is there nevertheless")
	}
}

// A base is written anew like any other chunk, and what hangs on it as it stands stays.
func TestPruneMovesBases(t *testing.T) {
	d := newDeltas(t)
	keys := d.admin.Keys
	hasher := chunk.NewHasher(chunk.Keys{Data: keys.ChunkData, Node: keys.ChunkNode, List: keys.ChunkList})
	plain := d.random.bytes(1000)
	base := repo.Ref{ID: hasher.Sum(chunk.Data, plain), Kind: chunk.Data}
	x := d.id(1)
	of := d.pack(d.delta(x, base.ID))
	on := d.pack(junk(base, plain), d.whole(d.id(2)), d.whole(d.id(3)))
	d.snapshotOf(d.admin.repo, x)
	report := d.prune(repo.PruneOptions{})
	if report.Repacked.Packs == 0 || slices.Contains(d.names("data/"), on) || !slices.Contains(d.names("data/"), of) {
		t.Errorf("%v: %+v", d.names("data/"), report)
	}
	got, err := d.stranger(admin).Chunk(t.Context(), base)
	d.must(err)
	if !bytes.Equal(got, plain) {
		t.Error("the base is another now")
	}
	if again := d.prune(repo.PruneOptions{}); again.Freed.Packs > 0 {
		t.Errorf("%+v", again)
	}
}
