package snapshot

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/chunk"
)

// Mention is what is said of a node where it is named: by a manifest or an entry of a
// root, by the node above of any other.
type Mention struct {
	ID             chunk.ID
	Level          uint8
	Key            Key    // of the first entry; of a node of a tree that is no root
	Entries, Bytes uint64 // as in Child; for a list only the bytes
}

// Visitor is told what a tree consists of.
type Visitor interface {
	// Enter says whether to read a node, and what is below. e is nil for a node
	// of the tree; for one of a list it is the file, valid until Enter returns. A visitor
	// that says no to nodes that it has seen visits what trees share but once; if it
	// compares the whole mention, what is said of a node is verified each time.
	//
	// It is asked once for each place of the tree, but for a node that a list has
	// at many places only once a file: a few hostile nodes that name each other
	// can make a list with more places than there is time for.
	Enter(n Mention, e *Entry) bool
	// Extent is told of an extent with a chunk: e is the file, valid until
	// Extent returns.
	Extent(e *Entry, x Extent) error
	// Bad is told of a node that can't be read or is damaged, with the file if
	// it is of a list. If it returns nil, the visit goes on behind the node.
	Bad(id chunk.ID, e *Entry, err error) error
}

// Visit shows v the nodes and chunks of a tree, in the order of keys. It checks
// what a Cursor and a ListReader check. It stops at the first error that v
// returns, and when ctx is done.
func Visit(ctx context.Context, t Tree, v Visitor) error {
	return (&visit{source: t.Source, v: v}).node(ctx, t.Root.Level, Child{ID: t.Root.ID}, nil, "")
}

// Visits are visits of several trees, which read several nodes at a time: that of a far
// storage takes long, and next to no work.
type Visits struct {
	ctx   context.Context
	group *errgroup.Group // nil: one node at a time
}

// NewVisits returns visits of which up to n go on at a time. If n is 1, each is done when
// Visit returns, and in the order in which Visit does it.
func NewVisits(ctx context.Context, n int) *Visits {
	if n <= 1 {
		return &Visits{ctx: ctx}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(n)
	return &Visits{ctx, group}
}

// Visit begins to visit a tree, or waits until it can. v's methods are called concurrently
// and in no order, except for what is below one leaf. The first error that one
// returns ends all visits; Wait returns it, and perhaps Visit.
func (x *Visits) Visit(t Tree, v Visitor) error {
	if x.group == nil {
		return Visit(x.ctx, t, v)
	}
	if err := x.ctx.Err(); err != nil {
		return err
	}
	x.group.Go(func() error {
		return (&visit{source: t.Source, v: v, group: x.group}).node(x.ctx, t.Root.Level, Child{ID: t.Root.ID}, nil, "")
	})
	return nil
}

// Wait waits until all trees have been visited, and returns the first error.
func (x *Visits) Wait() error {
	if x.group == nil {
		return nil
	}
	return x.group.Wait()
}

type visit struct {
	source NodeSource
	v      Visitor
	group  *errgroup.Group  // nil: one node at a time
	buf    Leaf             // the one at hand
	listed map[Mention]bool // of the list at hand, that were visited
}

// node visits a node. above is what is said of it above, nil for the root.
func (v *visit) node(ctx context.Context, level uint8, n Child, above *Child, b bound) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := Mention{ID: n.ID, Level: level}
	if above != nil {
		m.Key, m.Entries, m.Bytes = n.Key, n.Entries, n.Bytes
	}
	if !v.v.Enter(m, nil) {
		return nil
	}
	if v.group != nil && v.group.TryGo(func() error {
		return (&visit{source: v.source, v: v.v, group: v.group}).read(ctx, level, n, above, b)
	}) {
		return nil
	}
	return v.read(ctx, level, n, above, b)
}

// read visits a node that was entered.
func (v *visit) read(ctx context.Context, level uint8, n Child, above *Child, b bound) error {
	p, err := v.source.Node(ctx, n.ID, chunk.Node)
	if err != nil {
		return v.v.Bad(n.ID, nil, err)
	}
	if level == 0 {
		return v.leaf(ctx, p, n.ID, above, b)
	}
	var inner Inner
	if err := decodeInner(&inner, p, level, n.ID, above, b); err != nil {
		return v.v.Bad(n.ID, nil, err)
	}
	for i, c := range inner.Children {
		end := b
		if i+1 < len(inner.Children) {
			end = bound(inner.Children[i+1].Key)
		}
		if err := v.node(ctx, level-1, c, &c, end); err != nil {
			return err
		}
	}
	return nil
}

func (v *visit) leaf(ctx context.Context, p []byte, id chunk.ID, above *Child, b bound) error {
	leaf := &v.buf
	if err := decodeLeaf(leaf, p, id, above, b); err != nil {
		return v.v.Bad(id, nil, err)
	}
	for i := range leaf.Entries {
		e := &leaf.Entries[i]
		if e.List != nil {
			v.listed = make(map[Mention]bool)
			if err := v.list(ctx, e, ListItem{e.List.Root, e.Size}, e.List.Level); err != nil {
				return err
			}
		}
		for _, x := range e.Extents {
			if x.IsHole() {
				continue
			}
			if err := v.v.Extent(e, x); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *visit) list(ctx context.Context, e *Entry, n ListItem, level uint8) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := Mention{ID: n.ID, Level: level, Bytes: n.Length}
	if v.listed[m] {
		return nil
	}
	v.listed[m] = true
	if !v.v.Enter(m, e) {
		return nil
	}
	var node ListNode
	if err := loadList(ctx, v.source, &node, n, level); err != nil {
		return v.v.Bad(n.ID, e, err)
	}
	for _, x := range node.Items {
		var err error
		switch {
		case level > 0:
			err = v.list(ctx, e, x, level-1)
		case !x.ID.IsZero():
			err = v.v.Extent(e, x.extent())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
