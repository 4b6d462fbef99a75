package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPruneWaits: while a snapshot runs prune deletes nothing that it may rely on, says so,
// and neither claims to have freed less than nothing nor shows zeros that it has not counted.
func TestPruneWaits(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.write("src/random", random(512<<10))
		w.ok("snapshot", w.src, "--host", "alpha")
	}
	cmd := w.child("snapshot", "-", "--host", "slow")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); cmd.Wait() }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if begun, _ := filepath.Glob(filepath.Join(w.repo, "leases", "*", "begin")); len(begun) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the snapshot does not begin")
		}
	}
	w.ok("forget", w.ids()[0], "--yes")
	before := w.stored()

	r := w.ok("prune", "--yes", "--max-unused", "0")
	for _, says := range []string{"1 snapshot needs", "written anew", "waits for 1 running snapshot", "slow, last seen", "freed nothing yet; meanwhile", "take up more"} {
		if !strings.Contains(r.out, says) {
			t.Errorf("it says %q, without %q", r.out, says)
		}
	}
	if w.stored() < before {
		t.Error("it did not wait")
	}
	r = w.ok("prune", "--yes")
	if strings.Contains(r.out, "need") || !strings.Contains(r.out, "condemned by an earlier run") || !strings.Contains(r.out, "freed nothing yet\n") {
		t.Errorf("the second says %q", r.out)
	}
	m := last(messages(t, w.ok("prune", "--yes", "--json").out))
	for _, k := range []string{"snapshots", "stored", "live_bytes", "unused_bytes"} {
		if v, ok := m[k]; !ok || v != nil {
			t.Errorf("%s, which was not looked at, is %v", k, v)
		}
	}
	if len(m["waiting"].([]any)) != 1 {
		t.Errorf("waiting for %v", m["waiting"])
	}

	if r = w.ok("prune", "--yes", "--fence-after", "0s"); !strings.Contains(r.out, "1 run ended") || strings.Contains(r.out, "no sign of life") {
		t.Errorf("the fence says %q", r.out)
	}
	if w.stored() >= before {
		t.Error("nothing was freed")
	}
	if _, err := stdin.Write([]byte("the input")); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the snapshot that was fenced: %v: %s", err, said.String())
	}
	w.ok("check", "--read-data")
	if out := w.ok("cat", "latest:stdin/stdin", "--host", "slow").out; out != "the input" {
		t.Errorf("saved is %q", out)
	}
}
