package local

import (
	"io"
	"io/fs"
	"time"
)

// fsys is the file system as this package needs it. Everything that Local does
// to the disk goes through it, so that a test can put a file system in its place
// that loses power. Paths are absolute; errors are those of package os.
type fsys interface {
	// OpenFile is os.OpenFile.
	OpenFile(path string, flag int, perm fs.FileMode) (file, error)
	// Stat follows symbolic links.
	Stat(path string) (fs.FileInfo, error)
	// ReadDir returns what is in a directory, in one pass and in no particular
	// order. Names that lead nowhere are left out.
	ReadDir(path string) ([]entry, error)
	// Mkdir makes one directory.
	Mkdir(path string, perm fs.FileMode) error
	// Link gives the file old the name new, or returns an error that is
	// fs.ErrExist if new is taken: it never replaces. Where that takes the old
	// name away, moved is true.
	Link(old, new string) (moved bool, err error)
	// Rename gives the file old the name new and replaces what had it.
	Rename(old, new string) error
	// Remove removes the name of a file, never a directory.
	Remove(path string) error
	// SyncDir waits until the entries of the directory, as they are now, will
	// survive a loss of power.
	SyncDir(path string) error
}

// entry is what a directory has under one name, symbolic links followed.
type entry struct {
	name     string
	kind     kind
	size     int64     // of a regular file
	modified time.Time // likewise
}

// kind is what a name stands for.
type kind int

const (
	special kind = iota // a device, a FIFO, a socket
	regular
	directory
)

// file is an open file.
type file interface {
	io.Reader
	io.ReaderAt
	io.WriteCloser
	Stat() (fs.FileInfo, error)
	// Sync waits until the contents will survive a loss of power.
	Sync() error
	// TryLock takes the file's lock (flock), if nobody else has it, until the
	// file is closed or the process ends.
	TryLock() (bool, error)
}
