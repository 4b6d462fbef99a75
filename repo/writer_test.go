package repo_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// stored is a chunk that a test put.
type stored struct {
	ref   repo.Ref
	plain []byte
}

// putMany puts chunks of many sizes and both kinds of packs, from several goroutines.
func putMany(w *world, wr *repo.Writer) []stored {
	w.Helper()
	sizes := []int{1, 2, 3, 15, 16, 17, 31, 100, 255, 256, 1000, 4095, 4096, 10_000, 40_000, 65_536, 100_000, 300_000}
	var chunks []stored
	for i, n := range sizes {
		for kind, p := range map[chunk.Kind][]byte{
			chunk.Data: w.random.bytes(n),
			chunk.Node: w.random.bytes(n),
			chunk.List: bytes.Repeat([]byte{byte(i)}, n),
		} {
			chunks = append(chunks, stored{repo.Ref{Kind: kind}, p})
		}
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < len(chunks); i += 4 {
				id, isNew, err := wr.Put(chunks[i].ref.Kind, bytes.Clone(chunks[i].plain))
				if err != nil || !isNew {
					w.Errorf("put %d bytes: new %v, %v", len(chunks[i].plain), isNew, err)
				}
				chunks[i].ref.ID = id
				if ok, err := wr.Has(chunks[i].ref); err != nil || !ok {
					w.Errorf("the writer does not have what was put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	return chunks
}

// readMany reads chunks one by one and all at once.
func readMany(w *world, r *repo.Repository, chunks []stored) {
	w.Helper()
	ctx := w.Context()
	refs := make([]repo.Ref, len(chunks))
	for i, c := range chunks {
		refs[i] = c.ref
		if p, err := r.Chunk(ctx, c.ref); err != nil || !bytes.Equal(p, c.plain) {
			w.Fatalf("%s chunk of %d bytes: %d bytes, %v", c.ref.Kind, len(c.plain), len(p), err)
		}
	}
	refs = append(refs, refs[:5]...) // some twice
	var mu sync.Mutex
	seen := make([]int, len(refs))
	w.must(r.Chunks(ctx, refs, func(i int, p []byte, err error) error {
		if err != nil || !bytes.Equal(p, chunks[i%len(chunks)].plain) {
			w.Errorf("chunk %d of Chunks: %d bytes, %v", i, len(p), err)
		}
		mu.Lock()
		defer mu.Unlock()
		seen[i]++
		return nil
	}))
	for i, n := range seen {
		if n != 1 {
			w.Errorf("chunk %d was given %d times", i, n)
		}
	}
}

func TestChunks(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	cache := t.TempDir()
	r := w.machine(cache, admin)
	wr := w.begin(r)
	chunks := putMany(w, wr)
	wr.Put(chunk.Data, chunks[0].plain)
	root, err := put(ctx, r, wr, files{})
	w.must(err)
	_, err = commit(ctx, wr, root, "a", w.now())
	w.must(err)
	if raw, stored := wr.Added(); raw < 1_000_000 || stored < raw/2 {
		t.Errorf("added %d bytes, stored %d", raw, stored)
	}
	data, meta := w.names("data/"), w.names("meta/")
	if len(data) < 3 || len(meta) < 3 {
		t.Errorf("%d and %d packs: small packs were asked for", len(data), len(meta))
	}
	for _, name := range w.names("leases/") {
		t.Errorf("%s is left behind", name)
	}

	readMany(w, r, chunks)
	readMany(w, w.machine(cache, admin), chunks)
	readMany(w, w.stranger(admin), chunks)
	w.isSound()

	w.Run("again", func(t *testing.T) {
		wr := w.begin(r)
		for _, c := range chunks {
			if ok, err := wr.Has(c.ref); err != nil || !ok {
				t.Fatalf("not known in the next run: %v", err)
			}
			id, isNew, err := wr.Put(c.ref.Kind, c.plain)
			if err != nil || isNew || id != c.ref.ID {
				t.Fatalf("stored again: %v", err)
			}
		}
		root, err := put(ctx, r, wr, files{})
		w.must(err)
		_, err = commit(ctx, wr, root, "b", w.now())
		w.must(err)
		if !slices.Equal(w.names("data/"), data) || !slices.Equal(w.names("meta/"), meta) {
			t.Error("packs were added")
		}
		if raw, stored := wr.Added(); raw != 0 || stored != 0 {
			t.Errorf("added %d bytes, stored %d", raw, stored)
		}
	})
	w.Run("lost cache", func(t *testing.T) {
		w.must(os.RemoveAll(cache))
		readMany(w, w.machine(cache, admin), chunks)
	})
	w.Run("lost segments", func(t *testing.T) {
		w.delete(w.names("index/")...)
		readMany(w, w.machine(cache, admin), chunks)
		readMany(w, w.stranger(admin), chunks)
		w.isSound()
	})
}

func (w *world) Run(name string, fn func(*testing.T)) {
	w.TB.(*testing.T).Run(name, fn)
}

// All goroutines that find the index lost look for the packs at once.
func TestLostSegmentsConcurrently(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "a", f)
	w.delete(w.names("index/")...)
	r := w.stranger(admin)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			set, err := r.Snapshots(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			s, _ := set.Get(id)
			copied := *s
			if got, err := restore(t.Context(), r, &copied); err != nil || !bytes.Equal(got["large"], f["large"]) {
				t.Errorf("read %s, %v", describe(got), err)
			}
		})
	}
	wg.Wait()
}

// That a pack's directory can't be read now does not make its chunks lost for
// ever.
func TestLostSegmentsAndFault(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "a", f)
	w.delete(w.names("index/")...)
	for _, rule := range []string{"list data/ #1: err EIO", "readat data/* #1: err EIO", "readat meta/* #1: err EIO"} {
		in, err := faulty.Parse(rule)
		w.must(err)
		w.must(w.use(in.Wrap(w.storage), "", func(r *repo.Repository) error {
			s, _ := w.snapshots(r).Get(id)
			_, err := restore(t.Context(), r, s)
			w.wants(err, faulty.ErrInjected)
			if errors.Is(err, repo.ErrDamage) {
				t.Errorf("%s: a fault on the way is not damage: %v", rule, err)
			}
			w.has(r, id, f)
			return nil
		}))
	}
}

