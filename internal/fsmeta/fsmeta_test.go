package fsmeta_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

// tree is a directory of the test, by path and open.
type tree struct {
	path string
	*fsmeta.Dir
}

func newTree(t *testing.T) tree {
	t.Helper()
	path := t.TempDir()
	d, err := fsmeta.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return tree{path, d}
}

func (tr tree) join(name string) string { return filepath.Join(tr.path, name) }

func (tr tree) write(t *testing.T, name, content string, perm os.FileMode) {
	t.Helper()
	if err := os.WriteFile(tr.join(name), []byte(content), perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tr.join(name), perm); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func isRoot() bool { return os.Geteuid() == 0 }

// asNobody runs f, on a thread of its own, without root's powers over files.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if !isRoot() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if err := unix.Setfsuid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestStat(t *testing.T) {
	tr := newTree(t)
	mtime := time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)
	tr.write(t, "file", "hello", 0o640)
	must(t, os.Chtimes(tr.join("file"), mtime, mtime))
	must(t, os.Link(tr.join("file"), tr.join("link")))
	must(t, os.Symlink("file", tr.join("symlink")))
	must(t, os.Mkdir(tr.join("dir"), 0o755))
	must(t, tr.Mknod("fifo", unix.S_IFIFO|0o600, 0))

	for name, kind := range map[string]uint32{
		"file": unix.S_IFREG, "symlink": unix.S_IFLNK, "dir": unix.S_IFDIR, "fifo": unix.S_IFIFO,
	} {
		st, err := fsmeta.StatAt(tr.Fd(), name)
		must(t, err)
		info, err := os.Lstat(tr.join(name))
		must(t, err)
		if st.Type() != kind || st.IsDir() != (name == "dir") || st.IsRegular() != (name == "file") || st.IsSymlink() != (name == "symlink") {
			t.Errorf("%s: type %o", name, st.Type())
		}
		if st.Size != info.Size() || !st.Mtime.Std().Equal(info.ModTime()) || st.Perm()&0o777 != uint32(info.Mode().Perm()) {
			t.Errorf("%s: %+v, want %v", name, st, info)
		}
		if st.UID != uint32(os.Getuid()) || st.Ino == 0 || st.Ctime.Sec == 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}

	st, err := fsmeta.StatAt(tr.Fd(), "file")
	must(t, err)
	if st.Nlink != 2 || st.Size != 5 || st.Perm() != 0o640 || st.Mtime != fsmeta.TimeOf(mtime) {
		t.Errorf("%+v", st)
	}
	f, err := os.Open(tr.join("file"))
	must(t, err)
	defer f.Close()
	if open, err := fsmeta.StatFd(int(f.Fd())); err != nil || open != st {
		t.Errorf("StatFd: %+v, %v; StatAt: %+v", open, err, st)
	}
	if _, err := fsmeta.StatAt(tr.Fd(), "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { fsmeta.StatAt(tr.Fd(), "file") }); n > 1 {
		t.Errorf("StatAt makes %v allocations, want only the name's", n)
	}
}

func TestTime(t *testing.T) {
	for _, want := range []time.Time{
		time.Unix(0, 0), time.Unix(-1, 999999999), time.Date(2446, 1, 2, 3, 4, 5, 6, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 7, time.UTC),
	} {
		got := fsmeta.TimeOf(want)
		if !got.Std().Equal(want) || got.Nsec >= 1e9 {
			t.Errorf("%v: %v", want, got)
		}
	}
	a, b, c := fsmeta.Time{Sec: 1, Nsec: 5}, fsmeta.Time{Sec: 1, Nsec: 6}, fsmeta.Time{Sec: 2}
	if a.Compare(b) != -1 || b.Compare(a) != 1 || c.Compare(b) != 1 || a.Compare(a) != 0 {
		t.Error("Compare is wrong")
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "...", "..a", "a.", " ", "\n", "\xff", "-", "~"} {
		if err := fsmeta.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range badNames {
		if err := fsmeta.CheckName(name); !errors.Is(err, fsmeta.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

var badNames = []string{"", ".", "..", "/", "a/b", "a/", "/a", "../a", "a\x00", "\x00"}

// TestWritersRefuseNames makes sure that no way of writing takes a path.
func TestWritersRefuseNames(t *testing.T) {
	tr := newTree(t)
	must(t, os.Mkdir(tr.join("a"), 0o755))
	tr.write(t, "a/b", "", 0o644)
	tr.write(t, "ok", "", 0o644)
	before, err := os.Stat(tr.join("a/b"))
	must(t, err)
	for _, name := range badNames {
		for call, f := range map[string]func() error{
			"ChownAt":    func() error { return fsmeta.ChownAt(tr.Fd(), name, 0, 0) },
			"ChmodAt":    func() error { return fsmeta.ChmodAt(tr.Fd(), name, 0o600) },
			"SetTimesAt": func() error { return fsmeta.SetTimesAt(tr.Fd(), name, fsmeta.Time{}) },
			"SetXattrAt": func() error { return fsmeta.SetXattrAt(tr.Fd(), name, fsmeta.Xattr{Name: "user.x"}) },
			"Apply":      func() error { return errors.Join(tr.Apply(name, fsmeta.Meta{}, fsmeta.ApplyOptions{})...) },
			"Open":       func() error { _, err := tr.Open(name); return err },
			"OpenFile":   func() error { _, _, err := tr.OpenFile(name); return err },
			"Create":     func() error { _, err := tr.Create(name, 0o600); return err },
			"Stat":       func() error { _, err := tr.Stat(name); return err },
			"Readlink":   func() error { _, err := tr.Readlink(name); return err },
			"Mkdir":      func() error { return tr.Mkdir(name, 0o700) },
			"Mknod":      func() error { return tr.Mknod(name, unix.S_IFIFO|0o600, 0) },
			"Symlink":    func() error { return tr.Symlink("ok", name) },
			"Link to":    func() error { return tr.Link(tr.Dir, "ok", name) },
			"Link from":  func() error { return tr.Link(tr.Dir, name, "new") },
			"Rename to":  func() error { return tr.Rename(tr.Dir, "ok", name) },
			"Rename from": func() error {
				return tr.Rename(tr.Dir, name, "new")
			},
			"Remove":    func() error { return tr.Remove(name) },
			"RemoveAll": func() error { return tr.RemoveAll(name) },
		} {
			if err := f(); !errors.Is(err, fsmeta.ErrName) {
				t.Errorf("%s(%q): %v", call, name, err)
			}
		}
	}
	after, err := os.Stat(tr.join("a/b"))
	must(t, err)
	if after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a/b changed from %v to %v", before, after)
	}
}

// listen makes a socket at path.
func listen(t *testing.T, path string) {
	t.Helper()
	if len(path) > 100 { // the limit of a socket's address
		return
	}
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { l.Close() })
}
