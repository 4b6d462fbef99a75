package snapshot

import (
	"context"
	"iter"
)

// Tree is a stored tree of entries. Its methods are safe for concurrent use if
// the source is. Iterators end with a pair of nil and an error if there is one;
// an entry is valid until the next is asked for, a copy of it for longer.
type Tree struct {
	Root   Root
	Source NodeSource
}

// Lookup returns the entry of a key, or nil if there is none.
func (t Tree) Lookup(ctx context.Context, key Key) (*Entry, error) {
	e, err := NewCursor(t).Seek(ctx, key)
	if err != nil || e == nil || e.Key != key {
		return nil, err
	}
	return e, nil
}

// All returns all entries in the order of their keys.
func (t Tree) All(ctx context.Context) iter.Seq2[*Entry, error] { return t.From(ctx, "") }

// From returns the entries from a key on, which need not be there.
func (t Tree) From(ctx context.Context, start Key) iter.Seq2[*Entry, error] {
	return t.walk(ctx, start, func(*Entry) bool { return true })
}

// Below returns what is in a directory at any depth, without the directory
// itself. It reads only the nodes that have such entries.
func (t Tree) Below(ctx context.Context, dir Key) iter.Seq2[*Entry, error] {
	return t.walk(ctx, dir.below(), func(e *Entry) bool { return e.Key.IsBelow(dir) })
}

// Children returns what is directly in a directory. It jumps over what is
// deeper, and reads at most a few nodes for each entry, however large the
// directories are.
func (t Tree) Children(ctx context.Context, dir Key) iter.Seq2[*Entry, error] {
	return t.walkFlat(ctx, dir.below(), func(e *Entry) bool { return e.Key.IsBelow(dir) })
}

// Roots returns the entries that are in no directory: "/" and the starts of
// other sources.
func (t Tree) Roots(ctx context.Context) iter.Seq2[*Entry, error] {
	return t.walkFlat(ctx, "", func(*Entry) bool { return true })
}

func (t Tree) walk(ctx context.Context, start Key, keep func(*Entry) bool) iter.Seq2[*Entry, error] {
	return iterate(ctx, t, start, keep, func(c *Cursor, _ Key) (*Entry, error) { return c.Next(ctx) })
}

// walkFlat is walk without what is below the entries that it returns.
func (t Tree) walkFlat(ctx context.Context, start Key, keep func(*Entry) bool) iter.Seq2[*Entry, error] {
	return iterate(ctx, t, start, keep, func(c *Cursor, k Key) (*Entry, error) { return c.Seek(ctx, k.after()) })
}

func iterate(ctx context.Context, t Tree, start Key, keep func(*Entry) bool, next func(*Cursor, Key) (*Entry, error)) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		c := NewCursor(t)
		e, err := c.Seek(ctx, start)
		for err == nil && e != nil && keep(e) {
			key := e.Key
			if !yield(e, nil) {
				return
			}
			e, err = next(c, key)
		}
		if err != nil {
			yield(nil, err)
		}
	}
}
