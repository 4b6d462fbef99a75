package local_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/internal/vfs"
)

// noLinks is a file system without hard links.
type noLinks struct{ local.OS }

func (noLinks) Link(old, new string) (bool, error) {
	// The real one, made to fall back by what link(2) says on such a system.
	return local.LinkBy(func(old, new string) error {
		return &os.LinkError{Op: "link", Old: old, New: new, Err: syscall.EPERM}
	}, old, new)
}

// refusing is a file system on which nothing can be written, for the reason err.
type refusing struct {
	local.OS
	err error
}

func (r refusing) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag != os.O_RDONLY {
		return nil, &fs.PathError{Op: "open", Path: path, Err: r.err}
	}
	return r.OS.OpenFile(path, flag, perm)
}

func (r refusing) Mkdir(path string, _ fs.FileMode) error {
	return &fs.PathError{Op: "mkdir", Path: path, Err: r.err}
}

func (r refusing) Remove(path string) error {
	return &fs.PathError{Op: "unlink", Path: path, Err: r.err}
}

func (r refusing) Link(old, new string) (bool, error) {
	return false, &os.LinkError{Op: "link", Old: old, New: new, Err: r.err}
}

func (r refusing) Rename(old, new string) error {
	return &os.LinkError{Op: "rename", Old: old, New: new, Err: r.err}
}

// TestReadOnlyStorage reads from a storage that can't be written, and expects of
// every write an error that says what to do.
func TestReadOnlyStorage(t *testing.T) {
	ctx := t.Context()
	writable := newLocal(t)
	put(t, writable, "data/ab/x", "hello")
	for _, err := range []error{syscall.EROFS, syscall.EACCES} {
		l, oerr := local.OpenOn(refusing{err: err}, writable.String())
		if oerr != nil {
			t.Fatal(oerr)
		}
		got, rerr := backend.ReadAll(ctx, l, "data/ab/x", 100)
		if rerr != nil || string(got) != "hello" {
			t.Errorf("read %q, %v", got, rerr)
		}
		if got := list(t, l); got != "data/ab/x" {
			t.Errorf("listed %q", got)
		}
		_, serr := l.Stage(ctx)
		for method, got := range map[string]error{
			"Put":    backend.PutBytes(ctx, l, "y", nil),
			"Delete": l.Delete(ctx, "data/ab/x"),
			"Swap":   l.Swap(ctx, "y", nil, nil),
			"Stage":  serr,
		} {
			if !errors.Is(got, err) || !strings.Contains(got.Error(), "run ") {
				t.Errorf("%s: %v", method, got)
			}
		}
	}
}

// fullDisk is a file system whose files take limit bytes each.
type fullDisk struct {
	local.OS
	limit int
	sync  bool // the disk shows to be full only at Sync
}

type fullFile struct {
	vfs.File
	disk    fullDisk
	written *int
}

func (d fullDisk) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.OS.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return fullFile{f, d, new(int)}, nil
}

func (f fullFile) Write(p []byte) (int, error) {
	*f.written += len(p)
	if over := *f.written - f.disk.limit; over > 0 && !f.disk.sync {
		n, _ := f.File.Write(p[:max(0, len(p)-over)])
		return n, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f fullFile) Sync() error {
	if *f.written > f.disk.limit {
		return syscall.ENOSPC
	}
	return f.File.Sync()
}

func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	for _, disk := range []fullDisk{{limit: 10}, {limit: 10, sync: true}} {
		l, err := local.CreateOn(disk, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		stage := func() error {
			s, err := l.Stage(ctx)
			if err != nil {
				return err
			}
			defer s.Abort()
			if _, err := s.Write(make([]byte, 11)); err != nil {
				return err
			}
			return s.Commit(ctx, "data/staged")
		}
		for method, err := range map[string]error{
			"Put":   backend.PutBytes(ctx, l, "data/x", make([]byte, 11)),
			"Swap":  l.Swap(ctx, "y", nil, make([]byte, 11)),
			"Stage": stage(),
		} {
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") {
				t.Errorf("%s: %v", method, err)
			}
		}
		if got := list(t, l); got != "" {
			t.Errorf("listed %q", got)
		}
		if left := temps(t, l); len(left) > 0 {
			t.Errorf("temporary files left: %q", left)
		}
		put(t, l, "data/x", "small")
	}
}
