package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// withGarbage makes five snapshots of the source, with a file of half a megabyte that
// changes, forgets all but the last, and returns how many bytes all objects have.
func (w *world) withGarbage() int64 {
	w.t.Helper()
	for range 5 {
		w.write("src/random", random(512<<10))
		w.ok("snapshot", w.src, "--host", "alpha")
	}
	ids := w.ids()
	w.ok(slices.Concat([]string{"forget", "--yes", "--allow-many"}, ids[:4])...)
	return w.stored()
}

// stored is how many bytes all objects have.
func (w *world) stored() (n int64) {
	w.t.Helper()
	err := filepath.WalkDir(w.repo, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "ballast" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// wholeAndFreed looks whether the last snapshot is as the source, and whether prune
// has freed what the four others had.
func (w *world) wholeAndFreed(before int64) {
	w.t.Helper()
	w.ok("check", "--read-data")
	out := w.path(fmt.Sprint("out", w.stored()))
	w.ok("restore", "latest:"+w.src, "--target", out)
	same(w.t.(*testing.T), w.src, out)
	if freed := before - w.stored(); freed < 2<<20-64<<10 {
		w.t.Errorf("freed %d bytes", freed)
	}
	if left := last(messages(w.t, w.ok("prune", "--dry-run", "--json").out)); left["frees_bytes"] != 0. {
		w.t.Errorf("there is garbage left: %v", left)
	}
}

func TestPruneDiskFull(t *testing.T) {
	w := newWorld(t)
	w.small(t)
	before := w.withGarbage()
	id := w.ids()[0]
	fill(t, w.repo)
	w.ok("prune", "--dry-run") // reading needs no room
	full := w.run("prune", "--yes")
	sayFull(t, full)
	if !strings.Contains(full.err, "100 KiB") || !strings.Contains(full.err, "--max-unused unlimited") {
		t.Errorf("it does not say what helps: %s", full.err)
	}
	w.ok("snapshot", "--dry-run", w.src)
	sayFull(t, w.run("forget", "--yes", "--allow-many", id))
	if ids := w.ids(); !slices.Equal(ids, []string{id}) {
		t.Errorf("snapshots %q, want %s alone", ids, id)
	}
	w.ok("check", "--read-data")
	// A little room is enough, as packs are deleted that nobody needs anything of.
	if err := os.Truncate(filepath.Join(w.repo, "ballast"), size(t, filepath.Join(w.repo, "ballast"))-128<<10); err != nil {
		t.Fatal(err)
	}
	w.ok("prune", "--yes")
	w.wholeAndFreed(before)
}

// Where there is no room for what has to be written anew, the rest can still be freed.
func TestPruneNoRoomToRepack(t *testing.T) {
	w := newWorld(t)
	w.small(t)
	w.write("src/stays", random(1<<20)) // in one pack with what goes
	all := w.withGarbage()
	fill(t, w.repo)
	ballast := filepath.Join(w.repo, "ballast")
	if err := os.Truncate(ballast, size(t, ballast)-256<<10); err != nil {
		t.Fatal(err)
	}
	before := w.stored()
	sayFull(t, w.run("prune", "--yes", "--max-unused", "0%"))
	w.ok("check", "--read-data")
	w.ok("prune", "--yes", "--max-unused", "unlimited", "--fence-after", "0s")
	if freed := before - w.stored(); freed < 1<<20 {
		t.Errorf("freed %d bytes without writing packs anew", freed)
	}
	w.ok("prune", "--yes", "--max-unused", "0%")
	w.wholeAndFreed(all)
}

func size(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestPruneReadOnly(t *testing.T) {
	w := newWorld(t)
	w.small(t)
	before := w.withGarbage()
	remount := func(flags uintptr) {
		if err := syscall.Mount("", w.repo, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	for _, args := range [][]string{{"prune", "--yes"}, {"forget", "--yes", "--allow-many", w.ids()[0]}, {"forget", "--undo", "--yes"}} {
		if r := w.want(statusFailed, args...); !strings.Contains(r.err, "read-only") {
			t.Errorf("%q: %s", args, r.err)
		}
	}
	w.ok("prune", "--dry-run")
	w.ok("forget", "--dry-run", "--keep-last", "1")
	w.ok("check", "--read-data")
	if n := len(w.ids()); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	remount(0)
	w.ok("prune", "--yes")
	w.wholeAndFreed(before)
}

// The permission to delete goes away when a part is deleted.
func TestPrunePermissionLost(t *testing.T) {
	w := newWorld(t)
	before := w.withGarbage()
	if s, errs := exit(t, w.ordinary("snapshots")); s != statusOK { // it is the ordinary user's from now on
		t.Fatal(errs)
	}
	dirs, err := filepath.Glob(w.repo + "/data/*")
	for _, dir := range dirs[1:] { // one of them can be emptied
		err = errors.Join(err, os.Chmod(dir, 0o500))
	}
	if err != nil {
		t.Fatal(err)
	}
	s, errs := exit(t, w.ordinary("prune", "--yes", "--max-unused", "0%"))
	if s != statusFailed || !strings.Contains(errs, "permission denied") || !strings.Contains(errs, w.repo) {
		t.Errorf("status %d: %s", s, errs)
	}
	for _, args := range [][]string{{"check", "--read-data"}, {"snapshot", w.src, "--host", "alpha"}, {"restore", "latest:" + w.src, "--target", w.path("open/out")}} {
		if s, errs := exit(t, w.ordinary(args...)); s != statusOK {
			t.Errorf("%q meanwhile: status %d: %s", args, s, errs)
		}
	}
	for _, dir := range dirs {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if s, errs := exit(t, w.ordinary("prune", "--yes", "--max-unused", "0%")); s != statusOK {
		t.Errorf("with permission again: status %d: %s", s, errs)
	}
	w.wholeAndFreed(before)
}
