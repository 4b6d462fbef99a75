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
