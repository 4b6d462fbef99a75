package restore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/seal"
)

// dying is a storage whose process is killed at the n-th read of contents, or at the
// first at which a file is half written.
type dying struct {
	backend.Interface
	left atomic.Int64
	half string // where files are written
}

func (d *dying) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if strings.HasPrefix(name, "data/") && d.left.Add(-1) == 0 {
		die()
	}
	if begun, _ := filepath.Glob(filepath.Join(d.half, "*/.cairn-*")); d.half != "" && len(begun) > 0 {
		die()
	}
	return d.Interface.ReadAt(ctx, name, p, off)
}

func die() {
	unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// Variables of the environment that make TestKilled the process that is killed.
const (
	killedRepo   = "RESTORE_TEST_REPO"
	killedTarget = "RESTORE_TEST_TARGET"
	killedAt     = "RESTORE_TEST_AT" // "read 3", "entry 7", "large 2" or "half 0"
)

// killedOptions opens the repository of TestKilled, and returns what it restores.
func killedOptions(t *testing.T, dir string) (*fixture, *dying, restore.Options) {
	f := &fixture{T: t}
	l, err := local.Open(filepath.Join(dir, "repo"))
	f.must(err)
	d := &dying{Interface: l}
	f.repo, err = repo.Open(t.Context(), repo.Options{
		Storage: d, Cache: filepath.Join(dir, "cache"), Secrets: []seal.Unlocker{seal.Passphrase{Text: []byte("secret")}},
		Goroutines: 2,
	})
	f.must(err)
	t.Cleanup(func() { f.repo.Close() })
	set, err := f.repo.Snapshots(t.Context())
	f.must(err)
	s := set.Newest()[0]
	return f, d, restore.Options{Snapshot: s, Path: f.source0(s)}
}

// A restore that was killed, wherever, is taken up by the next one: the result is the
// same, nothing is left behind, no file was ever half there under its name, and
// what was finished is not read again.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedRepo); dir != "" {
		restoreAndDie(t, dir)
		return
	}
	f := newFixture(t)
	f.write("dir0/huge", noise(100, 6<<20)) // in more packs than are read at once
	for i := range byte(12) {
		f.write(fmt.Sprintf("dir%d/large", i), noise(i, 400<<10))
		f.write(fmt.Sprintf("dir%d/small", i), noise(i, 1000))
		f.must(os.Link(f.path(fmt.Sprintf("dir%d/small", i)), f.path(fmt.Sprintf("zz%d", i))))
	}
	f.must(os.Chmod(f.path("dir3"), 0o555))
	f.Cleanup(func() { os.Chmod(f.path("dir3"), 0o755) })
	dir := t.TempDir()
	f.must(os.Mkdir(filepath.Join(dir, "repo"), 0o700))
	l, err := local.Open(filepath.Join(dir, "repo"))
	f.must(err)
	f.repo, err = repo.Init(t.Context(), repo.Options{Storage: l, Cache: filepath.Join(dir, "cache"), Random: rand.NewChaCha8([32]byte{1})}, repo.Params{
		Chunker: chunk.Params{Algorithm: chunk.FastCDC, Min: 8 << 10, Avg: 16 << 10, Max: 64 << 10}, PackSize: 1 << 20,
		Lock: seal.Passphrase{Text: []byte("secret"), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}},
	})
	f.must(err)
	f.snapshot(ingest.Options{})
	f.must(f.repo.Close())
	want, whole := describe(t, f.source, false), contents(t, f.source)

	var total int64 // read when nothing is there
	for _, at := range []string{"read 0", "entry 1", "large 1", "large 6", "large 12", "entry 40", "read 3", "read 6", "half 0"} {
		t.Run(at, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			t.Cleanup(func() { os.Chmod(filepath.Join(target, "dir3"), 0o755) })
			killed := at != "read 0"
			if killed {
				kill(t, dir, target, at)
			}
			temps := 0
			for name, data := range contents(t, target) {
				switch {
				case strings.Contains(name, ".cairn-"):
					temps++
				case data != whole[name]:
					t.Errorf("half of %s is there under its name", name)
				}
			}
			if at == "half 0" && temps == 0 {
				t.Error("the kill came at no file that was half written, so this tests nothing")
			}
			f, _, o := killedOptions(t, dir)
			f.source = string(o.Path)
			o.Target, o.Verify = target, true
			plan, err := restore.Plan(t.Context(), f.repo, o)
			f.must(err)
			res, _ := f.restore(o)
			plan.Verified = res.Verified
			if *plan != *res {
				t.Errorf("planned %+v\ndid     %+v", *plan, *res)
			}
			f.same(describe(t, target, false), want)
			f.noTemporary(target)
			if res.Swept != int64(temps) {
				t.Errorf("%d leftovers were removed of %d", res.Swept, temps)
			}
			if !killed {
				total = res.ReadBytes
			} else if strings.HasPrefix(at, "large ") && res.ReadBytes >= total {
				t.Errorf("chunks of %d bytes were read, as many as at first (%d)", res.ReadBytes, total)
			}
		})
	}
}

