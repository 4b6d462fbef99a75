package crash_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// TestRandomFaults does random commands, each with random faults, one or several, of
// which some lie: reads are corrupt or cut short, and listings leave something out.
// Whatever the commands make of that, what they acknowledged must hold when the
// storage works again. The faults are printed if it does not; SOAK_FAULTS replays
// such lines with every command, and SOAK_SEED a whole round.
func TestRandomFaults(t *testing.T) {
	rounds, seed := 8, uint64(1)
	if racing {
		rounds = 2
	}
	if soak > 0 {
		rounds, seed = soak, uint64(time.Now().UnixNano())
	}
	if s := os.Getenv("SOAK_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	for round := range uint64(rounds) {
		t.Run(fmt.Sprint("SOAK_SEED=", seed+round), func(t *testing.T) {
			randomRound(t, rand.New(rand.NewPCG(seed+round, 0)))
		})
		if t.Failed() {
			return
		}
	}
}

func randomRound(t *testing.T, rng *rand.Rand) {
	storage := mem.New(clock)
	w := newWorld(t, storage)
	w.must(w.init(storage))
	change := func() { w.write(fmt.Sprint("random/", rng.IntN(20)), noise(byte(rng.IntN(256)), rng.IntN(30<<10))) }
	for range 3 {
		change()
		w.must(w.snapshot(storage, admin, stream{"dump", noise(byte(rng.IntN(256)), 50<<10)}))
	}
	var log []string
	for n := range 12 {
		rules := randomRules(rng)
		if rng.IntN(4) == 0 {
			rules = "" // so that it comes further
		}
		if s := os.Getenv("SOAK_FAULTS"); s != "" {
			rules = s
		}
		b := parse(t, rules).Wrap(storage)
		var what string
		var err error
		switch rng.IntN(10) {
		case 0:
			what, err = "key add", w.addKey(b, fmt.Sprint("key", n), seal.Access(1+rng.IntN(2)))
		case 1:
			if len(w.keys) < 2 {
				continue
			}
			what, err = "key remove", w.removeKey(b, w.keys[len(w.keys)-1])
		case 2:
			what, err = "check", w.tryCheck(b)
		case 3, 4:
			if len(w.promises)-len(w.forgotten) < 2 {
				continue
			}
			what, err = "forget", w.forget(b, w.oldest(1)...)
		case 5, 6:
			what = "prune"
			_, err = w.prune(b, repo.PruneOptions{Patience: time.Duration(rng.IntN(2)) - 1, MaxUnused: repo.Sample{Percent: float64(rng.IntN(2) * 20)}})
		default:
			change()
			what, err = "snapshot", w.snapshot(b, w.keys[rng.IntN(len(w.keys))])
		}
		log = append(log, fmt.Sprintf("%s: %v, with\n%s", what, err, rules))
		if n%6 == 5 {
			w.holds()
		}
		if t.Failed() {
			t.Fatal(strings.Join(log, "\n"))
		}
	}
}

// randomRules returns one to three rules.
func randomRules(rng *rand.Rand) string {
	one := func(from ...string) string { return from[rng.IntN(len(from))] }
	var rules strings.Builder
	for range 1 + rng.IntN(3) {
		op := one("put", "open", "read", "readat", "stat", "list", "yield", "delete", "swap", "stage", "write", "commit", "*", "*")
		pattern := ""
		if op != "stage" && op != "write" && op != "list" && op != "*" {
			pattern = " " + one("*", "*", "data/*", "meta/*", "index/*", "snapshots/*", "leases/*", "leases/*end", "keys/*", "config", "condemned", "tombstones/*")
		}
		from := 1 + rng.IntN(12)
		count := one("", fmt.Sprint("#", from), fmt.Sprint("#", from), fmt.Sprintf("#%d-%d", from, from+rng.IntN(4)), fmt.Sprintf("#%d-", from))
		cause := one("EIO", "ENOSPC", "EACCES", "EROFS", "ETIMEDOUT", "ECONNRESET", "EOF", "deadline")
		faults := []string{"err " + cause, "err " + cause, "crash"}
		switch op {
		case "put", "delete", "swap", "commit", "*":
			faults = append(faults, "done-but-error "+cause, "done-and-crash")
		case "open", "readat":
			faults = append(faults, fmt.Sprint("corrupt byte ", rng.IntN(2000)), fmt.Sprint("truncate ", rng.IntN(2000)), "err notexist")
		case "yield":
			faults = append(faults, "hide", "hide")
		}
		fmt.Fprintf(&rules, "%s%s %s: %s\n", op, pattern, count, one(faults...))
	}
	return rules.String()
}

// tryCheck runs a check that may well find something: the storage lies.
func (w *world) tryCheck(b backend.Interface) error {
	return w.with(b, w.cache, admin, func(r *repo.Repository) error {
		_, err := r.Check(w.Context(), repo.CheckOptions{Read: repo.Sample{Percent: 100}})
		return err
	})
}
