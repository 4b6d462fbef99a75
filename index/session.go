package index

import (
	"context"
	"errors"
	"fmt"
	"io"

	bolt "go.etcd.io/bbolt"
)

// session is the file opened for writing. It shuts everyone else out, so it ends
// after a few transactions; who has more to do begins another.
type session struct {
	l       *Local
	db      *database
	leave   func() // the gate
	current *state
	broken  bool
	left    int // transactions before it should end
}

const (
	// sessionSteps and stepRecords bound a session and a transaction, which absorbs and
	// merges so many records at most: 4 x 6.5 MiB, some 200 ms. After a merge, two
	// transactions' worth of pages are free in the file.
	sessionSteps = 4
	stepRecords  = 1 << 16
)

// openSession opens the file for writing, and makes it anew if it is damaged or
// if good says that it is not what it should be.
func (l *Local) openSession(ctx context.Context, good func(*state) bool) (*session, error) {
	ctx, cancel := l.patience(ctx)
	defer cancel()
	leave, err := l.passGate(ctx, true)
	if err != nil {
		return nil, err
	}
	// Our own look-ups can't hold the file for longer than it takes them.
	l.mu.Lock()
	h := l.handle
	l.mu.Unlock()
	if h != nil {
		l.expire(h)
	}
	s, err := l.beginSession(ctx, forWriting)
	if err == nil && !good(s.current) {
		s.db.close()
		err = errDamaged
	}
	if errors.Is(err, errDamaged) {
		s, err = l.beginSession(ctx, emptied)
	}
	if err != nil {
		leave()
		return nil, err
	}
	s.leave = leave
	return s, nil
}

func (l *Local) beginSession(ctx context.Context, how opening) (*session, error) {
	db, err := l.open(ctx, how)
	if err != nil {
		return nil, err
	}
	s := &session{l: l, db: db, left: sessionSteps}
	if err := s.load(how); err != nil {
		if errors.Is(err, errDamaged) {
			db.abandon()
		} else {
			db.close()
		}
		return nil, err
	}
	return s, nil
}

// load reads the state of the file, or writes that of an empty one.
func (s *session) load(how opening) error {
	if how == emptied {
		return s.create()
	}
	var fresh bool
	err := guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			if k, _ := tx.Cursor().First(); k == nil {
				fresh = true
				return nil
			}
			t, err := openTables(tx, false)
			if err != nil {
				return err
			}
			if s.current, err = t.loadState(s.l.repository); err != nil {
				return err
			}
			if s.db.checked.names {
				return nil
			}
			// What decides on dropping and superseding must not be missed.
			return t.verifyNames(s.current, nil)
		})
	})
	if fresh {
		return s.create()
	}
	return err
}

// create writes the state of an empty index.
func (s *session) create() error {
	s.current = &state{repository: s.l.repository}
	if _, err := io.ReadFull(s.l.random, s.current.incarnation[:]); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	return s.update(func(*tables) error { return nil })
}

func (s *session) close() {
	if s.broken {
		s.db.abandon()
	} else {
		// What this session wrote over what it had checked needs no check.
		if now, err := stateOf(s.db.file); err == nil {
			now.names = true
			s.l.haveChecked(now)
		}
		s.db.close()
	}
	s.leave()
}

// update runs fn in a transaction that stores the state as fn left it. After an
// error the state is not that of the file, so the session must end.
func (s *session) update(fn func(*tables) error) error {
	s.left--
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			t, err := openTables(tx, true)
			if err != nil {
				return err
			}
			if err := fn(t); err != nil {
				return err
			}
			s.current.commit++
			return t.state.put(stateKey, s.current.encode())
		})
	})
	if errors.Is(err, errDamaged) {
		s.broken = true
	}
	return err
}

// change lets step change the file, in as many sessions as it takes, until it
// reports that there is nothing left to do.
func (l *Local) change(ctx context.Context, step func(*session) (more bool, err error)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		l.mu.Lock()
		closed := l.closed
		l.mu.Unlock()
		if closed {
			return ErrClosed
		}
		more, err := l.session(ctx, step)
		if err != nil || !more {
			return err
		}
		// Those who wait look at the gate every few milliseconds.
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// session runs steps in one session.
func (l *Local) session(ctx context.Context, step func(*session) (bool, error)) (more bool, err error) {
	s, err := l.openSession(ctx, func(*state) bool { return true })
	if err != nil {
		return false, err
	}
	if err = l.check(s.current); err == nil {
		for more = true; more && err == nil && s.left > 0 && ctx.Err() == nil; {
			more, err = step(s)
		}
	}
	found := s.current
	s.close()
	if errors.Is(err, errDamaged) {
		return false, l.lose(found, err)
	}
	if err == nil {
		err = l.check(found) // takes note of the commits
	}
	return more, err
}
