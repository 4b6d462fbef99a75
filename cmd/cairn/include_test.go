package main

import (
	"strings"
	"testing"
)

// TestIncludeNothing: a mistyped pattern does not go unnoticed.
func TestIncludeNothing(t *testing.T) {
	w := shared(t)
	const says = "nothing in the snapshot fits --include"
	for _, to := range [][]string{
		{"--target", t.TempDir() + "/new"}, {"--target", t.TempDir()}, {"--target", t.TempDir(), "--dry-run"},
		{"--tar", t.TempDir() + "/x.tar"}, {"--tar", t.TempDir() + "/x.tar", "--dry-run"},
	} {
		for _, from := range []string{"latest", "latest:" + w.src} {
			args := append([]string{"restore", from}, to...)
			args = append(args, "--yes", "--include")
			if r := w.ok(append(args, "no-such-thing")...); !strings.Contains(r.err, says) {
				t.Errorf("%s says %q", args, r.err)
			}
			if r := w.ok(append(args, "one")...); strings.Contains(r.err, says) {
				t.Errorf("%s says %q", args, r.err)
			}
		}
	}
}
