package restore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// made makes a snapshot of entries that no source would make.
func (f *fixture) made(entries ...snapshot.Entry) *repo.Snapshot {
	f.Helper()
	return f.madeWith(func(*repo.Writer) []snapshot.Entry { return entries })
}

// madeWith is made for entries with contents, which make puts.
func (f *fixture) madeWith(make func(w *repo.Writer) []snapshot.Entry) *repo.Snapshot {
	f.Helper()
	ctx := f.Context()
	w, err := f.repo.NewWriter(ctx, repo.WriterOptions{Host: "host"})
	f.must(err)
	keys, err := f.repo.WriteKeys()
	f.must(err)
	b := snapshot.NewBuilder(keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) { return w.PutNode(chunk.Node, p) })
	entries := make(w)
	for i := range entries {
		f.must(b.Add(ctx, &entries[i]))
	}
	root, err := b.Finish(ctx)
	f.must(err)
	id, err := w.Commit(ctx, repo.NewSnapshot{Host: "host", Body: snapshot.Body{Root: root}})
	f.must(err)
	return f.load(id)
}

func dirEntry(key snapshot.Key) snapshot.Entry {
	return snapshot.Entry{Key: key, Type: snapshot.Directory, Mode: 0o755}
}

func TestCollision(t *testing.T) {
	f := newFixture(t)
	file := snapshot.Entry{Key: "\x00stdin\x00of-files", Type: snapshot.File, Mode: 0o644}
	other := snapshot.Entry{Key: "stdin\x00of-stream", Type: snapshot.File, Mode: 0o644}
	s := f.made(dirEntry(""), dirEntry("\x00stdin"), file, dirEntry("stdin"), other)
	target := filepath.Join(t.TempDir(), "target")
	_, _, err := f.try(restore.Options{Snapshot: s, Target: target})
	if err == nil || !strings.Contains(err.Error(), "/stdin") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("something was written")
	}
	f.restore(restore.Options{Snapshot: s, Target: target, Exclude: patterns(t, "/stdin/of-stream"), Path: "/"})
	f.same(contents(t, target), map[string]string{"stdin/": "", "stdin/of-files": ""})
	f.restore(restore.Options{Snapshot: s, Target: target, Path: "stdin"})
	f.same(contents(t, target), map[string]string{"stdin/": "", "stdin/of-files": "", "of-stream": ""})
}

// Names of one file of which the snapshot has two states are two files.
func TestLinksThatDiffer(t *testing.T) {
	f := newFixture(t)
	entry := func(name string, size int) snapshot.Entry {
		e := snapshot.Entry{Key: snapshot.Key("\x00" + name), Type: snapshot.File, Mode: 0o644, HasLink: true, Link: 7, Size: uint64(size)}
		e.Extents = []snapshot.Extent{{Length: uint64(size)}}
		e.Hash[0] = byte(size)
		return e
	}
	s := f.made(dirEntry(""), entry("a", 10), entry("b", 20), entry("c", 10))
	target := t.TempDir()
	res, _ := f.restore(restore.Options{Snapshot: s, Target: target})
	f.same(contents(t, target), map[string]string{
		"a": string(make([]byte, 10)), "b": string(make([]byte, 20)), "c": string(bytes.Repeat([]byte{0}, 10)),
	})
	if res.Links != 1 {
		t.Errorf("%d links, want 1", res.Links)
	}
}

// Extents of all kinds: parts of chunks in any order, holes in the middle and at
// the end.
func TestExtents(t *testing.T) {
	f := newFixture(t)
	data := noise(1, 400<<10)
	s := f.madeWith(func(w *repo.Writer) []snapshot.Entry {
		id, _, err := w.Put(chunk.Data, data)
		f.must(err)
		part := func(from, to int) snapshot.Extent {
			return snapshot.Extent{Chunk: id, ChunkSize: uint32(len(data)), Offset: uint32(from), Length: uint64(to - from)}
		}
		hole := snapshot.Extent{Length: 100 << 10}
		e := snapshot.Entry{Key: "\x00file", Type: snapshot.File, Mode: 0o644}
		e.Extents = []snapshot.Extent{hole, part(5, 1000), part(0, len(data)), part(0, 5), hole, part(1000, 300<<10), hole}
		for _, x := range e.Extents {
			e.Size += x.Length
		}
		return []snapshot.Entry{dirEntry(""), e}
	})
	target := t.TempDir()
	f.restore(restore.Options{Snapshot: s, Target: target, Verify: true})
	hole := make([]byte, 100<<10)
	want := bytes.Join([][]byte{hole, data[5:1000], data, data[:5], hole, data[1000 : 300<<10], hole}, nil)
	got, err := os.ReadFile(filepath.Join(target, "file"))
	f.must(err)
	if !bytes.Equal(got, want) {
		t.Error("the contents differ")
	}

	// Verification looks into holes and parts too.
	path := filepath.Join(target, "file")
	st, err := os.Stat(path)
	f.must(err)
	for _, at := range []int{50, 100<<10 + 7, 300 << 10, len(want) - 1} {
		bad := bytes.Clone(want)
		bad[at] ^= 1
		f.must(os.WriteFile(path, bad, 0o644))
		f.must(os.Chtimes(path, st.ModTime(), st.ModTime()))
		o := restore.Options{Snapshot: s, Target: target, Verify: true, Overwrite: restore.IfChanged}
		if _, ev, err := f.try(o); !errors.Is(err, restore.ErrIncomplete) {
			t.Errorf("a wrong byte at %d was not found: %v, %v", at, err, ev.problems)
		}
	}
}

