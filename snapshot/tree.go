package snapshot

import (
	"context"
	"fmt"
	"iter"
	"sort"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
)

// NodeSource gives the plaintext of nodes (chunk.Node and chunk.List). It has
// checked that they are what the ID says. The caller does not change them.
type NodeSource interface {
	Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error)
}

// Tree is a stored tree of entries.
type Tree struct {
	Root   Root
	Source NodeSource
}

func damagedf(format string, args ...any) error {
	return fmt.Errorf("tree is %w: "+format, append([]any{seal.ErrDamaged}, args...)...)
}

// frame is a node on the way from the root to a cursor's position.
type frame struct {
	level    uint8
	children []child // of an inner node
	at       int     // the child that the next frame is of
	end      Key     // keys must be below it, if bounded
	bounded  bool
}

// Cursor walks a tree's entries in the order of their keys. It is for one
// goroutine.
type Cursor struct {
	tree   Tree
	path   []frame
	leaf   []Entry
	at     int
	loaded bool
}

// NewCursor returns a cursor before the first entry.
func NewCursor(t Tree) *Cursor { return &Cursor{tree: t} }

// Next moves to the next entry and returns it, nil at the end. The entry is
// valid until the next call, what it refers to for longer.
func (c *Cursor) Next(ctx context.Context) (*Entry, error) {
	if !c.loaded {
		return c.Seek(ctx, "")
	}
	c.at++
	return c.settle(ctx)
}

// Seek moves to the first entry that is not before key and returns it, nil if
// there is none. Seeking ahead within the same node costs no read.
func (c *Cursor) Seek(ctx context.Context, key Key) (*Entry, error) {
	if c.loaded && len(c.leaf) > 0 && key >= c.leaf[0].Key && key <= c.leaf[len(c.leaf)-1].Key {
		c.at = sort.Search(len(c.leaf), func(i int) bool { return c.leaf[i].Key >= key })
		return c.settle(ctx)
	}
	c.path, c.loaded = c.path[:0], true
	if err := c.descend(ctx, c.tree.Root.ID, c.tree.Root.Level, nil, "", false, key); err != nil {
		return nil, err
	}
	c.at = sort.Search(len(c.leaf), func(i int) bool { return c.leaf[i].Key >= key })
	return c.settle(ctx)
}

// settle makes sure that the cursor stands at an entry or at the end.
func (c *Cursor) settle(ctx context.Context) (*Entry, error) {
	for c.at >= len(c.leaf) {
		ok, err := c.nextLeaf(ctx)
		if err != nil {
			return nil, err
		}
		if !ok {
			c.leaf, c.at = c.leaf[:0], 0
			return nil, nil
		}
	}
	return &c.leaf[c.at], nil
}

// nextLeaf goes up until there is a next child, and down to its first leaf.
func (c *Cursor) nextLeaf(ctx context.Context) (bool, error) {
	for len(c.path) > 0 {
		f := &c.path[len(c.path)-1]
		if f.at+1 < len(f.children) {
			f.at++
			return true, c.enter(ctx, "")
		}
		c.path = c.path[:len(c.path)-1]
	}
	return false, nil
}

// enter descends into the child at which the last frame stands.
func (c *Cursor) enter(ctx context.Context, key Key) error {
	f := c.path[len(c.path)-1]
	ch := f.children[f.at]
	end, bounded := f.end, f.bounded
	if f.at+1 < len(f.children) {
		end, bounded = f.children[f.at+1].first, true
	}
	return c.descend(ctx, ch.id, f.level-1, &ch, end, bounded, key)
}

// load reads a node, which must be of the given level.
func (c *Cursor) load(ctx context.Context, id chunk.ID, level uint8) ([]byte, error) {
	if level > maxLevel {
		return nil, damagedf("level %d", level)
	}
	p, err := c.tree.Source.Node(ctx, id, chunk.Node)
	if err != nil {
		return nil, err
	}
	if len(p) == 0 || p[0] != level {
		return nil, damagedf("node %s is not of level %d", id.Short(), level)
	}
	return p, nil
}

// descend goes from a node down to the leaf that has, or would have, key. The
// node must be of the level and within the bounds that the one above, nil for
// the root, says.
func (c *Cursor) descend(ctx context.Context, id chunk.ID, level uint8, above *child, end Key, bounded bool, key Key) error {
	p, err := c.load(ctx, id, level)
	if err != nil {
		return err
	}
	if level == 0 {
		if c.leaf, err = decodeLeaf(p, c.leaf[:0]); err != nil {
			return err
		}
		c.at = 0
		if above == nil {
			return nil
		}
		if len(c.leaf) == 0 {
			return damagedf("leaf %s is empty", id.Short())
		}
		return checkBounds(id, c.leaf[0].Key, c.leaf[len(c.leaf)-1].Key, above, end, bounded)
	}
	_, children, err := decodeInner(p)
	if err != nil {
		return err
	}
	if err := checkBounds(id, children[0].first, children[len(children)-1].first, above, end, bounded); err != nil {
		return err
	}
	at := max(0, sort.Search(len(children), func(i int) bool { return children[i].first > key })-1)
	c.path = append(c.path, frame{level: level, children: children, at: at, end: end, bounded: bounded})
	return c.enter(ctx, key)
}

// walk yields the entries from start on while keep says so.
func (t Tree) walk(ctx context.Context, start Key, keep func(*Entry) bool) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		c := NewCursor(t)
		e, err := c.Seek(ctx, start)
		for ; err == nil && e != nil && keep(e); e, err = c.Next(ctx) {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// All yields all entries in the order of their keys. An entry is valid until
// the next one is asked for. The pair (nil, err) ends the sequence.
func (t Tree) All(ctx context.Context) iter.Seq2[*Entry, error] {
	return t.walk(ctx, "", func(*Entry) bool { return true })
}

// Below yields everything inside of a directory.
func (t Tree) Below(ctx context.Context, dir Key) iter.Seq2[*Entry, error] {
	return t.walk(ctx, dir+separator, func(e *Entry) bool { return e.Key.IsBelow(dir) })
}

// Lookup returns the entry of a key, nil if there is none.
func (t Tree) Lookup(ctx context.Context, key Key) (*Entry, error) {
	e, err := NewCursor(t).Seek(ctx, key)
	if err != nil || e == nil || e.Key != key {
		return nil, err
	}
	return e, nil
}

// Children yields what is directly in a directory. It jumps over what is
// deeper.
func (t Tree) Children(ctx context.Context, dir Key) iter.Seq2[*Entry, error] {
	return t.skipping(ctx, dir+separator, func(e *Entry) bool { return e.Key.IsBelow(dir) })
}

// Roots yields the entries that are in no directory: "/" and those of other
// kinds of sources.
func (t Tree) Roots(ctx context.Context) iter.Seq2[*Entry, error] {
	return t.skipping(ctx, "", func(*Entry) bool { return true })
}

// skipping is walk without what is below the entries that it yields.
func (t Tree) skipping(ctx context.Context, start Key, keep func(*Entry) bool) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		c := NewCursor(t)
		e, err := c.Seek(ctx, start)
		for err == nil && e != nil && keep(e) {
			next := e.Key + "\x01" // behind everything below
			if !yield(e, nil) {
				return
			}
			e, err = c.Seek(ctx, next)
		}
		if err != nil {
			yield(nil, err)
		}
	}
}
