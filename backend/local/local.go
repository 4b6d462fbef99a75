// Package local is a storage in a directory: the object a/b is the file a/b, and
// nothing else needs to be known to read it.
//
//	data/ab/…, config, …   objects: regular files, mode 0400, in directories of mode 0700
//	_tmp/                  what is being written and has no name yet
//	_lock                  an empty file whose lock (flock) Swap holds
//
// The underscore is in no object's name, so that neither can be one. Files and
// directories whose names could not be an object's (lost+found, .DS_Store) are
// foreign: they are left alone and not listed. Directories are made when an
// object needs them and are never removed. A symbolic link counts as what it
// points to; _tmp must be on the same file system as the objects. The package
// builds on Unix systems that have flock(2).
//
// Several processes may use one directory, over NFS too, but for Swap, whose
// lock not every NFS server keeps.
//
// Where the comments of this package argue about a loss of power, they assume of
// the disk what POSIX promises and no more: a file's contents and a directory's
// entries survive if they were synced, each by itself; of everything later any
// part may survive, in any order.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/internal/vfs"
)

const (
	tmpDir   = "_tmp"
	lockFile = "_lock"

	// The owner may not write either: objects don't change, and a slip of the
	// hand should not change them.
	objectPerm fs.FileMode = 0o400
	dirPerm    fs.FileMode = 0o700
	lockPerm   fs.FileMode = 0o600
)

// Local is a storage in a directory. It implements backend.Interface,
// backend.Swapper and backend.Stager. All methods may be called concurrently.
type Local struct {
	fs   vfs.FS
	root string // absolute

	temps atomic.Uint64 // number of temporary names tried
	swept sync.Once     // left-overs are looked for once, before the first write
	swap  chan struct{} // holds one token while a Swap of this Local runs

	mu      sync.Mutex
	durable map[string]bool // directories below root, slash-separated, known to survive; see makeDir
}

var _ backend.Full = (*Local)(nil)

// Open returns the storage in the directory dir. It writes nothing, so that a
// read-only directory can be opened and read. If there is no such directory, the
// error is fs.ErrNotExist.
func Open(dir string) (*Local, error) { return OpenOn(osFS{}, dir) }

// Create makes the directory dir, with its parents where they are missing, and
// opens it. When it has returned, the directory survives a loss of power. A
// directory that is there already is fine, with whatever is in it.
func Create(dir string) (*Local, error) { return CreateOn(osFS{}, dir) }

// OpenOn is Open on another file system than the machine's: one that loses power,
// for the tests of this module.
func OpenOn(sys vfs.FS, dir string) (*Local, error) {
	root, err := absolute(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage %s: %w", dir, err)
	}
	info, err := sys.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open storage %s: no such directory; check the path, or whether its disk is mounted: %w", root, err)
	case err != nil:
		return nil, fmt.Errorf("open storage %s: %w", root, err)
	case !info.IsDir():
		return nil, fmt.Errorf("open storage %s: not a directory: %w", root, syscall.ENOTDIR)
	}
	return &Local{
		fs:      sys,
		root:    root,
		swap:    make(chan struct{}, 1),
		durable: make(map[string]bool),
	}, nil
}

// CreateOn is Create on another file system: see OpenOn.
func CreateOn(sys vfs.FS, dir string) (*Local, error) {
	root, err := absolute(dir)
	if err != nil {
		return nil, fmt.Errorf("create storage %s: %w", dir, err)
	}
	if err := makeRoot(sys, root); err != nil {
		return nil, fmt.Errorf("create storage %s: %w", root, explain(err))
	}
	return OpenOn(sys, root)
}

// absolute makes the path independent of later changes of the working directory.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("the path is empty")
	}
	return filepath.Abs(dir)
}

// String returns the absolute path of the directory.
func (l *Local) String() string { return l.root }

// path returns the file of an object. The name is valid, so it can't lead out
// of the root.
func (l *Local) path(name string) string { return path.Join(l.root, name) }

// Put implements backend.Interface.
func (l *Local) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := l.check(ctx, "put", name); err != nil {
		return err
	}
	if size < 0 {
		return l.fail("put", name, fmt.Errorf("negative size %d", size))
	}
	// This spares the writing; it is Link that decides.
	if _, err := l.fs.Stat(l.path(name)); err == nil {
		return l.fail("put", name, l.settle(name, backend.ErrExist))
	}
	t, err := l.newTemp()
	if err != nil {
		return l.fail("put", name, err)
	}
	defer t.discard()
	if err := fill(ctx, t, body, size); err != nil {
		return l.fail("put", name, err)
	}
	if err := t.publish(name); err != nil {
		return l.fail("put", name, err)
	}
	return nil
}

// fill writes the first size bytes of body.
func fill(ctx context.Context, w io.Writer, body io.ReaderAt, size int64) error {
	buf := make([]byte, min(size, 512<<10))
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), size-off)]
		if n, err := body.ReadAt(p, off); n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read body: %w", err)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// Stat implements backend.Interface.
func (l *Local) Stat(ctx context.Context, name string) (backend.Info, error) {
	if err := l.check(ctx, "stat", name); err != nil {
		return backend.Info{}, err
	}
	fi, err := l.fs.Stat(l.path(name))
	if err == nil && !fi.Mode().IsRegular() {
		err = backend.ErrNotExist
	}
	if err != nil {
		return backend.Info{}, l.failRead("stat", name, err)
	}
	return backend.Info{Name: name, Size: fi.Size(), Modified: fi.ModTime()}, nil
}

// Delete implements backend.Interface.
//
// It does not sync the directory. A loss of power may bring the object back, but
// then whole, as its contents were synced before it had a name; and its name
// says what it holds, so it is neither wrong nor in anybody's way: prune deletes
// it again. A sync for each of the thousands of packs that a prune deletes would
// buy nothing.
func (l *Local) Delete(ctx context.Context, name string) error {
	if err := l.check(ctx, "delete", name); err != nil {
		return err
	}
	err := l.fs.Remove(l.path(name))
	if err == nil {
		return nil
	}
	if fi, serr := l.fs.Stat(l.path(name)); serr == nil && fi.IsDir() {
		err = backend.ErrNotExist // systems differ in what unlink says of a directory
	}
	return l.failRead("delete", name, err)
}

// check is the beginning of every method.
func (l *Local) check(ctx context.Context, op, name string) error {
	if err := backend.ValidName(name); err != nil {
		return fmt.Errorf("%s in %s: %w", op, l.root, err)
	}
	if err := ctx.Err(); err != nil {
		return l.fail(op, name, err)
	}
	return nil
}

// fail says which object of which storage the error is about.
func (l *Local) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", op, name, l.root, explain(err))
}

// failRead is fail where a missing file means that there is no such object.
// That is so only while there is a storage at all: the directory of a disk that
// was unmounted must not pass for an empty one.
func (l *Local) failRead(op, name string, err error) error {
	if absent(err) {
		if gone := l.gone(); gone != nil {
			return l.fail(op, name, gone)
		}
		err = backend.ErrNotExist
	}
	return l.fail(op, name, err)
}

// gone returns an error if the storage's directory is not there any more.
func (l *Local) gone() error {
	if _, err := l.fs.Stat(l.root); err != nil {
		return fmt.Errorf("the storage's directory is gone; is its disk still mounted? %w", err)
	}
	return nil
}

// explain adds to an error of the system what the user can do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk is full; free some space and run again: %w", err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk quota is used up; free some space or raise it, and run again: %w", err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the file system is mounted read-only; mount it for writing and run again: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user has no permission; run as the owner of the storage, or change its permissions: %w", err)
	}
	return err
}
