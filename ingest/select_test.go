package ingest_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/internal/need"
)

func TestExcludes(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"a.tmp", "a.txt", "deep/b.tmp", "deep/keep.tmp", "deep/c", "cache/x", "cache/y/z", "logs/1", "logs/2",
		"named/in", "named/cache/x", "odd\xff/x", "deep/tmp", "file/cache",
	} {
		w.write(name, []byte(name))
	}
	w.must(os.Symlink("logs", w.path("logs.link")))
	set := gitignore.New("/")
	for _, p := range []string{"*.tmp", "!keep.tmp", "cache/", w.path("logs"), "odd\xff", "tmp", "!/tmp"} {
		w.must(set.Add(p, "test"))
	}
	o := w.clean(func(o *ingest.Options) { o.Excludes = set })
	v := w.view(o.ID)
	v.want("a.txt", "deep", "deep/keep.tmp", "deep/c", "named", "named/in", "file", "file/cache", "logs.link")

	// What is named is taken, whatever excludes it; what is in it is not.
	o = w.clean(func(o *ingest.Options) {
		o.Excludes = set
		o.Paths = []string{w.path("a.tmp"), w.path("cache/y"), w.path("logs")}
	})
	w.view(o.ID).want("a.tmp", "cache", "cache/y", "cache/y/z", "logs", "logs/1", "logs/2")
}

// TestExcludedLater leaves out what the parent has.
func TestExcludedLater(t *testing.T) {
	w := newWorld(t)
	w.write("a", []byte("a"))
	w.write("b/c", []byte("c"))
	w.clean()
	set := gitignore.New("/")
	w.must(set.Add("b", "test"))
	o := w.clean(func(o *ingest.Options) { o.Excludes = set })
	w.view(o.ID).want("a")
	if o.Totals.Removed != 2 || o.Totals.Unmodified != 1 {
		t.Errorf("totals are %+v", o.Totals)
	}
}

func TestExcludeCaches(t *testing.T) {
	w := newWorld(t)
	const tag = "Signature: 8a477f597d28d172789f06886806bc55"
	w.write("cache/CACHEDIR.TAG", []byte(tag+"\n# a comment\n"))
	w.write("cache/x/y", []byte("y"))
	w.write("bare/CACHEDIR.TAG", []byte(tag))
	w.write("short/CACHEDIR.TAG", []byte(tag[:len(tag)-1]))
	w.write("other/CACHEDIR.TAG", []byte("something else, that is longer than the signature"))
	w.must(os.MkdirAll(w.path("dir/CACHEDIR.TAG"), 0o755))
	w.must(os.Mkdir(w.path("link"), 0o755))
	w.must(os.Symlink("../bare/CACHEDIR.TAG", w.path("link/CACHEDIR.TAG")))
	w.must(os.Mkdir(w.path("fifo"), 0o755))
	w.must(unix.Mkfifo(w.path("fifo/CACHEDIR.TAG"), 0o644))

	kept := []string{
		"short", "short/CACHEDIR.TAG", "other", "other/CACHEDIR.TAG", "dir", "dir/CACHEDIR.TAG",
		"link", "link/CACHEDIR.TAG", "fifo", "fifo/CACHEDIR.TAG", "cache", "cache/CACHEDIR.TAG", "bare", "bare/CACHEDIR.TAG",
	}
	w.view(w.clean(func(o *ingest.Options) { o.ExcludeCaches = true }).ID).want(kept...)
	w.view(w.clean().ID).want(append(kept, "cache/x", "cache/x/y")...)
}

// mount mounts a file system on a directory of the source.
func (w *world) mount(name, kind, options string) {
	w.Helper()
	need.Root(w.T)
	if err := unix.Mount(kind, w.path(name), kind, 0, options); err != nil {
		need.Missing(w.T, "this root may not mount a %s: %v", kind, err)
	}
	w.Cleanup(func() { w.must(unix.Unmount(w.path(name), unix.MNT_DETACH)) })
}

func TestOneFileSystem(t *testing.T) {
	w := newWorld(t)
	w.write("a", []byte("a"))
	w.must(os.MkdirAll(w.path("mounted"), 0o755))
	w.mount("mounted", "tmpfs", "size=1m")
	w.write("mounted/b", []byte("b"))
	one := func(o *ingest.Options) { o.OneFileSystem = true }

	v := w.view(w.clean(one).ID)
	v.want("a", "mounted")
	var st unix.Stat_t
	w.must(unix.Lstat(w.path("mounted"), &st))
	if e := v.entry(w.path("mounted")); e.Inode != st.Ino || e.Mode != st.Mode&0o7777 {
		t.Errorf("the mount point is %o, want %o", e.Mode, st.Mode&0o7777)
	}
	w.view(w.clean().ID).want("a", "mounted", "mounted/b")
	// A file system that was named is taken.
	v = w.view(w.clean(one, func(o *ingest.Options) { o.Paths = []string{w.path("mounted")} }).ID)
	v.want("mounted", "mounted/b")
}

// TestBindMount: what is mounted a second time is another mount, although it is on
// the same file system.
func TestBindMount(t *testing.T) {
	w := newWorld(t)
	w.write("a/b", []byte("b"))
	w.must(os.Mkdir(w.path("bound"), 0o755))
	need.Root(t)
	if err := unix.Mount(w.path("a"), w.path("bound"), "", unix.MS_BIND, ""); err != nil {
		need.Missing(t, "this root may not mount: %v", err)
	}
	t.Cleanup(func() { w.must(unix.Unmount(w.path("bound"), unix.MNT_DETACH)) })
	one := func(o *ingest.Options) { o.OneFileSystem = true }
	w.view(w.clean(one).ID).want("a", "a/b", "bound")
	w.view(w.clean().ID).want("a", "a/b", "bound", "bound/b")
	w.view(w.clean(one, func(o *ingest.Options) { o.Paths = []string{w.path("bound")} }).ID).want("bound", "bound/b")
}

// TestManyPaths: a list of files may name very many.
func TestManyPaths(t *testing.T) {
	w := newWorld(t)
	var paths, want []string
	w.write("d/other", nil)
	for i := range 2000 {
		name := fmt.Sprintf("d/%04d", (i*7919)%2000) // in no order
		w.write(name, []byte(name))
		paths = append(paths, w.path(name))
		want = append(want, name)
	}
	o := w.clean(func(o *ingest.Options) { o.Paths = append(paths, paths[:10]...) })
	w.view(o.ID).want(append(want, "d")...)
	if len(o.Sources) != 2000 {
		t.Errorf("%d sources", len(o.Sources))
	}
}

// TestRootPath takes / with everything but the test's own directory excluded.
func TestRootPath(t *testing.T) {
	w := newWorld(t)
	w.write("file", []byte("x"))
	set := gitignore.New("/")
	w.must(set.Add("/*", "test"))
	// The way to the directory is brought back, one component after the other.
	parts := strings.Split(strings.TrimPrefix(w.src, "/"), "/")
	for i := range parts {
		path := "/" + strings.Join(parts[:i+1], "/")
		w.must(errors.Join(set.Add("!"+path, "test"), set.Add(path+"/*", "test")))
	}
	w.must(set.Add("!"+w.path("file"), "test"))
	o := w.clean(func(o *ingest.Options) { o.Paths = []string{"/"}; o.Excludes = set })
	v := w.view(o.ID)
	v.want("file")
	if len(v.entries) != len(parts)+2 {
		t.Errorf("%d entries, want %d", len(v.entries), len(parts)+2)
	}
	v.wantContents(w.path("file"), []byte("x"))
}
