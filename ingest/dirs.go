package ingest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// dirHandle is an open directory, which the walk and the jobs with files in it
// share. The last one closes it.
type dirHandle struct {
	fd     int
	search bool // names can be looked up in it, but not listed
	refs   atomic.Int32
	of     *openDirs
}

func (d *dirHandle) retain() *dirHandle { d.refs.Add(1); return d }

func (d *dirHandle) release() {
	if d.refs.Add(-1) == 0 {
		d.of.close(d.fd)
	}
}

// openDirs knows all open directories of a run: there may be only so many, and when
// it ends early, jobs that nobody works on any more never give back theirs.
type openDirs struct {
	room *budget
	mu   sync.Mutex
	fds  map[int]struct{}
}

// How many directories a run has open. The walk and its job keep fewer than
// minOpenDirs to themselves, so that it never waits for its own.
const (
	minOpenDirs = openLevels + jobDirs + jobLarge + 16
	maxOpenDirs = 1024
	otherFiles  = 96 // that this process may need to open besides
)

func newOpenDirs() *openDirs {
	limit := maxOpenDirs
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err == nil && r.Cur < maxOpenDirs+otherFiles {
		limit = max(int(r.Cur)-otherFiles, minOpenDirs)
	}
	return &openDirs{room: newBudget(limit), fds: make(map[int]struct{})}
}

// open calls f to open a directory once there is room for it.
func (o *openDirs) open(ctx context.Context, f func() (fd int, err error)) (*dirHandle, error) {
	if err := o.room.take(ctx, 1); err != nil {
		return nil, err
	}
	fd, err := f()
	if err != nil {
		o.room.give(1)
		return nil, err
	}
	d := &dirHandle{fd: fd, of: o}
	d.refs.Store(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fds[fd] = struct{}{}
	return d, nil
}

func (o *openDirs) close(fd int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.fds, fd) // first: the next one to open gets the number again
	unix.Close(fd)
	o.room.give(1)
}

// closeAll closes what is left when nobody uses it.
func (o *openDirs) closeAll() {
	for fd := range o.fds {
		unix.Close(fd)
	}
	o.fds = nil
}

// openLevels is how many directories, from the one that it is in upwards, the walk
// keeps open. Those further up are closed and opened again on the way back.
const openLevels = 32

// level is a directory on the way to where the walk is.
type level struct {
	*dirHandle // nil while it is closed, or if it could not be opened again
	key        snapshot.Key
	stat       fsmeta.Stat
	search     bool
}

// enter goes down into a directory.
func (w *walker) enter(d *dirHandle, key snapshot.Key, st fsmeta.Stat) *level {
	lv := &level{dirHandle: d, key: key, stat: st, search: d.search}
	w.levels = append(w.levels, lv)
	if up := len(w.levels) - 1 - openLevels; up >= 0 {
		w.levels[up].close()
	}
	return lv
}

func (lv *level) close() {
	if lv.dirHandle != nil {
		lv.release()
		lv.dirHandle = nil
	}
}

// leave goes back up.
func (w *walker) leave(lv *level) error {
	defer lv.close()
	w.levels = w.levels[:len(w.levels)-1]
	if len(w.levels) == 0 || w.levels[len(w.levels)-1].dirHandle != nil {
		return nil
	}
	return w.reopen(w.levels[len(w.levels)-1], lv)
}

// reopen opens a directory that was closed: as what is above child, or, if it or
// child was moved or child is behind a symbolic link, by its path. If it can't be
// found, what it has left is missing.
func (w *walker) reopen(lv, child *level) error {
	found := func(open func() (int, error)) error {
		d, err := w.dirs.open(w.ctx, open)
		if err != nil {
			return err
		}
		d.search = lv.search
		st, err := fsmeta.StatFd(d.fd)
		if err == nil && (st.Ino != lv.stat.Ino || st.Dev != lv.stat.Dev) {
			err = errMoved
		}
		if err != nil {
			d.release()
			return err
		}
		lv.dirHandle = d
		return nil
	}
	open := fsmeta.OpenDirAt
	if lv.search {
		open = fsmeta.OpenSearchAt
	}
	err := errMoved
	if child.dirHandle != nil {
		err = found(func() (int, error) { return open(child.fd, "..") })
	}
	if err != nil {
		err = found(func() (int, error) {
			fd, name, err := openAbove(lv.key.Child("."))
			if err != nil {
				return -1, err
			}
			defer unix.Close(fd)
			return open(fd, name)
		})
	}
	if ctxErr := w.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if err != nil {
		w.report(lv.key, fmt.Errorf("what the directory has left is missing: %w", err), true)
	}
	return nil
}
