package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// handle is the file opened for look-ups by many goroutines.
type handle struct {
	db        *database
	current   *state
	directory *directory
	timer     *time.Timer

	// Guarded by Local.mu.
	users   int
	used    bool      // since the timer last looked
	expired bool      // closes when the last user leaves
	broken  bool      // damage was found: to be abandoned
	idle    []*reader // transactions for the next users
}

// reader is a transaction for one goroutine at a time.
type reader struct {
	*tables
	current   *state
	directory *directory // of the handle
	tx        *bolt.Tx
	cursor    *bolt.Cursor // of the blocks
	filters   []runFilter  // of the runs
	resolver  resolver

	lines   [][]byte // of the filters, for one look-up
	touched byte     // of no meaning: what was read of lines
}

// newReader begins a transaction, in which the state is still to be read.
func newReader(db *database) (*reader, error) {
	var r *reader
	err := guard(func() error {
		tx, err := db.Begin(false)
		if err != nil {
			return err
		}
		t, err := openTables(tx, false)
		if err != nil {
			tx.Rollback()
			return err
		}
		r = &reader{tables: t, tx: tx, cursor: t.blocks.Cursor()}
		return nil
	})
	return r, err
}

// of makes it a reader of a handle, whose state is known.
func (r *reader) of(h *handle) {
	r.current, r.directory, r.filters = h.current, h.directory, make([]runFilter, len(h.current.runs))
}

// view runs fn on the file as it is, if that is a later state of what the user of
// the Local relies on. Damage empties the file and becomes ErrLost.
func (l *Local) view(fn func(*reader) error) error {
	return l.viewAny(func(r *reader) error {
		if err := l.check(r.current); err != nil {
			return err
		}
		return fn(r)
	})
}

// viewAny is view for any state of the file.
func (l *Local) viewAny(fn func(*reader) error) error {
	h, err := l.enter()
	if err != nil {
		if errors.Is(err, errDamaged) {
			return l.lose(nil, err)
		}
		return err
	}
	r, err := l.reader(h)
	if err == nil {
		err = guard(func() error { return fn(r) })
	}
	l.leave(h, r, err)
	if errors.Is(err, errDamaged) {
		return l.lose(h.current, err)
	}
	return err
}

// enter returns the open handle with one more user, and opens one if need be.
func (l *Local) enter() (*handle, error) {
	if h, err := l.join(); h != nil || err != nil {
		return h, err
	}
	l.opening.Lock()
	defer l.opening.Unlock()
	if h, err := l.join(); h != nil || err != nil {
		return h, err
	}
	h, err := l.openHandle()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h.users = 1
	l.handle = h
	h.timer = time.AfterFunc(readingTime, func() { l.look(h) })
	return h, nil
}

func (l *Local) join() (*handle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if l.handle != nil {
		l.handle.users++
		l.handle.used = true
	}
	return l.handle, nil
}

func (l *Local) openHandle() (*handle, error) {
	ctx, cancel := l.patience(context.Background())
	defer cancel()
	pass, err := l.passGate(ctx, false)
	if err != nil {
		return nil, err
	}
	defer pass()
	db, err := l.open(ctx, forReading)
	if err != nil {
		return nil, err
	}
	h := &handle{db: db}
	r, err := newReader(db)
	if err == nil {
		err = guard(func() (err error) {
			h.current, err = r.loadState(l.repository)
			return err
		})
	}
	if err != nil {
		h.broken = true
		h.close()
		return nil, err
	}
	h.directory = newDirectory(h.current)
	r.of(h)
	h.idle = []*reader{r}
	return h, nil
}

// reader takes an idle transaction of a handle or begins one.
func (l *Local) reader(h *handle) (*reader, error) {
	l.mu.Lock()
	if n := len(h.idle); n > 0 {
		r := h.idle[n-1]
		h.idle = h.idle[:n-1]
		l.mu.Unlock()
		return r, nil
	}
	l.mu.Unlock()
	r, err := newReader(h.db)
	if err == nil {
		r.of(h)
	}
	return r, err
}

// leave gives back what enter and reader gave.
func (l *Local) leave(h *handle, r *reader, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r != nil {
		h.idle = append(h.idle, r)
	}
	if errors.Is(err, errDamaged) {
		h.broken = true
	}
	if h.broken || l.closed {
		l.retire(h)
	}
	h.users--
	if h.users == 0 && h.expired {
		h.close()
	}
}

// look closes a handle that nobody uses any more, or that keeps a writer waiting. Others
// stay open, as the pages of a mapping that is made anew must be mapped anew.
func (l *Local) look(h *handle) {
	l.mu.Lock()
	used := h.used
	h.used = false
	l.mu.Unlock()
	if !used || !l.undisturbed() {
		l.expire(h)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !h.expired {
		h.timer.Reset(readingTime)
	}
}

// undisturbed reports whether no writer waits at the gate, as far as can be known.
func (l *Local) undisturbed() bool {
	f, err := os.Open(l.path + gateSuffix)
	if err != nil {
		return false
	}
	defer f.Close()
	ok, err := tryLock(f, false)
	if ok {
		unlock(f)
	}
	return ok && err == nil && locking
}

// expire takes a handle out of use, and closes it unless somebody is in it.
func (l *Local) expire(h *handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.expired {
		return
	}
	l.retire(h)
	if h.users == 0 {
		h.close()
	}
}

// retire makes sure that nobody else enters a handle. l.mu is held.
func (l *Local) retire(h *handle) {
	h.expired = true
	h.timer.Stop()
	if l.handle == h {
		l.handle = nil
	}
}

// close ends a handle that has no users.
func (h *handle) close() {
	if h.broken {
		h.db.abandon()
		return
	}
	for _, r := range h.idle {
		r.tx.Rollback()
	}
	h.db.close()
}

// lose empties the file, if it is still the one in which damage was found (nil: no
// state could be read from it).
func (l *Local) lose(found *state, cause error) error {
	s, err := l.openSession(context.Background(), func(now *state) bool {
		return found == nil || now.incarnation != found.incarnation
	})
	if err != nil {
		return err
	}
	s.close()
	return fmt.Errorf("%w (%v)", ErrLost, cause)
}