func TestPutRefuses(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	for _, n := range []int{0, pack.MaxChunk + 1} {
		if _, _, err := wr.Put(chunk.Data, make([]byte, n)); err == nil {
			t.Errorf("put a chunk of %d bytes", n)
		}
	}
	// That is no reason to give up.
	largest := stored{repo.Ref{Kind: chunk.Data}, make([]byte, pack.MaxChunk)}
	copy(largest.plain, w.random.bytes(1<<20))
	var err error
	largest.ref.ID, _, err = wr.Put(chunk.Data, bytes.Clone(largest.plain))
	w.must(err)
	root, err := put(t.Context(), r, wr, files{})
	w.must(err)
	_, err = commit(t.Context(), wr, root, "a", w.now())
	w.must(err)
	readMany(w, r, []stored{largest, largest, largest, largest, largest})
}

// Put neither keeps nor changes what it is given.
func TestPutLeavesPlaintext(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	for _, p := range [][]byte{w.random.bytes(5000), make([]byte, 5000)} {
		before := bytes.Clone(p)
		id, _, err := wr.Put(chunk.Data, p)
		w.must(err)
		if !bytes.Equal(p, before) {
			t.Error("Put changed the plaintext")
		}
		clear(p[:10])
		p[0] = 77
		w.must(wr.Flush(t.Context()))
		if got, err := r.Chunk(t.Context(), repo.Ref{ID: id, Kind: chunk.Data}); err != nil || !bytes.Equal(got, before) {
			t.Errorf("another chunk was stored: %v", err)
		}
	}
	w.must(wr.Abort(t.Context()))
}

