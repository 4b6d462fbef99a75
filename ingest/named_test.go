package ingest_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/gitignore"
)

// TestNamedInNamed: what is named is taken, and must be there, also if a directory above
// it is named as well.
func TestNamedInNamed(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"a", "b/c", "b/d/e", "b/d/f", "b/x.tmp", "b/y.tmp", "z",
		"cache/1", "cache/2/3", "cache/4",
	} {
		w.write(name, []byte(name))
	}
	w.write("cache/CACHEDIR.TAG", []byte("Signature: 8a477f597d28d172789f06886806bc55"))
	w.must(os.Symlink("b/d", w.path("link")))
	set := gitignore.New("/")
	w.must(errors.Join(set.Add("d", "test"), set.Add("*.tmp", "test")))
	take := func(o *ingest.Options) {
		o.Excludes, o.ExcludeCaches = set, true
		for _, name := range []string{"b/d/e", "b/x.tmp", "cache/2", "link"} {
			o.Paths = append(o.Paths, w.path(name))
		}
	}
	want := []string{
		"a", "b", "b/c", "b/d", "b/d/e", "b/x.tmp", "z", "link",
		"cache", "cache/2", "cache/2/3", "cache/CACHEDIR.TAG",
	}
	o := w.clean(take)
	w.view(o.ID).want(want...)
	if len(o.Sources) != 1 {
		t.Errorf("sources: %v", o.Sources)
	}
	w.view(w.clean(take).ID).want(want...) // with a parent
	for _, name := range []string{"missing", "b/missing", "a/below", "zz", "cache/0", "b/d/0"} {
		_, err := w.try(context.Background(), take, func(o *ingest.Options) { o.Paths = append(o.Paths, w.path(name)) })
		if !errors.Is(err, fs.ErrNotExist) && name != "a/below" || err == nil {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestNamedMount: a file system is taken if it or something in it is named, also if
// what it is mounted in is named as well.
func TestNamedMount(t *testing.T) {
	w := newWorld(t)
	w.write("a", []byte("a"))
	w.must(os.MkdirAll(w.path("mounted"), 0o755))
	w.mount("mounted", "tmpfs", "size=1m")
	w.write("mounted/b", []byte("b"))
	w.write("mounted/c/d", []byte("d"))
	take := func(names ...string) func(o *ingest.Options) {
		return func(o *ingest.Options) {
			o.OneFileSystem = true
			for _, name := range names {
				o.Paths = append(o.Paths, w.path(name))
			}
		}
	}
	w.view(w.clean(take()).ID).want("a", "mounted")
	w.view(w.clean(take("mounted")).ID).want("a", "mounted", "mounted/b", "mounted/c", "mounted/c/d")
	w.view(w.clean(take("mounted/c")).ID).want("a", "mounted", "mounted/c", "mounted/c/d")
}
