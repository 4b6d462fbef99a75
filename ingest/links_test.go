package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/snapshot"
)

// stages walks the directory, then lets between change it, and only then reads
// the files. It returns what went into the tree below the directory, by name.
func (b *bench) stages(between func()) map[string]snapshot.Entry {
	b.T.Helper()
	var err error
	b.targets, err = newTargets([]string{b.dir})
	b.must(err)
	b.must(b.produce())
	close(b.small)
	close(b.large)
	close(b.ordered)
	between()
	w := newWorker(b.pipeline)
	for j := range b.small {
		b.must(w.bundle(j))
	}
	for l := range b.large {
		b.must(b.readFile(&l.job.entries[l.work.entry], l.work, nil, w.putNow))
	}
	s := b.newSequencer()
	entries := make(map[string]snapshot.Entry)
	dir, err := snapshot.KeyOf(b.dir)
	b.must(err)
	for j := range b.ordered {
		b.must(s.take(j))
		for _, e := range j.entries {
			if e.Type != dropped && e.Key.IsBelow(dir) {
				entries[string(e.Key[len(dir)+1:])] = *e.Clone()
			}
		}
	}
	b.waiting = len(s.links)
	if n := len(b.dirs.fds); n > 0 {
		b.Errorf("%d directories are open", n)
	}
	return entries
}

// TestFirstNameFails: whatever becomes of the first name of a file between the walk
// and the reading, the other names are in the snapshot.
func TestFirstNameFails(t *testing.T) {
	vanished := fmt.Sprint(errVanished, " ", true)
	for _, size := range []int{0, 1000, 700 << 10} {
		contents := bytes.Repeat([]byte("linked"), size/6+1)[:size]
		other := []byte("another file")
		tests := []struct {
			name     string
			change   func(b *bench)
			want     map[string][]byte
			problems []string
		}{
			{"removed", func(b *bench) { b.must(os.Remove(b.dir + "/a")) }, map[string][]byte{"b": contents, "c": contents}, []string{vanished}},
			{"two removed", func(b *bench) { b.must(errors.Join(os.Remove(b.dir+"/a"), os.Remove(b.dir+"/b"))) },
				map[string][]byte{"c": contents}, []string{vanished, vanished}},
			{"all removed", func(b *bench) {
				b.must(errors.Join(os.Remove(b.dir+"/a"), os.Remove(b.dir+"/b"), os.Remove(b.dir+"/c")))
			}, map[string][]byte{}, []string{vanished, vanished, vanished}},
			{"replaced", func(b *bench) {
				b.must(errors.Join(os.WriteFile(b.dir+"/new", other, 0o600), os.Rename(b.dir+"/new", b.dir+"/a")))
			}, map[string][]byte{"a": other, "b": contents, "c": contents}, nil},
			{"replaced by a directory", func(b *bench) {
				b.must(errors.Join(os.Remove(b.dir+"/a"), os.Mkdir(b.dir+"/a", 0o755)))
			}, map[string][]byte{"b": contents, "c": contents}, []string{"open a: not a regular file true"}},
			{"second removed", func(b *bench) { b.must(os.Remove(b.dir + "/b")) },
				map[string][]byte{"a": contents, "b": contents, "c": contents}, nil},
		}
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s %d", test.name, size), func(t *testing.T) {
				b := newBench(t)
				b.must(os.WriteFile(b.dir+"/a", contents, 0o640))
				b.must(os.Link(b.dir+"/a", b.dir+"/b"))
				b.must(os.Link(b.dir+"/a", b.dir+"/c"))
				var st unix.Stat_t
				b.must(unix.Stat(b.dir+"/a", &st))
				got := b.stages(func() { test.change(b) })
				if b.waiting > 0 {
					t.Errorf("%d files are remembered after their last name", b.waiting)
				}
				if len(got) != len(test.want) {
					t.Errorf("%d names are in the snapshot, want %d", len(got), len(test.want))
				}
				for name, want := range test.want {
					e := got[name]
					if int(e.Size) != len(want) || e.Hash != b.hashOf(&e, want) {
						t.Errorf("%s has %d bytes or another hash, want %d", name, e.Size, len(want))
					}
					if linked := bytes.Equal(want, contents); e.HasLink != linked || linked && (e.Inode != st.Ino || e.Mode != 0o640) {
						t.Errorf("%s is linked %t, has inode %d, mode %o", name, e.HasLink, e.Inode, e.Mode)
					}
				}
				if !slices.Equal(b.problems, test.problems) {
					t.Errorf("problems are %q, want %q", b.problems, test.problems)
				}
			})
		}
	}
}

