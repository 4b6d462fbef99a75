//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package index

import "os"

// Where there is no flock, bbolt's own lock keeps processes apart. What is lost
// is only that a waiting writer goes before new readers.
const locking = false

func tryLock(*os.File, bool) (bool, error) { return true, nil }

func unlock(*os.File) {}
