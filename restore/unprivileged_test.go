package restore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// What an ordinary user can't have is a warning, said once; directories that may
// not be written to get their entries all the same.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		runAsUser(t)
		return
	}
	f := newFixture(t)
	f.write("locked/deep/file", []byte("in"))
	f.write("setuid", []byte("#!"))
	f.write("secret", []byte("s"))
	f.must(os.Link(f.path("secret"), f.path("secret2")))
	f.must(os.Chmod(f.path("secret"), 0o400))
	f.must(os.Chmod(f.path("setuid"), 0o755|os.ModeSetuid))
	f.must(os.Chmod(f.path("locked/deep"), 0o555))
	f.must(os.Chmod(f.path("locked"), 0o500))
	unlock := func(dir string) {
		os.Chmod(filepath.Join(dir, "locked"), 0o700)
		os.Chmod(filepath.Join(dir, "locked/deep"), 0o700)
	}
	t.Cleanup(func() { unlock(f.source) })
	want := describe(t, f.source, false)
	s := f.snapshot(ingest.Options{})
	target := t.TempDir()
	t.Cleanup(func() { unlock(target) })
	_, ev := f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target, Verify: true})
	f.same(describe(t, target, false), want)
	if len(ev.warnings) != 1 || ev.warnings[target] == nil {
		t.Errorf("warnings %v, want one of owners", ev.warnings)
	}
	// Once more, into directories that are locked now, as is the first name.
	f.restore(restore.Options{Snapshot: s, Path: f.source, Target: target})
	f.same(describe(t, target, false), want)

	foreign := f.made(dirEntry(""),
		snapshot.Entry{Key: "\x00device", Type: snapshot.CharDevice, Mode: 0o600, Device: 0x103},
		snapshot.Entry{Key: "\x00setuid", Type: snapshot.Symlink, Target: []byte("x"), UID: 4711},
		snapshot.Entry{Key: "\x00z", Type: snapshot.File, Mode: 0o6755, UID: 4711, GID: 4711})
	target2 := t.TempDir()
	_, ev, err := f.try(restore.Options{Snapshot: foreign, Target: target2})
	if err == nil || ev.problems["/device"] == nil || len(ev.problems) != 1 {
		t.Errorf("error %v, problems %v", err, ev.problems)
	}
	if st, err := os.Stat(filepath.Join(target2, "z")); err != nil || st.Mode() != 0o755 {
		t.Errorf("a set-user-ID file of somebody else has mode %v", st.Mode())
	}
}

// runAsUser runs this test in a process of an ordinary user.
func runAsUser(t *testing.T) {
	const nobody = 65534
	temp := t.TempDir()
	if err := os.Chown(temp, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// The test's own directory may be closed to others: lead there anyway.
	for dir := filepath.Dir(temp); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+temp)
	cmd.Dir = temp
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}
