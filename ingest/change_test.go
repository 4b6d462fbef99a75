package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// These tests stand between the walk and the reading of a file, or between two
// reads, where no test from outside can be sure to get.

// bench is a pipeline without its goroutines.
type bench struct {
	*testing.T
	*pipeline
	dir      string
	problems []string
	waiting  int // files that the sequencer still remembers, see stages
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, dir: t.TempDir()}
	r, err := repo.Init(t.Context(), repo.Options{Storage: mem.New(time.Now)}, repo.Params{
		Chunker: chunk.Params{Algorithm: chunk.FastCDC, Min: 16 << 10, Avg: 32 << 10, Max: 64 << 10},
		Lock:    seal.Passphrase{Text: []byte("x"), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}},
	})
	b.must(err)
	t.Cleanup(func() { r.Close() })
	w, err := r.NewWriter(t.Context(), repo.WriterOptions{})
	b.must(err)
	t.Cleanup(func() { b.must(w.Abort(context.WithoutCancel(t.Context()))) })
	opts := &Options{Observer: Observer{Progress: new(Progress), Problem: func(_ string, err error, fatal bool) {
		b.problems = append(b.problems, fmt.Sprintf("%v %t", err, fatal))
	}}}
	none, err := newTargets(nil)
	b.must(err)
	b.pipeline, err = newPipeline(&session{opts: opts, repo: r, writer: w, targets: none})
	b.must(err)
	b.ctx = t.Context()
	return b
}

func (b *bench) must(err error) {
	b.T.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// file makes a file and returns its path and what the walk would have found.
func (b *bench) file(size int) (path string, st fsmeta.Stat, dir *dirHandle) {
	b.T.Helper()
	path = filepath.Join(b.dir, "file")
	b.must(os.WriteFile(path, make([]byte, size), 0o644))
	dir, err := b.dirs.open(b.ctx, func() (int, error) { return fsmeta.OpenDirAt(unix.AT_FDCWD, b.dir) })
	b.must(err)
	st, err = fsmeta.StatAt(dir.fd, "file")
	b.must(err)
	return path, st, dir
}

// check compares what became of the entry with what should have.
func (b *bench) check(e *snapshot.Entry, size int64, partial bool, problem string) {
	b.T.Helper()
	switch got := e.Type == dropped; {
	case got != (size < 0):
		b.Errorf("dropped %t", got)
	case got:
	case e.Size != uint64(size) || e.Partial != partial:
		b.Errorf("size %d, partial %t; want %d, %t", e.Size, e.Partial, size, partial)
	default:
		if err := e.Validate(); err != nil {
			b.Error(err)
		}
	}
	want := "[" + problem + "]"
	if got := fmt.Sprint(b.problems); got != want {
		b.Errorf("problems are %s, want %s", got, want)
	}
	fatal := int64(0)
	if len(problem) > 4 && problem[len(problem)-4:] == "true" {
		fatal = 1
	}
	if n := b.unreadable.Load(); n != fatal {
		b.Errorf("%d unreadable, want %d", n, fatal)
	}
}

func TestChangedBetweenWalkAndRead(t *testing.T) {
	shrank, missing := fmt.Sprint(errShrank, " ", true), fmt.Sprint(errVanished, " ", true)
	irregular := "open file: " + fsmeta.ErrNotRegular.Error() + " true"
	large := int64(smallFile + 5000)
	tests := []struct {
		name    string
		change  func(path string) error
		size    int64 // -1: it is not in the snapshot
		problem string
	}{
		{"nothing", func(string) error { return nil }, 1000, ""},
		{"vanished", os.Remove, -1, missing},
		{"shrank", func(p string) error { return os.Truncate(p, 10) }, 10, shrank},
		{"emptied", func(p string) error { return os.Truncate(p, 0) }, 0, shrank},
		{"grew", func(p string) error { return os.Truncate(p, 2000) }, 2000, ""},
		{"grew to the limit", func(p string) error { return os.Truncate(p, smallFile) }, smallFile, ""},
		{"grew almost to the limit", func(p string) error { return os.Truncate(p, smallFile-1) }, smallFile - 1, ""},
		{"grew beyond", func(p string) error { return os.Truncate(p, large) }, large, ""},
		{"replaced by a shorter one", func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("new"), 0o600), os.Rename(p+"2", p))
		}, 3, ""},
		{"replaced by a FIFO", func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) }, -1, irregular},
		{"replaced by a symlink", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) }, -1, irregular},
		{"replaced by a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, -1, irregular},
		{"replaced by a socket", func(p string) error { return errors.Join(os.Remove(p), unix.Mknod(p, unix.S_IFSOCK|0o600, 0)) }, -1, irregular},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			path, st, dir := b.file(1000)
			b.must(test.change(path))
			j := &job{entries: []snapshot.Entry{{Key: "\x00file", Type: snapshot.File}}}
			j.small = []smallWork{{dir: dir, name: "file", stat: st}}
			b.must(newWorker(b.pipeline).bundle(j))
			b.check(&j.entries[0], test.size, false, test.problem)
			if n := dir.refs.Load(); n != 0 {
				t.Errorf("the directory is still used %d times", n)
			}
		})
		t.Run("large "+test.name, func(t *testing.T) {
			b := newBench(t)
			path, st, dir := b.file(1000)
			b.must(test.change(path))
			e := &snapshot.Entry{Key: "\x00file", Type: snapshot.File}
			b.must(b.readFile(e, &largeWork{dir: dir, name: "file", stat: st}, nil, newWorker(b.pipeline).putNow))
			b.check(e, test.size, false, test.problem)
		})
	}
}

