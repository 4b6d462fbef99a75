package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// halfNeeded makes a repository with packs of which different parts are needed.
func halfNeeded(t *testing.T, pass string) (w *world, id snapshot.ID, rest files) {
	w = newRepository(t)
	if pass != admin {
		w.addSlot(pass, seal.WriteOnly)
	}
	all, rest := make(files), make(files)
	for n := range 24 {
		name := fmt.Sprintf("%02d", n)
		all[name] = w.random.bytes(10_000)
		if n%7 > n/6 || n%5 == 4 {
			rest[name] = all[name]
		}
	}
	gone := w.mustBackup(w.stranger(pass), "gone", all)
	id = w.mustBackup(w.stranger(pass), "stays", rest)
	w.forget(gone)
	return w, id, rest
}

// What a report says is what was done, and what a dry run says is what will be.
func TestPruneReport(t *testing.T) {
	for name, o := range map[string]repo.PruneOptions{
		"none unused": {}, "5 percent": {MaxUnused: repo.Sample{Percent: 5}}, "30 percent": {MaxUnused: repo.Sample{Percent: 30}},
		"any": {MaxUnused: repo.Sample{Percent: 100}}, "bytes": {MaxUnused: repo.Sample{Bytes: 40_000}},
		"one pack": {MaxRepack: 90_000}, "less than a pack": {MaxRepack: 1000}, "reads nothing": {MaxVerify: 1}, "reads some": {MaxVerify: 150_000},
	} {
		for _, pass := range []string{admin, honest} {
			t.Run(name+" "+pass, func(t *testing.T) {
				t.Parallel()
				w, id, rest := halfNeeded(t, pass)
				before := w.packBytes()
				dry := o
				dry.DryRun = true
				said := w.prune(dry)
				if said.Stored.Bytes != before || w.packBytes() != before {
					t.Fatalf("stored are %d: %+v", before, said)
				}
				did := w.prune(o)
				if freed := before - w.packBytes(); freed != did.Frees() || did.Freed.Bytes != did.Dead.Bytes+did.Repacked.Bytes {
					t.Errorf("freed %d: %+v", freed, did)
				}
				if said.Dead != did.Dead || said.Repacked != did.Repacked || said.Verified != did.Verified || said.Live != did.Live || said.Unused != did.Unused {
					t.Errorf("a dry run says %+v\nand the run %+v", said, did)
				}
				// New packs pad and list a little otherwise.
				if diff := said.Frees() - did.Frees(); max(diff, -diff) > int64(4<<10*(1+did.Rewritten.Packs)) {
					t.Errorf("predicted %d, freed %d", said.Frees(), did.Frees())
				}
				if o.MaxRepack > 0 && did.Repacked.Bytes > o.MaxRepack {
					t.Errorf("wrote %+v anew", did.Repacked)
				}
				if now := w.prune(repo.PruneOptions{DryRun: true, MaxUnused: repo.Sample{Percent: 100}}); now.Unused != did.Unused || now.Live != did.Live {
					t.Errorf("unused are %d of %d, it says %d of %d", now.Unused, now.Live, did.Unused, did.Live)
				}
				if limit := o.MaxUnused; o.MaxRepack == 0 && o.MaxVerify == 0 && limit.Bytes == 0 {
					if stay := did.Live + did.Unused; float64(did.Unused) > limit.Percent/100*float64(stay)*1.5 {
						t.Errorf("unused are %d of %d", did.Unused, stay)
					}
				}
				if repacks := did.Repacked.Packs > 0; repacks != (name != "any" && name != "30 percent" && name != "less than a pack" && (name != "reads nothing" || pass == admin)) {
					t.Errorf("wrote %+v anew", did.Repacked)
				}
				w.has(w.stranger(admin), id, rest)
				w.isSound()
			})
		}
	}
}

// Prunes that may read only some of what others have stored come to all of it, past what is
// too large and what is junk.
func TestPruneVerifiesInParts(t *testing.T) {
	s := newSiege(t, true)
	s.mustBackup(s.host(), "more", s.someFiles())
	large := make([]frame, 8)
	for i := range large {
		large[i] = junk(s.ownChunk(), s.random.bytes(40_000))
	}
	for range 4 { // so that some come first
		s.evil.forgePack(seal.DataPack, large...)
	}
	most := int64(150_000)
	for range 20 {
		report := s.prune(repo.PruneOptions{MaxVerify: most})
		if report.Verified.Bytes > most {
			t.Errorf("read %+v", report.Verified)
		}
		if report.Verified.Packs == 0 {
			break
		}
	}
	if report := s.prune(repo.PruneOptions{}); report.Verified.Packs > 0 {
		t.Errorf("left were %+v", report.Verified)
	}
}

// true returns frames with contents that are those of their chunks.
func (d *deltas) true(plains ...[]byte) (frames []frame) {
	hasher := chunk.NewHasher(chunk.Keys{Data: d.admin.Keys.ChunkData, Node: d.admin.Keys.ChunkNode, List: d.admin.Keys.ChunkList})
	for _, p := range plains {
		frames = append(frames, junk(repo.Ref{ID: hasher.Sum(chunk.Data, p), Kind: chunk.Data}, p))
	}
	return frames
}

