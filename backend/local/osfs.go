package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/vfs"
)

// osFS is the real file system.
type osFS struct{}

func (osFS) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	if flag&os.O_EXCL == 0 {
		return &osFile{File: f}, nil
	}
	return &osFile{File: f, writeback: true}, nil
}

func (osFS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// ReadDir asks for each file by its name in the open directory, which takes half
// the time of lstat(2) with whole paths, and for many of them at once in a large one.
func (osFS) ReadDir(path string) ([]vfs.Entry, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.ReadDir(-1) // os.ReadDir would sort them
	if err != nil {
		return nil, err
	}
	entries := make([]vfs.Entry, len(names))
	var g errgroup.Group
	g.SetLimit(statters)
	for at := 0; at < len(names); at += statsInTurn {
		g.Go(func() error { return statAll(d, names[at:], entries[at:min(at+statsInTurn, len(names))]) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e vfs.Entry) bool { return e.Name == "" }), nil
}

// How many goroutines ask for the files of a large directory, and how many files one of them
// takes in turn. More of them would help on a network's file system only.
const (
	statters    = 4
	statsInTurn = 1024
)

// statAll fills entries with what has the first of names in an open directory. An entry of
// what is gone stays empty.
func statAll(d *os.File, names []fs.DirEntry, entries []vfs.Entry) error {
	for i := range entries {
		name := names[i].Name()
		if names[i].IsDir() {
			entries[i] = vfs.Entry{Name: name, Kind: vfs.Directory}
			continue
		}
		e, err := statAt(d, name)
		if err == unix.ENOENT || err == unix.ELOOP {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "stat", Path: d.Name() + "/" + name, Err: err}
		}
		entries[i] = e
	}
	return nil
}

// statAt describes what has a name in an open directory.
func statAt(d *os.File, name string) (vfs.Entry, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(int(d.Fd()), name, &st, 0)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return vfs.Entry{}, err
		}
	}
	e := vfs.Entry{Name: name, Size: st.Size, Modified: time.Unix(st.Mtim.Unix())}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind = vfs.Regular
	case unix.S_IFDIR:
		e.Kind = vfs.Directory
	}
	return e, nil
}

func (osFS) Mkdir(path string, perm fs.FileMode) error { return os.Mkdir(path, perm) }

// Link uses link(2), the oldest way to create without replacing that is atomic
// everywhere, NFS included. Where the file system knows no hard links (FAT,
// exFAT, some network and FUSE file systems) it renames with the demand not to
// replace.
func (osFS) Link(old, new string) (moved bool, err error) { return linkBy(os.Link, old, new) }

// linkBy is Link with link(2) given, so that a test can do without.
func linkBy(link func(old, new string) error, old, new string) (moved bool, err error) {
	err = link(old, new)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EOPNOTSUPP),
		errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
	default:
		return false, err
	}
	rerr := renameExclusive(old, new)
	if errors.Is(rerr, unix.EINVAL) || errors.Is(rerr, errors.ErrUnsupported) {
		// %v, as the cause may be EPERM, which is not about permissions here.
		return false, fmt.Errorf("this file system has neither hard links nor a rename that does not replace, "+
			"and a storage needs one of them; use another file system: %v", err)
	}
	return rerr == nil, rerr
}

func (osFS) Rename(old, new string) error { return os.Rename(old, new) }

// Remove is not os.Remove, which takes an empty directory for as good as a file.
func (osFS) Remove(path string) error {
	for {
		err := unix.Unlink(path)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "unlink", Path: path, Err: err}
		}
	}
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		// This file system (SMB, some FUSE) has no such call. What it makes of
		// a loss of power is its own affair; there is nothing else to ask for.
		return nil
	}
	return err
}

// writebackEvery is how many bytes of a new file are written between two hints
// to the kernel to begin writing them to the disk.
const writebackEvery = 2 << 20

// osFile is a file of the operating system.
type osFile struct {
	*os.File
	writeback      bool  // tell the kernel early to write to the disk
	written, begun int64 // bytes written; bytes that the kernel was told of
}

// Write writes, and has the kernel begin with the disk now rather than at Sync,
// so that the disk works while the next part is being made: a pack of 32 MiB was
// on the disk after 47 ms in place of 62.
func (f *osFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.written += int64(n)
	if f.writeback && f.written-f.begun >= writebackEvery {
		beginWriteback(f.File, f.begun, f.written-f.begun)
		f.begun = f.written
	}
	return n, err
}

func (f *osFile) TryLock() (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch err {
		case nil:
			return true, nil
		case unix.EWOULDBLOCK:
			return false, nil
		case unix.EINTR:
		default:
			return false, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}
