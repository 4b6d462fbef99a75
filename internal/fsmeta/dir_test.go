package fsmeta_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
)

func TestDir(t *testing.T) {
	tr := newTree(t)
	must(t, tr.Mkdir("d", 0o755))
	d, err := tr.Open("d")
	must(t, err)
	f, err := d.Create("f", 0o600)
	must(t, err)
	_, err = f.WriteString("hello")
	must(t, err)
	must(t, f.Close())
	if _, err := d.Create("f", 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create twice: %v", err)
	}
	f, st, err := d.OpenFile("f")
	must(t, err)
	if _, err := f.WriteAt([]byte("J"), 0); err != nil || st.Size != 5 {
		t.Errorf("%+v, %v", st, err)
	}
	if got, err := io.ReadAll(f); string(got) != "Jello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	must(t, f.Close())
	must(t, tr.Link(d, "f", "hard"))
	must(t, tr.Symlink("/etc/passwd", "soft"))
	must(t, tr.Link(tr.Dir, "soft", "hardsoft"))
	if target, err := tr.Readlink("hardsoft"); target != "/etc/passwd" || err != nil {
		t.Errorf("a link to a link: %q, %v", target, err)
	}
	must(t, d.Rename(tr.Dir, "hard", "moved"))
	if st, err := d.Stat("moved"); err != nil || st.Nlink != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := tr.Remove("d"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("Remove of a full directory: %v", err)
	}
	must(t, d.Remove("moved"))
	must(t, d.Remove("f"))
	must(t, tr.Remove("d"))
	must(t, d.Close())
	if err := d.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := d.Stat("f"); !errors.Is(err, unix.EBADF) {
		t.Errorf("Stat after Close: %v", err)
	}
	if names, err := tr.Names(); strings.Join(names, " ") != "hardsoft soft" || err != nil {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := fsmeta.OpenRoot(tr.join("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenRoot: %v", err)
	}
}

// TestPlantedLinks has links to the outside wherever restore could fall for them.
func TestPlantedLinks(t *testing.T) {
	outside, tr := t.TempDir(), newTree(t)
	must(t, os.WriteFile(outside+"/victim", []byte("precious"), 0o600))
	must(t, os.Symlink(outside, tr.join("dir")))
	must(t, os.Symlink(outside+"/victim", tr.join("file")))
	must(t, os.Symlink(outside+"/new", tr.join("dangling")))

	if _, err := tr.Open("dir"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("Open: %v", err)
	}
	if _, _, err := tr.OpenFile("file"); !errors.Is(err, fsmeta.ErrNotRegular) {
		t.Errorf("OpenFile: %v", err)
	}
	for _, name := range []string{"dir", "file", "dangling"} {
		if _, err := tr.Create(name, 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Create %s: %v", name, err)
		}
		if err := tr.Mkdir(name, 0o700); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Mkdir %s: %v", name, err)
		}
		m := fsmeta.Meta{Mode: unix.S_IFREG | 0o777, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
		if errs := tr.Apply(name, m, fsmeta.ApplyOptions{NoXattrs: true}); len(errs) != 1 || !errors.Is(errs[0], fsmeta.ErrStranger) {
			t.Errorf("Apply %s: %v", name, errs)
		}
	}
	must(t, os.Link(outside+"/victim", tr.join("hard")))
	m := fsmeta.Meta{Mode: unix.S_IFREG | 0o777, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if errs := tr.Apply("hard", m, fsmeta.ApplyOptions{}); len(errs) != 1 || !errors.Is(errs[0], fsmeta.ErrStranger) {
		t.Errorf("Apply to a hard link: %v", errs)
	}
	for _, name := range []string{"dir", "file", "dangling", "hard"} {
		must(t, tr.RemoveAll(name))
	}
	checkVictim(t, outside)
}

// checkVictim makes sure that nothing has happened outside the target.
func checkVictim(t *testing.T, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("outside the target: %v", entries)
	}
	info, err := entries[0].Info()
	must(t, err)
	if got, _ := os.ReadFile(outside + "/victim"); string(got) != "precious" || info.Mode() != 0o600 {
		t.Errorf("the file outside is changed: %q, %v", got, info.Mode())
	}
}

// TestSwappedDirectory restores into a directory that an attacker keeps
// replacing with a link to the outside.
func TestSwappedDirectory(t *testing.T) {
	outside, tr := t.TempDir(), newTree(t)
	must(t, os.WriteFile(outside+"/victim", []byte("precious"), 0o600))
	must(t, os.Symlink(outside, tr.join("evil")))
	must(t, tr.Mkdir("d", 0o700))

	var attack sync.WaitGroup
	stop := make(chan struct{})
	attack.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				// Swaps the names atomically.
				unix.Renameat2(tr.Fd(), "evil", tr.Fd(), "d", unix.RENAME_EXCHANGE)
			}
		}
	})
	opened := 0
	for range 2000 {
		m := fsmeta.Meta{Mode: unix.S_IFDIR | 0o777, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
		tr.Apply("d", m, fsmeta.ApplyOptions{NoXattrs: true})
		d, err := tr.Open("d")
		if err != nil {
			continue
		}
		opened++
		if f, err := d.Create("new", 0o600); err == nil {
			f.Close()
		}
		d.Apply("victim", m, fsmeta.ApplyOptions{})
		d.RemoveAll("victim")
		d.RemoveAll("new")
		d.Close()
	}
	close(stop)
	attack.Wait()
	t.Logf("the directory was there %d times of 2000", opened)
	checkVictim(t, outside)
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() == 0o777 {
		t.Errorf("the directory outside is changed: %v, %v", info.Mode(), err)
	}
}

