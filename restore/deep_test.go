package restore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// Trees deeper, paths longer and files more than the system's limits are restored, and
// deleted, with few descriptors.
func TestDeep(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max != 256 { // then in a process that has so many
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", `ulimit -n 256; exec "$0" "$@"`, exe, "-test.run=^TestDeep$", "-test.v")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestDeep") {
			t.Errorf("with 256 descriptors: %v\n%s", err, out)
		}
		return
	}
	const depth = 1000
	f := newFixture(t)
	component := func(i int) string { return fmt.Sprintf("directory-number-%04d", i) }
	data := noise(1, 20<<10)
	s := f.madeWith(func(w *repo.Writer) []snapshot.Entry {
		var extents []snapshot.Extent
		for at := 0; at < len(data); at += 5 << 10 {
			id, _, err := w.Put(chunk.Data, data[at:][:5<<10])
			f.must(err)
			extents = append(extents, snapshot.Extent{Chunk: id, ChunkSize: 5 << 10, Length: 5 << 10})
		}
		keys, err := f.repo.WriteKeys()
		f.must(err)
		h, err := blake3.NewKeyed(keys.ContentHash[:])
		f.must(err)
		h.Write(append([]byte{0}, data...))
		hash := [16]byte(h.Sum(nil))
		entries := []snapshot.Entry{dirEntry("")}
		key := snapshot.Key("")
		for i := range depth {
			key = key.Child(component(i))
			d := dirEntry(key)
			d.Mode = uint32(0o700 | i%8)
			d.Mtime = snapshot.Time{Sec: int64(i), Nsec: uint32(i)}
			entries = append(entries, d)
		}
		for i := range 400 { // more than may be open
			file := snapshot.Entry{Key: key.Child(fmt.Sprintf("f%03d", i)), Type: snapshot.File, Mode: 0o600}
			file.Size, file.Hash, file.Extents = uint64(len(data)), hash, extents
			entries = append(entries, file)
		}
		long := strings.Repeat("n", 255)
		return append(entries,
			snapshot.Entry{Key: key.Child("link"), Type: snapshot.Symlink, Mode: 0o777, Target: []byte(strings.Repeat("t", 4000)), Mtime: snapshot.Time{Sec: 7, Nsec: 9}},
			snapshot.Entry{Key: key.Child("linked1"), Type: snapshot.FIFO, Mode: 0o640, HasLink: true, Link: 1},
			snapshot.Entry{Key: key.Child("linked2"), Type: snapshot.FIFO, Mode: 0o640, HasLink: true, Link: 1},
			snapshot.Entry{Key: key.Child(long), Type: snapshot.File, Mode: 0o604, Xattrs: []snapshot.Xattr{{Name: "user.x", Value: []byte("y")}}})
	})
	target := t.TempDir()
	t.Cleanup(func() { // which os.RemoveAll may not manage
		d, err := fsmeta.OpenRoot(target)
		f.must(err)
		f.must(d.RemoveAll(component(0)))
		f.must(d.RemoveAll("extra"))
		f.must(d.Close())
	})
	// down goes down by hand, calling fn with each directory and what is its next
	// component.
	down := func(fn func(d *fsmeta.Dir, i int)) {
		d, err := fsmeta.OpenRoot(target)
		f.must(err)
		for i := range depth {
			fn(d, i)
			next, err := d.Open(component(i))
			f.must(err)
			f.must(d.Close())
			d = next
		}
		fn(d, depth)
		f.must(d.Close())
	}
	check := func() {
		t.Helper()
		down(func(d *fsmeta.Dir, i int) {
			names, err := d.Names()
			f.must(err)
			if i < depth {
				st, err := d.Stat(component(i))
				f.must(err)
				if len(names) != 1 || st.Perm() != uint32(0o700|i%8) || st.Mtime != (fsmeta.Time{Sec: int64(i), Nsec: uint32(i)}) {
					t.Fatalf("depth %d has %d entries; the next is %+v", i, len(names), st)
				}
				return
			}
			if len(names) != 404 {
				t.Errorf("%d names at the bottom", len(names))
			}
			for i := range 400 {
				file, _, err := d.OpenFile(fmt.Sprintf("f%03d", i))
				f.must(err)
				got := make([]byte, len(data)+1)
				if n, _ := file.ReadAt(got, 0); string(got[:n]) != string(data) {
					t.Errorf("file %d has other contents", i)
				}
				f.must(file.Close())
			}
			to, err := d.Readlink("link")
			link, err2 := d.Stat("link")
			one, err3 := d.Stat("linked1")
			two, err4 := d.Stat("linked2")
			xs, err5 := fsmeta.XattrsAt(d.Fd(), strings.Repeat("n", 255))
			f.must(errors.Join(err, err2, err3, err4, err5))
			if len(to) != 4000 || link.Mtime != (fsmeta.Time{Sec: 7, Nsec: 9}) || one.Ino != two.Ino || one.Perm() != 0o640 {
				t.Errorf("link %d %+v, FIFOs %+v %+v", len(to), link, one, two)
			}
			if len(xs) != 1 || string(xs[0].Value) != "y" {
				t.Errorf("attributes %q", xs)
			}
		})
	}
	o := restore.Options{Snapshot: s, Target: target, Verify: true}
	f.restore(o)
	check()

	// Over itself nothing is to be done; what is deep and not in the snapshot goes.
	f.must(f.repo.LoadBody(t.Context(), s))
	s.Body.Sources = []snapshot.Source{{Kind: "files", Name: []byte("/")}}
	for _, exclude := range [][]string{nil, {"*.spared"}} {
		down(func(d *fsmeta.Dir, i int) {
			if i == depth {
				f.must(d.Mkdir("extra", 0o700))
			}
		})
		d, err := fsmeta.OpenRoot(target)
		f.must(err)
		f.must(d.Mkdir("extra", 0o700))
		e, err := d.Open("extra")
		f.must(err)
		f.must(d.Close())
		for i := range depth {
			f.must(e.Mkdir(component(i), 0o700))
			next, err := e.Open(component(i))
			f.must(err)
			f.must(e.Close())
			e = next
		}
		f.must(e.Close())
		o.Delete, o.Exclude = true, patterns(t, exclude...)
		res, _ := f.restore(o)
		if res.Files+res.Others+res.Replaced+res.Updated != 0 {
			t.Errorf("restored over the same: %+v", *res)
		}
		if _, err := os.Lstat(target + "/extra"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not in the snapshot is there: %v", err)
		}
		check()
	}
}