// hashOf is the hash of an entry's contents if they are p.
func (b *bench) hashOf(e *snapshot.Entry, p []byte) (sum [16]byte) {
	if len(p) == 0 {
		return sum
	}
	h := b.contentHasher()
	if len(p) < smallFile {
		h.Write(append([]byte{0}, p...))
		return [16]byte(h.Sum(nil))
	}
	// The extents are known to be right by their chunks' IDs.
	c := &snapshot.Entry{}
	_, err := b.contents(c, nil, bytes.NewReader(p), nil, newWorker(b.pipeline).putNow)
	b.must(err)
	if !slices.Equal(c.Extents, e.Extents) {
		return sum
	}
	return c.Hash
}

// TestTooManyLinks: files that are too many to remember are read under each name, and
// are as much linked as the others.
func TestTooManyLinks(t *testing.T) {
	b := newBench(t)
	b.maxLinks = 2
	for i := range 5 {
		first := fmt.Sprint(b.dir, "/a", i)
		b.must(os.WriteFile(first, []byte(fmt.Sprint("file ", i)), 0o644))
		b.must(os.Link(first, fmt.Sprint(b.dir, "/b", i)))
	}
	reads := 0
	b.sysRead = func(fd int, p []byte) (int, error) {
		reads++
		return unix.Read(fd, p)
	}
	got := b.stages(func() {})
	for i := range 5 {
		one, two := got[fmt.Sprint("a", i)], got[fmt.Sprint("b", i)]
		if !one.HasLink || one.Link != two.Link || one.Hash != two.Hash || one.Size != 6 || one.Inode != two.Inode {
			t.Errorf("%d: the names are %+v and %+v", i, one, two)
		}
	}
	if reads != 5+3 || len(b.problems) > 0 { // one read finds a file's end too
		t.Errorf("%d reads, problems %q", reads, b.problems)
	}
}

// TestLinkedMetadata: what the names of a file have in common is read once, and so
// is the same for all, although it changed between the walk and the reading.
func TestLinkedMetadata(t *testing.T) {
	b := newBench(t)
	b.must(os.WriteFile(b.dir+"/a", []byte("x"), 0o640))
	b.must(os.Link(b.dir+"/a", b.dir+"/b"))
	got := b.stages(func() { b.must(os.Chmod(b.dir+"/a", 0o600)) })
	one, two := got["a"], got["b"]
	if one.Mode != 0o600 || two.Mode != one.Mode || two.Ctime != one.Ctime || two.User != one.User || one.User == "" && os.Getuid() == 0 {
		t.Errorf("modes %o and %o, changed at %v and %v, of %q and %q", one.Mode, two.Mode, one.Ctime, two.Ctime, one.User, two.User)
	}
}

// TestSecondNameElsewhere reads a second name that stands in another directory,
// which the walk has closed since, below a source that was named through a link.
func TestSecondNameElsewhere(t *testing.T) {
	b := newBench(t)
	real := t.TempDir()
	b.must(os.Symlink(real, b.dir+"/link"))
	b.must(os.MkdirAll(real+"/src/1/2", 0o755))
	b.must(os.MkdirAll(real+"/src/3/4", 0o755))
	b.must(os.WriteFile(real+"/src/1/2/a", []byte("x"), 0o644))
	b.must(os.Link(real+"/src/1/2/a", real+"/src/3/4/b"))
	b.dir += "/link/src"
	got := b.stages(func() { b.must(os.RemoveAll(real + "/src/1")) })
	if e := got["3\x004\x00b"]; e.Size != 1 || !e.HasLink || len(b.problems) != 1 {
		t.Errorf("the second name has size %d, linked %t; problems %q", e.Size, e.HasLink, b.problems)
	}
}
