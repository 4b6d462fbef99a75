package ingest_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// middling are chunks large enough to be sketched, and small enough for a test.
var middling = chunk.Params{Algorithm: chunk.FastCDC, Min: 64 << 10, Avg: 128 << 10, Max: 512 << 10}

// rows returns about n bytes of rows of text. One in 100 of them is another for each version.
func rows(seed uint64, n, version int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	var b []byte
	for i := 0; len(b) < n; i++ {
		words := [...]uint64{r.Uint64(), r.Uint64(), r.Uint64()}
		if r.IntN(100) == 0 {
			words[1] += uint64(version)
		}
		b = strconv.AppendInt(b, int64(i), 10) // much is made, and quicker so than by Appendf
		b = strconv.AppendUint(append(b, '\t'), words[0], 16)
		b = strconv.AppendUint(append(b, '\t'), words[1], 16)
		b = strconv.AppendUint(append(b, " of the row\t"...), words[2], 16)
		b = append(b, '\n')
	}
	return b
}

// deltas are options for a run that reads bases from the storage, if it must.
func deltas(budget int64) func(*ingest.Options) {
	return func(o *ingest.Options) { o.DeltaBudget = budget }
}

// fromStorage says that the storage is near, so that contents are not kept on this machine.
func (w *world) fromStorage(o *ingest.Options) { o.Repository = w.TempDir() }

