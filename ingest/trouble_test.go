package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// ordinaryUser reports whether the test runs without root's powers. If it
// does not, it runs the test once more in a process that gave them up.
func ordinaryUser(t *testing.T) bool {
	t.Helper()
	const nobody, child = 65534, "CAIRN_TEST_AS_NOBODY"
	if os.Geteuid() != 0 {
		return true
	}
	if os.Getenv(child) != "" {
		if err := errors.Join(syscall.Setregid(nobody, nobody), syscall.Setreuid(nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Dir, c.Env = "/", append(os.Environ(), child+"=1")
	out, err := c.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
	return false
}

func TestUnreadable(t *testing.T) {
	if !ordinaryUser(t) {
		return
	}
	w := newWorld(t)
	w.write("a", []byte("a"))
	w.write("dir/in", []byte("in"))
	w.write("listed/hidden", []byte("it has a name, no more"))
	w.write("large", random(1, 300<<10))
	w.write("link", []byte("link"))
	w.must(os.Link(w.path("link"), w.path("link2")))
	w.write("secret", []byte("secret"))
	w.write("z", []byte("z"))
	modes := map[string]os.FileMode{"secret": 0, "large": 0, "link": 0, "dir": 0, "listed": 0o400}
	for name, mode := range modes {
		w.must(os.Chmod(w.path(name), mode))
	}
	t.Cleanup(func() { os.Chmod(w.path("dir"), 0o755); os.Chmod(w.path("listed"), 0o755) })

	o := w.snap()
	v := w.view(o.ID)
	v.want("a", "dir", "listed", "z")
	v.wantContents(w.path("a"), []byte("a"))
	v.wantContents(w.path("z"), []byte("z"))
	if e := v.entry(w.path("dir")); e.Mode != 0 || e.Type != snapshot.Directory {
		t.Errorf("the unreadable directory is a %s of mode %o", e.Type, e.Mode)
	}
	for _, name := range []string{"secret", "large", "dir", "listed/hidden", "link"} {
		if p := o.problem(t, w.path(name)); !p.fatal || !errors.Is(p.err, fs.ErrPermission) {
			t.Errorf("%s: %v, fatal %t", name, p.err, p.fatal)
		}
	}
	if p := o.problem(t, w.path("link2")); !p.fatal {
		t.Errorf("link2: %v is no hole", p.err)
	}
	if !o.Partial || o.Totals.Unreadable != 6 || len(o.problems) != 6 || v.info.Open.Flags&snapshot.Incomplete == 0 {
		t.Errorf("partial %t, %d unreadable, %d problems, flags %x", o.Partial, o.Totals.Unreadable, len(o.problems), v.info.Open.Flags)
	}

	// All is read once it can be, with the incomplete snapshot as the parent.
	for name := range modes {
		w.must(os.Chmod(w.path(name), 0o755))
	}
	o = w.clean()
	w.view(o.ID).compare(w.src)
	if got := o.Totals; got.New != 6 || got.Unmodified != 2 {
		t.Errorf("totals are %+v", got)
	}
}

// TestBusyTree makes snapshots of what changes all the time. Each of them
// must be whole: what is in it can be read back, and what did not change is in it.
func TestBusyTree(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.write(fmt.Sprintf("%d/still", i), random(uint64(i), 100*i))
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() { disturb(ctx, w.src, rand.New(rand.NewPCG(uint64(n), 0))) })
	}
	defer wg.Wait()
	defer stop()
	for range 6 {
		o := w.snap()
		for _, p := range o.problems {
			if errors.Is(p.err, fs.ErrPermission) || strings.Contains(p.err.Error(), "internal") {
				t.Errorf("%s: %v", p.path, p.err)
			}
		}
		v := w.view(o.ID)
		for i := range 60 {
			v.wantContents(w.path(fmt.Sprintf("%d/still", i)), random(uint64(i), 100*i))
		}
		for path, e := range v.entries {
			if e.Type == snapshot.File {
				if b := v.contents(path); uint64(len(b)) != e.Size || e.Hash != v.contentHash(&e, b) {
					t.Errorf("%s has %d bytes, want %d, or another hash", path, len(b), e.Size)
				}
			}
		}
	}
}

// disturb changes files of a tree in all ways until ctx is done. Errors come
// from the other one that does the same.
func disturb(ctx context.Context, dir string, r *rand.Rand) {
	for ctx.Err() == nil {
		sub := filepath.Join(dir, fmt.Sprint(r.IntN(60)))
		path := filepath.Join(sub, fmt.Sprint(r.IntN(8)))
		switch r.IntN(9) {
		case 0, 1, 2:
			// It may be a FIFO, and nobody reads that.
			if f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NONBLOCK, 0o644); err == nil {
				_, _ = f.Write(random(r.Uint64(), r.IntN(1<<r.IntN(20))))
				f.Close()
			}
		case 3:
			_ = os.Truncate(path, int64(r.IntN(1<<r.IntN(20))))
		case 4:
			_ = os.RemoveAll(path)
		case 5:
			_ = os.Rename(path, filepath.Join(sub, fmt.Sprint(r.IntN(8))))
		case 6:
			_ = os.Mkdir(path, 0o755)
			_ = os.WriteFile(path+"/in", []byte("x"), 0o644)
		case 7:
			_ = os.Remove(path)
			_ = unix.Mkfifo(path, 0o644)
			_ = os.Symlink("still", path+"l")
		case 8:
			_ = os.Link(path, filepath.Join(sub, fmt.Sprint(r.IntN(8))))
		}
	}
}

