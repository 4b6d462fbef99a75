package repo_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo"
)

// small is what small worlds begin with: a repository with a snapshot that is forgotten, of
// set old, and one that stays.
func small(t *testing.T) *book {
	b := newBook(t)
	b.clock.time = simStart.Add(-24 * time.Hour) // before all processes
	b.add("old", files{"a": seeded("a").bytes(300)})
	b.add("one", files{"a": seeded("a").bytes(300), "b": seeded("b").bytes(200)})
	b.add("two", files{"a": seeded("a").bytes(300)})
	b.add("new", files{"n": seeded("n").bytes(300)})
	b.add("new too", b.sets["new"])
	b.add("stays", files{"s": seeded("s").bytes(300)})
	b.mustDirect(b.storage, "stays", backupOf("stays", b.sets["stays"]))
	b.mustDirect(b.storage, "first", backupOf("old", b.sets["old"]))
	b.mustDirect(b.storage, "forget", forgetSets("old"))
	return b
}

// Of each small world all interleavings are tried that have no more than so many switches
// from a process that could go on to another one. What breaks such a protocol mostly takes
// two or three. With SOAK set, more are tried for a while.
var smallWorlds = []struct {
	name     string
	switches int
	actors   []string
}{
	{"two writers", -1, []string{"one", "two"}},
	{"a writer, which may die, and a prune", 2, []string{"two", "prune"}},
	{"a writer that is taken for dead, and a prune", 2, []string{"two", "hasty"}},
	{"a writer that is taken for dead, and the next prune", 1, []string{"two", "hasty", "next"}},
	{"a writer and two prunes", 1, []string{"two", "hasty", "other"}},
	{"two writers and a prune", 1, []string{"two", "one", "hasty"}},
	{"an undo and a prune", 2, []string{"undo", "hasty"}},
	{"a forget, a writer and a prune", 1, []string{"forget", "two", "hasty"}},
}

// actors returns processes by their names. All know the repository as it was.
func (b *book) actors(names ...string) []actor {
	b.Helper()
	warm := b.warmCache(b.storage)
	all := map[string]actor{
		"one":    {script: backupOf("one", b.sets["one"])},
		"two":    {script: backupOf("two", b.sets["two"])},
		"new":    {script: backupOf("new", b.sets["new"])},
		"again":  {script: backupOf("new too", b.sets["new"])},
		"near":   {script: backupOf("near", b.sets["near"])},
		"wide":   {script: backupOf("wide", b.sets["wide"])},
		"x":      {script: backupOf("x and y", b.sets["x and y"])},
		"forget": {script: forgetSets("stays")},
		"undo":   {script: undoAll()},
		// One that waits for writers, and some that end their leases at once.
		"prune": {script: pruneOf(repo.PruneOptions{}, 1), prunes: true},
		"hasty": {script: pruneOf(repo.PruneOptions{Patience: -1}, 1), prunes: true},
		"other": {script: pruneOf(repo.PruneOptions{Patience: -1}, 1), prunes: true},
		"lazy":  {script: lazyPrune(), prunes: true},
		"next":  {script: pruneOf(repo.PruneOptions{Patience: -1}, 1), prunes: true, after: "hasty"},
	}
	var some []actor
	for _, name := range names {
		a, ok := all[name]
		if !ok {
			b.Fatalf("no actor %q", name)
		}
		a.name, a.cache, a.kin = name, warm, b.kin
		some = append(some, a)
	}
	return some
}

// explorer returns one of a small world, in which whatever a committed snapshot needs
// has to be there all the time.
func (b *book) explorer(t *testing.T, switches int, actors []actor) *explorer {
	e := &explorer{T: t, book: b, switches: switches, actors: actors}
	e.check = func(s *state) error { return b.holds(s.storage, s.acknowledged()) }
	return e
}

func TestSimInterleavings(t *testing.T) {
	b := small(t)
	for _, w := range smallWorlds {
		t.Run(w.name, func(t *testing.T) {
			first := w.switches
			if racing && first > 0 {
				first--
			}
			until := time.Now().Add(soakTime(len(w.actors)))
			for switches := first; ; switches++ {
				e := b.explorer(t, switches, b.actors(w.actors...))
				if switches != first {
					e.until = until
				}
				whole := b.wholeEnds(e)
				if err := e.run(); err != nil {
					t.Fatal(err)
				}
				t.Log(e.describe(), *whole, "ends restored")
				if e.isComplete() || time.Now().After(until) {
					return
				}
				if len(w.actors) == 2 {
					switches = -2 // all at once
				}
			}
		})
	}
}

// soakTime is for how long more is tried of a world of so many processes, with SOAK=n: n
// seconds, or a quarter of that for larger ones, which take days to complete.
func soakTime(processes int) time.Duration {
	n, _ := strconv.Atoi(os.Getenv("SOAK"))
	if processes > 2 {
		n /= 4
	}
	return time.Duration(n) * time.Second
}

// wholeEnds makes an explorer look as a stranger would at what the storage has in the end:
// at each contents once, or at some if they are very many.
func (b *book) wholeEnds(e *explorer) *int {
	looked, met := new(int), 0
	seen := make(map[[2]uint64]bool)
	e.ended = func(s *state) error {
		key := sumOf(fmt.Sprint(s.sum, s.acknowledged()))
		if seen[key] {
			return nil
		}
		seen[key] = true
		if met++; met > 50 && met%50 > 0 {
			return nil
		}
		*looked++
		return b.isWhole(s.storage.Clone(), s.acknowledged())
	}
	return looked
}

// describe says how far an exploration came.
func (e *explorer) describe() string {
	how := "all interleavings"
	if e.stop {
		how = "some interleavings"
	}
	if e.cut {
		how = fmt.Sprintf("%s with %d switches", how, e.switches)
	}
	return fmt.Sprintf("%s: %d states, %d steps between them, all over in %d; %d moments of processes;", how, e.states, e.steps, e.ends, e.moments)
}

// isComplete reports whether no interleaving was left out.
func (e *explorer) isComplete() bool { return !e.stop && !e.cut }
