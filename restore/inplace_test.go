package restore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// In place, the old file itself becomes the new one, and only chunks that differ are
// read and written.
func TestInPlace(t *testing.T) {
	f := newFixture(t)
	data := noise(3, 4<<20)
	f.write("file", data)
	f.must(os.Truncate(f.path("file"), 6<<20)) // a hole at its end
	f.must(os.Chmod(f.path("file"), 0o640))
	s := f.snapshot(ingest.Options{})
	want := describe(t, f.source, false)
	storage := f.counted()

	changed := bytes.Clone(data)
	changed[2<<20] ^= 1
	for name, old := range map[string][]byte{
		"a byte": changed, "shorter": data[:3<<20], "longer": append(bytes.Clone(data), noise(4, 5<<20)...),
	} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{T: t, repo: f.repo, source: f.source}
			target := t.TempDir()
			path := filepath.Join(target, "file")
			writeFile(t, path, old)
			if unix.Setxattr(path, "user.stale", []byte("x"), 0) != nil {
				need.Missing(t, "the temporary folder takes no extended attributes")
			}
			was := inode(t, path)
			storage.bytes.Store(0)
			res, _ := f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, InPlace: true, Verify: true})
			if inode(t, path) != was {
				t.Error("it is another file")
			}
			if read := storage.bytes.Load(); read > 3<<20 || res.Reused < 1<<20 {
				t.Errorf("%d bytes were read from the repository; %+v", read, *res)
			}
			f.same(describe(t, target, false), want)
			if n, err := unix.Listxattr(path, nil); n != 0 {
				t.Errorf("%d bytes of attributes are left: %v", n, err)
			}
			f.noTemporary(target)
		})
	}
}

// What others have a name for, or execute, is replaced.
func TestInPlaceOfOthers(t *testing.T) {
	f := newFixture(t)
	f.write("linked", noise(5, 1<<20))
	f.write("busy", noise(6, 1<<20))
	s := f.snapshot(ingest.Options{})
	want := describe(t, f.source, false)
	target, outside := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(outside, "linked"), noise(7, 1<<20))
	f.must(os.Link(filepath.Join(outside, "linked"), filepath.Join(target, "linked")))
	before := describe(t, outside, false)

	sleep, err := exec.LookPath("sleep")
	f.must(err)
	program, err := os.ReadFile(sleep)
	f.must(err)
	writeFile(t, filepath.Join(target, "busy"), append(program, make([]byte, 1<<20)...))
	f.must(os.Chmod(filepath.Join(target, "busy"), 0o755))
	cmd := exec.Command(filepath.Join(target, "busy"), "600")
	cmd.Args[0] = "sleep" // of a program that is many
	f.must(cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, InPlace: true})
	f.same(describe(t, outside, false), before)
	f.same(describe(t, target, false), want)
	f.noTemporary(target)
}

// What belongs to a stranger is replaced, as he may have it open.
func TestInPlaceOfStranger(t *testing.T) {
	need.Root(t)
	f := newFixture(t)
	f.write("file", noise(11, 1<<20))
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	path := filepath.Join(target, "file")
	writeFile(t, path, noise(12, 1<<20))
	f.must(os.Chown(path, 65534, 65534))
	open, err := os.Open(path)
	f.must(err)
	defer open.Close()
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, InPlace: true})
	f.same(contents(t, target), contents(t, f.source))
	p := make([]byte, 1<<20)
	if _, err := open.ReadAt(p, 0); err != nil || !bytes.Equal(p, noise(12, 1<<20)) {
		t.Errorf("who had the old file open reads the new one (%v)", err)
	}
}

// A restore in place that does not come to its end leaves a file that says so, and for
// nobody else's eyes; the next one completes it.
func TestInPlaceInterrupted(t *testing.T) {
	for _, mode := range []restore.Overwrite{restore.Always, restore.IfChanged, restore.IfNewer} {
		f := newFixture(t)
		data := noise(8, 8<<20)
		f.write("file", data)
		s := f.snapshot(ingest.Options{})
		want := describe(t, f.source, false)
		target := t.TempDir()
		path := filepath.Join(target, "file")
		old := bytes.Clone(data)
		for at := 0; at < len(old); at += 64 << 10 {
			old[at] ^= 1
		}
		writeFile(t, path, old)
		f.must(os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)))
		ctx, cancel := context.WithCancel(t.Context())
		f.reopen(&cancelling{counting{Interface: f.storage}, cancel, 3}, 1)
		o := restore.Options{Snapshot: s, Path: f.source, Target: target, InPlace: true, Overwrite: mode}
		if _, err := restore.Directory(ctx, f.repo, o); err == nil {
			t.Fatal("it was not interrupted")
		}
		st, err := os.Stat(path)
		f.must(err)
		if n, err := unix.Getxattr(path, "user.cairn.unfinished", nil); n != 1 || st.Mode() != 0o600 {
			t.Errorf("an unfinished file has mode %s and an attribute of %d bytes: %v", st.Mode(), n, err)
		}
		f.reopen(f.storage, 0)
		f.restore(o)
		f.same(describe(t, target, false), want)
		if _, err := unix.Getxattr(path, "user.cairn.unfinished", nil); err != unix.ENODATA {
			t.Errorf("the attribute of a complete file: %v", err)
		}
	}
}

// Of a file that lacks a chunk, what is in place is said to be neither, or becomes the
// rest of it under the name for such.
func TestInPlaceDamaged(t *testing.T) {
	f := newFixture(t)
	there := noise(9, 200<<10)
	s := f.madeWith(func(w *repo.Writer) []snapshot.Entry {
		id, _, err := w.Put(chunk.Data, there)
		f.must(err)
		file := snapshot.Entry{Key: "\x00file", Type: snapshot.File, Mode: 0o644, Size: 400 << 10}
		for _, id := range []chunk.ID{id, {1}} {
			file.Extents = append(file.Extents, snapshot.Extent{Chunk: id, ChunkSize: 200 << 10, Length: 200 << 10})
		}
		return []snapshot.Entry{dirEntry(""), file}
	})
	target := t.TempDir()
	path := filepath.Join(target, "file")
	writeFile(t, path, noise(10, 400<<10))
	o := restore.Options{Snapshot: s, Target: target, InPlace: true}
	_, ev, err := f.try(o)
	if p := ev.problems["/file"]; !errors.Is(err, repo.ErrDamage) || p == nil || !strings.Contains(p.Error(), "written in place") {
		t.Errorf("error %v, problems %v", err, ev.problems)
	}
	if _, err := unix.Getxattr(path, "user.cairn.unfinished", nil); err != nil {
		t.Errorf("nothing says that it is unfinished: %v", err)
	}
	o.AllowDamaged = true
	_, ev, err = f.try(o)
	want := map[string]string{"file.cairn-damaged": string(there) + string(make([]byte, 200<<10))}
	if err != nil || ev.actions["/file"] != restore.Damaged {
		t.Errorf("error %v, actions %v", err, ev.actions)
	}
	f.same(contents(t, target), want)
}

// cancelling ends the work at a read of contents.
type cancelling struct {
	counting
	cancel context.CancelFunc
	left   int
}

func (c *cancelling) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if strings.HasPrefix(name, "data/") {
		if c.left--; c.left < 0 {
			c.cancel()
			return context.Canceled
		}
	}
	return c.Interface.ReadAt(ctx, name, p, off)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