// tarOf makes an archive of files of the given sizes.
func tarOf(t *testing.T, version int, sizes ...int) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, size := range sizes {
		p := rows(uint64(i), size, version)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%04d", i), Mode: 0o644, Size: int64(len(p)), ModTime: time.Unix(int64(version), 0)})
		if err == nil {
			_, err = w.Write(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func many(n, size int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

// changing is a source in two versions.
type changing struct {
	name string
	// set makes a version, and returns options for a snapshot of it.
	set func(w *world, version int) func(*ingest.Options)
	// path is where one of its files is in the snapshot, and contents what it has there.
	path     func(w *world) string
	contents func(version int) []byte
}

const someMB = 4 << 20

func changingSources() []changing {
	large := func(version int) []byte { return rows(1, someMB, version) }
	member := func(version int) []byte { return rows(0, 2<<20, version) }
	at := func(path string) func(*world) string { return func(*world) string { return path } }
	return []changing{
		{"file", func(w *world, v int) func(*ingest.Options) {
			w.write("large", large(v))
			return func(*ingest.Options) {}
		}, func(w *world) string { return w.path("large") }, large},
		{"small files", func(w *world, v int) func(*ingest.Options) {
			for i := range 40 {
				w.write(fmt.Sprintf("d/%d", i), rows(uint64(i), 50<<10, v))
			}
			return func(*ingest.Options) {}
		}, func(w *world) string { return w.path("d/7") }, func(v int) []byte { return rows(7, 50<<10, v) }},
		{"standard input", func(_ *world, v int) func(*ingest.Options) {
			return streams(stdin("dump", large(v)))
		}, at("stdin/dump"), large},
		{"command", func(w *world, v int) func(*ingest.Options) {
			w.write("large", large(v))
			return streams(command("dump", "cat '"+w.path("large")+"'"))
		}, at("command/dump"), large},
		{"large member of a tar", func(w *world, v int) func(*ingest.Options) {
			return tars(&ingest.Tar{Name: "t", Reader: bytes.NewReader(tarOf(w.T, v, 2<<20, 1<<20))})
		}, at("tar/t/d/0000"), member},
		{"small members of a tar", func(w *world, v int) func(*ingest.Options) {
			return tars(&ingest.Tar{Name: "t", Reader: bytes.NewReader(tarOf(w.T, v, many(60, 40<<10)...))})
		}, at("tar/t/d/0007"), func(v int) []byte { return rows(7, 40<<10, v) }},
	}
}

func tars(t ...ingest.Source) func(*ingest.Options) {
	return func(o *ingest.Options) { o.Sources, o.Paths = t, nil }
}

// TestDeltas: for each kind of source, where one row in 100 has changed, much less is stored, and
// all can be read back.
func TestDeltas(t *testing.T) {
	for _, test := range changingSources() {
		t.Run(test.name, func(t *testing.T) {
			added := make(map[string]uint64)
			for kind, edit := range map[string]func(*world) []func(*ingest.Options){
				"off":          func(*world) []func(*ingest.Options) { return nil },
				"from storage": func(w *world) []func(*ingest.Options) { return []func(*ingest.Options){deltas(1 << 30), w.fromStorage} },
				"from cache":   func(*world) []func(*ingest.Options) { return []func(*ingest.Options){deltas(1)} },
			} {
				w := newWorldOf(t, repo.Params{Chunker: middling})
				w.clean(append(edit(w), test.set(w, 1))...)
				o := w.clean(append(edit(w), test.set(w, 2))...)
				added[kind] = o.Totals.NewStored
				if (o.Deltas.Raw > 0) != (kind != "off") || uint64(o.Deltas.Stored) > o.Totals.NewStored {
					t.Errorf("%s: %+v of %+v", kind, o.Deltas, o.Totals)
				}
				if saved := added["off"]; kind != "off" && saved > 0 && float64(o.Deltas.Saved) > 1.2*float64(saved) {
					t.Errorf("%s: they saved %d of %d, they say", kind, o.Deltas.Saved, saved)
				}
				w.view(o.ID).wantContents(test.path(w), test.contents(2))
			}
			for kind, n := range added {
				if kind != "off" && n > added["off"]/4 {
					t.Errorf("%s: %d bytes were added, and %d without deltas", kind, n, added["off"])
				}
			}
			t.Logf("bytes added: %v", added)
		})
	}
}

// wantSmall makes a snapshot with deltas that must add less than a part of what its source has.
func (w *world) wantSmall(part uint64, edit ...func(*ingest.Options)) *outcome {
	w.Helper()
	o := w.clean(append(edit, deltas(1<<30))...)
	if o.Totals.NewStored > o.Totals.Bytes/part {
		w.Errorf("%d of %d bytes were added; deltas %+v", o.Totals.NewStored, o.Totals.Bytes, o.Deltas)
	}
	return o
}

// TestDeltasOfMoved: contents are found again where something was put in front of them or was cut
// out, and under another name.
func TestDeltasOfMoved(t *testing.T) {
	before := rows(1, someMB, 1)
	for name, change := range map[string]func(*world){
		"a little in front": func(w *world) { w.write("large", append([]byte("-- a comment\n"), rows(1, someMB, 2)...)) },
		"much in front":     func(w *world) { w.write("large", append(rows(2, 300<<10, 1), rows(1, someMB, 2)...)) },
		"cut out": func(w *world) {
			p := rows(1, someMB, 2)
			w.write("large", append(p[:1<<20:1<<20], p[2<<20:]...))
		},
		"often": func(w *world) {
			var p []byte
			for i, line := range bytes.SplitAfter(rows(1, someMB, 1), []byte("\n")) {
				if p = append(p, line...); i%500 == 0 {
					p = fmt.Appendf(p, "%d\tanother row that was not there before, which is long\n", i)
				}
			}
			w.write("large", p)
		},
		"renamed": func(w *world) {
			w.must(os.Remove(w.path("large")))
			w.write("other/name", rows(1, someMB, 2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, repo.Params{Chunker: middling})
			w.write("large", before)
			w.clean(deltas(1<<30), w.fromStorage)
			change(w)
			w.repo = w.open("full", w.cache) // which finds the sketches of the run before
			part := uint64(6)
			if name == "renamed" {
				part = 3 // a sketch finds most
			}
			o := w.wantSmall(part, w.fromStorage)
			w.view(o.ID).compare(w.src)
		})
	}
}

// TestDeltaBudget: no more is read than the budget allows, and 0 reads nothing.
func TestDeltaBudget(t *testing.T) {
	read := func(budget int64) (deltas repo.Deltas, reads int) {
		w := newWorldOf(t, repo.Params{Chunker: middling})
		w.write("large", rows(1, someMB, 1))
		w.clean(func(o *ingest.Options) { o.DeltaBudget = budget }, w.fromStorage)
		w.write("large", rows(1, someMB, 2))
		w.storage.resetReads()
		o := w.clean(func(o *ingest.Options) { o.DeltaBudget = budget }, w.fromStorage)
		reads = w.storage.resetReads()["data"]
		w.view(o.ID).compare(w.src)
		return o.Deltas, reads
	}
	none, reads := read(0)
	if none.Raw != 0 || reads > 0 {
		t.Errorf("with no budget: %+v, %d reads", none, reads)
	}
	all, _ := read(1 << 30)
	few, _ := read(300 << 10)
	if few.Raw == 0 || few.Raw > all.Raw/2 {
		t.Errorf("with a small budget: %+v, and %+v with enough", few, all)
	}
	if tiny, reads := read(100); tiny.Raw != 0 || reads > 0 {
		t.Errorf("with a tiny budget: %+v, %d reads", tiny, reads)
	}
}

// writer is a world of a write-only key, with one file.
func writer(t *testing.T) *world {
	w := newWorldOf(t, repo.Params{Chunker: middling})
	_, err := w.repo.AddSlot(t.Context(), repo.NewSlot{Lock: passphrase("writer"), Access: seal.WriteOnly, Label: "w"})
	w.must(err)
	w.cache = t.TempDir()
	w.reopen()
	w.write("large", rows(1, someMB, 1))
	w.clean(deltas(1<<30), w.fromStorage)
	w.write("large", rows(1, someMB, 2))
	return w
}

// reopen opens the repository as the writer.
func (w *world) reopen() {
	w.repo = w.open("writer", w.cache, func(o *repo.Options) { o.Observer = repo.Observer{} })
}

// inCache calls fn with each file of a part of the cache.
func (w *world) inCache(part string, fn func(name string) error) (n int) {
	w.Helper()
	w.must(filepath.WalkDir(w.cache, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(name, "/"+part) {
			return err
		}
		n++
		return fn(name)
	}))
	return n
}

// TestDeltasOfWriteOnlyKey: it can't read the repository, and makes deltas to what it kept.
func TestDeltasOfWriteOnlyKey(t *testing.T) {
	w := writer(t)
	w.storage.resetReads()
	w.reopen()
	o := w.wantSmall(6)
	if reads := w.storage.resetReads(); reads["data"] != 0 {
		t.Errorf("a write-only key read back: %v", reads)
	}
	w.view(o.ID).compare(w.src)
}

// TestDeltasWithBadCache: what is lost or damaged on this machine costs room, and nothing else.
func TestDeltasWithBadCache(t *testing.T) {
	overwrite := func(name string) error {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for i := 9; i < len(b); i += 50 {
			b[i] ^= 0x10
		}
		return os.WriteFile(name, b, 0o600)
	}
	for name, test := range map[string]struct {
		part  string
		spoil func(name string) error
		small bool // whether deltas are still made
	}{
		"contents damaged":  {"bases/", overwrite, false},
		"contents cut off":  {"bases/", func(name string) error { return os.Truncate(name, 10) }, false},
		"contents removed":  {"bases/", os.Remove, false},
		"sketches damaged":  {"sketches-", overwrite, true},
		"sketches removed":  {"sketches-", os.Remove, true},
		"sketches no file":  {"sketches-", func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o700)) }, true},
		"sketches cut off":  {"sketches-", func(name string) error { return os.Truncate(name, 1000) }, true},
		"sketches anothers": {"sketches-", func(name string) error { return os.WriteFile(name, bytes.Repeat([]byte("another"), 9999), 0o600) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := writer(t)
			if n := w.inCache(test.part, test.spoil); n == 0 {
				t.Fatal("there is nothing to spoil")
			}
			w.reopen()
			o := w.clean(deltas(1 << 30))
			if small := o.Totals.NewStored < o.Totals.Bytes/6; small != test.small {
				t.Errorf("%d of %d bytes were added: %+v", o.Totals.NewStored, o.Totals.Bytes, o.Deltas)
			}
			w.view(o.ID).compare(w.src)
		})
	}
}

