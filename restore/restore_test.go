package restore_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

func (f *fixture) load(id snapshot.ID) *repo.Snapshot {
	f.Helper()
	set, err := f.repo.Snapshots(f.Context())
	f.must(err)
	s, ok := set.Get(id)
	if !ok {
		f.Fatalf("snapshot %s is not there", id.Short())
	}
	return s
}

// fill puts one of everything into the source.
func (f *fixture) fill() {
	f.Helper()
	f.write("empty", nil)
	f.write("small", []byte("small"))
	f.write("bundle/a", []byte("first of a bundle"))
	f.write("bundle/b", []byte("second of a bundle"))
	f.write("medium", noise(1, 300<<10))
	f.write("list", noise(2, 3<<20)) // more extents than an entry holds
	f.write("twice", bytes.Repeat(noise(3, 600<<10), 2))
	f.write("zeros", make([]byte, 1<<20))
	f.write("odd/\xff\xfe not utf-8", []byte("x"))
	f.write("odd/new\nline", []byte("y"))
	f.write("odd/-rf", []byte("z"))
	f.write("odd/"+strings.Repeat("n", 255), []byte("long"))
	f.write("deep/"+strings.Repeat("d/", 150)+"bottom", []byte("deep"))
	f.write("modes/setuid", []byte("#!"))
	f.write("modes/secret", []byte("s"))
	f.write("locked/in", []byte("l"))
	f.must(os.Mkdir(f.path("nothing"), 0o700))
	f.must(os.Symlink("nowhere/at/all", f.path("dangling")))
	f.must(os.Symlink("small", f.path("odd/link")))
	f.must(unix.Mkfifo(f.path("fifo"), 0o640))
	f.must(os.Link(f.path("medium"), f.path("bundle/medium")))
	f.must(os.Link(f.path("medium"), f.path("zz")))
	f.must(os.Link(f.path("empty"), f.path("also-empty")))
	f.must(unix.Setxattr(f.path("small"), "user.origin", []byte("here\x00and there"), 0))
	f.must(unix.Setxattr(f.path("bundle"), "user.kind", []byte("directory"), 0))
	if os.Geteuid() == 0 {
		f.must(unix.Mknod(f.path("device"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 3))))
		f.must(os.Chown(f.path("modes/setuid"), 12345, 54321))
		f.must(os.Lchown(f.path("dangling"), 12345, 54321))
		f.must(os.Chown(f.path("nothing"), 12345, 54321))
	}
	f.must(os.Chmod(f.path("modes/setuid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	f.must(os.Chmod(f.path("modes/secret"), 0o400))
	f.must(os.Chmod(f.path("modes"), 0o777|fs.ModeSticky|fs.ModeSetgid))
	f.must(os.Chmod(f.path("locked"), 0o555))
	f.Cleanup(func() { os.Chmod(f.path("locked"), 0o755) })
	for _, name := range beforeEpoch {
		f.must(os.Chtimes(f.path(name), epochTime, epochTime))
	}
}

// epochTime is that of the entries beforeEpoch.
var (
	epochTime   = time.Date(1969, 7, 20, 20, 17, 40, 123456789, time.UTC)
	beforeEpoch = []string{"small", "list", "bundle", "fifo", "deep/d", "."}
)

func TestEverything(t *testing.T) {
	f := newFixture(t)
	f.fill()
	want := describe(t, f.source, true)
	s := f.snapshot(ingest.Options{})
	target := filepath.Join(tempTarget(t), "new/target")
	res, ev := f.restore(restore.Options{Snapshot: s, Target: target, Verify: true})
	f.same(describe(t, filepath.Join(target, f.source), true), want)
	f.noTemporary(target)
	if res.Problems != 0 || res.Damaged != 0 || len(ev.warnings) > 1 {
		t.Errorf("result %+v, warnings %v", res, ev.warnings)
	}
	if res.Links != 3 || res.Verified != res.Files || res.Files == 0 {
		t.Errorf("result %+v, want 3 links and all files verified", res)
	}
	for path, a := range ev.actions {
		if a != restore.Created && a != restore.Linked {
			t.Errorf("%q was %s", path, a)
		}
	}
}

func TestSparse(t *testing.T) {
	f := newFixture(t)
	f.must(os.WriteFile(f.path("image"), []byte("start"), 0o600))
	f.must(os.Truncate(f.path("image"), 16<<20))
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Verify: true})
	got, err := os.ReadFile(filepath.Join(target, "image"))
	f.must(err)
	if len(got) != 16<<20 || !bytes.HasPrefix(got, []byte("start")) || len(bytes.Trim(got[5:], "\x00")) > 0 {
		t.Error("the contents differ")
	}
}

