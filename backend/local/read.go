package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/internal/vfs"
)

// Open implements backend.Interface. The size that the file has now is the size
// that is read: if it is cut off meanwhile, Read says so.
func (l *Local) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := l.check(ctx, "open", name); err != nil {
		return nil, err
	}
	f, size, err := l.openObject(name)
	if err != nil {
		return nil, l.failRead("open", name, err)
	}
	return &object{ctx, l, name, f, size}, nil
}

// ReadAt implements backend.Interface.
func (l *Local) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := l.check(ctx, "read", name); err != nil {
		return err
	}
	f, size, err := l.openObject(name)
	if err != nil {
		return l.failRead("read", name, err)
	}
	defer f.Close()
	if off < 0 {
		return l.fail("read", name, fmt.Errorf("negative offset %d", off))
	}
	if off > size || int64(len(p)) > size-off {
		return l.fail("read", name, io.ErrUnexpectedEOF)
	}
	if n, err := f.ReadAt(p, off); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return l.fail("read", name, err)
	}
	return nil
}

// openObject opens the file of an object and returns its size.
func (l *Local) openObject(name string) (vfs.File, int64, error) {
	f, err := l.fs.OpenFile(l.path(name), os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = backend.ErrNotExist // a directory is not an object
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// object reads an object of known size.
type object struct {
	ctx  context.Context
	l    *Local
	name string
	f    vfs.File
	left int64 // bytes still to be read
}

func (o *object) Read(p []byte) (int, error) {
	if o.left == 0 {
		return 0, io.EOF
	}
	if err := o.ctx.Err(); err != nil {
		return 0, o.l.fail("read", o.name, err)
	}
	n, err := o.f.Read(p[:min(int64(len(p)), o.left)])
	o.left -= int64(n)
	switch {
	case err == io.EOF && o.left > 0:
		err = o.l.fail("read", o.name, io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		err = o.l.fail("read", o.name, err)
	}
	return n, err
}

func (o *object) Close() error { return o.f.Close() }

// List implements backend.Interface. It reads each directory in one pass before
// it yields its objects, so that what the loop body deletes or adds can't upset
// the pass; 30,000 objects of one directory take some 8 MB meanwhile.
func (l *Local) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		err := ctx.Err()
		if err == nil {
			err = backend.ValidPrefix(prefix)
		}
		if err == nil {
			err = l.gone() // a missing directory is otherwise an empty one
		}
		if err == nil {
			err = l.list(ctx, strings.TrimSuffix(prefix, "/"), yield)
		}
		if err != nil && err != errStopped {
			yield(backend.Info{}, l.fail("list", prefix, err))
		}
	}
}

// errStopped ends a listing whose loop was left.
var errStopped = errors.New("listing stopped")

// list yields the objects in dir, relative to the root, and below.
func (l *Local) list(ctx context.Context, dir string, yield func(backend.Info, error) bool) error {
	entries, err := l.fs.ReadDir(l.path(dir))
	if absent(err) {
		return nil // no object has needed it yet, or it has just been removed
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if backend.ValidName(name) != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch e.Kind {
		case vfs.Directory:
			if err := l.list(ctx, name, yield); err != nil {
				return err
			}
		case vfs.Regular:
			if !yield(backend.Info{Name: name, Size: e.Size, Modified: e.Modified}, nil) {
				return errStopped
			}
		}
	}
	return nil
}
