package local

import (
	"io"
	"io/fs"
)

// fsys is the file system as this package needs it. Everything that Local does
// to the disk goes through it, so that a test can put a file system in its place
// that loses power. Paths are absolute; errors are those of package os.
type fsys interface {
	// OpenFile is os.OpenFile.
	OpenFile(path string, flag int, perm fs.FileMode) (file, error)
	// Stat follows symbolic links.
	Stat(path string) (fs.FileInfo, error)
	// ReadDir returns the whole directory in no particular order. What Info
	// of an entry says is as of its call.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Mkdir makes one directory.
	Mkdir(path string, perm fs.FileMode) error
	// Link gives the file old the name new, or returns an error that is
	// fs.ErrExist if new is taken: it never replaces. The old name may go
	// away with it.
	Link(old, new string) error
	// Rename gives the file old the name new and replaces what had it.
	Rename(old, new string) error
	// Remove removes the name of a file, never a directory.
	Remove(path string) error
	// SyncDir waits until the entries of the directory, as they are now, will
	// survive a loss of power.
	SyncDir(path string) error
}

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
