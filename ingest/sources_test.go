package ingest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/snapshot"
)

func TestAncestors(t *testing.T) {
	w := newWorld(t)
	w.write("in/a", []byte("a"))
	w.write("beside/b", []byte("b"))
	w.must(os.Chmod(w.src, 0o2750))
	o := w.clean(func(o *ingest.Options) { o.Paths = []string{w.path("in")} })
	v := w.view(o.ID)
	v.want("in", "in/a")
	for p := w.path("in"); ; p = filepath.Dir(p) {
		var st unix.Stat_t
		w.must(unix.Lstat(p, &st))
		if e := v.entry(p); e.Type != snapshot.Directory || e.Mode != st.Mode&0o7777 || e.UID != st.Uid || e.Inode != st.Ino {
			t.Errorf("%s is a %s of mode %o", p, e.Type, e.Mode)
		}
		if p == "/" {
			break
		}
	}
}

func TestOverlappingPaths(t *testing.T) {
	w := newWorld(t)
	w.write("a/b/c", []byte("c"))
	w.write("a/d", []byte("d"))
	w.write("ab/e", []byte("e"))
	w.write("f", []byte("f"))
	o := w.clean(func(o *ingest.Options) {
		o.Paths = []string{w.path("ab"), w.path("a/b"), w.path("a"), w.path("a/"), w.path("x/../a/b/c"), w.path("f"), w.path("a/b")}
	})
	v := w.view(o.ID)
	v.want("a", "a/b", "a/b/c", "a/d", "ab", "ab/e", "f")
	var names []string
	for _, s := range o.Sources {
		names = append(names, s.Kind+" "+string(s.Name))
	}
	if want := []string{"files " + w.path("a"), "files " + w.path("ab"), "files " + w.path("f")}; !slices.Equal(names, want) {
		t.Errorf("sources are %q, want %q", names, want)
	}
	v.wantContents(w.path("f"), []byte("f"))
}

func TestRelativePath(t *testing.T) {
	w := newWorld(t)
	w.write("dir/file", []byte("x"))
	t.Chdir(w.src)
	v := w.view(w.clean(func(o *ingest.Options) { o.Paths = []string{"./dir//file"} }).ID)
	v.want("dir", "dir/file")
	v.wantContents(w.path("dir/file"), []byte("x"))
}

func TestPathThroughSymlink(t *testing.T) {
	w := newWorld(t)
	w.write("real/dir/file", []byte("x"))
	w.write("real/other", nil)
	w.must(os.Symlink("real", w.path("link")))
	w.must(os.Symlink("gone", w.path("dangling")))

	o := w.clean(func(o *ingest.Options) { o.Paths = []string{w.path("link/dir"), w.path("dangling")} })
	v := w.view(o.ID)
	v.want("link", "link/dir", "link/dir/file", "dangling")
	v.wantContents(w.path("link/dir/file"), []byte("x"))
	if e := v.entry(w.path("link")); e.Type != snapshot.Directory {
		t.Errorf("the link on the way is a %s", e.Type)
	}
	if e := v.entry(w.path("dangling")); e.Type != snapshot.Symlink {
		t.Errorf("a link that was named is a %s", e.Type)
	}

	// The link itself was named as well: it can't be both, and what was asked
	// for must not be missing.
	o = w.clean(func(o *ingest.Options) { o.Paths = []string{w.path("link"), w.path("link/dir")} })
	w.view(o.ID).wantContents(w.path("link/dir/file"), []byte("x"))
}

func TestMissingSource(t *testing.T) {
	w := newWorld(t)
	w.write("there", nil)
	w.must(os.Symlink("gone", w.path("dangling")))
	for _, path := range []string{"missing", "no/where", "there/below", "dangling/below"} {
		o, err := w.try(t.Context(), func(o *ingest.Options) { o.Paths = []string{w.path("there"), w.path(path)} })
		if err == nil {
			t.Fatalf("%s: a snapshot was made: %+v", path, o.Result)
		}
		first, _, _ := strings.Cut(path, "/")
		if text := err.Error(); !strings.Contains(text, w.path(first)) || strings.Contains(text, "%!") {
			t.Errorf("%s: the error does not say what is missing: %s", path, text)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: the error lacks its cause: %s", path, err)
		}
	}
	if names := append(w.names("snapshots/"), w.names("leases/")...); len(names) != 0 {
		t.Errorf("failed runs left %q", names)
	}
	if _, err := w.try(t.Context(), func(o *ingest.Options) { o.Paths = []string{""} }); err == nil {
		t.Error("an empty path was taken")
	}
}
