package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo"
)

func TestVerifiedLine(t *testing.T) {
	then := time.Date(2026, 11, 20, 10, 0, 0, 5e8, time.Local)
	at := then.Format("2006-01-02 15:04:05 -07:00")
	for want, v := range map[string]repo.Verification{
		"verified by this machine: no pack yet":                                                      {Never: 3, NeverBytes: 5},
		"verified by this machine: all but 1 pack of 2.0 KiB, the oldest 2d03h00m ago (" + at + ")":  {Oldest: then, Never: 1, NeverBytes: 2 << 10},
		"verified by this machine: all packs, the oldest 2d03h00m ago (" + at + ")":                  {Oldest: then},
		"verified by this machine: all but 2 packs of 1.0 MiB, the oldest 2d03h00m ago (" + at + ")": {Oldest: then, Never: 2, NeverBytes: 1 << 20},
	} {
		if got := verifiedLine(v, then.Add(51*time.Hour)); got != want {
			t.Errorf("%+v: %q, want %q", v, got, want)
		}
	}
	if got := verifiedLine(repo.Verification{Oldest: then}, then.Add(-time.Hour)); !strings.Contains(got, "oldest 0s ago") {
		t.Errorf("a clock that was set back: %q", got)
	}
}

// Checks that read a part go on where the last one ended, and say how far all of them
// came.
func TestCheckRemembers(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	summary := func(args ...string) message {
		all := messages(t, w.ok(append([]string{"check", "--json"}, args...)...).out)
		return last(all)
	}
	m := summary()
	packs := m["packs"].(float64)
	if packs < 2 || m["unverified_packs"] != packs || m["unverified_bytes"] != m["pack_bytes"] || m["oldest_verification"] != nil {
		t.Errorf("before any reading: %v", m)
	}
	var first any
	for n := range int(packs) {
		m = summary("--read-data=1B")
		if n == 0 {
			first = m["oldest_verification"]
		}
		if m["read_packs"] != 1.0 || m["unverified_packs"] != packs-1-float64(n) || m["oldest_verification"] != first {
			t.Errorf("after reading %d packs: %v", n+1, m)
		}
	}
	if m["unverified_bytes"] != 0.0 {
		t.Errorf("all is read: %v", m)
	}
	if m = summary("--read-data=1B"); m["oldest_verification"] == first {
		t.Errorf("the oldest was not read again: %v", m)
	}
	if out := w.ok("check").out; !strings.Contains(out, "\nverified by this machine: all packs, the oldest ") {
		t.Error(out)
	}
	// The same repository at another place was read by nobody.
	copied := w.copied(t)
	if out := copied.ok("check").out; !strings.Contains(out, "\nverified by this machine: no pack yet\n") {
		t.Error(out)
	}
}

// What damage costs is said from the pack down to the snapshots, to people and to
// programs.
func TestDamageIsListed(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	w.write("src/a/three", "three\n")
	w.ok("snapshot", w.src)
	w.write("src/a/three", "other\n")
	w.ok("snapshot", w.src)
	ids := w.ids()
	packs, err := filepath.Glob(filepath.Join(w.repo, "data", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	r := w.want(statusDamage, "check")
	for _, want := range []string{": the pack is missing\n", " lost: ", "\n  needed by ", " and 2 older snapshots\n", "\n  in 3 snapshots: ", "problems found, in 3 of 3 snapshots; "} {
		if !strings.Contains(r.err, want) {
			t.Errorf("no %q in\n%s", want, r.err)
		}
	}
	if again := w.want(statusDamage, "check"); again.err != r.err {
		t.Errorf("two checks say\n%s%s", r.err, again.err)
	}
	all := messages(t, w.want(statusDamage, "check", "--json").out)
	most := 0
	for _, m := range all {
		switch m["message_type"] {
		case "problem":
			snapshots := m["snapshots"].([]any)
			most = max(most, len(snapshots))
			if m["more_snapshots"] != 0.0 || len(snapshots) == 0 || len(m["chunks"].([]any)) == 0 || len(m["files"].([]any)) == 0 {
				t.Errorf("%v", m)
			}
		case "summary":
			if m["affected_snapshots"] != float64(len(ids)) {
				t.Errorf("%v", m)
			}
		}
	}
	if most != len(ids) {
		t.Errorf("no problem is in all snapshots: %v", all)
	}
}