func TestSubtree(t *testing.T) {
	f := newFixture(t)
	f.fill()
	want := describe(t, f.source, false)
	s := f.snapshot(ingest.Options{})

	t.Run("directory", func(t *testing.T) {
		target := filepath.Join(tempTarget(t), "target")
		f := &fixture{T: t, repo: f.repo}
		f.restore(restore.Options{Snapshot: s, Path: f.source0(s), Target: target})
		f.same(describe(t, target, false), want)
	})
	t.Run("existing target keeps its metadata", func(t *testing.T) {
		target := tempTarget(t)
		f := &fixture{T: t, repo: f.repo}
		f.must(os.Chmod(target, 0o711))
		f.restore(restore.Options{Snapshot: s, Path: f.source0(s), Target: target})
		st, err := os.Stat(target)
		f.must(err)
		if st.Mode().Perm() != 0o711 {
			t.Errorf("mode %v", st.Mode())
		}
	})
	t.Run("file", func(t *testing.T) {
		target := tempTarget(t)
		f := &fixture{T: t, repo: f.repo}
		// A name that is not the first one of a hard-linked file.
		f.restore(restore.Options{Snapshot: s, Path: f.source0(s) + "/zz", Target: target})
		got := contents(t, target)
		if len(got) != 1 || got["zz"] != string(noise(1, 300<<10)) {
			t.Errorf("the target has %d entries, or other contents", len(got))
		}
	})
	t.Run("missing", func(t *testing.T) {
		f := &fixture{T: t, repo: f.repo}
		target := filepath.Join(tempTarget(t), "target")
		_, _, err := f.try(restore.Options{Snapshot: s, Path: f.source0(s) + "/none", Target: target})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/none") {
			t.Errorf("error %v", err)
		}
		if _, err := os.Stat(target); err == nil {
			t.Error("the target was made")
		}
	})
}

// source0 returns the path of the first source of a snapshot.
func (f *fixture) source0(s *repo.Snapshot) string {
	f.must(f.repo.LoadBody(f.Context(), s))
	return string(s.Body.Sources[0].Name)
}

func TestStream(t *testing.T) {
	f := newFixture(t)
	f.write("file", []byte("of the files"))
	s := f.snapshot(ingest.Options{
		Paths:   []string{f.source},
		Sources: []ingest.Source{ingest.Stream{Name: "db/dump.sql", Reader: strings.NewReader("create table")}},
	})
	target := t.TempDir()
	f.restore(restore.Options{Snapshot: s, Target: target})
	got := contents(t, target)
	if got["stdin/db/dump.sql"] != "create table" || got[strings.TrimPrefix(f.path("file"), "/")] != "of the files" {
		t.Errorf("the target has %q", got)
	}
	target = t.TempDir()
	f.restore(restore.Options{Snapshot: s, Path: "stdin/db", Target: target})
	if got := contents(t, target); len(got) != 1 || got["dump.sql"] != "create table" {
		t.Errorf("the target has %q", got)
	}
}

func TestPatterns(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"a/keep.log", "a/b/keep.log", "a/b/other", "c/other", "d/x/y/z", "top.log"} {
		f.write(name, []byte(name))
	}
	f.must(os.Chmod(f.path("a/b"), 0o710))
	s := f.snapshot(ingest.Options{})
	tests := []struct {
		name             string
		include, exclude []string
		want             string
	}{
		{"include", []string{"*.log"}, nil, "a/ a/b/ a/b/keep.log a/keep.log top.log"},
		{"include a directory", []string{f.path("d/x")}, nil, "d/ d/x/ d/x/y/ d/x/y/z"},
		{"exclude", nil, []string{"*.log", f.path("d")}, "a/ a/b/ a/b/other c/ c/other"},
		{"both", []string{"*.log"}, []string{"b/"}, "a/ a/keep.log top.log"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &fixture{T: t, repo: f.repo, source: f.source}
			target := t.TempDir()
			o := restore.Options{Snapshot: s, Path: f.source, Target: target}
			o.Include, o.Exclude = patterns(t, test.include...), patterns(t, test.exclude...)
			f.restore(o)
			got := contents(t, target)
			for _, name := range strings.Fields(test.want) {
				if _, ok := got[name]; !ok {
					t.Errorf("%s is not there", name)
				}
				delete(got, name)
			}
			if len(got) > 0 {
				t.Errorf("restored besides: %q", got)
			}
			if st, err := os.Stat(filepath.Join(target, "a/b")); err == nil && st.Mode().Perm() != 0o710 {
				t.Errorf("a directory on the way has mode %v", st.Mode())
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	f := newFixture(t)
	f.fill()
	s := f.snapshot(ingest.Options{})
	target := filepath.Join(tempTarget(t), "target")
	plan, err := restore.Plan(t.Context(), f.repo, restore.Options{Snapshot: s, Target: target})
	f.must(err)
	if _, err := os.Lstat(target); err == nil {
		t.Error("the target was made")
	}
	res, _ := f.restore(restore.Options{Snapshot: s, Target: target})
	if *plan != *res {
		t.Errorf("planned %+v\ndid     %+v", *plan, *res)
	}

	// Over what is there: things to replace, to leave and to delete.
	in := filepath.Join(target, f.source)
	f.must(os.WriteFile(filepath.Join(in, "small"), []byte("changed"), 0o600))
	f.must(os.Remove(filepath.Join(in, "medium")))
	writeFile(t, filepath.Join(in, "bundle/extra/file"), nil)
	before := describe(t, target, true)
	o := restore.Options{Snapshot: s, Target: target, Overwrite: restore.IfChanged, Delete: true}
	plan, err = restore.Plan(t.Context(), f.repo, o)
	f.must(err)
	f.same(describe(t, target, true), before)
	res, _ = f.restore(o)
	if *plan != *res || plan.Deleted != 1 || plan.Replaced == 0 || plan.Unchanged == 0 {
		t.Errorf("planned %+v\ndid     %+v", *plan, *res)
	}
	f.same(describe(t, in, false), describe(t, f.source, false))
}
