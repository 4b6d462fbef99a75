package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"reflect"
	"sort"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

func keysOf(t testing.TB, seq iter.Seq2[*snapshot.Entry, error]) (keys []snapshot.Key) {
	t.Helper()
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, e.Key)
	}
	return keys
}

// filter returns the keys of entries that keep wants.
func filter(entries []snapshot.Entry, keep func(snapshot.Key) bool) (keys []snapshot.Key) {
	for _, e := range entries {
		if keep(e.Key) {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func TestTreeIterators(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(4000)
	tree := build(t, newStore(), entries)
	for range 15 {
		k := entries[r.IntN(len(entries))].Key
		inDir := func(x snapshot.Key) bool { p, ok := x.Parent(); return ok && p == k }
		for name, tt := range map[string]struct {
			got  iter.Seq2[*snapshot.Entry, error]
			keep func(snapshot.Key) bool
		}{
			"From":     {tree.From(t.Context(), k), func(x snapshot.Key) bool { return x >= k }},
			"Below":    {tree.Below(t.Context(), k), func(x snapshot.Key) bool { return x.IsBelow(k) }},
			"Children": {tree.Children(t.Context(), k), inDir},
			"Roots":    {tree.Roots(t.Context()), func(x snapshot.Key) bool { _, ok := x.Parent(); return !ok }},
		} {
			if got, want := keysOf(t, tt.got), filter(entries, tt.keep); !reflect.DeepEqual(got, want) {
				t.Errorf("%s %q: %q, want %q", name, k, got, want)
			}
		}
		e, err := tree.Lookup(t.Context(), k)
		if err != nil || e == nil || e.Key != k {
			t.Errorf("lookup of %q: %v, %v", k, e, err)
		}
		if e, err := tree.Lookup(t.Context(), k.Child("missing")); err != nil || e != nil {
			t.Errorf("lookup of what is not there: %v, %v", e, err)
		}
	}
}

// A cursor finds its place from any place, and goes on from there.
func TestCursorSeek(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(4000)
	tree := build(t, newStore(), entries)
	c := snapshot.NewCursor(tree)
	for range 500 {
		k := entries[r.IntN(len(entries))].Key
		switch r.IntN(4) {
		case 0:
			k += "\x01"
		case 1:
			k += "\x00"
		case 2:
			k += "\xff"
		}
		i := sort.Search(len(entries), func(i int) bool { return entries[i].Key >= k })
		e, err := c.Seek(t.Context(), k)
		for n := r.IntN(60); ; n-- {
			switch {
			case err != nil:
				t.Fatal(err)
			case i == len(entries) && e != nil:
				t.Fatalf("seek %q: %q, want the end", k, e.Key)
			case i < len(entries) && (e == nil || !reflect.DeepEqual(*e, entries[i])):
				t.Fatalf("seek %q: %v, want %q", k, e, entries[i].Key)
			}
			if n == 0 || e == nil {
				break
			}
			i++
			e, err = c.Next(t.Context())
		}
	}
}

// A listing of a directory does not read what is deeper.
func TestChildrenReadsLittle(t *testing.T) {
	s := newStore()
	tree := build(t, s, plainFiles(30_000, 2000))
	for _, tt := range []struct {
		path       string
		want, most int
	}{{"/", 1, 12}, {"/data/00100", 200, 8}} {
		s.reads = 0
		if n := len(keysOf(t, tree.Children(t.Context(), key(tt.path)))); n != tt.want || s.reads > tt.most {
			t.Errorf("%s: %d children, %d reads of %d nodes; want %d and at most %d", tt.path, n, s.reads, len(s.nodes), tt.want, tt.most)
		}
	}
	s.reads = 0
	if _, err := tree.Lookup(t.Context(), key("/data/00140/object-0007.json")); err != nil || s.reads != int(tree.Root.Level)+1 {
		t.Errorf("lookup: %d reads in a tree of %d levels: %v", s.reads, tree.Root.Level+1, err)
	}
}

// Merge-joins seek forward by little: that must not begin at the root.
func TestSeekForwardReadsEachNodeOnce(t *testing.T) {
	entries := plainFiles(20_000, 2000)
	s := newStore()
	c := snapshot.NewCursor(build(t, s, entries))
	for i := 0; i < len(entries); i += 3 {
		if e, err := c.Seek(t.Context(), entries[i].Key); err != nil || e.Key != entries[i].Key {
			t.Fatalf("seek %q: %v", entries[i].Key, err)
		}
	}
	if s.reads > len(s.nodes) {
		t.Errorf("%d reads of %d nodes", s.reads, len(s.nodes))
	}
}

// Nodes that are sound by themselves but not what is said of them above are
// damage, in a walk as well as in a visit.
func TestTreeOfWrongNodes(t *testing.T) {
	s := newStore()
	put := func(n interface{ Append([]byte) ([]byte, error) }) chunk.ID {
		p, err := n.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := s.sink(t.Context(), p)
		return id
	}
	dir := func(k snapshot.Key) snapshot.Entry { return snapshot.Entry{Key: k, Type: snapshot.Directory} }
	file := dir("c")
	file.Type, file.Size, file.Extents = snapshot.File, 5, []snapshot.Extent{{Length: 5}}
	ab := put(&snapshot.Leaf{Entries: []snapshot.Entry{dir("a"), dir("b")}})
	c := put(&snapshot.Leaf{Entries: []snapshot.Entry{file}})
	az := put(&snapshot.Leaf{Entries: []snapshot.Entry{dir("a"), dir("z")}})
	aAndZ := put(&snapshot.Inner{Level: 1, Children: []snapshot.Child{{Key: "a", ID: az, Entries: 2}}})
	onlyC := put(&snapshot.Inner{Level: 1, Children: []snapshot.Child{{Key: "c", ID: c, Entries: 1, Bytes: 5}}})
	empty := put(&snapshot.Leaf{})
	for name, tt := range map[string]struct {
		level    uint8
		children []snapshot.Child
		good     bool
	}{
		"right":       {1, []snapshot.Child{{"a", ab, 2, 0}, {"c", c, 1, 5}}, true},
		"first key":   {1, []snapshot.Child{{"A", ab, 2, 0}, {"c", c, 1, 5}}, false},
		"last key":    {1, []snapshot.Child{{"a", ab, 2, 0}, {"b", c, 1, 5}}, false},
		"bound":       {1, []snapshot.Child{{"a", az, 2, 0}, {"c", c, 1, 5}}, false},
		"high bound":  {2, []snapshot.Child{{"a", aAndZ, 2, 0}, {"c", onlyC, 1, 5}}, false},
		"entries":     {1, []snapshot.Child{{"a", ab, 3, 0}, {"c", c, 1, 5}}, false},
		"bytes":       {1, []snapshot.Child{{"a", ab, 2, 0}, {"c", c, 1, 6}}, false},
		"empty child": {1, []snapshot.Child{{"a", empty, 1, 0}}, false},
		"level":       {2, []snapshot.Child{{"a", ab, 2, 0}, {"c", c, 1, 5}}, false},
	} {
		root := put(&snapshot.Inner{Level: tt.level, Children: tt.children})
		tree := snapshot.Tree{Root: snapshot.Root{ID: root, Level: tt.level}, Source: s}
		var err error
		for _, err = range tree.All(t.Context()) {
			if err != nil {
				break
			}
		}
		v := &visitor{seen: make(map[chunk.ID]bool)}
		if verr := snapshot.Visit(t.Context(), tree, v); verr != nil {
			t.Errorf("wrong %s: visit: %v", name, verr)
		}
		if tt.good && (err != nil || len(v.bad) > 0) || !tt.good && (!errors.Is(err, seal.ErrDamaged) || len(v.bad) == 0) {
			t.Errorf("wrong %s: %v, %d bad nodes", name, err, len(v.bad))
		}
	}
	bad := snapshot.Tree{Root: snapshot.Root{ID: ab, Level: 1}, Source: s}
	if _, err := bad.Lookup(t.Context(), "a"); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a root of another level: %v", err)
	}
}

// visitor notes what it is shown.
type visitor struct {
	seen    map[chunk.ID]bool
	chunks  map[chunk.ID]int
	bad     []chunk.ID
	badFile string
	stop    error
}

func (v *visitor) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	old := v.seen[n.ID]
	v.seen[n.ID] = true
	return !old
}

func (v *visitor) Extent(e *snapshot.Entry, x snapshot.Extent) error {
	if v.chunks == nil {
		v.chunks = make(map[chunk.ID]int)
	}
	v.chunks[x.Chunk]++
	return v.stop
}

func (v *visitor) Bad(id chunk.ID, e *snapshot.Entry, err error) error {
	v.bad = append(v.bad, id)
	if e != nil {
		v.badFile = e.Key.Path()
	}
	return nil
}

func TestVisit(t *testing.T) {
	r := newRandom(t)
	s := newStore()
	entries := plainFiles(3000, 2000)
	list, size := r.list(5000)
	ref := buildList(t, s, list)
	entries = append(entries, snapshot.Entry{Key: key("/huge"), Type: snapshot.File, Size: size, List: &ref})
	want := make(map[chunk.ID]int)
	for _, e := range entries {
		for _, x := range e.Extents {
			want[x.Chunk]++
		}
	}
	for _, x := range list {
		if !x.IsHole() {
			want[x.Chunk]++
		}
	}
	tree := build(t, s, entries)
	v := &visitor{seen: make(map[chunk.ID]bool)}
	if err := snapshot.Visit(t.Context(), tree, v); err != nil || len(v.bad) > 0 {
		t.Fatal(err, v.bad)
	}
	if !reflect.DeepEqual(v.chunks, want) || len(v.seen) != len(s.nodes) {
		t.Errorf("visited %d chunks and %d nodes; want %d and %d", len(v.chunks), len(v.seen), len(want), len(s.nodes))
	}
	v.stop = errors.New("stop")
	clear(v.seen)
	if err := snapshot.Visit(t.Context(), tree, v); !errors.Is(err, v.stop) {
		t.Errorf("the visitor's error became %v", err)
	}
	s.nodes[ref.Root] = bytes.Repeat([]byte{1}, 10)
	v = &visitor{seen: make(map[chunk.ID]bool)}
	if err := snapshot.Visit(t.Context(), tree, v); err != nil || len(v.bad) != 1 || v.badFile != "/huge" {
		t.Errorf("damaged list: %v, %d bad, file %q", err, len(v.bad), v.badFile)
	}
}

// shared makes a visitor safe for concurrent use.
type shared struct {
	*visitor
	mu *sync.Mutex
}

func (v shared) Enter(n snapshot.Mention, e *snapshot.Entry) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.visitor.Enter(n, e)
}

