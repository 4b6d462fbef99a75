package restore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/restore"
)

// run runs a program in a directory and returns what it prints.
func run(t *testing.T, dir string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, stderr.String())
	}
	return string(out)
}

// rich adds to what fill makes what other programs can make, and other judges see.
func (f *fixture) rich() {
	f.Helper()
	need.Commands(f, "rsync", "getfattr", "getfacl", "setfacl")
	f.fill()
	acl := func(name string, args ...string) {
		run(f.T, f.source, append(append([]string{"setfacl"}, args...), name)...)
	}
	f.write("acl/file", []byte("a"))
	acl("acl/file", "-m", "u:12345:rw,g:54321:r,m::r")
	acl("acl", "-m", "d:u:12345:rwx,d:g::rx,d:m::rwx,u:12345:x")
	f.write("acl/inherits/file", []byte("of the default"))
	f.write("acl/plain", []byte("without one"))
	acl("acl/plain", "-b")
	f.must(os.Mkdir(f.path("closed"), 0o755))
	f.write("large-xattr", nil)
	f.must(unix.Setxattr(f.path("large-xattr"), "user.large", noise(9, 3000), 0))
	f.must(unix.Setxattr(f.path("large-xattr"), "user.empty", nil, 0))
	when := []unix.Timespec{{Sec: 1, Nsec: 1}, {Sec: 4e9, Nsec: 999999999}}
	for _, name := range []string{"dangling", "acl/file", "empty", "odd/link"} {
		f.must(unix.UtimesNanoAt(unix.AT_FDCWD, f.path(name), when, unix.AT_SYMLINK_NOFOLLOW))
	}
	if os.Geteuid() == 0 {
		f.richer()
	}
	f.must(os.Chmod(f.path("odd"), 0o1700))
}

// richer is what only root can make.
func (f *fixture) richer() {
	f.Helper()
	need.Commands(f, "setcap")
	f.must(unix.Mknod(f.path("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(300, 70000))))
	f.write("capable", []byte("\x7fELF"))
	f.must(os.Chown(f.path("capable"), 1234, 4321))
	run(f.T, f.source, "setcap", "cap_net_raw,cap_sys_admin+ep", "capable")
	for _, name := range []string{"small", "bundle", "dangling", "fifo", "device"} {
		f.must(unix.Lsetxattr(f.path(name), "trusted.of", []byte(name), 0))
	}
	f.must(unix.Setxattr(f.path("small"), "security.cairn-test", []byte("label\n"), 0))
	f.must(os.Chown(f.path("acl/inherits"), 4e9, 4e9))
	f.must(os.Lchown(f.path("odd/link"), 7, 8))
	f.must(os.Chown(f.path("fifo"), 7, 8))
	f.must(os.Chmod(f.path("closed"), 0))
	f.write("no-access", []byte("n"))
	f.must(os.Chmod(f.path("no-access"), 0))
}

// judge demands that programs of others see no difference.
func (f *fixture) judge(got string) {
	f.Helper()
	if out := run(f.T, f.source, "rsync", "-aHAXnic", "--modify-window=-1", "--delete", f.source+"/", got+"/"); out != "" {
		f.Errorf("rsync sees differences:\n%s", out)
	}
	for _, dump := range [][]string{{"getfattr", "-d", "-R", "-h", "-P", "-e", "hex", "-m", "-", "."}, {"getfacl", "-R", "-n", "-P", "."}} {
		a, b := blocks(run(f.T, f.source, dump...)), blocks(run(f.T, got, dump...))
		if len(a) < 3 {
			f.Errorf("%s sees but %d files with attributes", dump[0], len(a))
		}
		for _, x := range a {
			if !slices.Contains(b, x) {
				f.Errorf("%s shows, and not of what was restored:\n%s", dump[0], x)
			}
		}
		for _, x := range b {
			if !slices.Contains(a, x) {
				f.Errorf("%s shows, of what was restored only:\n%s", dump[0], x)
			}
		}
	}
}

// blocks cuts a dump into what it says of single files.
func blocks(dump string) []string { return strings.Split(strings.TrimSpace(dump), "\n\n") }

// Other programs see no difference between a rich tree and what is restored of it:
// into a new directory, over itself, and over whatever may stand there.
func TestJudges(t *testing.T) {
	f := newFixture(t)
	f.rich()
	s := f.snapshot(ingest.Options{})
	parent := realTempDir(t)
	target := filepath.Join(parent, "target")
	o := restore.Options{Snapshot: s, Target: target, Verify: true}
	in := filepath.Join(target, f.source)
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+rwX", target).Run() })
	_, ev := f.restore(o)
	f.judge(in)

	// Once more changes nothing.
	before := describe(t, in, true)
	res, _ := f.restore(o)
	if res.Files+res.Others+res.Links+res.Directories+res.Replaced+res.Updated != 0 || res.ReadBytes != 0 {
		t.Errorf("restored over the same: %+v", *res)
	}
	f.same(describe(t, in, true), before)
	f.judge(in)

	// Whatever becomes of the target is undone.
	must := f.must
	must(unix.Setxattr(filepath.Join(in, "bundle/a"), "user.more", []byte("x"), 0))
	must(unix.Removexattr(filepath.Join(in, "small"), "user.origin"))
	must(os.Chmod(filepath.Join(in, "medium"), 0o777))
	must(os.Remove(filepath.Join(in, "dangling")))
	must(os.Symlink("elsewhere", filepath.Join(in, "dangling")))
	must(os.Remove(filepath.Join(in, "fifo")))
	must(os.Mkdir(filepath.Join(in, "fifo"), 0o700))
	must(os.Remove(filepath.Join(in, "zz")))
	writeFile(t, filepath.Join(in, "zz"), noise(1, 300<<10))
	must(os.Truncate(filepath.Join(in, "list"), 1<<20))
	must(os.RemoveAll(filepath.Join(in, "deep")))
	writeFile(t, filepath.Join(in, "deep"), nil)
	run(t, in, "setfacl", "-b", "acl/file")
	run(t, in, "setfacl", "-m", "u:77:r", "acl/plain")
	run(t, in, "setfacl", "-k", "acl")
	must(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(in, "odd/link"), make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW))
	writeFile(t, filepath.Join(in, "nothing/extra"), nil)
	o.Delete = true
	_, ev2 := f.restore(o)
	f.judge(in)
	for _, e := range []*events{ev, ev2} {
		if os.Geteuid() == 0 && len(e.warnings) > 0 || len(e.warnings) > 1 {
			t.Errorf("warnings %v", e.warnings)
		}
	}
}

// The same as an ordinary user, of what such a user can have.
func TestJudgesUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		need.Commands(t, "rsync", "getfattr", "getfacl", "setfacl")
		runAsUser(t)
		return
	}
	TestJudges(t)
}

