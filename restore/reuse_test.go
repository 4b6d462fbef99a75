package restore_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// counting counts the bytes that are read from data packs.
type counting struct {
	backend.Interface
	bytes atomic.Int64
}

func (c *counting) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if strings.HasPrefix(name, "data/") {
		c.bytes.Add(int64(len(p)))
	}
	return c.Interface.ReadAt(ctx, name, p, off)
}

// counted opens the repository again, through a storage that counts.
func (f *fixture) counted() *counting {
	f.Helper()
	c := &counting{Interface: f.storage}
	f.reopen(c, 0)
	return c
}

// reopen opens the repository again, through a storage and with so many goroutines.
func (f *fixture) reopen(storage backend.Interface, goroutines int) {
	f.Helper()
	var err error
	f.repo, err = repo.Open(f.Context(), repo.Options{
		Storage: storage, Cache: f.TempDir(), Secrets: []seal.Unlocker{seal.Passphrase{Text: []byte("secret")}}, Goroutines: goroutines,
	})
	f.must(err)
	r := f.repo
	f.Cleanup(func() { r.Close() })
}

// Of a file that is there already, only what differs is read from the repository, and
// a file that is equal is not written at all.
func TestReuse(t *testing.T) {
	f := newFixture(t)
	data := noise(1, 3<<20)
	f.write("file", data)
	when := time.Date(2020, 5, 1, 12, 0, 0, 5, time.UTC)
	f.must(os.Chtimes(f.path("file"), when, when))
	s := f.snapshot(ingest.Options{})
	want := describe(t, f.source, false)
	storage := f.counted()

	changed := bytes.Clone(data)
	changed[1<<20] ^= 1
	const some, most = 256 << 10, 2 << 20 // bounds of what is read: a few chunks; more than half
	tests := []struct {
		name   string
		old    []byte
		mtime  time.Time
		mode   restore.Overwrite
		action restore.Action
		read   int64 // at most
	}{
		{"equal", data, when, restore.Always, restore.Unchanged, 0},
		{"equal but for the time", data, when.Add(1), restore.Always, restore.Updated, 0},
		{"equal but for the time, if changed", data, when.Add(1), restore.IfChanged, restore.Updated, 0},
		{"equal and older", data, when.Add(-1), restore.IfNewer, restore.Updated, 0},
		{"a byte", changed, when, restore.Always, restore.Replaced, some},
		{"a byte, if changed", changed, when.Add(1), restore.IfChanged, restore.Replaced, some},
		{"cut off", data[:2<<20], when, restore.Always, restore.Replaced, most},
		{"longer", append(bytes.Clone(data), noise(2, 1<<20)...), when, restore.Always, restore.Replaced, 0},
		{"zeros", make([]byte, len(data)), when, restore.Always, restore.Replaced, 4 << 20},
		{"empty", nil, when, restore.Always, restore.Replaced, 4 << 20},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &fixture{T: t, repo: f.repo, source: f.source}
			target, outside := t.TempDir(), t.TempDir()
			path := filepath.Join(target, "file")
			f.must(os.WriteFile(path, test.old, 0o644))
			f.must(os.Chtimes(path, test.mtime, test.mtime))
			if test.action == restore.Replaced {
				f.must(os.Link(path, filepath.Join(outside, "other name")))
			}
			o := restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: test.mode, Verify: true}
			before := describe(t, target, true)
			plan, err := restore.Plan(t.Context(), f.repo, o)
			f.must(err)
			f.same(describe(t, target, true), before)
			storage.bytes.Store(0)
			res, ev := f.restore(o)
			if got := ev.actions[f.path("file")]; got != test.action {
				t.Errorf("it was %s, want %s", got, test.action)
			}
			plan.Verified = res.Verified
			if *plan != *res {
				t.Errorf("planned %+v\ndid     %+v", *plan, *res)
			}
			if read := storage.bytes.Load(); read > test.read || read == 0 && test.read > 0 {
				t.Errorf("%d bytes were read, want at most %d", read, test.read)
			}
			if len(test.old) > 0 && test.action == restore.Replaced && test.name != "zeros" && res.Reused == 0 {
				t.Errorf("nothing was reused: %+v", *res)
			}
			f.same(describe(t, target, false), want)
			f.noTemporary(target)
			if test.action == restore.Replaced {
				f.same(contents(t, outside), map[string]string{"other name": string(test.old)})
			}
		})
	}
}

