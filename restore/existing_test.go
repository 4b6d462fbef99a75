package restore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/restore"
)

func TestOverwrite(t *testing.T) {
	f := newFixture(t)
	when := time.Date(2020, 5, 1, 12, 0, 0, 5, time.UTC)
	for _, name := range []string{"equal", "older", "newer", "resized", "absent", "dir/in", "blocked/in"} {
		f.write(name, []byte(name))
		f.must(os.Chtimes(f.path(name), when, when))
	}
	f.must(os.Symlink("to", f.path("link")))
	f.must(os.Chmod(f.path("dir"), 0o750))
	s := f.snapshot(ingest.Options{})

	// prepare makes the target that each mode finds.
	prepare := func(t *testing.T) string {
		target := t.TempDir()
		set := func(name, contents string, mtime time.Time) {
			path := filepath.Join(target, name)
			writeFile(t, path, []byte(contents))
			if err := os.Chtimes(path, mtime, mtime); err != nil {
				t.Fatal(err)
			}
		}
		set("equal", "EQUAL", when)
		set("older", "OLDER", when.Add(-time.Second))
		set("newer", "NEWER", when.Add(time.Nanosecond))
		set("resized", "RESIZED!", when)
		set("blocked", "a file where a directory should be", when)
		set("dir/other", "stays", when)
		if err := errors.Join(os.Chmod(filepath.Join(target, "dir"), 0o701), os.Symlink("elsewhere", filepath.Join(target, "link"))); err != nil {
			t.Fatal(err)
		}
		return target
	}
	tests := []struct {
		mode    restore.Overwrite
		kept    string // names that keep the target's contents
		blocked bool
		perm    os.FileMode // of dir
	}{
		{restore.Always, "", false, 0o750},
		{restore.IfChanged, "equal", true, 0o750},
		{restore.IfNewer, "equal newer resized link", true, 0o750},
		{restore.Never, "equal older newer resized link", true, 0o701},
	}
	for _, test := range tests {
		target := prepare(t)
		// The link in the target is newer than that in the snapshot.
		res, ev, err := f.try(restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: test.mode})
		if blocked := errors.Is(err, restore.ErrIncomplete); blocked != test.blocked || err != nil && !blocked {
			t.Errorf("mode %d: error %v", test.mode, err)
		}
		if test.blocked && ev.problems[f.path("blocked")] == nil {
			t.Errorf("mode %d: the file in the way was not reported: %v", test.mode, ev.problems)
		}
		got := contents(t, target)
		want := map[string]string{"absent": "absent", "dir/": "", "dir/in": "dir/in", "dir/other": "stays"}
		old := map[string]string{"equal": "EQUAL", "older": "OLDER", "newer": "NEWER", "resized": "RESIZED!", "link": "-> elsewhere"}
		for name, contents := range old {
			want[name] = name
			if name == "link" {
				want[name] = "-> to"
			}
			if strings.Contains(" "+test.kept+" ", " "+name+" ") {
				want[name] = contents
			}
		}
		if test.blocked {
			want["blocked"] = "a file where a directory should be"
		} else {
			want["blocked/"], want["blocked/in"] = "", "blocked/in"
		}
		f.same(got, want)
		if n := int64(len(strings.Fields(test.kept))); res.Kept+res.Unchanged != n {
			t.Errorf("mode %d: result %+v, want %d kept or unchanged", test.mode, *res, n)
		}
		if st, err := os.Stat(filepath.Join(target, "dir")); err != nil || st.Mode().Perm() != test.perm {
			t.Errorf("mode %d: the directory has mode %v, want %v", test.mode, st.Mode(), test.perm)
		}
		f.noTemporary(target)
	}
}

// An open reader and another name of a replaced file keep what they had, and a file
// of the right contents gets its mode back unless that would reach another name.
func TestOtherNames(t *testing.T) {
	f := newFixture(t)
	f.write("small", []byte("new"))
	f.write("large", noise(1, 500<<10))
	f.write("same", []byte("same"))
	s := f.snapshot(ingest.Options{})
	target, outside := t.TempDir(), t.TempDir()
	for _, name := range []string{"small", "large", "same"} {
		writeFile(t, filepath.Join(outside, name), []byte("old "+name))
		f.must(os.Link(filepath.Join(outside, name), filepath.Join(target, name)))
	}
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target})
	f.same(contents(t, outside), map[string]string{"small": "old small", "large": "old large", "same": "old same"})
	f.same(contents(t, target), contents(t, f.source))

	in := filepath.Join(target, "same")
	f.must(os.Chmod(in, 0o600))
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: restore.IfChanged})
	if st, err := os.Stat(in); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("the mode was not restored: %v", st.Mode())
	}
	f.must(os.Chmod(in, 0o600))
	f.must(os.Link(in, filepath.Join(outside, "second")))
	_, ev := f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: restore.IfChanged})
	if st, err := os.Stat(in); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the mode of a file with a name outside of the target was changed: %v", st.Mode())
	}
	if ev.warnings[f.path("same")] == nil {
		t.Error("no warning of that")
	}
}

