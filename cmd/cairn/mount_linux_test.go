package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// mountSmall mounts a file system of so many KiB at a directory, which it makes.
func mountSmall(t *testing.T, dir string, kib int) {
	t.Helper()
	need.Root(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
		need.Missing(t, "a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		// An index that was found damaged stays mapped until the process ends.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// resize gives it more room.
func resize(t *testing.T, dir string, kib int) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dk", kib)); err != nil {
		t.Fatal(err)
	}
}

// fill writes until nothing more fits.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// small puts the repository on a small file system.
func (w *world) small(t *testing.T) {
	t.Helper()
	moved := w.path("moved")
	if err := os.Rename(w.repo, moved); err != nil {
		t.Fatal(err)
	}
	mountSmall(t, w.repo, 6<<10)
	if err := os.CopyFS(w.repo, os.DirFS(moved)); err != nil {
		t.Fatal(err)
	}
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}

// sayFull demands that a run failed since a disk was full, and says so once, with
// what to do.
func sayFull(t *testing.T, r result) {
	t.Helper()
	if r.status != statusFailed || strings.Count(r.err, "no space left") != 1 || !strings.Contains(r.err, "free some space") {
		t.Errorf("a full disk: status %d: %s", r.status, r.err)
	}
}

func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	w.small(t)
	w.ok("snapshot", w.src)
	first := w.path("first")
	if err := os.CopyFS(first, os.DirFS(w.path("src/a"))); err != nil {
		t.Fatal(err)
	}
	w.write("src/random", random(8<<20))
	sayFull(t, w.run("snapshot", w.src))
	if n := len(w.ids()); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	w.ok("check", "--read-data")
	// Nothing at all fits any more: reading needs no room.
	fill(t, w.repo)
	sayFull(t, w.run("snapshot", w.src))
	sayFull(t, w.run("key", "add", "--recipient", strings.TrimSpace(w.ok("key", "identity", w.path("other")).out)))
	w.ok("check", "--read-data")
	w.ok("restore", "latest:"+w.src+"/a", "--target", w.path("out"))
	if _, err := os.Stat(w.path("out/one")); err != nil {
		t.Error(err)
	}
	resize(t, w.repo, 64<<10)
	w.sound()
	w.ok("restore", "latest:"+w.src, "--target", w.path("whole"))
	same(t, w.src, w.path("whole"))
}

// A cache that can't be kept is no reason to make no backup, or to restore none.
func TestCacheDiskFull(t *testing.T) {
	need.Root(t)
	for _, kib := range []int{8, 24, 28, 32, 48, 64, 80} { // each lets it get a little further
		t.Run(fmt.Sprint(kib, " KiB"), func(t *testing.T) {
			w := newWorld(t)
			cache := w.path("small")
			mountSmall(t, cache, kib)
			w.extra = append(w.extra, "--cache-dir", cache)
			for i := range 3 {
				w.write(fmt.Sprint("src/random", i), random(300<<10))
				w.ok("snapshot", w.src)
			}
			w.withoutCache(t, cache)
		})
	}
	t.Run("full when the index has to grow", func(t *testing.T) {
		w := newWorld(t)
		cache := w.path("small")
		mountSmall(t, cache, 1<<10)
		w.extra = append(w.extra, "--cache-dir", cache)
		w.ok("snapshot", w.src)
		fill(t, cache)
		for range 2 { // the first absorbs what it made, the second what it finds
			for f := range 120 {
				w.write(fmt.Sprint("src/large", f), random(257<<10))
			}
			r := w.ok("snapshot", w.src)
			for _, says := range []string{"can't keep the index", "no space left", cache} {
				if !strings.Contains(r.err, says) {
					t.Errorf("the warning does not say %q: %s", says, r.err)
				}
			}
		}
		w.withoutCache(t, cache)
	})
}

// withoutCache uses the repository while the cache's disk is full, and then with
// room.
func (w *world) withoutCache(t *testing.T, cache string) {
	t.Helper()
	temporary := w.path("tmp")
	if err := os.MkdirAll(temporary, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temporary)
	w.ok("check", "--read-data")
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"))
	same(t, w.src, w.path("out"))
	w.ok("key", "add", "--recipient", strings.TrimSpace(w.ok("key", "identity", w.path("other")).out))
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("temporary indexes are left: %q (%v)", left, err)
	}
	resize(t, cache, 64<<10)
	if r := w.ok("snapshot", w.src); r.err != "" {
		t.Errorf("with room again: %s", r.err)
	}
}

// A disk that takes no memory keeps none from being used.
func TestMemoryOnFullDisk(t *testing.T) {
	w := newWorld(t)
	cache := w.path("small")
	mountSmall(t, cache, 1<<10)
	w.extra = append(w.extra, "--cache-dir", cache)
	config := filepath.Join(w.repo, "config")
	old, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	w.ok("key", "add", "--recipient", strings.TrimSpace(w.ok("key", "identity", w.path("other")).out))
	if err := errors.Join(os.RemoveAll(filepath.Join(cache, "locations")), os.Remove(config), os.WriteFile(config, old, 0o400)); err != nil {
		t.Fatal(err)
	}
	fill(t, cache)
	if r := w.want(statusDamage, "snapshots"); !strings.Contains(r.err, "was set back") {
		t.Errorf("%s", r.err)
	}
}

// Where the temporary folder is full too, nothing can be made, and nothing is lost.
func TestTemporaryDiskFull(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	full := w.path("small")
	mountSmall(t, full, 64)
	fill(t, full)
	extra := w.extra
	w.extra = append(w.extra, "--cache-dir", full)
	t.Setenv("TMPDIR", full)
	if r := w.run("snapshot", w.src); r.status != statusFailed || !strings.Contains(r.err, "no space left") || !strings.Contains(r.err, full) {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	resize(t, full, 64<<10)
	w.ok("snapshot", w.src)
	w.extra = extra
	if n := len(w.ids()); n != 2 {
		t.Errorf("%d snapshots", n)
	}
	w.sound()
}

// A restore to a disk that gets full stops, and goes on when there is room.
func TestTargetDiskFull(t *testing.T) {
	w := newWorld(t)
	w.write("src/random", random(2<<20))
	w.write("src/z", random(100<<10))
	w.ok("snapshot", w.src)
	target := w.path("small")
	mountSmall(t, target, 1<<10)
	sayFull(t, w.run("restore", "latest:"+w.src, "--target", target))
	for _, name := range []string{"random", "z", "a/one", "a/two", "big"} {
		got, err := os.ReadFile(filepath.Join(target, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		want, _ := os.ReadFile(w.path("src/" + name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is left in part: %d bytes of %d (%v)", name, len(got), len(want), err)
		}
	}
	resize(t, target, 64<<10)
	w.ok("restore", "latest:"+w.src, "--target", target, "--overwrite", "if-changed", "--yes")
	same(t, w.src, target)
}

func TestReadOnlyRepository(t *testing.T) {
	w := newWorld(t)
	w.small(t)
	w.ok("snapshot", w.src)
	if err := syscall.Mount("", w.repo, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	w.ok("check", "--read-data")
	w.ok("snapshots")
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"))
	same(t, w.src, w.path("out"))
	if r := w.want(statusFailed, "snapshot", w.src); !strings.Contains(r.err, "read-only") {
		t.Error(r.err)
	}
}
