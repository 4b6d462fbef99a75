package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/internal/vfs"
)

// sweepAge is how old a temporary file must be to be taken for a left-over. Its
// lock tells whether its process lives; the age covers the moment between the
// file's creation and its lock.
const sweepAge = 6 * time.Hour

// temp is a file in _tmp on its way to a name. Every temp ends with discard.
type temp struct {
	l     *Local
	f     vfs.File // nil when it has ended
	path  string
	moved bool // path is gone, and may be somebody else's by now
}

// newTemp makes an empty temporary file and, before the first one, removes what
// killed processes left behind.
func (l *Local) newTemp() (*temp, error) {
	t, err := l.makeTemp()
	if err != nil {
		return nil, err
	}
	l.swept.Do(func() { _, _ = l.sweep(t) }) // a left-over is no reason not to write
	return t, nil
}

func (l *Local) makeTemp() (*temp, error) {
	dir := l.path(tmpDir)
	for made := false; ; {
		// Names need not be secret or random: if another process of this
		// number, on another host, has it, the next is tried.
		p := fmt.Sprintf("%s/%d-%d", dir, os.Getpid(), l.temps.Add(1))
		f, err := l.fs.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, objectPerm)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case errors.Is(err, fs.ErrNotExist) && !made:
			// Not there yet, or left out when the storage was copied. It need
			// not survive a loss of power, so nothing is synced.
			if err := l.fs.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
			made = true
			continue
		case err != nil:
			return nil, err
		}
		// The lock shows sweep that this process lives. Where there are no
		// locks, sweep can't take one either and removes nothing.
		_, _ = f.TryLock()
		return &temp{l: l, f: f, path: p}, nil
	}
}

func (t *temp) Write(p []byte) (int, error) { return t.f.Write(p) }

// publish gives the file its name, or returns backend.ErrExist.
//
// Order and reason:
//
//  1. Sync of the file: no name may ever lead to contents that are not safe,
//     as directory entries can reach the disk before contents do.
//  2. The directory of the name, and the way to it (makeDir).
//  3. Link: the name appears, in one step and only if it is free. A power cut
//     from here on leaves the whole object or none; a killed process leaves
//     the object and its temporary name, two names for one whole file.
//  4. Sync of the directory: the name survives, and Put may say so.
//
// The temporary name goes away whenever: it keeps nothing alive but itself.
func (t *temp) publish(name string) error {
	l := t.l
	if err := t.f.Sync(); err != nil {
		// Never to be tried again: the kernel may have dropped the pages that
		// it could not write, and a second sync would say that all is well.
		return err
	}
	err := l.inDir(name, func() (err error) {
		t.moved, err = l.fs.Link(t.path, l.path(name))
		return err
	})
	switch {
	case err == nil:
		return l.fs.SyncDir(path.Dir(l.path(name)))
	case errors.Is(err, fs.ErrExist):
		return l.settle(name, backend.ErrExist)
	}
	return err
}

// replace gives the file a name that another file has, for Swap. The order and
// its reasons are those of publish: until the last sync a power cut leaves the
// old contents or the new, as either entry of the directory leads to a file that
// is synced. The way to the directory is safe since the old file got there.
func (t *temp) replace(name string) error {
	l := t.l
	if err := t.f.Sync(); err != nil {
		return err
	}
	if err := l.fs.Rename(t.path, l.path(name)); err != nil {
		return err
	}
	t.moved = true
	return l.fs.SyncDir(path.Dir(l.path(name)))
}

// discard removes the temporary name, if the file still has it, and closes the
// file, in this order: the lock keeps the name ours until it is gone. Its error is
// of no interest after publish or replace, which have synced what matters.
func (t *temp) discard() error {
	if t.f == nil {
		return nil
	}
	var err error
	if !t.moved {
		err = t.l.fs.Remove(t.path)
	}
	err = errors.Join(err, t.f.Close())
	t.f = nil
	return err
}

