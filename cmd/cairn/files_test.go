package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// listedFiles are what the last snapshot has of the source, relative to it.
func (w *world) listedFiles() (names []string) {
	w.t.Helper()
	for _, m := range messages(w.t, w.ok("ls", "-R", "--json", "latest").out) {
		if path, ok := m["path"].(string); ok {
			if name, ok := strings.CutPrefix(path, w.src+"/"); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// TestFilesFrom gives the paths to take in lists, as other programs write them.
func TestFilesFrom(t *testing.T) {
	need.Commands(t, "find")
	w := newWorld(t)
	w.src = w.path("list")
	for _, name := range []string{"a.txt", "b.txt", "sub/c.txt", "sub/with\nnewline.txt", "sub/other", " spaces .txt"} {
		w.write("list/"+name, name)
	}
	lines := w.write("lines", w.src+"/a.txt\n\n"+w.src+"/sub/c.txt") // the last without its newline
	more := w.write("more", w.src+"/b.txt\n"+w.src+"/a.txt\n")
	found, err := exec.Command("find", w.src, "-name", "*.txt", "-print0").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw := w.write("raw", string(found))

	check := func(r result, want ...string) {
		t.Helper()
		if r.status != statusOK {
			t.Fatalf("status %d: %s", r.status, r.err)
		}
		if got := strings.Join(w.listedFiles(), "|"); got != strings.Join(want, "|") {
			t.Errorf("the snapshot has %q, want %q", got, want)
		}
	}
	check(w.run("snapshot", "--files-from", lines), "a.txt", "sub", "sub/c.txt")
	check(w.run("snapshot", "--files-from", lines, "--files-from", more, w.src+"/sub/other"), "a.txt", "b.txt", "sub", "sub/c.txt", "sub/other")
	check(w.runWith(w.src+"/a.txt\n", "snapshot", "--files-from", "-"), "a.txt")
	all := []string{" spaces .txt", "a.txt", "b.txt", "sub", "sub/c.txt", "sub/with\nnewline.txt"}
	check(w.run("snapshot", "--files-from-raw", raw), all...)
	check(w.runWith(string(found), "snapshot", "--files-from-raw", "-"), all...)

	for _, test := range []struct {
		stdin  string
		status int
		says   string
		args   []string
	}{
		{"", statusUsage, "what to take", []string{"--files-from", "-"}},
		{"x", statusUsage, "standard input", []string{"--files-from", "-", "-"}},
		{"x", statusUsage, "standard input", []string{"--files-from", "-", "--files-from-raw", "-"}},
		{"x", statusUsage, "not for tar:- and --files-from-raw -", []string{"--files-from-raw", "-", "tar:-"}},
		{"x", statusUsage, "not for tar:- and --files-from -", []string{"--files-from", "-", "tar:-"}},
		{"x", statusUsage, "not for - and tar:-", []string{"-", "tar:-"}},
		{"", statusUsage, "--files-from-raw", []string{"--files-from", raw}},
		{"", statusFailed, "no such file", []string{"--files-from", w.path("nowhere")}},
		{"", statusFailed, "no snapshot was made", []string{"--files-from", w.write("wrong", w.src+"/a.txt\n"+w.path("gone")+"\n")}},
	} {
		r := w.runWith(test.stdin, append([]string{"snapshot"}, test.args...)...)
		if r.status != test.status || !strings.Contains(r.err, test.says) {
			t.Errorf("%q: status %d, want %d, %s", test.args, r.status, test.status, r.err)
		}
	}
	if n := len(w.ids()); n != 5 {
		t.Errorf("%d snapshots, want 5", n)
	}
}

// TestReason: a message says the path itself, and so not the name in the error; but what
// is around such an error it does not lose.
func TestReason(t *testing.T) {
	plain := &fs.PathError{Op: "open", Path: "name", Err: syscall.EACCES}
	for _, test := range []struct {
		err  error
		want string
	}{
		{plain, "permission denied"},
		{fmt.Errorf("what is left is missing: %w", plain), "what is left is missing: open name: permission denied"},
		{errors.Join(plain, errors.New("and more")), "open name: permission denied\nand more"},
	} {
		if got := reason(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// TestSockets: a socket can't be backed up, which is said and is no failure.
func TestSockets(t *testing.T) {
	w := newWorld(t)
	path := w.src + "/s.sock"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		need.Missing(t, "no socket can be made here: %v", err)
	}
	defer l.Close()
	if err := syscall.Mkfifo(w.src+"/fifo", 0o600); err != nil { // nobody writes to it
		t.Fatal(err)
	}
	r := w.ok("snapshot", w.src)
	if n := strings.Count(r.err, path); n != 1 || !strings.Contains(r.err, "socket") {
		t.Errorf("the socket is named %d times: %s", n, r.err)
	}
	if names := strings.Join(w.listedFiles(), "|"); strings.Contains(names, "s.sock") || !strings.Contains(names, "fifo") {
		t.Errorf("the snapshot has %q", names)
	}
}

// TestReadErrorStatus: a file that can be opened and not read is named, the
// snapshot lacks it and says so.
func TestReadErrorStatus(t *testing.T) {
	const bad = "/proc/self/mem" // nothing is mapped at its beginning
	if _, err := os.Stat(bad); err != nil {
		need.Missing(t, "there is no /proc")
	}
	w := newWorld(t)
	r := w.want(statusIncomplete, "snapshot", w.src, bad)
	if !strings.Contains(r.err, bad) || !strings.Contains(r.err, "input/output error") || !strings.Contains(r.err, "1 item could not be read") {
		t.Error(r.err)
	}
	if out := w.ok("ls", "-R", "latest").out; strings.Contains(out, bad) || !strings.Contains(out, w.src) {
		t.Error(out)
	}
}

// TestSparseSource: a terabyte of nothing costs nothing.
func TestSparseSource(t *testing.T) {
	w := newWorld(t)
	path := w.write("sparse/terabyte", "begins")
	if err := os.Truncate(path, 1<<40); err != nil {
		need.Missing(t, "no sparse file of a terabyte can be made here: %v", err)
	}
	w.ok("snapshot", w.path("sparse"))
	if n := objectBytes(t, w.repo); n > 1<<20 {
		t.Errorf("the repository has %d bytes", n)
	}
	r := w.ok("ls", "-l", "latest:"+path)
	if !strings.Contains(r.out, "1.0 TiB") && !strings.Contains(r.out, "1099511627776") {
		t.Error(r.out)
	}
	first := w.child("cat", "latest:"+path)
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 16)
	if n, err := out.Read(p); err != nil || !bytes.HasPrefix(p[:n], []byte("begins")) {
		t.Errorf("it begins with %q, %v", p[:n], err)
	}
	out.Close()
	first.Process.Kill()
	first.Wait()
}

// objectBytes is the size of what is in a directory.
func objectBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
