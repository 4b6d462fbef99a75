package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// aged makes snapshots whose storage says that they were made at the given times, and
// returns their IDs.
func (w *world) aged(times ...string) (ids []string) {
	w.t.Helper()
	for _, at := range times {
		m := last(messages(w.t, w.ok("snapshot", w.src, "--host", "h", "--time", at, "--json").out))
		ids = append(ids, m["id"].(string))
	}
	return ids
}

func TestForget(t *testing.T) {
	w := newWorld(t)
	ids := w.aged("2024-02-28 03:00:00", "2024-02-28 20:00:00", "2024-02-29 03:00:00", "2024-03-01 03:00:00")
	keep := []string{"forget", "--keep-daily", "3"}
	want := []string{"forget", "keep daily", "keep daily", "keep daily"}
	r := w.ok(append(keep, "-n")...)
	for i, id := range ids {
		line := lineWith(t, r.out, id[:8])
		if got := strings.Join(strings.Fields(line)[4:], " "); got != want[i] {
			t.Errorf("%s: %q, want %q", id[:8], got, want[i])
		}
	}
	if !strings.Contains(r.out, "would forget 1 snapshot of 4") || len(w.ids()) != 4 {
		t.Errorf("a dry run: %s, %d snapshots", r.out, len(w.ids()))
	}
	if r := w.ok(append(keep, "--yes")...); !strings.Contains(r.out, "forgot 1 snapshot of 4") {
		t.Error(r.out)
	}
	if got := w.ids(); !slices.Equal(got, ids[1:]) {
		t.Errorf("what stays is %v", got)
	}
	if r := w.ok(append(keep, "--yes")...); !strings.Contains(r.out, "nothing to forget: 3 snapshots stay") {
		t.Error(r.out)
	}
	w.ok("check")
	// It comes back, once.
	if r := w.ok("forget", "--undo", ids[0][:8]); !strings.Contains(r.out, ids[0][:8]+" of 2024-02-28 03:00:00") || !strings.Contains(r.out, "is back") {
		t.Error(r.out)
	}
	if r := w.ok("forget", "--undo"); !strings.Contains(r.out, "is back already") || len(w.ids()) != 4 {
		t.Error(r.out)
	}
	w.ok("restore", w.ids()[0], "--target", w.path("out"))
	// But not when prune has passed.
	w.write("src/alone", "in one snapshot only\n")
	alone := w.aged("2024-03-02 03:00:00")[0]
	w.ok("forget", alone, "--yes", "--prune")
	if r := w.want(statusFailed, "forget", "--undo"); !strings.Contains(r.err, "prune has passed") {
		t.Error(r.err)
	}
	w.ok("check", "--read-data")
}

func lineWith(t *testing.T, text, word string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	t.Fatalf("no line with %s in %s", word, text)
	return ""
}

func TestForgetJSON(t *testing.T) {
	w := newWorld(t)
	ids := w.aged("2024-02-28", "2024-02-29", "2024-03-01")
	all := messages(t, w.ok("forget", "--keep-last", "2", "--yes", "--json").out)
	for i, id := range ids {
		m := all[i]
		if m["message_type"] != "snapshot" || m["id"] != id || m["keep"] != (i > 0) || len(m["reasons"].([]any)) != min(i, 1) || m["host"] != "h" {
			t.Errorf("message %d: %v", i, m)
		}
	}
	if m := last(all); m["forgotten"] != 1.0 || m["kept"] != 2.0 || m["groups"] != 1.0 || m["implausible"] != 0.0 || m["dry_run"] != false {
		t.Errorf("summary %v", m)
	}
	all = messages(t, w.ok("forget", "--undo", "--json").out)
	if len(all) != 2 || all[0]["id"] != ids[0] || all[0]["error"] != nil || all[1]["brought_back"] != 1.0 {
		t.Errorf("undo says %v", all)
	}
	all = messages(t, w.ok("forget", "--keep-last", "2", "--yes", "--prune", "--json").out)
	if m := all[len(all)-2]; m["message_type"] != "forgotten" || m["forgotten"] != 1.0 {
		t.Errorf("with a prune: %v", m)
	}
}

