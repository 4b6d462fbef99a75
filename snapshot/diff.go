package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// ChangeKind says how an entry differs between two trees.
type ChangeKind uint8

// The kinds of changes.
const (
	Added ChangeKind = iota + 1
	Removed
	Modified        // other contents, target or device number
	TypeChanged     // a file became a directory, say
	MetadataChanged // mode, owner, mtime, extended attributes, or being a hard link
)

var changeNames = [...]string{Added: "added", Removed: "removed", Modified: "modified", TypeChanged: "type changed", MetadataChanged: "metadata changed"}

func (k ChangeKind) String() string {
	if k >= Added && k <= MetadataChanged {
		return changeNames[k]
	}
	return fmt.Sprintf("change %d", uint8(k))
}

// Change is one difference.
type Change struct {
	Kind ChangeKind
	Old  *Entry // nil if added
	New  *Entry // nil if removed
}

// Compare returns how b differs from a, or 0. Ctime and inode number don't
// count, as nobody can restore them, nor does the number of a group of links.
func Compare(a, b *Entry) ChangeKind {
	switch {
	case a.Type != b.Type:
		return TypeChanged
	case a.Size != b.Size || a.Hash != b.Hash || a.Partial != b.Partial || a.Device != b.Device || !bytes.Equal(a.Target, b.Target):
		return Modified
	case a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.User != b.User || a.Group != b.Group,
		a.Mtime != b.Mtime || a.HasLink != b.HasLink,
		!slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) }):
		return MetadataChanged
	}
	return 0
}

// Diff returns the differences between two trees in the order of keys. It
// reads only nodes that are not in both. A pair (Change{}, err) ends the
// sequence if there is an error; entries are valid until the next pair is
// asked for, copies of them for longer.
//
// Both cursors advance in the order of keys. Where both are at an unread node
// with the same ID, they skip it. Else the one that is behind reads its node, and
// at the same key the one whose node is of the higher level: so nodes of one
// level meet wherever the trees have the same cut.
func Diff(ctx context.Context, a, b Tree) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		ca, cb := NewCursor(a), NewCursor(b)
		for ca.head != atEnd || cb.head != atEnd {
			change, err := diffStep(ctx, ca, cb)
			if err != nil {
				yield(Change{}, err)
				return
			}
			if change.Kind != 0 && !yield(change, nil) {
				return
			}
			// The entries stay where they are until a node is read.
			if change.Old != nil {
				ca.skip()
			}
			if change.New != nil {
				cb.skip()
			}
		}
	}
}

// diffStep moves the cursors one step on. If that brings two entries to
// compare, or one that has no counterpart, they are in the result, with kind 0 if
// they are the same.
func diffStep(ctx context.Context, a, b *Cursor) (Change, error) {
	ha, hb := a.place(), b.place()
	order := ha.compare(hb)
	expandA := ha.level >= 0 && (order < 0 || order == 0 && ha.level >= hb.level)
	expandB := hb.level >= 0 && (order > 0 || order == 0 && hb.level >= ha.level)
	switch {
	case ha.level >= 0 && ha.level == hb.level && ha.id == hb.id:
		a.skip()
		b.skip()
	case expandA || expandB:
		if expandA {
			if err := a.expand(ctx); err != nil {
				return Change{}, err
			}
		}
		if expandB {
			return Change{}, b.expand(ctx)
		}
	case order < 0:
		return Change{Kind: Removed, Old: a.entry()}, nil
	case order > 0:
		return Change{Kind: Added, New: b.entry()}, nil
	default:
		return Change{Kind: Compare(a.entry(), b.entry()), Old: a.entry(), New: b.entry()}, nil
	}
	return Change{}, nil
}

func (c *Cursor) entry() *Entry { return &c.leaf.Entries[c.pos] }

// place is where the head of a cursor is.
type place struct {
	key   Key
	level int // of the node; -1 for an entry
	id    [32]byte
	end   bool
}

func (c *Cursor) place() place {
	switch c.head {
	case atEnd:
		return place{level: -1, end: true}
	case atEntry:
		return place{key: c.entry().Key, level: -1}
	}
	n, level, _ := c.node()
	return place{key: n.Key, level: int(level), id: n.ID}
}

// compare orders places by their keys, with the end behind all. The root's
// key is not known before it is read, so it counts as the least.
func (p place) compare(q place) int {
	switch {
	case p.end && q.end:
		return 0
	case p.end:
		return 1
	case q.end:
		return -1
	}
	return strings.Compare(string(p.key), string(q.key))
}
