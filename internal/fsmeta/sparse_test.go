package fsmeta_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
)

func TestNextData(t *testing.T) {
	tr := newTree(t)
	f, err := os.Create(tr.join("file"))
	must(t, err)
	defer f.Close()
	fd := int(f.Fd())
	const k = 64 << 10
	for _, at := range []int64{k, 5 * k} {
		_, err := f.WriteAt(make([]byte, k), at)
		must(t, err)
	}
	must(t, f.Truncate(8*k))
	st, err := fsmeta.StatFd(fd)
	must(t, err)
	if !st.MayHaveHoles() {
		need.Missing(t, "the file system of %s has no holes", tr.path)
	}
	for _, test := range []struct{ pos, start, end int64 }{
		{0, k, 2 * k}, {k, k, 2 * k}, {k + 5, k + 5, 2 * k}, {2 * k, 5 * k, 6 * k},
		{6 * k, 8 * k, 8 * k}, {8 * k, 8 * k, 8 * k}, {9 * k, 9 * k, 9 * k},
	} {
		start, end, err := fsmeta.NextData(fd, test.pos)
		at, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
		if got, want := fmt.Sprint(start, end, at, err), fmt.Sprint(test.start, test.end, test.start, nil); got != want {
			t.Errorf("at or after %d: data, and the descriptor, at %s, want %s", test.pos, got, want)
		}
	}
	// A file without holes does not look as if it had some; an empty one neither.
	for _, n := range []int64{0, 1, 512, 10_000, 1 << 20} {
		tr.write(t, "dense", string(make([]byte, n)), 0o644)
		st, err := tr.Stat("dense")
		must(t, err)
		if n == 0 && st.MayHaveHoles() {
			t.Errorf("an empty file has %d blocks", st.Blocks)
		}
		d, err := os.Open(tr.join("dense"))
		must(t, err)
		if start, end, err := fsmeta.NextData(int(d.Fd()), 0); start != 0 || end != n || err != nil {
			t.Errorf("%d bytes without holes: data from %d to %d, %v", n, start, end, err)
		}
		must(t, d.Close())
	}
	if _, _, err := fsmeta.NextData(-1, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("no file: %v", err)
	}
	// What can't be sought in is all data.
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	if start, end, err := fsmeta.NextData(int(r.Fd()), 0); start != 0 || end != 0 || err != nil {
		t.Errorf("a pipe: %d, %d, %v", start, end, err)
	}
}

func TestMountID(t *testing.T) {
	tr := newTree(t)
	must(t, os.Mkdir(tr.join("a"), 0o755))
	must(t, os.Mkdir(tr.join("b"), 0o755))
	need.Root(t)
	if err := unix.Mount(tr.join("a"), tr.join("b"), "", unix.MS_BIND, ""); err != nil {
		need.Missing(t, "this root may not mount: %v", err)
	}
	defer unix.Unmount(tr.join("b"), unix.MNT_DETACH)
	id := func(name string) uint64 {
		d, err := tr.Open(name)
		must(t, err)
		defer d.Close()
		return fsmeta.MountID(d.Fd())
	}
	one, two := id("a"), id("b")
	if one == 0 {
		need.Missing(t, "this kernel tells no mounts apart")
	}
	if one == two || one != fsmeta.MountID(tr.Fd()) {
		t.Errorf("the directory, a and b, where a is mounted: %d, %d and %d", fsmeta.MountID(tr.Fd()), one, two)
	}
}
