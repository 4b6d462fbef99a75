package restore

import (
	"context"
	"errors"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// isDamage reports whether err says that something of the snapshot can't be had.
func isDamage(err error) bool {
	return errors.Is(err, repo.ErrDamage) || errors.Is(err, seal.ErrDamaged)
}

func ignoreDamage(err error) error {
	if isDamage(err) {
		return nil
	}
	return err
}

// nodes is where the nodes of a snapshot's tree come from. What is bad once stays
// so, even if somebody repairs the repository meanwhile: all passes must see the
// same entries.
type nodes struct {
	repo *repo.Repository

	mu  sync.Mutex
	bad map[chunk.ID]error
}

// Node implements snapshot.NodeSource.
func (n *nodes) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	n.mu.Lock()
	err := n.bad[id]
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p, err := n.repo.Node(ctx, id, kind)
	if isDamage(err) {
		n.mu.Lock()
		n.bad[id] = err
		n.mu.Unlock()
	}
	return p, err
}

// walk is one pass over a selection.
type walk struct {
	*selection
	visitor
	cursor *snapshot.Cursor
	stack  []*directory // those that the current entry is in
	number int
}

// walk leads v through all that is selected. A directory that only leads to
// what Include matches is visited when the first such thing is met. What is
// damaged of the tree is left out; directories that are lost with it are made up.
func (s *selection) walk(ctx context.Context, v visitor) error {
	w := &walk{selection: s, visitor: v, cursor: snapshot.NewCursor(s.tree)}
	e, err := w.seek(ctx, s.start)
	for err == nil && e != nil && (s.end == "" || e.Key < s.end) {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := e.Key
		if err := w.leaveUntil(ctx, key); err != nil {
			return err
		}
		w.makeUp(key)
		skip, verr := w.visit(ctx, e)
		if verr != nil {
			return verr
		}
		if skip == nil {
			e, err = w.next(ctx, key)
		} else {
			e, err = w.seek(ctx, afterAll(*skip))
		}
	}
	if err != nil {
		return err
	}
	return w.leaveUntil(ctx, "") // which is below nothing
}

func (w *walk) seek(ctx context.Context, key snapshot.Key) (*snapshot.Entry, error) {
	e, err := w.cursor.Seek(ctx, key)
	return w.goOn(ctx, key, e, err)
}

func (w *walk) next(ctx context.Context, last snapshot.Key) (*snapshot.Entry, error) {
	e, err := w.cursor.Next(ctx)
	return w.goOn(ctx, last+sep, e, err) // there is no key between these
}

// goOn moves a cursor that failed at a damaged node behind it, which is what its Next
// does then, and anyway to the first entry that is not before key.
func (w *walk) goOn(ctx context.Context, key snapshot.Key, e *snapshot.Entry, err error) (*snapshot.Entry, error) {
	for {
		switch {
		case isDamage(err):
			w.damaged = true
			if w.lost != nil {
				w.lost(key, err)
			}
		case err != nil || e == nil || e.Key >= key:
			return e, err
		}
		e, err = w.cursor.Next(ctx)
	}
}

// leaveUntil leaves the directories that key is not below.
func (w *walk) leaveUntil(ctx context.Context, key snapshot.Key) error {
	for len(w.stack) > 0 {
		d := w.top()
		if key.IsBelow(d.entry.Key) {
			return nil
		}
		w.stack = w.stack[:len(w.stack)-1]
		if d.entered && !d.skipped {
			if err := w.leave(ctx, d, w.top()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) top() *directory {
	if len(w.stack) == 0 {
		return nil
	}
	return w.stack[len(w.stack)-1]
}

// makeUp puts directories on the stack that must have been above key, but whose
// entries are lost.
func (w *walk) makeUp(key snapshot.Key) {
	var missing []snapshot.Key
	for {
		parent, ok := key.Parent()
		if top := w.top(); !ok || parent < w.start || top != nil && top.entry.Key == parent {
			break
		}
		missing = append(missing, parent)
		key = parent
	}
	for i := len(missing) - 1; i >= 0; i-- {
		k := missing[i]
		matched := w.included
		if top := w.top(); top != nil {
			matched = top.matched
		}
		matched = matched || w.include.Match(k.Path(), true).Excluded
		e := snapshot.Entry{Key: k, Type: snapshot.Directory}
		w.stack = append(w.stack, &directory{entry: e, place: w.place(k), matched: matched, lost: true})
	}
}

// visit comes to one entry. If skip isn't nil, all below that directory is to be
// left out.
func (w *walk) visit(ctx context.Context, e *snapshot.Entry) (skip *snapshot.Key, err error) {
	isDir := e.Type == snapshot.Directory
	matched := w.included
	if top := w.top(); top != nil {
		matched = top.matched
	}
	if e.Key != w.base && (w.exclude != nil || !matched) {
		path := e.Key.Path()
		if w.exclude != nil && w.exclude.Match(path, isDir).Excluded {
			if isDir {
				key := e.Key
				return &key, nil
			}
			return nil, nil
		}
		matched = matched || w.include.Match(path, isDir).Excluded
	}
	if isDir {
		w.stack = append(w.stack, &directory{entry: *e, place: w.place(e.Key), matched: matched})
	}
	if !matched {
		return nil, nil
	}
	if skip, err = w.enterAll(ctx); skip != nil || err != nil || isDir {
		return skip, err
	}
	w.number++
	return nil, w.item(ctx, e, w.number-1, w.top())
}

// enterAll enters the directories on the stack that were not yet.
func (w *walk) enterAll(ctx context.Context) (skip *snapshot.Key, err error) {
	var parent *directory
	for _, d := range w.stack {
		if !d.entered {
			d.entered = true
			d.number = w.number
			w.number++
			if d.skipped, err = w.enter(ctx, d, parent); err != nil {
				return nil, err
			}
		}
		if d.skipped {
			return &d.entry.Key, nil
		}
		parent = d
	}
	return nil, nil
}
