package snapshot_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/snapshot"
)

func diff(t testing.TB, a, b snapshot.Tree) (out []string) {
	t.Helper()
	for c, err := range snapshot.Diff(t.Context(), a, b) {
		if err != nil {
			t.Fatal(err)
		}
		e := c.New
		if e == nil {
			e = c.Old
		}
		if (c.Old == nil) != (c.Kind == snapshot.Added) || (c.New == nil) != (c.Kind == snapshot.Removed) {
			t.Errorf("%s %q with old %v and new %v", c.Kind, e.Key, c.Old, c.New)
		}
		out = append(out, fmt.Sprintf("%s %q", c.Kind, e.Key))
	}
	return out
}

// naive compares two sorted lists of entries.
func naive(a, b []snapshot.Entry) (out []string) {
	old := make(map[snapshot.Key]snapshot.Entry)
	for _, e := range a {
		old[e.Key] = e
	}
	type line struct {
		key  snapshot.Key
		kind snapshot.ChangeKind
	}
	var lines []line
	for _, e := range b {
		o, ok := old[e.Key]
		delete(old, e.Key)
		same := o
		same.Ctime, same.Inode, same.Link = e.Ctime, e.Inode, e.Link
		content := same
		content.Mode, content.UID, content.GID, content.User, content.Group, content.Mtime = e.Mode, e.UID, e.GID, e.User, e.Group, e.Mtime
		content.Xattrs, content.HasLink, content.Extents, content.List = e.Xattrs, e.HasLink, e.Extents, e.List
		switch {
		case !ok:
			lines = append(lines, line{e.Key, snapshot.Added})
		case reflect.DeepEqual(same, e):
		case o.Type != e.Type:
			lines = append(lines, line{e.Key, snapshot.TypeChanged})
		case !reflect.DeepEqual(content, e):
			lines = append(lines, line{e.Key, snapshot.Modified})
		default:
			lines = append(lines, line{e.Key, snapshot.MetadataChanged})
		}
	}
	for k := range old {
		lines = append(lines, line{k, snapshot.Removed})
	}
	slices.SortFunc(lines, func(x, y line) int { return slices.Compare([]byte(x.key), []byte(y.key)) })
	for _, l := range lines {
		out = append(out, fmt.Sprintf("%s %q", l.kind, l.key))
	}
	return out
}

// mutate returns a changed copy of a tree's entries.
func (r random) mutate(entries []snapshot.Entry, changes int) []snapshot.Entry {
	out := slices.Clone(entries)
	for range changes {
		i := r.IntN(len(out))
		e := &out[i]
		parent, ok := e.Key.Parent()
		switch r.IntN(4) {
		case 0: // with all that is below it
			if !ok {
				continue
			}
			k := e.Key
			out = slices.DeleteFunc(out, func(e snapshot.Entry) bool { return e.Key == k || e.Key.IsBelow(k) })
		case 1:
			if !ok {
				continue
			}
			k := parent.Child(r.name())
			if j, found := slices.BinarySearchFunc(out, k, func(e snapshot.Entry, k snapshot.Key) int {
				return slices.Compare([]byte(e.Key), []byte(k))
			}); !found {
				out = slices.Insert(out, j, r.entry(k))
			}
		case 2:
			e.Mode ^= 1
		default:
			if e.Type != snapshot.Directory {
				*e = r.entry(e.Key)
			}
		}
	}
	return out
}

func TestDiff(t *testing.T) {
	r := newRandom(t)
	for _, n := range []int{0, 10, 300, 5000} {
		for _, changes := range []int{0, 1, 20, 1000} {
			a := r.entries(n)
			b := r.mutate(a, changes)
			s := newStore()
			ta, tb := build(t, s, a), build(t, s, b)
			if got, want := diff(t, ta, tb), naive(a, b); !slices.Equal(got, want) {
				t.Fatalf("%d entries, %d changes:\n got %q\nwant %q", n, changes, got, want)
			}
			if got, want := diff(t, tb, ta), naive(b, a); !slices.Equal(got, want) {
				t.Fatalf("%d entries, %d changes, backwards:\n got %q\nwant %q", n, changes, got, want)
			}
		}
	}
}

// Trees of other heights, and none at all, meet too.
func TestDiffHeights(t *testing.T) {
	s := newStore()
	all := plainFiles(30_000, 2000)
	large, small, none := build(t, s, all), build(t, s, all[:40]), build(t, s, nil)
	if large.Root.Level <= small.Root.Level {
		t.Fatalf("levels %d and %d", large.Root.Level, small.Root.Level)
	}
	for _, tt := range []struct {
		a, b snapshot.Tree
		want int
	}{{none, large, len(all)}, {large, none, len(all)}, {small, large, len(all) - 40}, {none, none, 0}, {none, small, 40}} {
		if n := len(diff(t, tt.a, tt.b)); n != tt.want {
			t.Errorf("%d changes, want %d", n, tt.want)
		}
	}
}

func TestDiffReadsLittle(t *testing.T) {
	entries := plainFiles(30_000, 2000)
	s := newStore()
	a := build(t, s, entries)
	if s.reads = 0; len(diff(t, a, a)) != 0 || s.reads != 0 {
		t.Errorf("a tree against itself: %d reads", s.reads)
	}
	entries[20_000].Mode ^= 0o100
	was := len(s.nodes)
	b := build(t, s, entries)
	added := len(s.nodes) - was
	s.reads = 0
	if got := diff(t, a, b); len(got) != 1 {
		t.Fatalf("changes %q", got)
	}
	// Each new node has about one counterpart.
	if s.reads > 2*added+2 {
		t.Errorf("%d reads, though only %d nodes of %d are new", s.reads, added, was)
	}
	// Far apart, nothing in between is read.
	entries[3].Mode ^= 0o100
	entries[len(entries)-1].Mode ^= 0o100
	c := build(t, s, entries)
	s.reads = 0
	if got := diff(t, a, c); len(got) != 3 || s.reads > 40 {
		t.Errorf("changes %q with %d reads", got, s.reads)
	}
}

func TestDiffError(t *testing.T) {
	entries := plainFiles(10_000, 0)
	s := newStore()
	a := build(t, s, entries)
	for i := range entries {
		entries[i].Mode ^= 0o100
	}
	lost := newStore()
	b := build(t, lost, entries)
	root := lost.nodes[b.Root.ID]
	clear(lost.nodes)
	lost.nodes[b.Root.ID] = root
	var last error
	n := 0
	for c, err := range snapshot.Diff(t.Context(), a, b) {
		if n++; last != nil {
			t.Error("a diff goes on after an error")
		}
		if last = err; err != nil && !reflect.DeepEqual(c, snapshot.Change{}) {
			t.Error("an error with a change")
		}
	}
	if last == nil || n != 1 {
		t.Errorf("%d pairs, last error %v", n, last)
	}
	for range snapshot.Diff(t.Context(), a, build(t, s, nil)) {
		break // must not panic
	}
}
