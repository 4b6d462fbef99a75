package main

import (
	"os"
	"strings"
	"testing"
)

// TestRestoreSparesRepository: no restore, whatever it is told, spoils the repository
// that it reads from.
func TestRestoreSparesRepository(t *testing.T) {
	w := newWorld(t)
	all := w.path("")
	w.ok("snapshot", all) // the repository is in its own source
	id := w.ids()[0]
	w.write("src/a/one", "changed\n")
	w.ok("snapshot", w.src) // what it puts into the repository, the first one lacks

	r := w.want(statusFailed, "restore", id+":"+all, "--target", all, "--delete", "--yes")
	if !strings.Contains(r.err, "repository itself") {
		t.Errorf("it says %q", r.err)
	}
	if got, err := os.ReadFile(w.path("src/a/one")); string(got) != "one\n" {
		t.Errorf("the source has %q, %v", got, err)
	}
	w.ok("check", "--read-data")
	if n := len(w.ids()); n != 2 {
		t.Errorf("%d snapshots are left", n)
	}

	for _, target := range []string{w.repo, w.repo + "/data", w.repo + "/new/dir"} {
		r := w.want(statusFailed, "restore", id+":"+w.src, "--target", target, "--delete", "--yes")
		if !strings.Contains(r.err, "in the repository") {
			t.Errorf("it says %q", r.err)
		}
	}
	w.ok("check", "--read-data")
}

// TestSnapshotSparesRepository: a repository in its own source is not taken into itself,
// under whichever name, and another one is like any directory.
func TestSnapshotSparesRepository(t *testing.T) {
	w := newWorld(t)
	all := w.path("")
	other := newWorld(t)
	if err := os.Rename(other.repo, w.path("src/other")); err != nil {
		t.Fatal(err)
	}
	link := w.path("link")
	if err := os.Symlink(w.repo, link); err != nil {
		t.Fatal(err)
	}
	const says = "is the repository itself; its contents are left out"
	for _, name := range []string{w.repo, "file://" + w.repo, link} {
		r := w.ok("--repo", name, "snapshot", all)
		if strings.Count(r.err, says) != 1 || !strings.Contains(r.err, w.repo+": "+says) {
			t.Errorf("%s: it says %q", name, r.err)
		}
		if out := w.ok("ls", "--recursive", "latest:"+w.repo).out; out != "" {
			t.Errorf("%s: of the repository it has %q", name, out)
		}
		if out := w.ok("ls", "latest:"+all).out; !strings.Contains(out, w.repo+"\n") {
			t.Errorf("%s: the repository's directory itself is not in %q", name, out)
		}
		w.ok("cat", "latest:"+w.path("src/other/config"))
	}
	if r := w.ok("snapshot", all, "--exclude", w.repo); strings.Contains(r.err, says) {
		t.Errorf("excluded, it says %q", r.err)
	}
	before := len(w.ids())
	for _, args := range [][]string{{w.repo}, {w.repo + "/data"}, {w.repo + "/config"}, {all, w.repo}, {link + "/config", "--allow-incomplete"}} {
		r := w.want(statusFailed, append([]string{"snapshot"}, args...)...)
		if !strings.Contains(r.err, "into itself") {
			t.Errorf("%q: it says %q", args, r.err)
		}
	}
	if n := len(w.ids()); n != before {
		t.Errorf("there are %d snapshots, had %d", n, before)
	}
	w.ok("check", "--read-data")
}

// TestLostConfig: what is said of a repository without config leads to its repair, and to
// no other one in its place.
func TestLostConfig(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	if err := os.Remove(w.repo + "/config"); err != nil {
		t.Fatal(err)
	}
	recipient := strings.TrimSpace(w.ok("key", "identity", w.path("id2")).out)
	for _, args := range [][]string{{"snapshots"}, {"check"}, {"snapshot", w.src}, {"init", "--recipient", recipient}} {
		r := w.want(statusDamage, args...)
		if !strings.Contains(r.err, "cairn repair") || strings.Contains(r.err, "make one with") {
			t.Errorf("%s says %q", args, r.err)
		}
	}
	w.ok("repair")
	w.ok("check", "--read-data")
	if len(w.ids()) != 1 {
		t.Error("the snapshot is gone")
	}
}