// settle makes an object durable that was found where it should not be, and
// returns verdict. The one who made it may not have synced its directory yet, or
// may have been killed before; yet whoever hears that it exists relies on it.
// Its contents are safe, since they were before it had a name, and so is the way
// to its directory, since nobody links before makeDir.
func (l *Local) settle(name string, verdict error) error {
	if info, err := l.fs.Stat(l.path(name)); err == nil && info.IsDir() {
		return &fs.PathError{Op: "link", Path: l.path(name), Err: syscall.EISDIR}
	}
	if err := l.fs.SyncDir(path.Dir(l.path(name))); err != nil {
		return err
	}
	return verdict
}

// Sweep removes the temporary files of killed processes: those that nobody holds
// and that have not been written to for some hours. It returns how many it
// removed. The first write to a storage sweeps by itself.
func (l *Local) Sweep(ctx context.Context) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("sweep %s: %w", l.root, err)
	}
	t, err := l.makeTemp()
	if err != nil {
		return 0, fmt.Errorf("sweep %s: %w", l.root, explain(err))
	}
	defer t.discard()
	n, err := l.sweep(t)
	if err != nil {
		return n, fmt.Errorf("sweep %s: %w", l.root, explain(err))
	}
	return n, nil
}

// sweep removes left-overs. The age of a file is measured against fresh, which
// was made just now: so the storage's own clock judges, and not this machine's.
func (l *Local) sweep(fresh *temp) (removed int, err error) {
	info, err := fresh.f.Stat()
	if err != nil {
		return 0, err
	}
	oldest := info.ModTime().Add(-sweepAge)
	entries, err := l.fs.ReadDir(l.path(tmpDir))
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range entries {
		if e.Kind != vfs.Regular || e.Modified.After(oldest) {
			continue
		}
		done, err := l.removeUnheld(l.path(tmpDir) + "/" + e.Name)
		if done {
			removed++
		}
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// removeUnheld removes a temporary file if no process holds its lock. Its own
// lock keeps a second sweep away and is nothing that a writer would wait for.
func (l *Local) removeUnheld(p string) (bool, error) {
	f, err := l.fs.OpenFile(p, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if ok, err := f.TryLock(); !ok {
		return false, err
	}
	err = l.fs.Remove(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Stage implements backend.Stager. What is written goes straight to the file.
func (l *Local) Stage(ctx context.Context) (backend.Staged, error) {
	err := ctx.Err()
	if err != nil {
		return nil, fmt.Errorf("stage in %s: %w", l.root, err)
	}
	t, err := l.newTemp()
	if err != nil {
		return nil, fmt.Errorf("stage in %s: %w", l.root, explain(err))
	}
	return &staged{ctx, t}, nil
}

// staged is a temp behind the public interface.
type staged struct {
	ctx context.Context
	t   *temp
}

func (s *staged) Write(p []byte) (int, error) {
	err := s.ctx.Err()
	if s.t.f == nil {
		err = fs.ErrClosed
	}
	if err != nil {
		return 0, fmt.Errorf("write staged object in %s: %w", s.t.l.root, err)
	}
	n, err := s.t.Write(p)
	if err != nil {
		return n, fmt.Errorf("write staged object in %s: %w", s.t.l.root, explain(err))
	}
	return n, nil
}

func (s *staged) Commit(ctx context.Context, name string) error {
	l := s.t.l
	if s.t.f == nil {
		return l.fail("commit", name, fs.ErrClosed)
	}
	defer s.t.discard()
	if err := l.check(ctx, "commit", name); err != nil {
		return err
	}
	if err := s.t.publish(name); err != nil {
		return l.fail("commit", name, err)
	}
	return nil
}

func (s *staged) Abort() error {
	if err := s.t.discard(); err != nil {
		return fmt.Errorf("abort staged object in %s: %w", s.t.l.root, err)
	}
	return nil
}
