package ingest_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/snapshot"
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

// TestNamedMissing: if an incomplete snapshot is allowed, it has all but what is not there,
// says so of each name, and that its source failed.
func TestNamedMissing(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b/c", "d/e"} {
		w.write(name, []byte(name))
	}
	w.must(os.Symlink("nowhere", w.path("link")))
	names := []string{"0", "a", "a/below", "b", "b/missing", "d/e", "d/f", "link", "link/x", "m", "n/o/p", "n/o/q"}
	lost := []string{"0", "a/below", "b/missing", "d/f", "link/x", "m", "n/o/p", "n/o/q"}
	take := func(o *ingest.Options) {
		o.Paths = nil
		for _, name := range names {
			o.Paths = append(o.Paths, w.path(name))
		}
	}
	var source *ingest.SourceError
	if _, err := w.try(t.Context(), take); !errors.As(err, &source) || source.Path != w.path("0") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without leave, the error is %v", err)
	}
	if n := w.names("snapshots/"); len(n) != 0 {
		t.Errorf("there are snapshots %q", n)
	}
	for range 2 { // the second time with a parent
		o := w.snap(take, allowIncomplete)
		for _, name := range lost {
			p := o.problem(t, w.path(name))
			if says := p.err.Error(); !p.fatal || says != "does not exist" && says != "not a directory" {
				t.Errorf("%s: fatal %t, %v", name, p.fatal, p.err)
			}
		}
		if len(o.problems) != len(lost) || int(o.Totals.Unreadable) != len(lost) || !o.Partial {
			t.Errorf("partial %t, %d unreadable, problems %v", o.Partial, o.Totals.Unreadable, o.problems)
		}
		v := w.view(o.ID)
		v.want("a", "b", "b/c", "d", "d/e", "link")
		if v.info.Open.Flags&snapshot.Incomplete == 0 {
			t.Error("it is not marked as incomplete")
		}
		failed := map[string]bool{"0": true, "d/f": true, "m": true, "n/o/p": true, "n/o/q": true}
		for _, s := range v.info.Body.Sources {
			name := strings.TrimPrefix(string(s.Name), w.src+"/")
			if failed[name] != (s.Status == snapshot.Failed) {
				t.Errorf("source %s has status %d", name, s.Status)
			}
			delete(failed, name)
		}
		if len(failed) > 0 {
			t.Errorf("of %v no source tells", failed)
		}
	}
}
