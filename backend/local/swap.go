package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/internal/vfs"
)

// Swap implements backend.Swapper. Comparing and replacing are one step because
// all Swaps of a storage, of all processes, hold the lock of one file; the lock
// goes when its process does, so that a killed one keeps nobody out. Readers need
// no lock: they see the old file or the new one.
func (l *Local) Swap(ctx context.Context, name string, old, new []byte) error {
	if err := l.check(ctx, "swap", name); err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return l.fail("swap", name, err)
	}
	defer unlock()
	if err := l.swapLocked(name, old, new); err != nil {
		return l.fail("swap", name, err)
	}
	return nil
}

func (l *Local) swapLocked(name string, old, new []byte) error {
	same, err := l.holds(name, old)
	if err != nil {
		return err
	}
	if !same {
		return l.conflict(name)
	}
	t, err := l.newTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := t.Write(new); err != nil {
		return err
	}
	if old != nil {
		return t.replace(name)
	}
	// Put does not take the lock, so one may come in between; Link tells.
	err = t.publish(name)
	if errors.Is(err, backend.ErrExist) {
		return backend.ErrConflict
	}
	return err
}

// holds reports whether the object's contents are want, or, if want is nil,
// whether there is no such object.
func (l *Local) holds(name string, want []byte) (bool, error) {
	f, size, err := l.openObject(name)
	if absent(err) {
		return want == nil, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if want == nil || size != int64(len(want)) {
		return false, nil
	}
	got := make([]byte, size)
	if _, err := io.ReadFull(f, got); err != nil {
		return false, err
	}
	return bytes.Equal(got, want), nil
}

// conflict returns backend.ErrConflict. The caller will now read the object and
// act on what it says, so what is there must survive: see settle.
func (l *Local) conflict(name string) error {
	if _, err := l.fs.Stat(l.path(name)); absent(err) {
		return backend.ErrConflict
	}
	return l.settle(name, backend.ErrConflict)
}

// lock takes the lock of Swap and returns what gives it back. Goroutines of this
// Local queue at a channel; what other processes hold has to be asked for again
// and again, as a waiting flock(2) could not be interrupted by the context.
func (l *Local) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case l.swap <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := l.lockFile(ctx)
	if err != nil {
		<-l.swap
		return nil, err
	}
	return func() {
		f.Close()
		<-l.swap
	}, nil
}

// lockFile opens and locks the lock file. The file is never removed: a process
// could otherwise hold the lock of a file that others don't see any more.
func (l *Local) lockFile(ctx context.Context) (vfs.File, error) {
	f, err := l.fs.OpenFile(l.path(lockFile), os.O_RDWR|os.O_CREATE, lockPerm)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		ok, err := f.TryLock()
		if ok {
			return f, nil
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("this file system has no locks, which changing an object needs: %w", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

// absent reports whether the error of a read says that there is no such object.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, backend.ErrNotExist)
}