// TestDeltasOfTwoKeys: what another repository's key sealed and sketched is not used, and does no harm.
func TestDeltasOfTwoKeys(t *testing.T) {
	other, w := writer(t), writer(t)
	for _, part := range []string{"bases/", "sketches-"} {
		var theirs [][]byte
		other.inCache(part, func(name string) error {
			p, err := os.ReadFile(name)
			theirs = append(theirs, p)
			return err
		})
		i := 0
		kept := w.inCache(part, func(name string) error {
			i++
			return os.WriteFile(name, theirs[i%len(theirs)], 0o600)
		})
		if kept == 0 {
			t.Fatalf("no %s in the cache", part)
		}
	}
	w.reopen()
	o := w.clean(deltas(1 << 30))
	if o.Deltas.Raw > 0 {
		t.Errorf("%+v", o.Deltas)
	}
	w.view(o.ID).compare(w.src)
}

// TestDeltasOfTwoAtOnce: two processes that share a cache make deltas side by side.
func TestDeltasOfTwoAtOnce(t *testing.T) {
	w := newWorldOf(t, repo.Params{Chunker: middling})
	snap := func(r *repo.Repository, version, k int) (*ingest.Result, error) {
		return ingest.Snapshot(t.Context(), r, ingest.Options{
			Sources: []ingest.Source{stdin(fmt.Sprint("dump", k), rows(uint64(k%2), 2<<20, version))},
			Host:    fmt.Sprint("host", k), Now: later, DeltaBudget: 1 << 30,
		})
	}
	var ids [4]snapshot.ID
	var all [4]repo.Deltas
	for version := 1; version <= 3; version++ {
		var g sync.WaitGroup
		for k := range 4 {
			r := w.open("full", w.cache)
			g.Go(func() {
				res, err := snap(r, version, k)
				if err != nil {
					t.Error(err)
					return
				}
				ids[k], all[k] = res.ID, res.Deltas
			})
		}
		g.Wait()
		if t.Failed() {
			return
		}
	}
	for k, id := range ids {
		w.view(id).wantContents(fmt.Sprint("stdin/dump", k), rows(uint64(k%2), 2<<20, 3))
	}
	if all[0].Raw+all[2].Raw == 0 || all[1].Raw+all[3].Raw == 0 {
		t.Errorf("no deltas: %+v", all)
	}
}

