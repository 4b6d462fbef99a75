package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// TestFencedRun: a run that is fenced, whose packs are gone and whose sources can't all be
// read again, ends with its own status and makes no snapshot. The next run is good.
func TestFencedRun(t *testing.T) {
	need.Commands(t, "sh")
	w := newWorld(t)
	w.ok("snapshot", w.src)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	// The command plays the other run: the packs go, and a repair ends the lease, as its
	// begin is damaged.
	script := w.write("dump", `
set -e
for b in "`+w.repo+`"/leases/*/begin; do rm -f "$b"; echo damaged > "$b"; done
rm -f "`+w.repo+`"/data/*/*
"`+exe+`" `+strings.Join(w.extra, " ")+` repair >&2 || true
echo the dump
`)
	r := w.want(statusFenced, "snapshot", w.src, "--command", "dump=sh "+script)
	for _, says := range []string{"fenced off", `the command for "dump"`, "run the command again"} {
		if !strings.Contains(r.err, says) {
			t.Errorf("it says %q, without %q", r.err, says)
		}
	}
	if n := len(w.ids()); n != 1 {
		t.Errorf("there are %d snapshots", n)
	}
	w.ok("snapshot", w.src, "--command", "dump=echo the dump")
	w.ok("check", "--read-data=100%")
	if out := w.ok("cat", "latest:"+w.path("src/a/one")).out; out != "one\n" {
		t.Errorf("saved is %q", out)
	}
}

// TestRewinding: only a regular file goes back to its beginning.
func TestRewinding(t *testing.T) {
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer wr.Close()
	null, err := os.Open(os.DevNull) // which seeks without a word
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, f := range []*os.File{r, null} {
		if rewinding(f) != nil {
			t.Errorf("%s can be read again", f.Name())
		}
	}
	w := &world{t: t, dir: t.TempDir()}
	f, err := os.Open(w.write("x", "contents"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if b, err := io.ReadAll(f); err != nil || string(b) != "contents" {
			t.Errorf("read %q, %v", b, err)
		}
		if again, err := rewinding(f)(); err != nil || again != f {
			t.Errorf("again is %v, %v", again, err)
		}
	}
}

// TestLeaseTakenForALock: somebody empties leases/ while a snapshot runs, and a prune, which
// then waits for nobody, frees what the snapshot relies on. It makes no broken snapshot: a command
// is not run twice, so it is for the user to run it again.
func TestLeaseTakenForALock(t *testing.T) {
	need.Commands(t, "sh")
	w := newWorld(t)
	w.write("src/random", random(512<<10))
	w.ok("snapshot", w.src, "--host", "alpha")
	id := w.ids()[0]
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	cairn := `"` + exe + `" ` + strings.Join(w.extra, " ")
	script := w.write("dump", `
set -e
if [ ! -e "`+w.path("done")+`" ]; then
	`+cairn+` forget `+id+` --yes --allow-many >&2
	rm -r "`+w.repo+`"/leases/*
	`+cairn+` prune --yes >&2
	: > "`+w.path("done")+`"
fi
echo the dump
`)
	again := []string{"snapshot", w.src, "--command", "dump=sh " + script, "--host", "beta"}
	if r := w.want(statusFenced, again...); !strings.Contains(r.err, "run the command again") || len(w.ids()) != 0 {
		t.Errorf("it says %q, and there are %d snapshots", r.err, len(w.ids()))
	}
	w.ok(again...)
	w.ok("check", "--read-data")
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"))
	same(t, w.src, w.path("out"))
}