// TestChangedWhileRead changes a file each time that a chunk of it is stored.
// Until then one buffer of it, of two chunks at most, was read.
func TestChangedWhileRead(t *testing.T) {
	const size = 1<<20 + 10 // the last chunk is a short one
	changed, shrank := fmt.Sprint(errChanged, " ", false), fmt.Sprint(errShrank, " ", true)
	tests := []struct {
		name    string
		times   int  // how often it is changed; at most once a read
		atEnd   bool // change it when all was read already, and not at the first chunk
		change  func(path string, n int) error
		size    func(n int64) bool
		partial bool
		problem string
	}{
		{"appended once", 1, false, appendTo, func(n int64) bool { return n == size+1000 }, false, ""},
		{"appended always", 99, false, appendTo, func(n int64) bool { return n == size+2000 }, false, changed},
		{"appended at its end always", 99, true, appendTo, func(n int64) bool { return n == size+1000 }, false, changed},
		{"touched always", 99, false, func(p string, n int) error {
			at := time.Unix(int64(n), 0)
			return os.Chtimes(p, at, at)
		}, func(n int64) bool { return n == size }, false, changed},
		{"shrank once", 1, false, func(p string, _ int) error { return os.Truncate(p, size/2) }, func(n int64) bool { return n == size/2 }, false, shrank},
		{"emptied once", 1, false, func(p string, _ int) error { return os.Truncate(p, 0) }, func(n int64) bool { return n == 0 }, false, shrank},
		{"shrank always", 99, false, func(p string, n int) error { return os.Truncate(p, size/2-int64(n)*300000) },
			func(n int64) bool { return n < size/2 }, true, shrank},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			path, st, dir := b.file(size)
			w := newWorker(b.pipeline)
			e := &snapshot.Entry{Key: "\x00file", Type: snapshot.File}
			changes, chunks := 0, 0
			put := func(ctx context.Context, data []byte, near []chunk.ID) (*chunkTask, error) {
				// The first chunk of a read changes the file: the extents of the
				// read before are gone then, and those of this one not there yet.
				first := chunks == 0 || changes == 1 && chunks > b.inFlight && len(e.Extents) == 0
				if test.atEnd {
					first = len(data) < 64<<10
				}
				if chunks++; first && changes < test.times {
					b.must(test.change(path, changes))
					changes++
				}
				return w.putNow(ctx, data, near)
			}
			b.must(b.readFile(e, &largeWork{dir: dir, name: "file", stat: st}, nil, put))
			if !test.size(int64(e.Size)) {
				t.Errorf("size %d", e.Size)
			}
			b.check(e, int64(e.Size), test.partial, test.problem)
			if done := b.opts.Observer.Progress.BytesDone.Load(); done != int64(e.Size) {
				t.Errorf("progress says %d bytes, want %d", done, e.Size)
			}
		})
	}
}

func appendTo(path string, _ int) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1000))
	return errors.Join(err, f.Close())
}