// kill lets a process restore and be killed.
func kill(t *testing.T, dir, target, at string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killedRepo+"="+dir, killedTarget+"="+target, killedAt+"="+at)
	out, err := cmd.CombinedOutput()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
}

// restoreAndDie is what that process does.
func restoreAndDie(t *testing.T, dir string) {
	var what string
	var n int64
	if _, err := fmt.Sscan(os.Getenv(killedAt), &what, &n); err != nil {
		t.Fatal(err)
	}
	f, storage, o := killedOptions(t, dir)
	o.Target = os.Getenv(killedTarget)
	switch what {
	case "half":
		storage.half = o.Target
	case "read":
		storage.left.Store(n)
	case "entry", "large":
		var seen atomic.Int64
		o.Observer.Entry = func(path string, _ restore.Action) {
			if (what == "entry" || strings.HasSuffix(path, "large")) && seen.Add(1) == n {
				die()
			}
		}
	}
	_, err := restore.Directory(t.Context(), f.repo, o)
	f.must(err)
}

// Only what a restore by this user left is taken for a leftover, and nothing that the
// snapshot has, or that a restore which still runs is writing.
func TestSweep(t *testing.T) {
	f := newFixture(t)
	const ours = ".cairn-0123456789abcdef-7"
	f.write("dir/file", []byte("x"))
	f.write("backed-up/"+ours, []byte("of a target that was backed up"))
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	stay := []string{
		"dir/.cairn-0123456789abcdef-", "dir/.cairn-0123456789abcdef-07", "dir/.cairn-0123456789ABCDEF-7", "dir/.cairn-0123456789abcde-7",
		"dir/x" + ours, "dir/" + ours + ".txt", "dir/" + ours + "\n", "dir/.cairn-damaged", "unknown/" + ours,
	}
	for _, name := range append([]string{"dir/" + ours, ours, "dir/.cairn-fedcba9876543210-12", "backed-up/" + ours}, stay...) {
		writeFile(t, filepath.Join(target, name), []byte("half"))
	}
	f.must(os.Symlink("/nowhere", filepath.Join(target, "dir/.cairn-0123456789abcdef-8")))
	f.must(os.Mkdir(filepath.Join(target, "dir/.cairn-0123456789abcdef-9"), 0o755))
	held, err := os.Create(filepath.Join(target, "dir/.cairn-00000000ffffffff-1"))
	f.must(err)
	defer held.Close()
	f.must(unix.Flock(int(held.Fd()), unix.LOCK_EX))
	stay = append(stay, "dir/.cairn-00000000ffffffff-1")

	o := restore.Options{Snapshot: s, Path: f.source, Target: target}
	before := describe(t, target, false)
	plan, err := restore.Plan(t.Context(), f.repo, o)
	f.must(err)
	f.same(describe(t, target, false), before)
	f.must(os.Chmod(filepath.Join(target, "dir/.cairn-fedcba9876543210-12"), 0))
	res, _ := f.restore(o)
	if *plan != *res || res.Swept != 4 {
		t.Errorf("planned %+v\ndid     %+v, want 4 leftovers", *plan, *res)
	}
	got := contents(t, target)
	for _, name := range append(stay, "dir/.cairn-0123456789abcdef-9/") {
		if _, ok := got[name]; !ok {
			t.Errorf("%q was removed", name)
		}
		delete(got, name)
		delete(got, filepath.Dir(name)+"/")
	}
	delete(got, "backed-up/")
	f.same(got, map[string]string{"dir/file": "x", "backed-up/" + ours: "of a target that was backed up"})

	// Also where but one file is restored.
	writeFile(t, filepath.Join(target, ours), []byte("half"))
	res, _ = f.restore(restore.Options{Snapshot: s, Path: f.path("dir/file"), Target: target})
	if res.Swept != 1 {
		t.Errorf("restoring a file removed %d leftovers", res.Swept)
	}
	f.must(os.Remove(filepath.Join(target, "file")))

	// With deletion the rest goes, but not what a restore holds.
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Delete: true})
	wantLeft := contents(t, f.source)
	wantLeft["dir/.cairn-00000000ffffffff-1"] = ""
	f.same(contents(t, target), wantLeft)
}