func TestAbort(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	cache := t.TempDir()
	r := w.machine(cache, admin)
	wr := w.begin(r)
	chunks := putMany(w, wr)
	w.must(wr.Abort(ctx))
	if n := w.snapshots(r).Len(); n != 0 {
		t.Errorf("%d snapshots", n)
	}
	for _, prefix := range []string{"leases/", "snapshots/"} {
		if names := w.names(prefix); len(names) > 0 {
			t.Errorf("left %q behind", names)
		}
	}
	w.isSound()
	if len(w.names("data/")) == 0 {
		t.Fatal("full packs should have been stored before the end")
	}

	for name, r := range map[string]*repo.Repository{"same machine": w.machine(cache, admin), "another machine": w.stranger(admin)} {
		wr := w.begin(r)
		reused := 0
		for _, c := range chunks {
			ok, err := wr.Has(c.ref)
			w.must(err)
			if ok {
				reused++
				if p, err := r.Chunk(ctx, c.ref); err != nil || !bytes.Equal(p, c.plain) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if reused < len(chunks)/4 {
			t.Errorf("%s: %d of %d chunks are known again", name, reused, len(chunks))
		}
		w.must(wr.Abort(ctx))
	}
}

func TestDryRun(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	f := w.someFiles()
	before := w.names("")
	wr, err := r.NewWriter(t.Context(), repo.WriterOptions{Host: "host", DryRun: true})
	w.must(err)
	if _, err := w.finish(r, wr, "a", f); err != nil {
		t.Error(err)
	}
	if raw, _ := wr.Added(); raw < 150_000 {
		t.Errorf("%d bytes would be new", raw)
	}
	w.must(wr.Abort(t.Context()))
	if after := w.names(""); !slices.Equal(before, after) {
		t.Errorf("a dry run wrote: %q", after)
	}
}

func TestUsage(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	w.mustBackup(r, "a", w.someFiles())
	u, err := r.Usage(t.Context())
	w.must(err)
	var bytes int64
	for info, err := range w.storage.List(t.Context(), "") {
		w.must(err)
		bytes += info.Size
	}
	if u.Bytes() != bytes || u.DataPacks != len(w.names("data/")) || u.MetaPacks != len(w.names("meta/")) || u.Chunks == 0 {
		t.Errorf("usage is %+v; there are %d bytes", u, bytes)
	}
}

// What several runs at once write is all there.
func TestWritersConcurrently(t *testing.T) {
	w := newRepository(t)
	shared := w.someFiles()
	same := w.stranger(admin)
	var mu sync.Mutex
	made := make(map[snapshot.ID]files)
	var wg sync.WaitGroup
	for i := range 4 {
		r := same
		if i%2 == 1 {
			r = w.stranger(admin)
		}
		f := files{"own": w.random.bytes(100_000), "shared": shared["large"]}
		wg.Go(func() {
			for _, set := range []string{"first", "second"} {
				id, err := w.backup(r, set, f)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				made[id] = f
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r := w.stranger(admin)
	if n := w.snapshots(r).Len(); n != 8 || len(made) != 8 {
		t.Errorf("%d snapshots of %d", n, len(made))
	}
	for id, f := range made {
		w.has(r, id, f)
	}
	w.isSound()
}

// An error of the caller's function ends Chunks.
func TestChunksStops(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	chunks := putMany(w, wr)
	w.must(wr.Flush(t.Context()))
	refs := make([]repo.Ref, len(chunks))
	for i, c := range chunks {
		refs[i] = c.ref
	}
	stop := errors.New("enough")
	w.wants(r.Chunks(t.Context(), refs, func(int, []byte, error) error { return stop }), stop)
	w.must(wr.Abort(t.Context()))
}
