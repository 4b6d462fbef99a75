package repo_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo"
)

// simBases is in how many repositories random worlds begin. A seed means another world if it
// changes.
const simBases = 24

// Random worlds: whatever writers, prunes, forgets, undos, repairs and readers do beside each
// other, and whatever goes wrong, a snapshot that was committed and not forgotten has all
// that it needs at all times. In the end each restores to the byte, check is clean, and
// prune has freed all that it should have.
//
// SIM_SEED=n plays the world of seed n alone, as it was: nothing but the seed
// decides what happens in it. With SOAK=n there are 200 n worlds, other ones each time.
func TestSimRandom(t *testing.T) {
	from, count := uint64(0), uint64(1000)
	if racing {
		count = 60
	}
	if n, err := strconv.ParseUint(os.Getenv("SOAK"), 10, 32); err == nil {
		from, count = uint64(time.Now().UnixNano()), 200*n
	}
	if n, err := strconv.ParseUint(os.Getenv("SIM_SEED"), 10, 64); err == nil {
		from, count = n, 1
	}
	bases := makeBases(t, simBases)
	heard := make(map[string]int)
	for seed := from; seed < from+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := makeRandom(t, bases, seed)
			if err := w.play(); err != nil {
				t.Errorf("%v\n\t%s\nSIM_SEED=%d plays that again", err, strings.Join(w.trace, "\n\t"), seed)
			}
			for what, n := range w.heard {
				heard[what] += n
			}
		})
	}
	t.Logf("in %d worlds: %v", count, heard)
	// Worlds in which nothing happens would prove nothing.
	for _, what := range []string{"committed", "forgot", "pruned", "freed", "fenced", "failed", "killed", "undone", "late", "deltas", "deltas of each other"} {
		if count >= 1000 && heard[what] < int(count)/100 {
			t.Errorf("%q only %d times", what, heard[what])
		}
	}
}

// The seed decides all of a world.
func TestSimReplays(t *testing.T) {
	if racing {
		t.Skip("the order of what is drawn from the global source of randomness hangs on the race detector")
	}
	bases := makeBases(t, 4)
	for seed := range uint64(20) {
		var first []string
		for range 2 {
			w := makeRandom(t, bases, seed)
			if err := w.play(); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if first == nil {
				first = w.trace
			}
			for i := range min(len(first), len(w.trace)) {
				if first[i] != w.trace[i] {
					t.Fatalf("seed %d, step %d: %s, and then %s", seed, i, first[i], w.trace[i])
				}
			}
			if len(first) != len(w.trace) {
				t.Fatalf("seed %d: %d steps, and then %d", seed, len(first), len(w.trace))
			}
		}
	}
}

// Random worlds find what is wrong, too.
func TestSimRandomFinds(t *testing.T) {
	bases := makeBases(t, simBases)
	for seed := range uint64(500) {
		w := makeRandom(t, bases, seed)
		w.omit = func(r *repo.Repository) { r.Omit(repo.StepRemark) }
		if err := w.play(); err != nil {
			t.Logf("seed %d: %v", seed, err)
			return
		}
	}
	t.Error("a prune that does not mark again loses nothing")
}
