package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/internal/need"
)

// tarOfSource makes an archive of the source and returns its path.
func (w *world) tarOfSource() string {
	w.t.Helper()
	for _, name := range []string{"one", "two"} { // its times have whole seconds
		if err := os.Chtimes(w.path("src/a/"+name), time.Time{}, time.Unix(1e9, 0)); err != nil {
			w.t.Fatal(err)
		}
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.AddFS(os.DirFS(w.path("src/a"))); err != nil {
		w.t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		w.t.Fatal(err)
	}
	return w.write("archive.tar", b.String())
}

// members returns what is in an archive: a link's target or a file's contents by name.
func members(t *testing.T, archive string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	r := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = h.Linkname + string(p)
	}
}

func TestTarSources(t *testing.T) {
	w := newWorld(t)
	file := w.tarOfSource()
	archive, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.runWith(string(archive), "snapshot", "tar:-", "tar:"+file, "--stdin-name", "piped"); r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.err)
	}
	for _, path := range []string{"tar/piped/one", "tar/archive.tar/one"} {
		if out := w.ok("cat", "latest:"+path).out; out != "one\n" {
			t.Errorf("%s has %q", path, out)
		}
	}
	w.ok("restore", "latest", "--target", w.path("out"))
	same(t, w.path("src/a"), w.path("out/tar/piped"))
	if out := w.ok("snapshots").out; !strings.Contains(out, "archive.tar") {
		t.Error(out)
	}
	w.sound()
}

// A tar that is killed in the middle of its work is no backup.
func TestKilledTar(t *testing.T) {
	need.Commands(t, "tar")
	w := newWorld(t)
	w.write("src/large", strings.Repeat("0123456789abcdef", 1<<18))
	maker := exec.Command("tar", "-C", w.src, "-cf", "-", ".")
	out, err := maker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := w.child("snapshot", "tar:-")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.CopyN(in, out, 1<<20) // less than there is, however large the pipe between them
		maker.Process.Kill()
		io.Copy(in, out)
		in.Close()
	}()
	status, errs := exit(t, cmd)
	if maker.Wait() == nil {
		t.Error("tar came to its end before it was killed, so the test shows nothing")
	}
	if status != statusFailed || !strings.Contains(errs, "cut off") || !strings.Contains(errs, "no snapshot was made") {
		t.Errorf("status %d: %s", status, errs)
	}
	if n := len(w.ids()); n != 0 {
		t.Errorf("there are %d snapshots of half an archive", n)
	}
	w.sound()
}

func TestRestoreTar(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	file := w.path("out.tar")
	r := w.ok("restore", "latest:"+w.src, "--tar", file)
	if !strings.Contains(r.out, "5 files") || !strings.Contains(r.out, "out.tar") {
		t.Errorf("it says %q", r.out)
	}
	archive, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := members(t, string(archive))
	if got["a/one"] != "one\n" || got["a/link"] != "one" || got["not\xffutf8"] != "bytes\n" || len(got) != 8 {
		t.Errorf("the archive has %q", got)
	}

	// To the standard output goes the archive and nothing else.
	r = w.ok("restore", "latest:"+w.src, "--tar", "-", "-v")
	if r.out != string(archive) {
		t.Errorf("%d bytes on the standard output, want %d", len(r.out), len(archive))
	}
	if !strings.Contains(r.err, "a/one") || !strings.Contains(r.err, "5 files") {
		t.Errorf("the standard error has %q", r.err)
	}
	if r := w.run("restore", "latest", "--tar", "-", "--json"); r.status != statusUsage {
		t.Errorf("--json --tar -: status %d", r.status)
	}

	// What is there is replaced only if that is wanted, and keeps its contents otherwise.
	link := w.path("link.tar")
	if err := os.Symlink("out.tar", link); err != nil {
		t.Fatal(err)
	}
	w.want(statusUsage, "restore", "latest:"+w.src+"/a", "--tar", link)
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, archive) {
		t.Errorf("the file was changed without a yes (%v)", err)
	}
	w.ok("restore", "latest:"+w.src+"/a", "--tar", link, "--yes")
	now, err := os.ReadFile(file)
	if err != nil || len(members(t, string(now))) != 4 {
		t.Errorf("the file was not replaced (%v)", err)
	}
	if to, err := os.Readlink(link); err != nil || to != "out.tar" {
		t.Errorf("the link became %q, %v", to, err)
	}
	// So is what only seemed not to be there, or came meanwhile.
	dangling := w.path("dangling.tar")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	if r := w.want(statusFailed, "restore", "latest:"+w.src, "--tar", dangling); !strings.Contains(r.err, "left as it is") {
		t.Error(r.err)
	}
	if to, err := os.Readlink(dangling); err != nil || to != "nowhere" {
		t.Errorf("the link to nothing became %q, %v", to, err)
	}
	w.noTempTar()
}

// noTempTar demands that no temporary file is left.
func (w *world) noTempTar() {
	w.t.Helper()
	left, err := filepath.Glob(w.path(".cairn-tar-*"))
	if err != nil || len(left) > 0 {
		w.t.Errorf("%q is left behind (%v)", left, err)
	}
}

// Damage never makes an archive that looks whole, under no name.
func TestRestoreTarDamage(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	packs, err := filepath.Glob(filepath.Join(w.repo, "data/*/*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no packs: %v", err)
	}
	for _, p := range packs { // into the first frame of each
		if err := errors.Join(os.Chmod(p, 0o600), os.Truncate(p, 1250)); err != nil {
			t.Fatal(err)
		}
	}
	file := w.path("out.tar")
	r := w.want(statusDamage, "restore", "latest:"+w.src, "--tar", file)
	if _, err := os.Stat(file); !os.IsNotExist(err) || !strings.Contains(r.err, w.src) {
		t.Errorf("there is an archive (%v): %s", err, r.err)
	}
	w.noTempTar()
	r = w.want(statusDamage, "restore", "latest:"+w.src, "--tar", file, "--allow-damaged")
	archive, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := members(t, string(archive)); len(got) != 8 || got["a/one"] != "\x00\x00\x00\x00" || !strings.Contains(r.err, w.src+"/a/one") {
		t.Errorf("the archive has %.200q; stderr %s", got, r.err)
	}
}
