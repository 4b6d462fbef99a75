package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// dumpOf returns a table of which one row in 100 is another in each version.
func dumpOf(version uint64) string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range 60_000 {
		x := r.Uint64()
		if r.IntN(100) == 0 {
			x += version
		}
		fmt.Fprintf(&b, "%d\t%x\t%x\n", i, x, r.Uint64())
	}
	return b.String()
}

// TestSnapshotDeltas: what is stored as differences is counted, in words and in JSON, also by a dry run; and
// can be turned off.
func TestSnapshotDeltas(t *testing.T) {
	w := newWorld(t)
	dump := w.write("src/dump", dumpOf(1))
	first := w.ok("snapshot", w.src).out
	if strings.Contains(first, "differences") {
		t.Errorf("the first snapshot says:\n%s", first)
	}
	w.write("src/dump", dumpOf(2))
	summary := func(args ...string) message {
		all := messages(t, w.ok(append([]string{"snapshot", "--json", w.src}, args...)...).out)
		return all[len(all)-1]
	}
	number := func(m message, name string) float64 {
		n, ok := m[name].(float64)
		if !ok {
			t.Fatalf("no number %s in %v", name, m)
		}
		return n
	}
	off := summary("--dry-run", "--delta-budget", "0")
	if number(off, "delta_bytes") != 0 || number(off, "delta_stored") != 0 || number(off, "delta_saved") != 0 {
		t.Errorf("turned off: %v", off)
	}
	if small := summary("-n", "--delta-budget=1000"); number(small, "delta_bytes") != 0 {
		t.Errorf("with a budget that is too small: %v", small)
	}
	on := summary("--dry-run")
	saved := number(off, "bytes_stored") - number(on, "bytes_stored")
	if saved < number(off, "bytes_stored")*9/10 || number(on, "delta_saved") < saved*8/10 || number(on, "delta_saved") > saved*12/10 {
		t.Errorf("it saved %.0f, and says %v; turned off: %v", saved, on, off)
	}
	if out := w.ok("snapshot", w.src).out; !strings.Contains(out, "of it as differences to older chunks, which saved about ") {
		t.Errorf("it does not say what deltas saved:\n%s", out)
	}
	if out := w.ok("cat", "latest:"+dump).out; out != dumpOf(2) {
		t.Errorf("%d bytes come back of %d", len(out), len(dumpOf(2)))
	}
	w.ok("check", "--read-data")
	for _, size := range []string{"-1", "much", "1XB"} {
		if r := w.want(statusUsage, "snapshot", w.src, "--delta-budget="+size); !strings.Contains(r.err, "--delta-budget "+size+": want a size") {
			t.Errorf("%s: %s", size, r.err)
		}
	}
}
