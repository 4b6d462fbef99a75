package snapshot_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/snapshot"
)

func TestKeyOf(t *testing.T) {
	for path, want := range map[string]snapshot.Key{
		"/": "", "/srv": "\x00srv", "/srv/x": "\x00srv\x00x", "/srv/x/": "\x00srv\x00x", "stdin": "stdin", "stdin/dump": "stdin\x00dump",
		"/not utf-8 \xff\xfe/\x01": "\x00not utf-8 \xff\xfe\x00\x01", "/...": "\x00...", "/.x": "\x00.x",
		"/" + strings.Repeat("n", 255): snapshot.Key("\x00" + strings.Repeat("n", 255)),
	} {
		got, err := snapshot.KeyOf(path)
		if err != nil || got != want {
			t.Errorf("KeyOf(%q) = %q, %v; want %q", path, got, err, want)
			continue
		}
		if back := got.Path(); path != "/" && back != strings.TrimSuffix(path, "/") || path == "/" && back != path {
			t.Errorf("path of %q is %q, not %q", got, back, path)
		}
	}
	for _, path := range []string{
		"", "//", "/a//b", "a//", "/.", "/..", "/a/../b", ".", "..", "./a", "/a\x00b", "/" + strings.Repeat("n", 256),
		strings.Repeat("/n", snapshot.MaxKey/2+1),
	} {
		if k, err := snapshot.KeyOf(path); err == nil {
			t.Errorf("KeyOf(%.40q) = %.40q, want an error", path, k)
		}
	}
	if err := snapshot.Key("a/b").Validate(); err == nil {
		t.Error("a slash in a component is no error")
	}
}

func TestKeyParts(t *testing.T) {
	for _, tt := range []struct{ path, parent, base string }{
		{"/srv/x", "/srv", "x"}, {"/srv", "/", "srv"}, {"stdin/dump", "stdin", "dump"},
	} {
		k := key(tt.path)
		parent, ok := k.Parent()
		if !ok || parent.Path() != tt.parent || k.Base() != tt.base || parent.Child(k.Base()) != k {
			t.Errorf("%s: parent %q, base %q", tt.path, parent.Path(), k.Base())
		}
	}
	for _, path := range []string{"/", "stdin"} {
		if p, ok := key(path).Parent(); ok {
			t.Errorf("%s has the parent %q", path, p.Path())
		}
	}
	for _, tt := range []struct {
		path, dir string
		want      bool
	}{
		{"/srv/x", "/srv", true}, {"/srv/x/y", "/srv", true}, {"/srv/x", "/", true}, {"/srv", "/srv", false},
		{"/srv2", "/srv", false}, {"/", "/", false}, {"stdin/x", "/", false}, {"stdin", "/", false}, {"stdin/x", "stdin", true},
	} {
		if got := key(tt.path).IsBelow(key(tt.dir)); got != tt.want {
			t.Errorf("%s below %s: %v", tt.path, tt.dir, got)
		}
	}
}

// The order of keys is that of paths by components, whatever bytes these have.
func TestKeyOrder(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(500)
	byComponents := func(a, b snapshot.Entry) int {
		return slices.Compare(strings.Split(string(a.Key), "\x00"), strings.Split(string(b.Key), "\x00"))
	}
	if !slices.IsSortedFunc(entries, byComponents) {
		t.Error("entries sorted by key are not sorted by components")
	}
}
