package ingest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/gitignore"
)

// fewFiles lets this process open few files, for one test.
func fewFiles(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
}

// down makes depth directories called name, each in the one before, with a file
// before and one after it, and returns the path of the last.
func (w *world) down(name string, depth int) (path string) {
	w.Helper()
	dir, err := fsmeta.OpenRoot(w.src)
	w.must(err)
	path = w.src
	for i := range depth {
		for _, file := range []string{"0", "~"} {
			f, err := dir.Create(file, 0o644)
			w.must(err)
			fmt.Fprint(f, file, i)
			w.must(f.Close())
		}
		w.must(dir.Mkdir(name, 0o755))
		next, err := dir.Open(name)
		w.must(err)
		w.must(dir.Close())
		dir, path = next, path+"/"+name
	}
	w.must(dir.Close())
	return path
}

// TestDeepTree goes deeper than any path can be long, and than this process may
// have directories open.
func TestDeepTree(t *testing.T) {
	w := newWorld(t)
	const depth = 1000
	path := w.down(strings.Repeat("d", 20), depth)
	fewFiles(t)
	o := w.clean()
	v := w.view(o.ID)
	if n := len(v.below(w.src)); n != 3*depth || len(path) < 20*depth {
		t.Errorf("%d entries, want %d; the path has %d bytes", n, 3*depth, len(path))
	}
	// What comes behind a directory is read when the walk is on its way back.
	for i, dir := depth-1, filepath.Dir(path); i >= 0; i, dir = i-1, filepath.Dir(dir) {
		v.wantContents(dir+"/0", []byte(fmt.Sprint("0", i)))
		v.wantContents(dir+"/~", []byte(fmt.Sprint("~", i)))
	}
	if names := w.openSources(); len(names) > 0 {
		t.Errorf("%d directories are open", len(names))
	}
}

// TestLongNames has names as long as can be, on a path as long as a key can be.
func TestLongNames(t *testing.T) {
	w := newWorld(t)
	w.down(strings.Repeat("\xff", 255), 240)
	v := w.view(w.clean().ID)
	if n := len(v.below(w.src)); n != 3*240 {
		t.Errorf("%d entries, want %d", n, 3*240)
	}
}

// A path that no key can hold is reported, and the rest of the snapshot made.
func TestPathTooLong(t *testing.T) {
	w := newWorld(t)
	w.down(strings.Repeat("d", 250), 270) // 67,500 bytes
	o := w.snap()
	if !o.Partial || o.Totals.Unreadable != 1 || len(o.problems) != 1 || !strings.Contains(o.problems[0].err.Error(), "64 KiB") {
		t.Errorf("partial %t, totals %+v, problems %.300v", o.Partial, o.Totals, o.problems)
	}
	if o.Totals.Files < 2*250 || o.Totals.Dirs < 250 {
		t.Errorf("totals %+v", o.Totals)
	}
	// Unless it is left out.
	set := gitignore.New("/")
	w.must(set.Add(o.problems[0].path, "test"))
	w.clean(func(o *ingest.Options) { o.Excludes = set })
}

// What can't even be looked at is no problem if it is left out, of whatever type it is.
func TestExcludedUnreadable(t *testing.T) {
	if !ordinaryUser(t) {
		return
	}
	w := newWorld(t)
	w.write("closed/file", []byte("x"))
	w.must(os.Chmod(w.path("closed"), 0o444)) // its names can be read, and no more
	t.Cleanup(func() { os.Chmod(w.path("closed"), 0o755) })
	for pattern, isOut := range map[string]bool{"file": true, "file/": false, "other": false} {
		set := gitignore.New("/")
		w.must(set.Add(pattern, "test"))
		o := w.snap(func(o *ingest.Options) { o.Excludes = set })
		if o.Partial == isOut || len(o.problems) == 0 == !isOut {
			t.Errorf("without %s: partial %t, problems %v", pattern, o.Partial, o.problems)
		}
	}
}

// TestManyDirectories has a file in each of more directories than may be open.
func TestManyDirectories(t *testing.T) {
	w := newWorld(t)
	const dirs = 1500
	for i := range dirs {
		w.write(fmt.Sprintf("%04d/file", i), []byte(fmt.Sprint(i)))
	}
	for i := range 200 {
		w.write(fmt.Sprintf("%04d/large", i), random(uint64(i), 256<<10))
	}
	fewFiles(t)
	v := w.view(w.clean().ID)
	v.compare(w.src)
}

// TestWayUnreadable: directories on the way to a source need not be readable, as
// /home is often not. The source itself must be.
func TestWayUnreadable(t *testing.T) {
	if !ordinaryUser(t) {
		return
	}
	w := newWorld(t)
	w.write("home/me/file", []byte("x"))
	w.must(os.Symlink("home", w.path("link")))
	w.must(os.Chmod(w.path("home"), 0o311))
	t.Cleanup(func() { os.Chmod(w.path("home"), 0o755) })
	for _, way := range []string{"home", "link"} {
		v := w.view(w.clean(func(o *ingest.Options) { o.Paths = []string{w.path(way + "/me")} }).ID)
		v.want(way, way+"/me", way+"/me/file")
		v.wantContents(w.path(way+"/me/file"), []byte("x"))
		e := v.entry(w.path(way))
		if e.Mode != 0o311 {
			t.Errorf("%s has mode %o", way, e.Mode)
		}
		v.compareXattrs(w.path("home"), e)
	}
	if _, err := w.try(t.Context(), func(o *ingest.Options) { o.Paths = []string{w.path("home")} }); !errors.Is(err, unix.EACCES) {
		t.Errorf("a source that can't be read: %v", err)
	}
}

// TestManyAttributes: attributes that no entry can hold are reported with what
// has them, each time, and all else is in the snapshot.
func TestManyAttributes(t *testing.T) {
	w := newWorld(t)
	w.must(os.Mkdir(w.path("mounted"), 0o755))
	w.mount("mounted", "tmpfs", "size=16m")
	names := []string{"dir", "file", "large"}
	w.write("mounted/dir/in", []byte("x"))
	w.write("mounted/file", []byte("x"))
	w.write("mounted/large", random(1, 300<<10))
	for _, name := range names {
		for i := range 40 {
			w.must(unix.Lsetxattr(w.path("mounted/"+name), fmt.Sprintf("trusted.%02d", i), random(1, 60<<10), 0))
		}
	}
	for range 2 { // the second is not told that they have not changed
		o := w.snap()
		for _, name := range names {
			if p := o.problem(t, w.path("mounted/"+name)); !p.fatal || !strings.Contains(p.err.Error(), "attributes") {
				t.Errorf("%s: %v, fatal %t", name, p.err, p.fatal)
			}
		}
		v := w.view(o.ID)
		v.want("mounted", "mounted/dir", "mounted/dir/in", "mounted/file", "mounted/large")
		v.wantContents(w.path("mounted/large"), random(1, 300<<10))
		if n := len(v.entry(w.path("mounted/dir")).Xattrs); n < 30 || n >= 40 {
			t.Errorf("%d attributes of the directory are there", n)
		}
	}
}
