//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// exit starts a child and returns its exit status, -1 if a signal ended it.
func exit(t *testing.T, cmd *exec.Cmd) (status int, stderr string) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	err := cmd.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}

func TestInterrupt(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := w.child("snapshot", "-", w.src, "--json", "--verbose")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// When it has read so much, it is in the middle: the pipe holds less.
		if _, err := in.Write(make([]byte, 8<<20)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		in.Close()
		if s := cmd.ProcessState.ExitCode(); s != statusInterrupted {
			t.Errorf("%v: status %d\n%s", sig, s, out.String())
		}
		if m := last(messages(t, out.String())); m["code"] != float64(statusInterrupted) || !strings.Contains(m["message"].(string), "no snapshot was made") {
			t.Errorf("%v", m)
		}
	}
	if n := len(w.ids()); n != 1 {
		t.Errorf("%d snapshots after the interruptions", n)
	}
	w.sound()
}

func TestStdinEnds(t *testing.T) {
	w := newWorld(t)
	cmd := w.child("snapshot", "-", "--stdin-name", "x")
	cmd.Stdin = io.LimitReader(rand.NewChaCha8([32]byte{}), 3<<20)
	if s, errs := exit(t, cmd); s != 0 {
		t.Fatal(errs)
	}
	if out := w.ok("cat", "latest:stdin/x").out; len(out) != 3<<20 {
		t.Errorf("%d bytes", len(out))
	}
}

// A file without permission: done, but not whole.
func TestUnreadable(t *testing.T) {
	w := newWorld(t)
	secret := w.write("src/secret", "x")
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	status, errs := exit(t, w.ordinary("snapshot", w.src, "-q"))
	if status != statusIncomplete || !strings.Contains(errs, secret) || !strings.Contains(errs, "permission denied") {
		t.Errorf("status %d: %s", status, errs)
	}
	if out := w.ok("snapshots").out; !strings.Contains(out, "(incomplete)") {
		t.Error(out)
	}
	// Nor can it restore where it may not write.
	if err := os.MkdirAll(w.path("locked"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.path("locked"), 0o555); err != nil {
		t.Fatal(err)
	}
	status, errs = exit(t, w.ordinary("restore", "latest", "--target", w.path("locked/x")))
	if status != statusFailed || !strings.Contains(errs, "permission denied") {
		t.Errorf("status %d: %s", status, errs)
	}
	status, errs = exit(t, w.ordinary("restore", "latest:"+w.src+"/a", "--target", w.path("open/x")))
	if status != 0 {
		t.Errorf("status %d: %s", status, errs)
	}
}

// The permission to write goes away while a snapshot is made.
func TestPermissionLost(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	cmd := w.ordinary("snapshot", "-", "-q")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 8<<20)); err != nil { // more than the pipe holds: it has begun
		t.Fatal(err)
	}
	chmod := func(mode os.FileMode) {
		err := filepath.WalkDir(w.repo, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(p, mode)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o500)
	in.Close()
	cmd.Wait()
	if s := cmd.ProcessState.ExitCode(); s != statusFailed || !strings.Contains(errs.String(), "permission denied") || !strings.Contains(errs.String(), w.repo) {
		t.Errorf("status %d: %s", s, errs.String())
	}
	for _, args := range [][]string{{"check", "--read-data"}, {"snapshots"}, {"restore", "latest:" + w.src, "--target", w.path("open/out")}} {
		if s, errs := exit(t, w.ordinary(args...)); s != statusOK {
			t.Errorf("%q without permission to write: status %d: %s", args, s, errs)
		}
	}
	chmod(0o700)
	if s, errs := exit(t, w.ordinary("snapshot", w.src)); s != statusOK {
		t.Errorf("with permission again: status %d: %s", s, errs)
	}
	if n := len(w.ids()); n != 2 {
		t.Errorf("%d snapshots", n)
	}
	w.sound()
}

// ordinary returns the program as a process of a user without special rights.
// The world becomes this user's.
func (w *world) ordinary(args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := w.child(args...)
	if os.Geteuid() != 0 {
		return cmd
	}
	const nobody = 65534
	b, err := os.ReadFile(cmd.Path)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Path = w.path("cairn") // go test's folder is for root alone
	err = os.WriteFile(cmd.Path, b, 0o755)
	err = errors.Join(err, os.MkdirAll(w.path("open"), 0o755), os.Chmod(w.dir, 0o755), filepath.WalkDir(w.dir, func(p string, _ os.DirEntry, err error) error {
		if p == w.path("locked") || err != nil {
			return err
		}
		return os.Lchown(p, nobody, nobody)
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Env = append(cmd.Env, "HOME="+w.dir, "TMPDIR="+w.path("open"))
	return cmd
}

// What the program says can come next.
func TestComplete(t *testing.T) {
	w := shared(t)
	t.Setenv("CAIRN_REPOSITORY", w.repo)
	id := w.ids()[0]
	w.extra = nil
	for line, want := range map[string]string{
		"sn":                          "snapshot snapshots",
		"key pa":                      "passwd",
		"bench pri":                   "primitives",
		"bench x --prefer s":          "speed size",
		"key add --wri":               "--write-only",
		"snapshots --la":              "--latest",
		"restore x --over":            "--overwrite",
		"restore --overwrite if":      "if-changed if-newer",
		"restore --overwrite=if":      "--overwrite=if-changed --overwrite=if-newer",
		"restore --overwrite = if":    "if-changed if-newer", // as bash splits it
		"restore --overwrite =":       "always if-changed if-newer never",
		"restore --target ":           "",
		"snapshot -- --ta":            "",
		"help sta":                    "stats",
		"restore " + id[:3]:           id[:8],
		"-r /nowhere ls " + id[:3]:    "",
		"ls late":                     "latest",
		"ls --host=x late":            "latest",
		"completion f":                "fish",
		"--no":                        "--no-progress",
		"nonsense --no-such-option x": "",
	} {
		r := w.ok(append([]string{completeCommand}, strings.Split(line, " ")...)...)
		if got := strings.Join(strings.Fields(r.out), " "); got != want || r.err != "" {
			t.Errorf("%s: %q, want %q; stderr %q", line, got, want, r.err)
		}
	}
}

// The script for bash asks the program as it should.
func TestBashCompletion(t *testing.T) {
	need.Commands(t, "bash")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
cairn() { "$EXE" "$@"; }
source <(cairn completion bash)
complete -p cairn
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _cairn; echo "${COMPREPLY[*]}"; }
complete_line cairn sn
complete_line cairn restore --overwrite = if
complete_line cairn restore --target ''
`
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = append(os.Environ(), asProgram+"=1", "EXE="+exe)
	out, err := cmd.CombinedOutput()
	const want = "complete -o default -F _cairn cairn\nsnapshot snapshots\nif-changed if-newer\n\n"
	if err != nil || string(out) != want {
		t.Errorf("%v: %q", err, out)
	}
}

func TestManualPages(t *testing.T) {
	w := &world{t: t}
	need.Commands(t, "groff")
	pages := [][]string{{"man"}}
	for _, c := range new(program).app().Commands {
		pages = append(pages, []string{"man", c.Name})
	}
	for _, args := range pages {
		cmd := exec.Command("groff", "-man", "-ww", "-Tascii")
		cmd.Stdin = strings.NewReader(w.ok(args...).out)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil || errs.Len() > 0 || len(out) < 2000 {
			t.Errorf("cairn %q: %v, %s", args, err, errs.String())
		}
	}
}
