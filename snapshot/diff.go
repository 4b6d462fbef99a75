package snapshot

import (
	"bytes"
	"context"
	"iter"
	"slices"
)

// ChangeKind says how an entry differs between two trees.
type ChangeKind uint8

// The kinds of changes.
const (
	Added ChangeKind = iota + 1
	Removed
	Modified        // other contents, or another target
	TypeChanged     // a file became a directory, say
	MetadataChanged // mode, owner, time, attributes
)

// Change is one difference.
type Change struct {
	Kind ChangeKind
	Old  *Entry // nil if added
	New  *Entry // nil if removed
}

// compare returns how b differs from a, 0 if it does not. Times of change and inode
// numbers don't count: nobody restores them.
func compare(a, b *Entry) ChangeKind {
	switch {
	case a.Type != b.Type:
		return TypeChanged
	case a.Size != b.Size || a.Hash != b.Hash || a.Partial != b.Partial || !bytes.Equal(a.Target, b.Target) || a.Device != b.Device:
		return Modified
	case a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.User != b.User || a.Group != b.Group || a.Mtime != b.Mtime || a.HasLink != b.HasLink,
		!slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) }):
		return MetadataChanged
	}
	return 0
}

// Diff yields the differences between two trees in the order of keys. It
// reads only nodes that are not in both. A pair (Change{}, err) ends the
// sequence; the entries are valid until the next pair is asked for.
func Diff(ctx context.Context, a, b Tree) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if a.Root == b.Root {
			return
		}
		ca, cb := NewCursor(a), NewCursor(b)
		ea, err := ca.Next(ctx)
		if err != nil {
			yield(Change{}, err)
			return
		}
		eb, err := cb.Next(ctx)
		for err == nil && (ea != nil || eb != nil) {
			var ch Change
			switch {
			case eb == nil || ea != nil && ea.Key < eb.Key:
				ch = Change{Kind: Removed, Old: ea}
			case ea == nil || eb.Key < ea.Key:
				ch = Change{Kind: Added, New: eb}
			default:
				if skipped, serr := skipEqual(ctx, ca, cb); serr != nil {
					err = serr
					continue
				} else if skipped {
					ea, eb = ca.current(), cb.current()
					continue
				}
				ch = Change{Kind: compare(ea, eb), Old: ea, New: eb}
			}
			if ch.Kind != 0 && !yield(ch, nil) {
				return
			}
			if ch.Old != nil {
				ea, err = ca.Next(ctx)
			}
			if ch.New != nil && err == nil {
				eb, err = cb.Next(ctx)
			}
		}
		if err != nil {
			yield(Change{}, err)
		}
	}
}

// current returns the entry at the cursor, nil at the end.
func (c *Cursor) current() *Entry {
	if c.at < len(c.leaf) {
		return &c.leaf[c.at]
	}
	return nil
}

// skipEqual moves both cursors, which stand at the same key, behind the
// largest subtree that they have in common there, if there is one.
func skipEqual(ctx context.Context, a, b *Cursor) (bool, error) {
	// Depth from the leaves: how many levels up both stand at the beginning.
	n := min(a.startsBelow(), b.startsBelow())
	for ; n > 0; n-- {
		fa, fb := &a.path[len(a.path)-n], &b.path[len(b.path)-n]
		if fa.children[fa.at].id == fb.children[fb.at].id {
			break
		}
	}
	if n == 0 {
		return false, nil
	}
	for _, c := range []*Cursor{a, b} {
		c.path = c.path[:len(c.path)-n+1]
		c.at = len(c.leaf)
		if _, err := c.settle(ctx); err != nil {
			return false, err
		}
	}
	return true, nil
}

// startsBelow returns of how many levels of inner nodes, from the leaves up,
// the child at which the cursor stands begins with the cursor's entry.
func (c *Cursor) startsBelow() int {
	if c.at != 0 {
		return 0
	}
	n := 0
	for i := len(c.path) - 1; i >= 0; i-- {
		n++
		if c.path[i].at != 0 {
			break
		}
	}
	return n
}