// Metadata of an equal file that has further names, which may be elsewhere, is given
// to a file of its own.
func TestEqualWithOtherNames(t *testing.T) {
	f := newFixture(t)
	f.write("one", []byte("contents"))
	f.write("two", []byte("linked"))
	f.must(os.Link(f.path("two"), f.path("three")))
	f.must(os.Symlink("to", f.path("link")))
	s := f.snapshot(ingest.Options{})
	want := describe(t, f.source, false)
	for _, mode := range []restore.Overwrite{restore.Always, restore.IfNewer} {
		target, outside := t.TempDir(), t.TempDir()
		old := time.Unix(1, 0)
		for name, data := range map[string]string{"one": "contents", "two": "linked"} {
			writeFile(t, filepath.Join(outside, name), []byte(data))
			f.must(os.Chtimes(filepath.Join(outside, name), old, old))
			f.must(os.Link(filepath.Join(outside, name), filepath.Join(target, name)))
		}
		f.must(os.Symlink("to", filepath.Join(outside, "link")))
		f.must(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(outside, "link"), make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW))
		f.must(os.Link(filepath.Join(outside, "link"), filepath.Join(target, "link")))
		before := describe(t, outside, false)
		f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: mode})
		f.same(describe(t, outside, false), before)
		f.same(describe(t, target, false), want)
	}
}

// sparseFile makes a snapshot of one file of data and holes.
func (f *fixture) sparseFile(data []byte, hole uint64) *repo.Snapshot {
	f.Helper()
	return f.madeWith(func(w *repo.Writer) []snapshot.Entry {
		e := snapshot.Entry{Key: "\x00file", Type: snapshot.File, Mode: 0o644}
		const piece = 64 << 10
		for at := 0; at < len(data); at += piece {
			p := data[at:min(at+piece, len(data))]
			id, _, err := w.Put(chunk.Data, p)
			f.must(err)
			e.Extents = append(e.Extents, snapshot.Extent{Chunk: id, ChunkSize: uint32(len(p)), Length: uint64(len(p))})
			if at%(4*piece) == 0 {
				e.Extents = append(e.Extents, snapshot.Extent{Length: hole})
			}
		}
		e.Extents = append(e.Extents, snapshot.Extent{Length: hole})
		for _, x := range e.Extents {
			e.Size += x.Length
		}
		return []snapshot.Entry{dirEntry(""), e}
	})
}

// sparseContents is what that file has, for small holes.
func sparseContents(data []byte, hole int) []byte {
	var b bytes.Buffer
	const piece = 64 << 10
	for at := 0; at < len(data); at += piece {
		b.Write(data[at:min(at+piece, len(data))])
		if at%(4*piece) == 0 {
			b.Write(make([]byte, hole))
		}
	}
	b.Write(make([]byte, hole))
	return b.Bytes()
}

// A hole costs nothing, whatever its length: not to make, not to verify, and not to find
// out that it is there already.
func TestLongHoles(t *testing.T) {
	f := newFixture(t)
	const hole = 1 << 40
	data := noise(1, 500<<10)
	s := f.sparseFile(data, hole)
	target := t.TempDir()
	o := restore.Options{Snapshot: s, Target: target, Verify: true}
	for _, action := range []restore.Action{restore.Created, restore.Unchanged} {
		_, ev, err := f.try(o)
		if ev.problems["/file"] != nil && strings.Contains(ev.problems["/file"].Error(), "file too large") {
			need.Missing(t, "files of some TB: %v", ev.problems["/file"])
		}
		f.must(err)
		if got := ev.actions["/file"]; got != action {
			t.Errorf("it was %s, want %s", got, action)
		}
	}
	var st unix.Stat_t
	f.must(unix.Stat(filepath.Join(target, "file"), &st))
	if st.Size < 3*hole || st.Blocks*512 > int64(2*len(data)) {
		t.Errorf("size %d, %d bytes allocated", st.Size, st.Blocks*512)
	}
	// A byte in the middle of nowhere is found, and gone afterwards.
	w, err := os.OpenFile(filepath.Join(target, "file"), os.O_WRONLY, 0)
	f.must(err)
	_, err = w.WriteAt([]byte{1}, st.Size-hole/2)
	f.must(err)
	f.must(w.Close())
	_, ev := f.restore(o)
	if got := ev.actions["/file"]; got != restore.Replaced {
		t.Errorf("it was %s", got)
	}
	f.must(unix.Stat(filepath.Join(target, "file"), &st))
	if st.Blocks*512 > int64(2*len(data)) {
		t.Errorf("%d bytes allocated", st.Blocks*512)
	}
}

