//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package index

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// locking says that tryLock locks.
const locking = true

// tryLock takes a shared or exclusive lock of the file, as bbolt does, and
// reports false if another open file has one that excludes it.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EINTR):
		return false, nil
	default:
		return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
}

// unlock gives the lock back, also when a mapping keeps the file open.
func unlock(f *os.File) { unix.Flock(int(f.Fd()), unix.LOCK_UN) }
