package main

import (
	"os"
	"strings"
	"testing"
)

// TestSlash: who gets the slash at the beginning of a path wrong is told the right path.
func TestSlash(t *testing.T) {
	w := newWorld(t)
	if r := w.runWith("data", "snapshot", w.src, "-", "--stdin-name", "db/dump"); r.status != 0 {
		t.Fatal(r.err)
	}
	file := w.src + "/a/one"
	for _, test := range []struct{ wrong, right string }{
		{"/stdin", "stdin"}, {"/stdin/", "stdin"}, {"/stdin/db/dump", "stdin/db/dump"}, {file[1:], file},
	} {
		for _, args := range [][]string{{"ls"}, {"cat"}, {"restore", "--target", w.path("out")}, {"restore", "--tar", w.path("out.tar")}} {
			args = append(args, "latest:"+test.wrong)
			if r := w.want(statusFailed, args...); !strings.Contains(r.err, "did you mean latest:"+test.right+"?") || r.out != "" {
				t.Errorf("%q says %q", args, r.err)
			}
		}
		w.ok("ls", "latest:"+test.right)
	}
	for _, wrong := range []string{"/nowhere", "nowhere", "/stdin/nothing"} {
		if r := w.want(statusFailed, "ls", "latest:"+wrong); strings.Contains(r.err, "did you mean") {
			t.Errorf("%s says %q", wrong, r.err)
		}
	}
	if _, err := os.Stat(w.path("out.tar")); err == nil {
		t.Error("an archive was begun")
	}
}