// TestSourceThatIsNoFile: files that give other contents each time, or other
// sizes than they say, as those of /proc do.
func TestSourceThatIsNoFile(t *testing.T) {
	const path = "/proc/self/status"
	if _, err := os.Stat(path); err != nil {
		need.Missing(t, "there is no /proc")
	}
	w := newWorld(t)
	o := w.snap(func(o *ingest.Options) { o.Paths = []string{path} })
	v := w.view(o.ID)
	if e := v.entry(path); e.Size == 0 || e.Partial || o.Partial {
		t.Errorf("it has %d bytes, partial %t, %t", e.Size, e.Partial, o.Partial)
	}
	if b := v.contents(path); !bytes.Contains(b, []byte("Pid:")) {
		t.Errorf("its contents are %.100q", b)
	}
}

// TestSourceThatFails: this file can be opened, and its first byte can't be
// read, as nothing is mapped there.
func TestSourceThatFails(t *testing.T) {
	const path = "/proc/self/mem"
	if _, err := os.Stat(path); err != nil {
		need.Missing(t, "there is no /proc")
	}
	w := newWorld(t)
	w.write("beside", []byte("is kept"))
	o := w.snap(func(o *ingest.Options) { o.Paths = append(o.Paths, path) })
	if p := o.problem(t, path); !p.fatal || !errors.Is(p.err, unix.EIO) {
		t.Errorf("%v, fatal %t", p.err, p.fatal)
	}
	v := w.view(o.ID)
	v.want("beside")
	if _, ok := v.entries[path]; ok || !o.Partial || o.Totals.Unreadable != 1 || v.info.Open.Flags&snapshot.Incomplete == 0 {
		t.Errorf("in the snapshot %t, partial %t, totals %+v, flags %x", ok, o.Partial, o.Totals, v.info.Open.Flags)
	}
}

// openSources returns what this process has open of the source.
func (w *world) openSources() (names []string) {
	w.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		need.Missing(w.T, "there is no /proc")
	}
	for _, e := range entries {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(name, w.src) {
			names = append(names, name)
		}
	}
	return names
}

// TestEndedEarly ends runs at many places. Nothing may stay behind: no
// snapshot, no lease, no open directory.
func TestEndedEarly(t *testing.T) {
	w := newWorld(t)
	w.many(3000)
	w.write("large", random(1, 3<<20))
	for _, entries := range []int{0, 1, 500, 1500} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := w.try(ctx, func(o *ingest.Options) {
			o.Observer.Entry = func(string, ingest.Change, uint64) {
				if n++; n >= entries {
					cancel()
				}
			}
			if entries == 0 {
				o.Paths = append(o.Paths, "/missing/source")
			}
		})
		cancel()
		if entries > 0 && !errors.Is(err, context.Canceled) || err == nil {
			t.Errorf("ended after %d entries: %v", entries, err)
		}
		if names := w.openSources(); len(names) > 0 {
			t.Errorf("ended after %d entries, but %d directories are open: %.500q", entries, len(names), names)
		}
		if left := append(w.names("leases/"), w.names("snapshots/")...); len(left) != 0 {
			t.Errorf("ended after %d entries: %q is left", entries, left)
		}
	}
	// What was stored before is of use to the next run.
	w.view(w.clean().ID).compare(w.src)
	if names := w.openSources(); len(names) > 0 {
		t.Errorf("%d directories are open: %.500q", len(names), names)
	}
}

var errFull = errors.New("the storage is full")

// failing is a storage that takes no packs.
type failing struct{ *storage }

func (f *failing) Stage(context.Context) (backend.Staged, error) { return nil, errFull }

func TestStorageFails(t *testing.T) {
	w := newWorld(t)
	w.many(500)
	w.write("large", random(1, 3<<20))
	full := &failing{w.storage}
	w.repo = w.open("full", t.TempDir(), func(o *repo.Options) { o.Storage = full; o.Observer = repo.Observer{} })
	if _, err := w.try(t.Context()); !errors.Is(err, errFull) {
		t.Errorf("a snapshot in a full storage: %v", err)
	}
	if names := w.names("snapshots/"); len(names) != 0 {
		t.Errorf("there are snapshots %q", names)
	}
	if names := w.openSources(); len(names) > 0 {
		t.Errorf("%d directories are open: %.500q", len(names), names)
	}
}
