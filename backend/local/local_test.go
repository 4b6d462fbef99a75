package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/backendtest"
	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/internal/need"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Interface { return newLocal(t) })
}

// TestConformanceWithoutLinks runs on a file system without hard links, where
// objects get their names by renaming.
func TestConformanceWithoutLinks(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(a, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := local.RenameExclusive(a, b); err != nil {
		need.Missing(t, "this file system can't rename without replacing: %v", err)
	}
	backendtest.Run(t, func(t *testing.T) backend.Interface {
		l, err := local.CreateOn(noLinks{}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}

// newLocal returns a storage in a new directory.
func newLocal(t testing.TB) *local.Local {
	t.Helper()
	l, err := local.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t testing.TB, b backend.Interface, name, data string) {
	t.Helper()
	if err := backend.PutBytes(t.Context(), b, name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// temps returns the names of the temporary files.
func temps(t *testing.T, l *local.Local) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(l.String(), local.TmpDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func list(t testing.TB, b backend.Interface) string {
	t.Helper()
	var names []string
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return strings.Join(names, " ")
}

func TestFilesAndPermissions(t *testing.T) {
	root := filepath.Join(t.TempDir(), "new", "repo")
	l, err := local.Create(root)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, "data/ab/x", "hello")
	if err := l.Swap(t.Context(), "condemned", nil, []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := l.Swap(t.Context(), "condemned", []byte("1"), []byte("2")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		"":             fs.ModeDir | 0o700,
		"data":         fs.ModeDir | 0o700,
		"data/ab":      fs.ModeDir | 0o700,
		"data/ab/x":    0o400,
		"condemned":    0o400,
		"_tmp":         fs.ModeDir | 0o700,
		"_lock":        0o600,
		"../../new":    fs.ModeDir | 0o700,
		"data/ab/../x": 0,
	} {
		info, err := os.Stat(filepath.Join(root, path))
		if want == 0 {
			if err == nil {
				t.Errorf("%s exists", path)
			}
			continue
		}
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", path, info, err, want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(root, "data/ab/x")); err != nil || string(data) != "hello" {
		t.Errorf("the file holds %q, %v", data, err)
	}
	if left := temps(t, l); len(left) > 0 {
		t.Errorf("temporary files left: %q", left)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := local.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := local.Open(""); err == nil {
		t.Error("empty path opened")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(file); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Open a file: %v", err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if _, err := local.Create(path); err == nil {
			t.Errorf("Create %s succeeded", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("Open made a directory")
	}
}

// TestForeignFiles puts what is no object into the directory, and expects that
// it is neither listed nor touched.
func TestForeignFiles(t *testing.T) {
	l := newLocal(t)
	put(t, l, "data/ab/x", "1")
	root := l.String()
	for _, dir := range []string{"lost+found", "data/CACHE", "_tmp", "data/empty"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
	for _, file := range []string{".DS_Store", "lost+found/a", "data/CACHE/a", "data/ab/x.partial~", "_tmp/abc", "Thumbs.db", "_lock"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte("foreign"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "data/ab/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := list(t, l); got != "data/ab/x" {
		t.Errorf("listed %s", got)
	}
	if _, err := l.Stat(t.Context(), "data/ab/fifo"); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("Stat of a FIFO: %v", err)
	}
	if err := l.Delete(t.Context(), "data/empty"); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("Delete of an empty directory: %v", err)
	}
	if err := backend.PutBytes(t.Context(), l, "data/empty", nil); err == nil || errors.Is(err, backend.ErrExist) {
		t.Errorf("Put in place of a directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "data/empty")); err != nil {
		t.Error("the empty directory is gone:", err)
	}
}

func TestSymbolicLinksCount(t *testing.T) {
	l := newLocal(t)
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(l.String(), "data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "nothing"), filepath.Join(l.String(), "dangling")); err != nil {
		t.Fatal(err)
	}
	put(t, l, "data/ab/x", "1")
	if got := list(t, l); got != "data/ab/x" {
		t.Errorf("listed %q", got)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "ab/x")); err != nil {
		t.Error(err)
	}
}

func TestTruncatedFile(t *testing.T) {
	ctx := t.Context()
	l := newLocal(t)
	put(t, l, "x", strings.Repeat("0123456789", 100000))
	r, err := l.Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, 10); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.String(), "x")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 500000); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d bytes to a quiet end, error %v", n, err)
	}
	if err := l.ReadAt(ctx, "x", make([]byte, 2), 499999); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt: %v", err)
	}
}

// TestGoneStorage takes the directory away, as an unmounted disk does. Nothing
// may say then that there are no objects.
func TestGoneStorage(t *testing.T) {
	ctx := t.Context()
	root := filepath.Join(t.TempDir(), "repo")
	l, err := local.Create(root)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, "x", "1")
	if err := os.Rename(root, root+"-away"); err != nil {
		t.Fatal(err)
	}
	_, oerr := l.Open(ctx, "x")
	_, serr := l.Stat(ctx, "x")
	var lerr error
	for _, err := range l.List(ctx, "data/") {
		lerr = err
	}
	for method, err := range map[string]error{
		"Open": oerr, "Stat": serr, "List": lerr, "Delete": l.Delete(ctx, "x"),
		"Put": backend.PutBytes(ctx, l, "y", nil), "Swap": l.Swap(ctx, "z", nil, nil),
	} {
		if err == nil || errors.Is(err, backend.ErrNotExist) {
			t.Errorf("%s: %v", method, err)
		}
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("the directory was made again")
	}
}

// TestRemovedDirectories has somebody tidy up empty directories.
func TestRemovedDirectories(t *testing.T) {
	l := newLocal(t)
	put(t, l, "data/ab/x", "1")
	if err := l.Delete(t.Context(), "data/ab/x"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"data", "_tmp"} {
		if err := os.RemoveAll(filepath.Join(l.String(), dir)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, l, "data/ab/x", "2")
	if got := list(t, l); got != "data/ab/x" {
		t.Errorf("listed %q", got)
	}
}

// TestTemporaryNamesAreOneOwners has two storages of one process, which therefore
// choose the same temporary names, write and swap in one directory that moves
// them away.
func TestTemporaryNamesAreOneOwners(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for i := range 2 {
		l, err := local.CreateOn(noLinks{}, root)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for n := range 100 {
				name := fmt.Sprintf("data/%d-%d", i, n)
				if err := backend.PutBytes(t.Context(), l, name, []byte(name)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestDanglingTemporaryDirectory has _tmp lead nowhere, which must be an error
// and no endless attempt.
func TestDanglingTemporaryDirectory(t *testing.T) {
	l := newLocal(t)
	if err := os.Symlink("nowhere", filepath.Join(l.String(), local.TmpDir)); err != nil {
		t.Fatal(err)
	}
	if err := backend.PutBytes(t.Context(), l, "x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Put = %v", err)
	}
}

func TestSweep(t *testing.T) {
	l := newLocal(t)
	alive, err := l.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Abort()
	held := temps(t, l)
	tmp := filepath.Join(l.String(), local.TmpDir)
	for name, age := range map[string]time.Duration{"young": time.Hour, "old": 24 * time.Hour, "older": 48 * time.Hour} {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, nil, 0o400); err != nil {
			t.Fatal(err)
		}
		setAge(t, path, age)
	}
	setAge(t, held[0], 24*time.Hour)

	if n, err := l.Sweep(t.Context()); n != 2 || err != nil {
		t.Errorf("Sweep = %d, %v; want 2", n, err)
	}
	if got, want := fmt.Sprint(temps(t, l)), fmt.Sprint([]string{held[0], filepath.Join(tmp, "young")}); got != want {
		t.Errorf("left are %v, want %v", got, want)
	}
	if err := alive.Commit(t.Context(), "x"); err != nil {
		t.Error("what was held can't be committed:", err)
	}

	// The first write of another process sweeps by itself.
	setAge(t, filepath.Join(tmp, "young"), 24*time.Hour)
	other, err := local.Open(l.String())
	if err != nil {
		t.Fatal(err)
	}
	put(t, other, "y", "1")
	if left := temps(t, l); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

func setAge(t *testing.T, path string, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// TestSwapBetweenProcesses counts through four storages on one directory. A lock
// of flock(2) belongs to the open file, so that they keep each other out as four
// processes do.
func TestSwapBetweenProcesses(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	const openers, each = 4, 10
	var wg sync.WaitGroup
	for range openers {
		l, err := local.Create(root)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for done := 0; done < each; {
				old, err := backend.ReadAll(ctx, l, "n", 10)
				if err != nil && !errors.Is(err, backend.ErrNotExist) {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(old))
				err = l.Swap(ctx, "n", old, []byte(strconv.Itoa(n+1)))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, backend.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got, err := os.ReadFile(filepath.Join(root, "n")); string(got) != strconv.Itoa(openers*each) {
		t.Errorf("counted to %s, want %d (%v)", got, openers*each, err)
	}
}

func TestSwapStopsWaiting(t *testing.T) {
	l := newLocal(t)
	lock, err := local.OS{}.OpenFile(filepath.Join(l.String(), "_lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	for range 2 { // one waits for the lock, one for the other
		go func() { result <- l.Swap(ctx, "x", nil, nil) }()
	}
	cancel()
	for range 2 {
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("Swap = %v", err)
		}
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Swap(t.Context(), "x", nil, nil); err != nil {
		t.Errorf("Swap afterwards = %v", err)
	}
}
