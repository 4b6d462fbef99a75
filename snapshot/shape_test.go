package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// encoder is a node of any kind.
type encoder interface{ Append([]byte) ([]byte, error) }

// put stores a node.
func (s *store) put(t testing.TB, n encoder) chunk.ID {
	t.Helper()
	p, err := n.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.sink(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// shape makes a tree by hand: nodes are small and end anywhere, and some have
// one child. The format allows it, and few entries make many levels.
func (s *store) shape(t testing.TB, r random, entries []snapshot.Entry) snapshot.Tree {
	t.Helper()
	var children []snapshot.Child
	for rest := entries; len(rest) > 0 || len(children) == 0; {
		n := min(1+r.IntN(5), len(rest))
		c := snapshot.Child{Entries: uint64(n), ID: s.put(t, &snapshot.Leaf{Entries: rest[:n]})}
		if n > 0 {
			c.Key = rest[0].Key
		}
		for _, e := range rest[:n] {
			c.Bytes += e.Size
		}
		children, rest = append(children, c), rest[n:]
	}
	level := uint8(0)
	for len(children) > 1 || len(entries) > 0 && level < 6 && r.IntN(3) == 0 {
		level++
		var above []snapshot.Child
		for rest := children; len(rest) > 0; {
			n := min(1+r.IntN(4), len(rest))
			c := snapshot.Child{Key: rest[0].Key, ID: s.put(t, &snapshot.Inner{Level: level, Children: rest[:n]})}
			for _, x := range rest[:n] {
				c.Entries += x.Entries
				c.Bytes += x.Bytes
			}
			above, rest = append(above, c), rest[n:]
		}
		children = above
	}
	return snapshot.Tree{Root: snapshot.Root{ID: children[0].ID, Level: level}, Source: s}
}

// recut returns entries as a tree that shares nodes with an older one of the
// same entries, but is cut otherwise in places.
func (s *store) recut(t testing.TB, seed uint64, entries []snapshot.Entry, other int) snapshot.Tree {
	r := seeded(seed)
	for range other {
		r.Uint64()
	}
	return s.shape(t, r, entries)
}

// All that a cursor can be asked for is as in the sorted slice, in trees of any
// shape.
func TestCursorInAnyShape(t *testing.T) {
	r := newRandom(t)
	for range 60 {
		entries := r.entries(r.IntN(300))
		s := newStore()
		tree := s.shape(t, r, entries)
		if got := collect(t, tree); !slices.EqualFunc(got, entries, func(a, b snapshot.Entry) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("%d entries come back as %d", len(entries), len(got))
		}
		c, at := snapshot.NewCursor(tree), -1
		for range 100 {
			var e *snapshot.Entry
			var err error
			op := "next"
			if r.IntN(3) > 0 {
				at = min(at+1, len(entries))
				e, err = c.Next(t.Context())
			} else {
				k := entries[r.IntN(len(entries))].Key + snapshot.Key([]string{"", "\x00", "\x01", "\xff"}[r.IntN(4)])
				if r.IntN(10) == 0 {
					k = ""
				}
				op = fmt.Sprintf("seek %q", k)
				at, _ = slices.BinarySearchFunc(entries, k, func(e snapshot.Entry, k snapshot.Key) int { return strings.Compare(string(e.Key), string(k)) })
				e, err = c.Seek(t.Context(), k)
			}
			if err != nil || (e == nil) != (at == len(entries)) || e != nil && e.Key != entries[at].Key {
				t.Fatalf("%s: %v, %v; want entry %d of %d", op, e, err, at, len(entries))
			}
		}
	}
}

// recorder is a source that notes which nodes are read, and how often.
type recorder struct {
	*store
	read map[chunk.ID]int
}

func (r *recorder) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	r.read[id]++
	return r.store.Node(ctx, id, kind)
}

// treeVisitor is a visitor that leaves lists out.
type treeVisitor struct{ visitor }

func (v *treeVisitor) Enter(n snapshot.Mention, e *snapshot.Entry) bool {
	return e == nil && v.visitor.Enter(n, nil)
}

func visitTree(t testing.TB, tree snapshot.Tree) *treeVisitor {
	t.Helper()
	v := &treeVisitor{visitor{seen: make(map[chunk.ID]bool)}}
	if err := snapshot.Visit(t.Context(), tree, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// nodesOf returns the IDs of a tree's nodes.
func nodesOf(t testing.TB, tree snapshot.Tree) map[chunk.ID]bool {
	t.Helper()
	v := visitTree(t, tree)
	if len(v.bad) > 0 {
		t.Fatalf("bad nodes %v", v.bad)
	}
	return v.seen
}

// Whatever the shapes of two trees, Diff says what a comparison of all entries
// says. It reads each node once, and none but a root that is in both.
func TestDiffInAnyShape(t *testing.T) {
	r := newRandom(t)
	for range 200 {
		a := r.entries(r.IntN(200))
		b := r.mutate(a, r.IntN(5)*r.IntN(5))
		if r.IntN(5) == 0 { // a tree that begins later, or ends earlier
			b = slices.DeleteFunc(slices.Clone(b), func(e snapshot.Entry) bool { return e.Key == "stdin" || e.Key.IsBelow("stdin") })
		}
		s := newStore()
		seed := r.Uint64()
		ta, tb := s.recut(t, seed, a, 0), s.recut(t, seed, b, r.IntN(2))
		ra, rb := &recorder{s, make(map[chunk.ID]int)}, &recorder{s, make(map[chunk.ID]int)}
		inA, inB := nodesOf(t, ta), nodesOf(t, tb)
		ta.Source, tb.Source = ra, rb
		if got, want := diff(t, ta, tb), naive(a, b); !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		for id, n := range ra.read {
			if n > 1 || inB[id] && id != ta.Root.ID {
				t.Errorf("node %s of the old tree, %d levels high, was read %d times; is in the new one: %v", id.Short(), s.nodes[id][0], n, inB[id])
			}
		}
		for id, n := range rb.read {
			if n > 1 || inA[id] && id != tb.Root.ID {
				t.Errorf("node %s of the new tree, %d levels high, was read %d times; is in the old one: %v", id.Short(), s.nodes[id][0], n, inA[id])
			}
		}
	}
}

// walkOn goes on behind errors to the end of a tree.
func walkOn(t testing.TB, tree snapshot.Tree) (keys []snapshot.Key, errs []error) {
	t.Helper()
	c := snapshot.NewCursor(tree)
	for {
		e, err := c.Next(t.Context())
		switch {
		case err != nil:
			errs = append(errs, err)
		case e == nil:
			return keys, errs
		default:
			keys = append(keys, e.Key)
		}
	}
}

// Behind an error a cursor goes on behind the node, whether it is missing or
// damaged and on whatever level: restoring the rest of a tree relies on it.
func TestCursorGoesOnBehindDamage(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(200)
	s := newStore()
	tree := s.shape(t, r, entries)
	for id, p := range maps.Clone(s.nodes) {
		below, _ := walkOn(t, snapshot.Tree{Root: snapshot.Root{ID: id, Level: p[0]}, Source: s})
		lost := make(map[snapshot.Key]bool)
		for _, k := range below {
			lost[k] = true
		}
		want := filter(entries, func(k snapshot.Key) bool { return !lost[k] })
		delete(s.nodes, id)
		for range 2 {
			if got, errs := walkOn(t, tree); len(errs) != 1 || !slices.Equal(got, want) {
				t.Errorf("node of level %d: errors %v, %d entries; want %d", p[0], errs, len(got), len(want))
			}
			s.nodes[id] = p[:len(p)-1]
		}
		s.nodes[id] = p
	}
}

// A failed Seek leaves nothing behind that a later one could mistake for its
// place.
func TestCursorSeeksAgainAfterErrors(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(300)
	s := newStore()
	tree := s.shape(t, r, entries)
	whole := s.nodes
	c := snapshot.NewCursor(tree)
	for range 200 {
		s.nodes = maps.Clone(whole)
		for id := range whole {
			if r.IntN(8) == 0 {
				delete(s.nodes, id)
			}
		}
		for range 10 {
			i := r.IntN(len(entries))
			if r.IntN(2) == 0 {
				c.Next(t.Context()) // wherever that leads
			} else if e, err := c.Seek(t.Context(), entries[i].Key); err == nil && (e == nil || e.Key != entries[i].Key) {
				t.Fatalf("seek %q among damage: %v", entries[i].Key, e)
			}
		}
		s.nodes = whole
		i := r.IntN(len(entries) - 1)
		if e, err := c.Seek(t.Context(), entries[i].Key); err != nil || e == nil || e.Key != entries[i].Key {
			t.Fatalf("seek %q when the nodes are back: %v, %v", entries[i].Key, e, err)
		}
		if e, err := c.Next(t.Context()); err != nil || e == nil || e.Key != entries[i+1].Key {
			t.Fatalf("behind %q: %v, %v", entries[i].Key, e, err)
		}
	}
}

// A node in the place of another one, sound by itself and even of the same
// tree, is damage to a cursor, a visit and a comparison: IDs are checked by the
// source, so that only a hostile writer can do it, but that one can.
func TestSwappedNodes(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(150)
	s := newStore()
	tree := s.shape(t, r, entries)
	other := s.shape(t, r, r.entries(50))
	clean := snapshot.Tree{Root: tree.Root, Source: &store{nodes: maps.Clone(s.nodes)}}
	inTree := nodesOf(t, tree)
	ids := slices.Collect(maps.Keys(s.nodes))
	for range 300 {
		place, by := ids[r.IntN(len(ids))], ids[r.IntN(len(ids))]
		if !inTree[place] || !inTree[by] || place == tree.Root.ID || place == by {
			continue
		}
		p := s.nodes[place]
		s.nodes[place] = s.nodes[by]
		_, errs := walkOn(t, tree)
		if len(errs) != 1 || !errors.Is(errs[0], seal.ErrDamaged) {
			t.Errorf("node of level %d for one of %d: a walk says %v", s.nodes[by][0], p[0], errs)
		}
		if v := visitTree(t, tree); !slices.Equal(v.bad, []chunk.ID{place}) {
			t.Errorf("node of level %d for one of %d: a visit finds %v bad", s.nodes[by][0], p[0], v.bad)
		}
		for _, err := range snapshot.Diff(t.Context(), other, tree) {
			if err != nil && !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("a comparison says %v", err)
			}
		}
		for range snapshot.Diff(t.Context(), clean, tree) {
			t.Error("what only the storage says differs, differs")
		}
		s.nodes[place] = p
	}
	for level := range uint8(255) {
		if level == tree.Root.Level {
			continue
		}
		wrong := snapshot.Tree{Root: snapshot.Root{ID: tree.Root.ID, Level: level}, Source: s}
		if keys, errs := walkOn(t, wrong); len(keys) > 0 || len(errs) != 1 || !errors.Is(errs[0], seal.ErrDamaged) {
			t.Errorf("root of level %d taken for %d: %d entries, %v", tree.Root.Level, level, len(keys), errs)
		}
	}
}