// Whatever links stand in the target, nothing outside of it is touched.
func TestPlantedLinks(t *testing.T) {
	f := newFixture(t)
	f.write("dir/deep/file", []byte("restored"))
	f.write("dir/large", noise(1, 500<<10))
	f.write("file", []byte("restored"))
	f.must(os.Chmod(f.path("dir"), 0o711))
	s := f.snapshot(ingest.Options{})
	for _, mode := range []restore.Overwrite{restore.Always, restore.IfChanged, restore.IfNewer, restore.Never} {
		outside, target := t.TempDir(), t.TempDir()
		writeFile(t, filepath.Join(outside, "deep/file"), []byte("outside"))
		writeFile(t, filepath.Join(outside, "victim"), []byte("outside"))
		f.must(os.Chtimes(filepath.Join(outside, "victim"), time.Unix(1, 0), time.Unix(1, 0)))
		f.must(os.Symlink(outside, filepath.Join(target, "dir")))
		f.must(os.Symlink(filepath.Join(outside, "victim"), filepath.Join(target, "file")))
		f.must(os.Symlink(filepath.Join(outside, "made"), filepath.Join(target, "new")))
		before := describe(t, outside, true)
		_, ev, err := f.try(restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: mode, Verify: true, Delete: true})
		f.same(describe(t, outside, true), before)
		got := contents(t, target)
		if mode == restore.Always {
			f.must(err)
			f.same(got, contents(t, f.source))
			continue
		}
		if !errors.Is(err, restore.ErrIncomplete) || ev.problems[f.path("dir")] == nil || got["dir"] != "-> "+outside {
			t.Errorf("mode %d: error %v, problems %v, target %q", mode, err, ev.problems, got)
		}
	}
}

// The target itself is the user's word, also if it is a link.
func TestTargetLink(t *testing.T) {
	f := newFixture(t)
	f.write("file", []byte("x"))
	s := f.snapshot(ingest.Options{})
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	f.must(os.Symlink(real, link))
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: link})
	f.same(contents(t, real), map[string]string{"file": "x"})
}

func TestDelete(t *testing.T) {
	f := newFixture(t)
	f.write("keep", []byte("k"))
	f.write("dir/keep", []byte("k"))
	f.write("was-dir", []byte("now a file"))
	f.write("mid/m", []byte("m"))
	s := f.snapshot(ingest.Options{Paths: []string{f.source}, Sources: []ingest.Source{ingest.Stream{Name: "s", Reader: strings.NewReader("stream")}}})
	target := t.TempDir()
	in := filepath.Join(target, f.source)
	populate := func() {
		for _, name := range []string{"a", "dir/extra", "dir/cache/x.tmp", "dir/cache/y", "gone/b/c", "gone/b/x.tmp", "keep0", "zz"} {
			writeFile(t, filepath.Join(in, name), []byte("extra"))
		}
		f.must(os.RemoveAll(filepath.Join(in, "was-dir")))
		writeFile(t, filepath.Join(in, "was-dir/with/entries"), nil)
		// Beside the source: the snapshot's directories there only lead to it.
		writeFile(t, filepath.Join(filepath.Dir(in), "beside"), nil)
		writeFile(t, filepath.Join(target, "at-top"), nil)
	}

	populate()
	_, ev, err := f.try(restore.Options{Snapshot: s, Target: target})
	if !errors.Is(err, restore.ErrIncomplete) || ev.problems[f.path("was-dir")] == nil {
		t.Errorf("without deletion a directory with entries was replaced: %v", err)
	}
	res, ev := f.restore(restore.Options{Snapshot: s, Target: target, Delete: true})
	f.same(contents(t, in), contents(t, f.source))
	all := contents(t, target)
	for _, name := range []string{strings.TrimPrefix(filepath.Dir(f.source), "/") + "/beside", "at-top", "stdin/s"} {
		if _, ok := all[name]; !ok {
			t.Errorf("%s was deleted", name)
		}
	}
	if res.Deleted != 7 || ev.actions[f.path("gone")] != restore.Deleted || ev.actions[f.path("keep0")] != restore.Deleted {
		t.Errorf("result %+v, actions %v", *res, ev.actions)
	}

	populate()
	f.must(os.RemoveAll(filepath.Join(in, "was-dir")))
	f.restore(restore.Options{Snapshot: s, Target: target, Delete: true, Exclude: patterns(t, "*.tmp", "/zz", f.path("zz"))})
	left := contents(t, in)
	for _, name := range []string{"dir/cache/x.tmp", "gone/b/x.tmp", "zz"} {
		if _, ok := left[name]; !ok {
			t.Errorf("%s is excluded and was deleted", name)
		}
	}
	for _, name := range []string{"dir/cache/y", "gone/b/c", "a", "dir/extra"} {
		if _, ok := left[name]; ok {
			t.Errorf("%s was not deleted", name)
		}
	}

	populate()
	f.must(os.RemoveAll(filepath.Join(in, "was-dir")))
	var include *gitignore.Set = patterns(t, f.path("dir"))
	f.restore(restore.Options{Snapshot: s, Target: target, Delete: true, Include: include})
	left = contents(t, in)
	if _, ok := left["dir/extra"]; ok {
		t.Error("dir/extra was not deleted")
	}
	for _, name := range []string{"a", "zz", "gone/b/c"} {
		if _, ok := left[name]; !ok {
			t.Errorf("%s is not included and was deleted", name)
		}
	}
}