func TestRemoveAll(t *testing.T) {
	tr := newTree(t)
	must(t, tr.RemoveAll("none"))
	must(t, os.MkdirAll(tr.join("a/b/c/"+strings.Repeat("d/", 100)), 0o755))
	tr.write(t, "a/b/f", "", 0o644)
	must(t, os.Symlink("/", tr.join("a/b/root")))
	tr.write(t, "keep", "", 0o644)
	must(t, tr.RemoveAll("a"))
	if names, err := tr.Names(); len(names) != 1 || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

func TestRemoveAllSaysWhere(t *testing.T) {
	tr := newTree(t)
	must(t, os.MkdirAll(tr.join("a/b"), 0o755))
	must(t, os.Mkdir(tr.join("a/other"), 0o755))
	tr.write(t, "a/b/f", "", 0o644)
	must(t, os.Chmod(tr.join("a/b"), 0o555))
	t.Cleanup(func() { os.Chmod(tr.join("a/b"), 0o755) })
	if isRoot() { // whom the mode doesn't stop
		if err := unix.Mount("none", tr.join("a/b"), "tmpfs", 0, ""); err != nil {
			need.Missing(t, "this root may not mount: %v", err)
		}
		defer unix.Unmount(tr.join("a/b"), unix.MNT_DETACH)
		tr.write(t, "a/b/mounted", "", 0o644)
	}
	err := tr.RemoveAll("a")
	pe, ok := errors.AsType[*fs.PathError](err)
	want, path := error(fs.ErrPermission), "a/b/f"
	if isRoot() {
		want, path = fsmeta.ErrMountPoint, "a/b"
	}
	if !ok || pe.Path != path || !errors.Is(err, want) {
		t.Errorf("%v, want %v at %s", err, want, path)
	}
	if _, err := os.Stat(tr.join("a/other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the rest stayed: %v", err)
	}
	if _, err := os.Stat(tr.join("a/b/mounted")); isRoot() && err != nil {
		t.Errorf("the mounted file system lost a file: %v", err)
	}
}

// On the way back from a directory that was moved, one does not come out elsewhere.
func TestReturnFromMoved(t *testing.T) {
	tr := newTree(t)
	for _, name := range []string{"a", "a/b", "a/b/c", "other"} {
		must(t, os.Mkdir(tr.join(name), 0o700))
	}
	a, err := tr.Open("a")
	must(t, err)
	b, err := a.Open("b")
	must(t, err)
	must(t, a.LeaveFor(b))
	if _, err := a.Stat("b"); err == nil {
		t.Error("a directory that was left can be used")
	}
	must(t, a.ReturnFrom(b))
	if _, err := a.Stat("b"); err != nil {
		t.Error(err)
	}
	b, err = a.Open("b")
	must(t, err)
	must(t, a.LeaveFor(b))
	must(t, os.Rename(tr.join("a/b"), tr.join("other/b")))
	if err := a.ReturnFrom(b); !errors.Is(err, fsmeta.ErrMoved) || a.Fd() >= 0 {
		t.Errorf("%v, descriptor %d", err, a.Fd())
	}
}

// RemoveAll needs no more descriptors for a deep tree.
func TestRemoveDeep(t *testing.T) {
	tr := newTree(t)
	const depth = 3000
	must(t, tr.Mkdir("d", 0o700))
	d, err := tr.Open("d")
	must(t, err)
	for range depth {
		must(t, d.Mkdir("d", 0o700))
		f, err := d.Create("file", 0o600)
		must(t, err)
		must(t, f.Close())
		next, err := d.Open("d")
		must(t, err)
		must(t, d.Close())
		d = next
	}
	must(t, d.Close())
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	few := old
	few.Cur = 64
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	err = tr.RemoveAll("d")
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, err)
	if _, err := tr.Stat("d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