func (v shared) Extent(e *snapshot.Entry, x snapshot.Extent) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.visitor.Extent(e, x)
}

func (v shared) Bad(id chunk.ID, e *snapshot.Entry, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.visitor.Bad(id, e, err)
}

// nodes is a source that counts nothing, so it is safe for concurrent use.
type nodes map[chunk.ID][]byte

func (n nodes) Node(_ context.Context, id chunk.ID, _ chunk.Kind) ([]byte, error) { return n[id], nil }

// However many nodes are read at once, all are visited, and an error ends it.
func TestVisits(t *testing.T) {
	r := newRandom(t)
	s := newStore()
	var trees []snapshot.Tree
	for range 3 {
		entries := plainFiles(3000, 2000)
		list, size := r.list(5000)
		ref := buildList(t, s, list)
		entries = append(entries, snapshot.Entry{Key: key("/huge"), Type: snapshot.File, Size: size, List: &ref})
		tree := build(t, s, entries)
		tree.Source = nodes(s.nodes)
		trees = append(trees, tree)
	}
	want := &visitor{seen: make(map[chunk.ID]bool)}
	for _, tree := range trees {
		if err := snapshot.Visit(t.Context(), tree, want); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{1, 2, 32} {
		got := shared{&visitor{seen: make(map[chunk.ID]bool)}, new(sync.Mutex)}
		visits := snapshot.NewVisits(t.Context(), n)
		for _, tree := range trees {
			if err := visits.Visit(tree, got); err != nil {
				t.Fatal(err)
			}
		}
		if err := visits.Wait(); err != nil || len(got.bad) > 0 {
			t.Fatal(err, got.bad)
		}
		if !reflect.DeepEqual(got.chunks, want.chunks) || len(got.seen) != len(s.nodes) {
			t.Errorf("%d at once: visited %d chunks and %d nodes; want %d and %d", n, len(got.chunks), len(got.seen), len(want.chunks), len(s.nodes))
		}
		clear(got.seen)
		got.stop = errors.New("stop")
		visits = snapshot.NewVisits(t.Context(), n)
		err := visits.Visit(trees[0], got)
		if werr := visits.Wait(); n > 1 {
			err = werr
		}
		if !errors.Is(err, got.stop) {
			t.Errorf("%d at once: the visitor's error became %v", n, err)
		}
	}
}
