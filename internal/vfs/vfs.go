// Package vfs is a file system as the storage in a directory (backend/local) needs
// it: the few calls on which the durability of a repository rests. There is the
// real one, in backend/local, and one that loses power (internal/crashfs).
package vfs

import (
	"io"
	"io/fs"
	"time"
)

// FS is a file system. Paths are absolute and slash-separated; errors are those of
// package os. All methods may be called concurrently.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	// Stat follows symbolic links.
	Stat(path string) (fs.FileInfo, error)
	// ReadDir returns what is in a directory, in one pass and in no particular
	// order. Names that lead nowhere are left out.
	ReadDir(path string) ([]Entry, error)
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

// Entry is what a directory has under one name, symbolic links followed.
type Entry struct {
	Name     string
	Kind     Kind
	Size     int64     // of a regular file, in bytes
	Modified time.Time // likewise
}

// Kind is what a name stands for.
type Kind int

// The kinds.
const (
	Special Kind = iota // a device, a FIFO, a socket
	Regular
	Directory
)

// File is an open file.
type File interface {
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
