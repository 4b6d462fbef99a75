package fsmeta_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
)

func TestOpenAt(t *testing.T) {
	tr := newTree(t)
	tr.write(t, "file", "contents", 0o644)
	must(t, os.Symlink("file", tr.join("symlink")))
	must(t, os.Mkdir(tr.join("dir"), 0o755))
	must(t, tr.Mknod("fifo", unix.S_IFIFO|0o600, 0))
	listen(t, tr.join("socket"))

	fd, st, err := fsmeta.OpenAt(tr.Fd(), "file")
	must(t, err)
	f := os.NewFile(uintptr(fd), "file")
	defer f.Close()
	if got, err := io.ReadAll(f); string(got) != "contents" || err != nil || st.Size != 8 {
		t.Errorf("%q, %v, %+v", got, err, st)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	must(t, err)
	if flags&unix.O_NONBLOCK != 0 || flags&unix.O_NOATIME == 0 {
		t.Errorf("flags %#o: want O_NOATIME and not O_NONBLOCK", flags)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %#o, %v: want FD_CLOEXEC", flags, err)
	}

	for _, name := range []string{"symlink", "dir", "fifo", "socket"} {
		if _, err := os.Lstat(tr.join(name)); err != nil {
			continue // the socket, below a long path
		}
		if _, _, err := fsmeta.OpenAt(tr.Fd(), name); !errors.Is(err, fsmeta.ErrNotRegular) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := tr.OpenFile(name); !errors.Is(err, fsmeta.ErrNotRegular) {
			t.Errorf("OpenFile %s: %v", name, err)
		}
	}
	if _, _, err := fsmeta.OpenAt(tr.Fd(), "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, _, err := fsmeta.OpenAt(unix.AT_FDCWD, tr.join("symlink")); !errors.Is(err, fsmeta.ErrNotRegular) {
		t.Errorf("path: %v", err)
	}
}

// TestOpenNoAtimeForbidden opens what belongs to somebody else.
func TestOpenNoAtimeForbidden(t *testing.T) {
	path := "/etc"
	tr := tree{path: path}
	if isRoot() {
		tr = newTree(t)
		tr.write(t, "passwd", "x", 0o644)
	} else {
		d, err := fsmeta.OpenRoot(path)
		must(t, err)
		defer d.Close()
		tr.Dir = d
	}
	asNobody(t, func() {
		fd, st, err := fsmeta.OpenAt(tr.Fd(), "passwd")
		if err != nil || st.Size == 0 {
			t.Errorf("%+v, %v", st, err)
			return
		}
		defer unix.Close(fd)
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&(unix.O_NOATIME|unix.O_NONBLOCK) != 0 {
			t.Errorf("flags %#o", flags)
		}
	})
}

// TestOpenLeased opens a file while somebody holds a lease on it, who gives it up
// when the kernel asks.
func TestOpenLeased(t *testing.T) {
	tr := newTree(t)
	tr.write(t, "file", "x", 0o644)
	f, err := os.OpenFile(tr.join("file"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGIO)
	defer signal.Stop(asked)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		need.Missing(t, "this file system has no leases: %v", err)
	}
	released := make(chan error, 1)
	go func() {
		<-asked
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		released <- err
	}()
	fd, _, err := fsmeta.OpenAt(tr.Fd(), "file")
	must(t, err)
	unix.Close(fd)
	must(t, <-released)
}

func TestOpenDirAt(t *testing.T) {
	tr := newTree(t)
	must(t, os.Mkdir(tr.join("dir"), 0o755))
	must(t, os.Symlink("dir", tr.join("symlink")))
	must(t, tr.Mknod("fifo", unix.S_IFIFO|0o600, 0))
	fd, err := fsmeta.OpenDirAt(tr.Fd(), "dir")
	must(t, err)
	unix.Close(fd)
	for _, name := range []string{"symlink", "fifo"} {
		if fd, err := fsmeta.OpenDirAt(tr.Fd(), name); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %d, %v", name, fd, err)
		}
	}
}

func TestReadlinkAt(t *testing.T) {
	tr := newTree(t)
	for _, n := range []int{1, 255, 256, 257, 1023, 1024, 4095} {
		target := strings.Repeat("x\xff/", n)[:n]
		name := fmt.Sprint(n)
		must(t, tr.Symlink(target, name))
		if got, err := fsmeta.ReadlinkAt(tr.Fd(), name); got != target || err != nil {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
	}
	tr.write(t, "file", "", 0o644)
	if _, err := tr.Readlink("file"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no link: %v", err)
	}
}
