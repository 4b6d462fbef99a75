package main

import (
	"strings"
	"testing"
)

// TestMissingSource: a path that is not there keeps the rest from being saved, unless the
// user allows that.
func TestMissingSource(t *testing.T) {
	w := newWorld(t)
	missing := w.path("src/missing")
	list := w.write("list", w.path("src/a")+"\n"+missing+"\n")
	for _, args := range [][]string{{w.path("src/a"), missing}, {"--files-from", list}} {
		args = append([]string{"snapshot"}, args...)
		before := len(w.ids())
		r := w.want(statusFailed, args...)
		for _, says := range []string{missing, "--allow-incomplete", "no snapshot was made"} {
			if !strings.Contains(r.err, says) {
				t.Errorf("%q says %q, without %q", args, r.err, says)
			}
		}
		if n := len(w.ids()); n != before {
			t.Errorf("there are %d snapshots, had %d", n, before)
		}
		r = w.want(statusIncomplete, append(args, "--allow-incomplete")...)
		if !strings.Contains(r.err, missing+": does not exist") {
			t.Errorf("it says %q", r.err)
		}
		if out := w.ok("cat", "latest:"+w.path("src/a/one")).out; out != "one\n" {
			t.Errorf("what is there is saved as %q", out)
		}
		// What it lacks is nothing to delete.
		w.want(statusFailed, "restore", "latest:"+w.path("src"), "--target", w.path("src"), "--delete", "--yes")
	}
}

// TestMissingArchive: the same of an archive.
func TestMissingArchive(t *testing.T) {
	w := newWorld(t)
	args := []string{"snapshot", w.src, "tar:" + w.path("missing.tar")}
	if r := w.want(statusFailed, args...); !strings.Contains(r.err, w.path("missing.tar")) || !strings.Contains(r.err, "--allow-incomplete") {
		t.Errorf("it says %q", r.err)
	}
	r := w.want(statusIncomplete, append(args, "--allow-incomplete")...)
	if !strings.Contains(r.err, "tar/missing.tar: open archive: open "+w.path("missing.tar")+": no such file") {
		t.Errorf("it says %q", r.err)
	}
	w.ok("cat", "latest:"+w.path("src/a/one"))
	w.want(statusFailed, "ls", "latest:tar/missing.tar")
}
