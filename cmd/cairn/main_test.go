package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The test binary is the program too: started with this variable it runs main,
// so that tests can send it signals and start it as another user.
const asProgram = "CAIRN_TEST_AS_PROGRAM"

// scratch outlives single tests: the worlds that several of them only read.
var scratch string

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	for _, v := range os.Environ() { // what the developer has set
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "CAIRN_") || name == "LOG_LEVEL" {
			os.Unsetenv(name)
		}
	}
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "cairn-test-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		// Tests start the program as a user without rights, who must get here.
		if err := os.Chmod(scratch, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// world is a repository and what a user has around it. Its key is an identity,
// since each use of a passphrase takes a third of a second.
type world struct {
	t     testing.TB
	dir   string
	repo  string
	src   string
	extra []string // global options in front of every command
}

// newWorld makes a repository without snapshots, and a source.
func newWorld(t testing.TB) *world {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "world-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, repo: filepath.Join(dir, "repo"), src: filepath.Join(dir, "src")}
	recipient := strings.TrimSpace(w.ok("key", "identity", w.path("id")).out)
	w.extra = []string{"--repo", w.repo, "--identity-file", w.path("id"), "--cache-dir", w.path("cache")}
	w.write("src/a/one", "one\n")
	w.write("src/a/two", "two\n")
	w.write("src/big", strings.Repeat("0123456789abcdef", 1<<14))
	w.write("src/\x1b[31mred\nname", "escape\n")
	w.write("src/not\xffutf8", "bytes\n")
	if err := os.Symlink("one", w.path("src/a/link")); err != nil {
		t.Fatal(err)
	}
	w.ok("init", "--recipient", recipient)
	return w
}

// readOnly has two snapshots of the source, of which the second lacks a/two and
// has another a/one. Tests must not change it.
var readOnly = sync.OnceValue(func() *world {
	w := newWorld(panicker{})
	w.ok("snapshot", w.src, "--host", "alpha", "--tag", "first,tag")
	w.write("src/a/one", "one and more\n")
	if err := os.Remove(w.path("src/a/two")); err != nil {
		panic(err)
	}
	w.ok("snapshot", w.src, "--host", "alpha")
	return w
})

// panicker is the testing.TB of what no single test owns.
type panicker struct{ testing.TB }

func (panicker) Helper()                      {}
func (panicker) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (panicker) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

func shared(t *testing.T) *world {
	w := *readOnly()
	w.t = t
	return &w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, contents string) string {
	w.t.Helper()
	p := w.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(contents), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// result is what a run of the program came to.
type result struct {
	status   int
	out, err string
}

// run runs the program in this process.
func (w *world) run(args ...string) result { return w.runWith("", args...) }

func (w *world) runWith(stdin string, args ...string) result {
	var out, errs bytes.Buffer
	line := append(append([]string{"cairn"}, w.extra...), args...)
	status := run(context.Background(), line, terminal{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs})
	return result{status, out.String(), errs.String()}
}

// want runs the program and demands its exit status.
func (w *world) want(status int, args ...string) result {
	w.t.Helper()
	r := w.run(args...)
	if r.status != status {
		w.t.Fatalf("cairn %q: status %d, want %d\n%s%s", args, r.status, status, r.out, r.err)
	}
	return r
}

func (w *world) ok(args ...string) result {
	w.t.Helper()
	return w.want(statusOK, args...)
}

// child returns the program as a process of its own, not yet started.
func (w *world) child(args ...string) *exec.Cmd {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(exe, append(append([]string{}, w.extra...), args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// message is a line of JSON.
type message map[string]any

// messages parses what --json printed, strictly.
func messages(t testing.TB, out string) []message {
	t.Helper()
	var all []message
	for line := range strings.Lines(out) {
		var m message
		if err := json.Unmarshal([]byte(line), &m); err != nil || !strings.HasPrefix(line, `{"message_type":"`) {
			t.Fatalf("not a message: %q (%v)", line, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		t.Fatal("no messages")
	}
	for i, m := range all {
		switch m["message_type"] {
		case "summary":
			// Before an error there may be one, that says what was done.
			if i < len(all)-2 || i == len(all)-2 && all[i+1]["message_type"] != "error" {
				t.Fatalf("a summary before the end: %v", all)
			}
		case "error":
			if i != len(all)-1 {
				t.Fatalf("an error before the end: %v", all)
			}
		default:
			if i == len(all)-1 {
				t.Fatalf("the last message is %v", m)
			}
		}
	}
	return all
}

func last[T any](s []T) T { return s[len(s)-1] }

// ids are the snapshots, the newest last.
func (w *world) ids() []string {
	w.t.Helper()
	var ids []string
	for _, m := range messages(w.t, w.ok("snapshots", "--json").out) {
		if m["message_type"] == "snapshot" {
			ids = append(ids, m["id"].(string))
		}
	}
	return ids
}
