package restore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// Whenever somebody swaps what is in the target for links to the outside, nothing
// there changes: at each event of a restore, into a new target and over an old one,
// for directories and for files.
func TestSwappedMeanwhile(t *testing.T) {
	f := newFixture(t)
	for _, dir := range []string{"a", "a/b"} {
		f.write(dir+"/small", noise(1, 100))
		f.write(dir+"/large", noise(2, 300<<10))
		f.must(os.Link(f.path(dir+"/small"), f.path(dir+"/z-linked")))
		f.must(os.Symlink("to", f.path(dir+"/link")))
		f.must(unix.Mkfifo(f.path(dir+"/fifo"), 0o622))
		f.must(os.Chmod(f.path(dir+"/large"), 0o777))
	}
	s := f.snapshot(ingest.Options{})
	// attack swaps everything below dir that is of the kind.
	attacks := map[string]func(dir, outside string){
		"directories": func(dir, outside string) {
			for _, name := range []string{"a/b", "a"} {
				if os.Rename(filepath.Join(dir, name), filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+"-moved")) == nil {
					os.Symlink(filepath.Join(outside, name), filepath.Join(dir, name))
				}
			}
		},
		"symbolic links for files": func(dir, outside string) { swapFiles(dir, outside, os.Symlink) },
		"hard links for files":     func(dir, outside string) { swapFiles(dir, outside, os.Link) },
	}
	for kind, attack := range attacks {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, old target %v", kind, old), func(t *testing.T) {
				f := &fixture{T: t, repo: f.repo, source: f.source}
				for n, happened := 1, true; happened; n++ {
					top := t.TempDir()
					target, outside := mkdir(t, filepath.Join(top, "target")), filepath.Join(top, "outside")
					for _, dir := range []string{"a", "a/b"} {
						for _, name := range []string{"small", "large", "z-linked", "link", "fifo", "extra"} {
							writeFile(t, filepath.Join(outside, dir, name), []byte("outside"))
							if old {
								writeFile(t, filepath.Join(target, dir, name), []byte("old"))
							}
						}
					}
					before := describe(t, outside, true)
					var mu sync.Mutex
					seen := 0
					o := restore.Options{Snapshot: s, Path: f.source, Target: target, Delete: true}
					o.Observer.Entry = func(string, restore.Action) {
						mu.Lock()
						defer mu.Unlock()
						if seen++; seen == n {
							attack(target, outside)
						}
					}
					_, err := restore.Directory(t.Context(), f.repo, o)
					if err != nil && !errors.Is(err, restore.ErrIncomplete) {
						t.Errorf("event %d: %v", n, err)
					}
					f.same(describe(t, outside, true), before)
					happened = seen >= n
					if n == 1 && !happened || n > 1000 {
						t.Fatal("the attack never happened, or without end")
					}
				}
			})
		}
	}
}

// swapFiles replaces files by links to those outside.
func swapFiles(dir, outside string, link func(old, new string) error) {
	for _, sub := range []string{"a", "a/b"} {
		for _, name := range []string{"small", "large", "z-linked", "link", "fifo"} {
			path := filepath.Join(dir, sub, name)
			if os.Remove(path) == nil {
				link(filepath.Join(outside, sub, name), path)
			}
		}
	}
}

