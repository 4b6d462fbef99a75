package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// small mounts a file system of a few MiB in place of the repository.
func (w *world) small(t *testing.T) {
	t.Helper()
	need.Root(t)
	moved := w.path("moved")
	if err := os.Rename(w.repo, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", w.repo, "tmpfs", 0, "size=6m"); err != nil {
		need.Missing(t, "a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(w.repo, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.CopyFS(w.repo, os.DirFS(moved)); err != nil {
		t.Fatal(err)
	}
}

func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	w.small(t)
	w.ok("snapshot", w.src)
	ballast := filepath.Join(w.repo, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4<<20)
	rand.Read(b)
	w.write("src/random", string(b))
	r := w.want(statusFailed, "snapshot", w.src)
	if !strings.Contains(r.err, "no space left") || !strings.Contains(r.err, "free some space") || strings.Count(r.err, "no space left") > 1 {
		t.Errorf("disk full: %s", r.err)
	}
	if n := len(w.ids()); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	w.ok("check", "--read-data")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.write("src/random", string(b[:1<<20]))
	w.sound()
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"))
	same(t, w.src, w.path("out"))
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
