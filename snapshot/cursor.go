package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/chunk"
)

// Cursor walks a tree's entries in the order of their keys. It holds one node
// a level, reads nodes when it needs them, and is for one goroutine. A node
// that is not what the one above says of it is an error that wraps
// seal.ErrDamaged. Behind an error of any kind, Next goes on behind the node that
// could not be read, so that a caller can save the rest of a damaged tree; one
// that can't do without the node must stop, or Seek again.
//
// The head of a cursor is what comes next: an entry of the leaf that was read
// last, or a node that was not read yet. Next reads nodes until an entry is the
// head; Diff can do without.
type Cursor struct {
	tree  Tree
	head  head
	path  []frame // inner nodes from the root down to the head
	leaf  Leaf
	pos   int   // of the head in the leaf
	bound bound // of the leaf
	given bool  // the head is the entry that was returned last
}

// head says what a cursor's head is.
type head uint8

const (
	atRoot  head = iota // the root, which was not read
	atNode              // a child of the last node in the path, which was not read
	atEntry             // an entry of the leaf
	atEnd
)

// frame is an inner node that was read.
type frame struct {
	node  Inner
	pos   int // of the child that is the head or that it is below
	bound bound
}

// bound is the key below which all keys of a node are. None is "".
type bound Key

func (b bound) allows(k Key) bool { return b == "" || k < Key(b) }

// NewCursor returns a cursor before the first entry.
func NewCursor(t Tree) *Cursor { return &Cursor{tree: t} }

// Next moves to the next entry and returns it, or nil at the end. The entry is
// valid until the next call of a method; a copy of it for longer.
func (c *Cursor) Next(ctx context.Context) (*Entry, error) {
	if c.given {
		c.skip()
	}
	for c.head == atRoot || c.head == atNode {
		if err := c.expandOrSkip(ctx); err != nil {
			return nil, err
		}
	}
	if c.head == atEnd {
		return nil, nil
	}
	c.given = true
	return &c.leaf.Entries[c.pos], nil
}

// Seek moves, forward or back, to the first entry that is not before key and
// returns it, or nil if there is none. key need not be valid. It reads only the
// nodes on the way: seeking within a leaf reads none.
func (c *Cursor) Seek(ctx context.Context, key Key) (*Entry, error) {
	c.given = false
	if !c.inLeaf(key) {
		if err := c.descend(ctx, key); err != nil {
			return nil, err
		}
	}
	if c.head == atEntry {
		entries := c.leaf.Entries
		n, _ := slices.BinarySearchFunc(entries, key, func(e Entry, k Key) int { return strings.Compare(string(e.Key), string(k)) })
		if c.pos = n; n == len(entries) {
			c.pos--
			c.skip()
		}
	}
	return c.Next(ctx)
}

// inLeaf reports whether the place of key is in the leaf at hand.
func (c *Cursor) inLeaf(key Key) bool {
	return c.head == atEntry && c.bound.allows(key) && (len(c.path) == 0 || c.leaf.Entries[0].Key <= key)
}