// Of a hard-linked file any of its names may be restored, without the first too, and
// those that are become one file.
func TestLinksOfPart(t *testing.T) {
	f := newFixture(t)
	f.write("a/first", noise(1, 300<<10))
	for _, name := range []string{"a/second", "b/third", "c/fourth"} {
		f.must(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
		f.must(os.Link(f.path("a/first"), f.path(name)))
	}
	s := f.snapshot(ingest.Options{})
	tests := []struct {
		include, exclude []string
		path             string
		want             string
		links            int64
	}{
		{nil, nil, "", "a/first a/second b/third c/fourth", 3},
		{nil, []string{"first"}, "", "a/second b/third c/fourth", 2},
		{[]string{"second", "fourth"}, nil, "", "a/second c/fourth", 1},
		{[]string{"fourth"}, nil, "", "c/fourth", 0},
		{nil, []string{"/**/a"}, "", "b/third c/fourth", 1},
		{nil, nil, "a", "first second", 1},
		{nil, nil, "c/fourth", "fourth", 0},
	}
	for _, test := range tests {
		target := t.TempDir()
		o := restore.Options{Snapshot: s, Path: filepath.Join(f.source, test.path), Target: target, Verify: true}
		o.Include, o.Exclude = patterns(t, test.include...), patterns(t, test.exclude...)
		for _, when := range []string{"new", "again", "in part"} {
			if when == "in part" { // the first name there is of another file
				writeFile(t, filepath.Join(target, strings.Fields(test.want)[0]), []byte("other"))
			}
			res, _ := f.restore(o)
			if when == "new" && (res.Links != test.links || res.Files != 1) {
				t.Errorf("%+v: %d files and %d links, want 1 and %d", test, res.Files, res.Links, test.links)
			}
			var first os.FileInfo
			for _, name := range strings.Fields(test.want) {
				st, err := os.Lstat(filepath.Join(target, name))
				f.must(err)
				if first == nil {
					first = st
				}
				if !os.SameFile(first, st) || st.Size() != 300<<10 {
					t.Errorf("%+v, %s: %s is another file", test, when, name)
				}
			}
			got := 0
			for name := range contents(t, target) {
				if !strings.HasSuffix(name, "/") {
					got++
				}
			}
			if want := len(strings.Fields(test.want)); got != want {
				t.Errorf("%+v, %s: %d files, want %d", test, when, got, want)
			}
		}
	}
}
