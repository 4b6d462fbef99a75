package ingest_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A path that no key can hold is reported, and the rest of the snapshot made.
func TestPathTooLong(t *testing.T) {
	w := newWorld(t)
	w.write("beside", []byte("is kept"))
	fd, err := unix.Open(w.src, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	w.must(err)
	name := strings.Repeat("d", 250)
	for range 270 { // 67,500 bytes
		w.must(unix.Mkdirat(fd, name, 0o700))
		below, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		w.must(err)
		w.must(unix.Close(fd))
		fd = below
	}
	w.must(unix.Close(fd))
	o := w.snap()
	if !o.Partial || o.Totals.Unreadable != 1 || o.Totals.Files != 1 || o.Totals.Dirs < 250 {
		t.Errorf("partial %t, totals %+v", o.Partial, o.Totals)
	}
}