// descend goes up to a node that has the place of key, and down to its leaf.
func (c *Cursor) descend(ctx context.Context, key Key) error {
	for len(c.path) > 1 && !c.top().has(key) {
		c.path = c.path[:len(c.path)-1]
	}
	c.head = atNode
	if len(c.path) == 0 {
		c.head = atRoot
		if err := c.expandOrSkip(ctx); err != nil {
			return err
		}
	}
	for c.head != atEntry && c.head != atEnd {
		f := c.top()
		f.pos = f.node.find(key)
		c.head = atNode
		if err := c.expandOrSkip(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cursor) top() *frame { return &c.path[len(c.path)-1] }

// has reports whether the place of key is in the node for sure.
func (f *frame) has(key Key) bool { return f.node.Children[0].Key <= key && f.bound.allows(key) }

// find returns the position of the child that has the place of key.
func (n *Inner) find(key Key) int {
	i, exact := slices.BinarySearchFunc(n.Children, key, func(c Child, k Key) int { return strings.Compare(string(c.Key), string(k)) })
	if exact {
		return i
	}
	return max(0, i-1)
}

// node returns the head, which is a node, its level and the bound of its keys.
func (c *Cursor) node() (Child, uint8, bound) {
	if c.head == atRoot {
		return Child{ID: c.tree.Root.ID}, c.tree.Root.Level, ""
	}
	f := c.top()
	b := f.bound
	if f.pos+1 < len(f.node.Children) {
		b = bound(f.node.Children[f.pos+1].Key)
	}
	return f.node.Children[f.pos], f.node.Level - 1, b
}

// expand reads the node that is the head. Its first entry or child becomes the
// head.
func (c *Cursor) expand(ctx context.Context) error {
	n, level, b := c.node()
	p, err := c.tree.Source.Node(ctx, n.ID, chunk.Node)
	if err != nil {
		return err
	}
	var above *Child
	if c.head == atNode {
		above = &n
	}
	if level == 0 {
		return c.enterLeaf(p, n.ID, above, b)
	}
	depth := len(c.path)
	c.path = grow(c.path)
	f := c.top()
	if err := decodeInner(&f.node, p, level, n.ID, above, b); err != nil {
		c.path = c.path[:depth]
		return err
	}
	f.pos, f.bound = 0, b
	c.head = atNode
	return nil
}

// expandOrSkip is expand, but goes on behind a node that can't be read.
func (c *Cursor) expandOrSkip(ctx context.Context) error {
	err := c.expand(ctx)
	if err != nil {
		c.skip()
	}
	return err
}

func (c *Cursor) enterLeaf(p []byte, id chunk.ID, above *Child, b bound) error {
	if err := decodeLeaf(&c.leaf, p, id, above, b); err != nil {
		return err
	}
	c.pos, c.bound, c.head = 0, b, atEntry
	if len(c.leaf.Entries) == 0 {
		c.head = atEnd
	}
	return nil
}

// decodeLeaf decodes a leaf and compares it with what is said above, nil for
// the root.
func decodeLeaf(l *Leaf, p []byte, id chunk.ID, above *Child, b bound) error {
	if err := l.Decode(p); err != nil {
		return fmt.Errorf("node %s: %w", id.Short(), err)
	}
	if above == nil {
		return nil
	}
	if len(l.Entries) == 0 {
		return damagedNode(id, "it is empty")
	}
	var contents uint64
	for i := range l.Entries {
		contents += l.Entries[i].Size
	}
	first, last := l.Entries[0].Key, l.Entries[len(l.Entries)-1].Key
	return compareNode(Child{first, id, uint64(len(l.Entries)), contents}, last, above, b)
}

// decodeInner is decodeLeaf for a node of a level above.
func decodeInner(n *Inner, p []byte, level uint8, id chunk.ID, above *Child, b bound) error {
	if err := n.Decode(p, level); err != nil {
		return fmt.Errorf("node %s: %w", id.Short(), err)
	}
	if above == nil {
		return nil
	}
	var sum Child
	for _, c := range n.Children {
		sum.Entries += c.Entries
		sum.Bytes += c.Bytes
	}
	first, last := n.Children[0].Key, n.Children[len(n.Children)-1].Key
	return compareNode(Child{first, id, sum.Entries, sum.Bytes}, last, above, b)
}

// compareNode compares a node with what is said of it above.
func compareNode(got Child, last Key, above *Child, b bound) error {
	switch {
	case got.Key != above.Key || !b.allows(last):
		return damagedNode(got.ID, "its keys belong elsewhere")
	case got != *above:
		return damagedNode(got.ID, "%d entries with %d bytes where there should be %d with %d", got.Entries, got.Bytes, above.Entries, above.Bytes)
	}
	return nil
}

// skip makes what comes behind the head the head.
func (c *Cursor) skip() {
	c.given = false
	if c.head == atEntry && c.pos+1 < len(c.leaf.Entries) {
		c.pos++
		return
	}
	if c.head == atRoot {
		c.head = atEnd
		return
	}
	for ; len(c.path) > 0; c.path = c.path[:len(c.path)-1] {
		f := c.top()
		if f.pos+1 < len(f.node.Children) {
			f.pos++
			c.head = atNode
			return
		}
	}
	c.head = atEnd
}