// FIFOs, symbolic links and devices have hard links too, where a source knows of them.
func TestLinkedSpecials(t *testing.T) {
	f := newFixture(t)
	link := func(name string, group uint64, target string) snapshot.Entry {
		return snapshot.Entry{Key: snapshot.Key("\x00" + name), Type: snapshot.Symlink, Mode: 0o777, HasLink: true, Link: group, Target: []byte(target)}
	}
	fifo := func(name string) snapshot.Entry {
		return snapshot.Entry{Key: snapshot.Key("\x00" + name), Type: snapshot.FIFO, Mode: 0o600, HasLink: true, Link: 1}
	}
	s := f.made(dirEntry(""), fifo("a"), fifo("b"), link("c", 2, "x"), link("d", 2, "x"), link("e", 2, "y"), link("f", 1, "x"))
	target := t.TempDir()
	inode := func(name string) uint64 {
		st, err := fsmeta.StatAt(unix.AT_FDCWD, filepath.Join(target, name))
		f.must(err)
		return st.Ino
	}
	for _, when := range []string{"new", "again", "in part"} {
		if when == "in part" {
			f.must(os.Remove(filepath.Join(target, "b")))
			writeFile(t, filepath.Join(target, "b"), []byte("file"))
			f.must(os.Remove(filepath.Join(target, "c")))
			f.must(os.Symlink("elsewhere", filepath.Join(target, "c")))
		}
		f.restore(restore.Options{Snapshot: s, Target: target})
		f.same(contents(t, target), map[string]string{"a": "p---------", "b": "p---------", "c": "-> x", "d": "-> x", "e": "-> y", "f": "-> x"})
		if inode("a") != inode("b") || inode("c") != inode("d") || inode("c") == inode("e") || inode("c") == inode("f") {
			t.Errorf("%s: names are not those of one file, or are and should not be", when)
		}
	}
}

// A file system without hard links gets copies. (A mount between the two names has the
// same effect as FAT, and is easier to come by.)
func TestLinkAcrossMounts(t *testing.T) {
	f := newFixture(t)
	f.write("a/file", []byte("linked"))
	f.must(os.Mkdir(f.path("b"), 0o755))
	f.must(os.Link(f.path("a/file"), f.path("b/file")))
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	mount(t, filepath.Join(target, "b"), "size=1m")
	_, ev := f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target})
	f.same(contents(t, target), contents(t, f.source))
	if ev.warnings[f.path("b/file")] == nil {
		t.Error("no warning")
	}
}

// In place, names that are links already stay, and others become links again.
func TestLinksInPlace(t *testing.T) {
	f := newFixture(t)
	f.write("a", []byte("linked"))
	for _, name := range []string{"b", "c", "d"} {
		f.must(os.Link(f.path("a"), f.path(name)))
	}
	s := f.snapshot(ingest.Options{})
	want := describe(t, f.source, false)
	target := t.TempDir()
	o := restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: restore.IfChanged, Delete: true}
	f.restore(o)
	f.must(os.Remove(filepath.Join(target, "c")))
	writeFile(t, filepath.Join(target, "c"), []byte("LINKED"))
	f.must(os.Remove(filepath.Join(target, "d")))
	writeFile(t, filepath.Join(target, "d/in"), nil)
	_, ev, err := f.try(o)
	if !errors.Is(err, restore.ErrIncomplete) || ev.actions[f.path("b")] != restore.Unchanged || ev.actions[f.path("c")] != restore.Linked {
		t.Errorf("actions %v, problems %v, error %v", ev.actions, ev.problems, err)
	}
	o.Overwrite = restore.Always
	f.restore(o)
	f.same(describe(t, target, false), want)
}

// A restore that is broken off leaves nothing half done, and can be taken up again.
func TestCancel(t *testing.T) {
	f := newFixture(t)
	for i := range byte(20) {
		f.write(string('a'+rune(i)), noise(i, 500<<10))
	}
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	o := restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: restore.IfChanged}
	o.Observer.Entry = func(_ string, a restore.Action) {
		if a == restore.Created {
			cancel()
		}
	}
	if _, err := restore.Directory(ctx, f.repo, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	f.noTemporary(target)
	want := contents(t, f.source)
	for name, data := range contents(t, target) {
		if data != want[name] {
			t.Errorf("%s is not whole", name)
		}
	}
	f.restore(o)
	f.same(contents(t, target), want)
}