// A target that becomes read-only ends the restore with advice, and the next one
// completes it and cleans up.
func TestReadOnlyMeanwhile(t *testing.T) {
	f := newFixture(t)
	for i := range byte(10) {
		f.write(fmt.Sprintf("small%d", i), noise(i, 100<<10))
	}
	s := f.snapshot(ingest.Options{})
	f.reopen(f.storage, 1)
	target := filepath.Join(t.TempDir(), "target")
	mount(t, target, "size=32m")
	o := restore.Options{Snapshot: s, Path: f.source, Target: target}

	f.must(unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if _, _, err := f.try(o); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "remount") {
		t.Errorf("error %v", err)
	}
	f.must(unix.Mount("", target, "", unix.MS_REMOUNT, ""))

	// That needs a moment at which no file is open for writing; with one goroutine, any
	// is that at which a small file was completed.
	var once sync.Once
	o.Observer.Entry = func(string, restore.Action) {
		once.Do(func() { f.must(unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")) })
	}
	if _, err := restore.Directory(t.Context(), f.repo, o); !errors.Is(err, unix.EROFS) {
		t.Errorf("error %v", err)
	}
	f.must(unix.Mount("", target, "", unix.MS_REMOUNT, ""))
	got, whole := contents(t, target), contents(t, f.source)
	for name, data := range got {
		if !strings.HasPrefix(name, ".cairn-") && data != whole[name] {
			t.Errorf("half of %s is there", name)
		}
	}
	if len(got) == 0 || len(got) >= len(whole) {
		t.Errorf("%d of %d entries are there, so this tests little", len(got), len(whole))
	}
	o.Observer = restore.Observer{}
	f.restore(o)
	f.same(describe(t, target, false), describe(t, f.source, false))
}

// A user who may no longer write to a directory is told so for each entry, gets all
// the others, and the rest the next time.
func TestPermissionLost(t *testing.T) {
	if os.Geteuid() == 0 {
		runAsUser(t)
		return
	}
	f := newFixture(t)
	for _, dir := range []string{"a", "b", "c"} {
		for i := range byte(5) {
			f.write(fmt.Sprintf("%s/large%d", dir, i), noise(i, 300<<10))
			f.write(fmt.Sprintf("%s/small%d", dir, i), noise(i, 100))
		}
	}
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	o := restore.Options{Snapshot: s, Path: f.source, Target: target}
	ev := new(events)
	o.Observer = ev.observer()
	entry := o.Observer.Entry
	o.Observer.Entry = func(path string, a restore.Action) {
		entry(path, a)
		if path == f.path("b") {
			f.must(os.Chmod(filepath.Join(target, "b"), 0o555))
		}
	}
	_, err := restore.Directory(t.Context(), f.repo, o)
	if !errors.Is(err, restore.ErrIncomplete) || len(ev.problems) != 10 {
		t.Errorf("error %v, problems %v", err, ev.problems)
	}
	for path, err := range ev.problems {
		if !errors.Is(err, os.ErrPermission) || !strings.HasPrefix(path, f.path("b/")) {
			t.Errorf("%s: %v", path, err)
		}
	}
	want := contents(t, f.source)
	for name, data := range contents(t, target) {
		if data != want[name] {
			t.Errorf("%s has other contents", name)
		}
		delete(want, name)
	}
	for name := range want {
		if !strings.HasPrefix(name, "b/") {
			t.Errorf("%s is not there", name)
		}
	}
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target})
	f.same(describe(t, target, false), describe(t, f.source, false))
}

// What is left of a damaged file takes no other entry's name.
func TestDamagedNameTaken(t *testing.T) {
	f := newFixture(t)
	there := noise(1, 100<<10)
	s := f.madeWith(func(w *repo.Writer) []snapshot.Entry {
		id, _, err := w.Put(chunk.Data, there)
		f.must(err)
		file := snapshot.Entry{Key: "\x00file", Type: snapshot.File, Mode: 0o600, Size: 200 << 10}
		for _, id := range []chunk.ID{id, {1}} {
			file.Extents = append(file.Extents, snapshot.Extent{Chunk: id, ChunkSize: 100 << 10, Length: 100 << 10})
		}
		return []snapshot.Entry{dirEntry(""), file, {Key: "\x00file.cairn-damaged", Type: snapshot.Symlink, Target: []byte("x")}}
	})
	target := t.TempDir()
	_, ev, err := f.try(restore.Options{Snapshot: s, Target: target, AllowDamaged: true})
	if ev.problems["/file"] == nil || !strings.Contains(ev.problems["/file"].Error(), "restore it alone") {
		t.Fatalf("error %v, problems %v", err, ev.problems)
	}
	f.same(contents(t, target), map[string]string{"file.cairn-damaged": "-> x"})
	target = t.TempDir()
	_, ev, err = f.try(restore.Options{Snapshot: s, Path: "/file", Target: target, AllowDamaged: true})
	f.must(err)
	if got := contents(t, target); len(got) != 1 || got["file.cairn-damaged"] != string(there)+string(make([]byte, 100<<10)) || ev.actions["/file"] != restore.Damaged {
		t.Errorf("alone: %v, %d entries", ev.actions, len(got))
	}
}