func TestForgetRefuses(t *testing.T) {
	w := newWorld(t)
	ids := w.aged("2024-02-28", "2024-02-29", "2024-03-01")
	for _, x := range []struct {
		args string
		want int
		says string
	}{
		{"", statusUsage, "--preset default"},
		{"--keep-last 2", statusUsage, "--yes"},
		{"--keep-last 2 --host h --source x --undo", statusUsage, "--undo takes"},
		{"--keep-last -1 --yes", statusUsage, "unlimited"},
		{"--keep-daily x --yes", statusUsage, "want a number"},
		{"--keep-daily 0 --keep-last=0 --yes", statusUsage, "keep nothing"},
		{"--keep-within 0d --yes", statusUsage, "--keep-within"},
		{"--keep-within-weekly 1w --yes", statusUsage, "--keep-within-weekly"},
		{"--keep-tag nonsuch --yes", statusUsage, "no snapshot has that tag"},
		{"--preset other --yes", statusUsage, "want default"},
		{"--preset= --yes", statusUsage, "want default"},
		{"--keep-last 1 --group-by path --yes", statusUsage, "--group-by"},
		{"--keep-last 1 --time-zone Nowhere/X --yes", statusUsage, "no such zone"},
		{"--keep-last 1 --max-unused 1% --yes", statusUsage, "--prune"},
		{"--keep-last 1 --prune --max-unused x --yes", statusUsage, "--max-unused"},
		{"--keep-last 1 " + ids[0] + " --yes", statusUsage, "not both"},
		{"--host h " + ids[0] + " --yes", statusUsage, "not both"},
		{"latest --yes", statusUsage, "four digits"},
		{"abc --yes", statusUsage, "four digits"},
		{"00000000 --yes", statusFailed, "no such snapshot"},
		{"--undo --allow-many", statusUsage, "--allow-many was given"},
		{"--undo --group-by tag", statusUsage, "--group-by was given"},
		{"--undo --max-unused 1%", statusUsage, "--max-unused was given"},
		{"--undo --time-zone UTC", statusUsage, "--time-zone was given"},
		{"--undo --yes -n", statusOK, ""},
		{"--undo " + ids[0], statusFailed, "was forgotten"},
		{"--keep-last 1 --yes", statusFailed, "--allow-many"},
		{"--keep-last 1 -n", statusFailed, "2 of 3 snapshots of host h"},
		{ids[0] + " " + ids[1] + " --yes", statusFailed, "more than half"},
		{"--keep-last 1 --host other --yes", statusOK, ""},
		{"--undo", statusOK, ""},
		{"--keep-last unlimited --yes", statusOK, ""},
		{"--keep-daily 9 --keep-last 0 --yes", statusOK, ""},
	} {
		r := w.want(x.want, append([]string{"forget"}, strings.Fields(x.args)...)...)
		if !strings.Contains(r.err, x.says) {
			t.Errorf("forget %s says %q", x.args, r.err)
		}
	}
	if got := w.ids(); !slices.Equal(got, ids) {
		t.Errorf("what stays is %v", got)
	}
	w.ok("forget", "--keep-last", "1", "--yes", "--allow-many")
	if got := w.ids(); !slices.Equal(got, ids[2:]) {
		t.Errorf("what stays is %v", got)
	}
}

// Where something can't be read it is not known what counts. Named ones go all the
// same.
func TestForgetWithDamage(t *testing.T) {
	w := newWorld(t)
	ids := w.aged("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02")
	damagedAs(t, filepath.Join(w.repo, "snapshots", ids[1]), func(b []byte) []byte { b[100] ^= 1; return b })
	if err := os.RemoveAll(w.path("cache")); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"--yes", "-n"} {
		if r := w.want(statusDamage, "forget", "--keep-last", "2", more); !strings.Contains(r.err, ids[1]) || !strings.Contains(r.err, "cairn repair") {
			t.Error(r.err)
		}
	}
	w.want(statusDamage, "forget", ids[1], "--yes")
	if r := w.ok("forget", ids[0], "--yes"); !strings.Contains(r.err, ids[1]) {
		t.Errorf("the damage is not named: %q", r.err)
	}
}

// A snapshot that the storage got long before its own time is kept, named, and goes only
// by its ID.
func TestForgetImplausible(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.ok("snapshot", w.src)
	}
	ids := w.ids()
	before := time.Now().Add(-3 * time.Hour)
	if err := os.Chtimes(filepath.Join(w.repo, "snapshots", ids[3]), before, before); err != nil {
		t.Fatal(err)
	}
	r := w.ok("forget", "--keep-last", "2", "--yes")
	if !strings.Contains(r.err, ids[3][:8]) || !strings.Contains(r.err, "does not count") || !strings.Contains(lineWith(t, r.out, ids[3][:8]), "implausible") {
		t.Errorf("%s%s", r.out, r.err)
	}
	if got := w.ids(); !slices.Equal(got, ids[1:]) {
		t.Errorf("what stays is %v", got)
	}
	w.ok("forget", ids[3], "--yes")
	if got := w.ids(); !slices.Equal(got, ids[1:3]) {
		t.Errorf("what stays is %v", got)
	}
}

func TestFutureSnapshot(t *testing.T) {
	w := newWorld(t)
	at := time.Now().Add(48 * time.Hour).Format(time.RFC3339)
	if r := w.want(statusFailed, "snapshot", w.src, "--time", at); !strings.Contains(r.err, "later than the storage's") || !strings.Contains(r.err, "clock") {
		t.Error(r.err)
	}
	if len(w.ids()) > 0 {
		t.Error("a snapshot was made")
	}
}