// TestDeltasDryRun: a dry run counts them, and keeps nothing.
func TestDeltasDryRun(t *testing.T) {
	w := newWorldOf(t, repo.Params{Chunker: middling})
	w.write("large", rows(1, someMB, 1))
	w.clean(deltas(1 << 30))
	w.write("large", rows(1, someMB, 2))
	kept := w.inCache("bases/", func(string) error { return nil })
	dry := w.wantSmall(6, func(o *ingest.Options) { o.DryRun = true })
	if n := w.inCache("bases/", func(string) error { return nil }); n != kept {
		t.Errorf("%d chunks in the cache, before %d", n, kept)
	}
	real := w.wantSmall(6)
	if dry.Deltas.Raw != real.Deltas.Raw {
		t.Errorf("%+v in the dry run, then %+v", dry.Deltas, real.Deltas)
	}
}

// TestDeltasOfNoise: what has nothing in common with the parent is tried less and less, and stored
// as it would be without.
func TestDeltasOfNoise(t *testing.T) {
	w := newWorldOf(t, repo.Params{Chunker: middling})
	w.write("large", random(1, 8<<20))
	w.clean(deltas(1<<30), w.fromStorage)
	w.write("large", random(2, 8<<20))
	w.storage.resetReads()
	o := w.clean(deltas(1<<30), w.fromStorage)
	chunks, reads := 8<<20/middling.Avg, w.storage.resetReads()["data"]
	if o.Deltas.Raw > 0 || reads == 0 || reads > int(chunks)/3 {
		t.Errorf("%+v, %d reads for some %d chunks", o.Deltas, reads, chunks)
	}
	w.view(o.ID).compare(w.src)
}

// TestDeltasWithDamagedBase: a base that the storage gives other bytes for is named in a warning, and
// the chunk is stored whole.
func TestDeltasWithDamagedBase(t *testing.T) {
	w := newWorldOf(t, repo.Params{Chunker: middling})
	w.write("large", rows(1, someMB, 1))
	w.clean(deltas(1<<30), w.fromStorage)
	for _, name := range w.names("data/") {
		r, err := w.storage.Mem.Open(t.Context(), name)
		w.must(err)
		p, err := io.ReadAll(r)
		w.must(errors.Join(err, r.Close(), w.storage.Delete(t.Context(), name)))
		for i := 10_000; i < len(p); i += 10_000 {
			p[i]++
		}
		w.must(w.storage.Put(t.Context(), name, bytes.NewReader(p), int64(len(p))))
	}
	w.write("large", rows(1, someMB, 2))
	var mu sync.Mutex
	var warnings []error
	w.repo = w.open("full", w.cache, func(o *repo.Options) {
		o.Observer.Warning = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, err)
		}
	})
	o := w.clean(deltas(1<<30), w.fromStorage)
	if o.Deltas.Raw > 0 || len(warnings) == 0 || !errors.Is(warnings[0], repo.ErrDamage) || len(warnings) > 10 {
		t.Errorf("%+v with warnings %v", o.Deltas, warnings)
	}
}
