package restore_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/restore"
)

// TestPowerCut: what a restore has acknowledged is on the disk, on that of the target and
// on what is mounted in it. A disk is an image in a file; what it has when the power is
// cut is what the file has.
func TestPowerCut(t *testing.T) {
	need.Root(t)
	need.Commands(t, "mkfs.ext4", "mount", "umount")
	f := newFixture(t)
	f.write("a", noise(1, 100<<10))
	f.write("inner/b", noise(2, 100<<10))
	f.write("inner/deep/c", []byte("c"))
	f.must(os.Link(f.path("inner/b"), f.path("inner/again")))
	snap := f.snapshot(ingest.Options{})

	dir := realTempDir(t)
	outer, inner := disk(t, dir, "outer"), disk(t, dir, "inner")
	target := mountDisk(t, outer)
	f.must(os.Mkdir(filepath.Join(target, "inner"), 0o755))
	mountAt(t, inner, filepath.Join(target, "inner"))
	f.restore(restore.Options{Snapshot: snap, Path: f.source, Target: target})

	for _, d := range []struct{ image, source string }{{outer, f.source}, {inner, f.path("inner")}} {
		p, err := os.ReadFile(d.image)
		f.must(err)
		after := d.image + ".after"
		f.must(os.WriteFile(after, p, 0o600))
		got, want := contents(t, mountDisk(t, after)), contents(t, d.source)
		delete(got, "lost+found/")
		if d.image == outer { // the other disk is not mounted there
			maps.DeleteFunc(want, func(name, _ string) bool { return strings.HasPrefix(name, "inner/") && name != "inner/" })
		}
		f.same(got, want)
	}
}

// disk makes a file with a file system in it.
func disk(t *testing.T, dir, name string) string {
	t.Helper()
	image := filepath.Join(dir, name)
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	return image
}

func mountDisk(t *testing.T, image string) string {
	t.Helper()
	dir := image + ".mounted"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mountAt(t, image, dir)
	return dir
}

func mountAt(t *testing.T, image, dir string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		need.Missing(t, "this root may not mount the image of a disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}