// A pack that proves to be damaged while it is written anew stays, and so does what was to
// go as that one has it too.
func TestPruneDamagedPack(t *testing.T) {
	for _, second := range []bool{false, true} { // the other copy is in a pack that is to be written anew
		d := newDeltas(t)
		both, sole, more := d.random.bytes(1000), d.random.bytes(1001), d.random.bytes(900)
		frames := d.true(both, sole, d.random.bytes(3000))
		bad := d.pack(frames...)
		others := d.true(both, d.random.bytes(20_000))
		ids := []chunk.ID{frames[0].ID, frames[1].ID}
		if second {
			others = append(others, d.true(more)...)
			ids = append(ids, others[2].ID)
		}
		d.pack(others...)
		d.snapshotOf(d.admin.repo, ids...)
		object := d.object(bad)
		object[d.homeIn(bad, ids[0])+20] ^= 1
		d.replace(bad, object)
		report := d.prune(repo.PruneOptions{})
		if len(report.Damaged) != 1 || !slices.Contains(d.names("data/"), bad) {
			t.Errorf("%+v", report)
		}
		r := d.stranger(admin)
		for i, plain := range [][]byte{both, sole, more}[:len(ids)] {
			got, err := r.Chunk(t.Context(), repo.Ref{ID: ids[i], Kind: chunk.Data})
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("chunk %d: %v", i, err)
			}
		}
		d.repair(d.stranger(admin))
		d.prune(repo.PruneOptions{})
		if slices.Contains(d.names("data/"), bad) {
			t.Error("the damaged pack is there after a repair")
		}
	}
}

// homeIn returns where a chunk lies in a pack.
func (w *world) homeIn(name string, id chunk.ID) int {
	w.Helper()
	for _, e := range w.directory(name) {
		if e.ID == id {
			return int(e.Offset)
		}
	}
	w.Fatalf("%s does not have %s", name, id.Short())
	return 0
}

// swaps is a storage in which something happens when condemned is swapped.
type swaps struct {
	*mem.Mem
	n             int
	before, after func(n int) error
}

func (s *swaps) Swap(ctx context.Context, name string, old, new []byte) error {
	s.n++
	n := s.n
	if s.before != nil {
		if err := s.before(n); err != nil {
			return err
		}
	}
	err := s.Mem.Swap(ctx, name, old, new)
	if err == nil && s.after != nil {
		err = s.after(n)
	}
	return err
}

// What a prune has copied that was killed before it condemned anything is there twice. The
// next leaves one.
func TestPruneKilledBeforeCondemning(t *testing.T) {
	w, id, rest := halfNeeded(t, admin)
	c := w.on(t, w.storage.Clone())
	c.prune(repo.PruneOptions{})
	want := c.packBytes()
	for range 3 {
		r := w.through(&swaps{Mem: w.storage, before: func(int) error { return syscall.EIO }}, admin)
		_, err := r.Prune(t.Context(), repo.PruneOptions{})
		w.wants(err, syscall.EIO)
	}
	if w.packBytes() < want {
		t.Fatal("it did not copy")
	}
	for range 2 {
		w.prune(repo.PruneOptions{})
	}
	if got := w.packBytes(); got > want+8<<10 {
		t.Errorf("%d bytes are left, and %d without the kill", got, want)
	}
	if r := w.prune(repo.PruneOptions{}); r.Unused > 0 || r.Freed.Packs > 0 {
		t.Errorf("%+v", r)
	}
	w.has(w.stranger(admin), id, rest)
	w.isSound()
}

// frozen is a storage whose packs of data are cold.
type frozen struct {
	*mem.Mem
	mu      sync.Mutex
	touched []string
}

func (f *frozen) touch(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(name, "data/") {
		f.touched = append(f.touched, name)
	}
}

func (f *frozen) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		for info, err := range f.Mem.List(ctx, prefix) {
			info.Cold = strings.HasPrefix(info.Name, "data/")
			if !yield(info, err) {
				return
			}
		}
	}
}

func (f *frozen) Stat(ctx context.Context, name string) (backend.Info, error) {
	info, err := f.Mem.Stat(ctx, name)
	info.Cold = strings.HasPrefix(name, "data/")
	return info, err
}

func (f *frozen) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	f.touch(name)
	return f.Mem.Open(ctx, name)
}

func (f *frozen) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	f.touch(name)
	return f.Mem.ReadAt(ctx, name, p, off)
}

func (f *frozen) Delete(ctx context.Context, name string) error {
	f.touch(name)
	return f.Mem.Delete(ctx, name)
}

var _ backend.Full = (*frozen)(nil)

// Cold packs are neither read nor written anew nor deleted, unless that is asked for.
func TestPruneCold(t *testing.T) {
	for _, pass := range []string{admin, honest} {
		w, id, rest := halfNeeded(t, pass)
		segments := w.names("index/")
		r := w.stranger(pass)
		wr := w.begin(r)
		_, err := put(t.Context(), r, wr, files{"x": w.random.bytes(5000)})
		w.must(err)
		w.must(wr.Flush(t.Context()))
		w.must(wr.Abort(t.Context()))
		for _, name := range w.names("index/") {
			if !slices.Contains(segments, name) {
				w.delete(name) // so there are packs that no segment names
			}
		}
		w.mustBackup(w.stranger(admin), "again", rest)
		before := w.names("data/")
		f := &frozen{Mem: w.storage}
		report, err := w.through(f, admin).Prune(t.Context(), repo.PruneOptions{})
		w.must(err)
		if len(f.touched) > 0 || !slices.Equal(before, w.names("data/")) {
			t.Errorf("touched %v", f.touched)
		}
		if report.Cold.Packs == 0 {
			t.Errorf("%+v", report)
		}
		report, err = w.through(f, admin).Prune(t.Context(), repo.PruneOptions{Cold: true})
		w.must(err)
		if report.Cold.Packs > 0 || report.Freed.Packs == 0 {
			t.Errorf("%+v", report)
		}
		w.has(w.stranger(admin), id, rest)
		w.isSound()
	}
}