// A snapshot that lacks what could not be read is no reason to delete it.
func TestDeleteUnreadable(t *testing.T) {
	f := newFixture(t)
	f.write("file", nil)
	s := f.snapshot(ingest.Options{})
	f.must(f.repo.LoadBody(t.Context(), s))
	s.Body.Totals.Unreadable = 1
	target := t.TempDir()
	writeFile(t, filepath.Join(target, "extra"), nil)
	if _, _, err := f.try(restore.Options{Snapshot: s, Path: f.source, Target: target, Delete: true}); err == nil {
		t.Error("no error")
	}
	f.same(contents(t, target), map[string]string{"extra": ""})
}

// mount puts a small file system at a path.
func mount(t *testing.T, path, options string) {
	t.Helper()
	need.Root(t)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		need.Missing(t, "mounting a file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}

// A backup of one file system has an empty directory where another is mounted.
func TestDeleteMounted(t *testing.T) {
	f := newFixture(t)
	f.must(os.Mkdir(f.path("mnt"), 0o755))
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	mount(t, filepath.Join(target, "mnt"), "size=1m")
	mount(t, filepath.Join(target, "unknown"), "size=1m")
	writeFile(t, filepath.Join(target, "mnt/data"), []byte("precious"))
	writeFile(t, filepath.Join(target, "unknown/data"), []byte("precious"))
	_, ev, err := f.try(restore.Options{Snapshot: s, Path: f.source, Target: target, Delete: true})
	got := contents(t, target)
	if got["mnt/data"] != "precious" || got["unknown/data"] != "precious" {
		t.Errorf("what is mounted was deleted: %q", got)
	}
	if ev.warnings[f.path("mnt")] == nil || ev.problems[f.path("unknown")] == nil || !errors.Is(err, restore.ErrIncomplete) {
		t.Errorf("warnings %v, problems %v, error %v", ev.warnings, ev.problems, err)
	}
}

func TestFull(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"a", "b", "c"} {
		f.write(name, noise(name[0], 1<<20))
	}
	s := f.snapshot(ingest.Options{})
	target := filepath.Join(t.TempDir(), "target")
	mount(t, target, "size=2m")
	res, _, err := f.try(restore.Options{Snapshot: s, Path: f.source, Target: target})
	if res.Bytes != res.Files<<20 || res.Files == 3 {
		t.Errorf("of a restore that stopped it says %d files with %d bytes", res.Files, res.Bytes)
	}
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make room") || !strings.Contains(err.Error(), f.source) {
		t.Errorf("error %v", err)
	}
	f.noTemporary(target)
	f.must(unix.Mount("", target, "", unix.MS_REMOUNT, "size=8m"))
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: restore.IfChanged})
	f.same(contents(t, target), contents(t, f.source))
}
