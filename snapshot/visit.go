package snapshot

import (
	"context"

	"github.com/cairn-backup/cairn/chunk"
)

// Visitor is told what a tree consists of.
type Visitor interface {
	// Enter says whether to read a node and what is below. It sees nodes of
	// trees and of lists.
	Enter(id chunk.ID, kind chunk.Kind) bool
	// Extent is called for each chunk of data, perhaps several times.
	Extent(e *Entry, x Extent) error
	// Bad is called when a node can't be read or is damaged. The visit goes on
	// elsewhere if it returns nil. e is the file of a list, or nil.
	Bad(id chunk.ID, e *Entry, err error) error
}

// Visit walks the nodes of a tree as v says. It checks that the nodes are what
// the ones above say, as a cursor does.
func Visit(ctx context.Context, t Tree, v Visitor) error {
	return (&visit{ctx, t, v}).node(t.Root.ID, t.Root.Level, nil, "", false)
}

type visit struct {
	ctx  context.Context
	tree Tree
	v    Visitor
}

// node visits a node. above is what the node above says of it, nil for the
// root; end bounds its keys, if bounded.
func (v *visit) node(id chunk.ID, level uint8, above *child, end Key, bounded bool) error {
	if !v.v.Enter(id, chunk.Node) {
		return nil
	}
	if err := v.ctx.Err(); err != nil {
		return err
	}
	c := &Cursor{tree: v.tree}
	p, err := c.load(v.ctx, id, level)
	if err != nil {
		return v.v.Bad(id, nil, err)
	}
	if level == 0 {
		return v.leaf(id, p, above, end, bounded)
	}
	_, children, err := decodeInner(p)
	if err == nil {
		err = checkBounds(id, children[0].first, children[len(children)-1].first, above, end, bounded)
	}
	if err != nil {
		return v.v.Bad(id, nil, err)
	}
	for i := range children {
		next, has := end, bounded
		if i+1 < len(children) {
			next, has = children[i+1].first, true
		}
		if err := v.node(children[i].id, level-1, &children[i], next, has); err != nil {
			return err
		}
	}
	return nil
}

func (v *visit) leaf(id chunk.ID, p []byte, above *child, end Key, bounded bool) error {
	entries, err := decodeLeaf(p, nil)
	if err == nil && above != nil {
		if len(entries) == 0 {
			err = damagedf("leaf %s is empty", id.Short())
		} else {
			err = checkBounds(id, entries[0].Key, entries[len(entries)-1].Key, above, end, bounded)
		}
	}
	if err != nil {
		return v.v.Bad(id, nil, err)
	}
	for i := range entries {
		e := &entries[i]
		if e.List != nil {
			if err := v.list(e, e.List.Root, int(e.List.Level), e.Size); err != nil {
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

func (v *visit) list(e *Entry, id chunk.ID, level int, length uint64) error {
	if !v.v.Enter(id, chunk.List) {
		return nil
	}
	l := &listReader{src: v.tree.Source}
	if err := l.enter(v.ctx, item{id, length}, level); err != nil {
		return v.v.Bad(id, e, err)
	}
	for _, x := range l.stack[0].items {
		var err error
		switch {
		case level > 0:
			err = v.list(e, x.id, level-1, x.length)
		case !x.id.IsZero():
			err = v.v.Extent(e, Extent{Chunk: x.id, ChunkSize: uint32(x.length), Length: x.length})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkBounds compares the keys of a node with what the one above says.
func checkBounds(id chunk.ID, first, last Key, above *child, end Key, bounded bool) error {
	if above != nil && first != above.first || bounded && last >= end {
		return damagedf("node %s has keys that belong elsewhere", id.Short())
	}
	return nil
}