// A hole over old data is zeros, on file systems that share blocks and on others.
func TestHolesOverData(t *testing.T) {
	data := noise(1, 500<<10)
	const hole = 100 << 10
	want := sparseContents(data, hole)
	run := func(t *testing.T, target string) {
		f := newFixture(t)
		s := f.sparseFile(data, hole)
		path := filepath.Join(target, "file")
		full := bytes.Repeat([]byte{0xff}, hole)
		old := append(bytes.ReplaceAll(want, make([]byte, hole), full), noise(3, 1<<20)...)
		f.must(os.WriteFile(path, old, 0o644))
		res, _ := f.restore(restore.Options{Snapshot: s, Target: target, Verify: true})
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the contents differ: %v", err)
		}
		if res.Reused == 0 {
			t.Errorf("nothing was reused: %+v", *res)
		}
		f.noTemporary(target)
	}
	t.Run("plain", func(t *testing.T) { run(t, t.TempDir()) })
	t.Run("sharing blocks", func(t *testing.T) { run(t, loopXFS(t)) })
}

// free returns the bytes that are free in a file system.
func free(t *testing.T, path string) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize
}

// loopXFS mounts a file system whose files can share blocks.
func loopXFS(t *testing.T) string {
	t.Helper()
	need.Root(t)
	need.Commands(t, "mkfs.xfs", "mount", "umount")
	dir := t.TempDir()
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 400<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.xfs", "-q", "-m", "reflink=1", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.xfs: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, mnt).CombinedOutput(); err != nil {
		need.Missing(t, "mount of a loop device: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return mnt
}

// Where blocks can be shared, a large file of which little differs needs little room.
func TestShareBlocks(t *testing.T) {
	target := loopXFS(t)
	f := newFixture(t)
	data := noise(1, 32<<20)
	f.write("file", data)
	s := f.snapshot(ingest.Options{})
	path := filepath.Join(target, "file")
	old := bytes.Clone(data)
	old[10<<20] ^= 1
	f.must(os.WriteFile(path, old, 0o600))
	keep, err := os.Open(path) // its blocks stay in use
	f.must(err)
	defer keep.Close()
	before := free(t, target)
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Verify: true})
	if used := before - free(t, target); used > 4<<20 {
		t.Errorf("%d bytes were needed for a byte that differs", used)
	}
	f.same(describe(t, target, false), describe(t, f.source, false))
}

// What is lost of a file is zeros, or what the old file has if it is right.
func TestReuseDamaged(t *testing.T) {
	data := noise(1, 2<<20)
	for name, dir := range map[string]func(*testing.T) string{
		"plain": func(t *testing.T) string { return t.TempDir() }, "sharing blocks": loopXFS,
	} {
		t.Run(name, func(t *testing.T) {
			target := dir(t)
			f := newFixture(t)
			f.write("file", data)
			s := f.snapshot(ingest.Options{})
			for _, name := range f.objects("data/") {
				f.spoil(name)
				f.must(f.storage.Delete(t.Context(), name))
			}
			old := bytes.Clone(data)
			for i := 1 << 20; i < 1<<20+4<<10; i++ {
				old[i] = 0xaa
			}
			writeFile(t, filepath.Join(target, "file"), old)
			_, ev, err := f.try(restore.Options{Snapshot: s, Path: f.source, Target: target, AllowDamaged: true})
			if ev.actions[f.path("file")] != restore.Damaged {
				t.Fatalf("error %v, actions %v", err, ev.actions)
			}
			got := contents(t, target)
			if got["file"] != string(old) {
				t.Error("the old file was not left")
			}
			part := got["file.cairn-damaged"]
			if !zeroed(part, string(data)) || strings.Count(part, "\x00") > 256<<10 {
				t.Error("what is left is not the file with zeros where it is lost")
			}
			f.must(os.WriteFile(filepath.Join(target, "file"), data, 0o644))
			f.must(os.Remove(filepath.Join(target, "file.cairn-damaged")))
			f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target})
			f.same(describe(t, target, false), describe(t, f.source, false))
		})
	}
}
