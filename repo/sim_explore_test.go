package repo_test

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/snapshot"
)

// The explorer runs a small world of real processes in all interleavings of their
// storage operations.
//
// What makes that affordable: a process learns of the others through the storage only.
// Its clock, its random numbers and its cache are its own, and its goroutines stand
// still until their operation is answered. So what it asks for next is a function
// of the answers that it got so far. That function is kept as a tree, one for each
// process: a moment is a history of answers, with the requests that wait then. The
// real code runs once for each moment, however many states of the world have it, and
// a moment that is reached again in another way is checked to ask the same.
//
// A state of the world is the storage's contents and each process's moment; what can
// happen from there on depends on nothing else. So a state that was met before needs
// no second visit, whichever way led to it. The search visits each state
// once and is complete if it comes to an end.
//
// A process that dies is one that gets no more answers. As each state is looked at,
// and not only those in which all is over, that covers processes dying anywhere,
// and, as each may be silent for as long as the others take, processes that
// stall anywhere and go on later.
//
// One thing is left out: of several reads of one process that wait at once, the
// first by name is answered first.
type explorer struct {
	*testing.T
	book   *book
	actors []actor
	// switches bounds how often another process goes on while the last one could
	// have; < 0: no bound.
	switches int
	// check looks at each new state; ended, at those in which all is over.
	check, ended func(s *state) error
	until        time.Time // when to stop; zero: never

	roots   []*moment
	running map[*moment]*live
	recent  []*moment // that have a live process, the oldest first
	seen    map[[2]uint64]int8
	path    []taken

	states, steps, ends, moments int

	err  error
	stop bool // before all was visited
	cut  bool // some step would have been a switch too many
}

// state is a state of the world.
type state struct {
	storage *mem.Mem
	sum     [2]uint64
	at      []*moment
	last    int // who did the last step
	left    int // switches
}

type taken struct {
	actor   string
	request *request
	answer  *answer
}

func (s taken) String() string { return fmt.Sprintf("%-8s %s: %s", s.actor, s.request, s.answer) }

var stateSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func sumOf(parts ...string) (sum [2]uint64) {
	for i, seed := range stateSeeds {
		var h maphash.Hash
		h.SetSeed(seed)
		for _, p := range parts {
			fmt.Fprintf(&h, "%d ", len(p))
			h.WriteString(p)
		}
		sum[i] = h.Sum64()
	}
	return sum
}

// maxRunning is how many processes are kept where they stopped last.
const maxRunning = 100

// run explores, and returns what is wrong with a state that can be reached.
func (e *explorer) run() error {
	s, done := e.begin()
	defer done()
	e.visit(s)
	return e.err
}

// begin starts all processes. done ends them.
func (e *explorer) begin() (s *state, done func()) {
	e.running = make(map[*moment]*live)
	e.seen = make(map[[2]uint64]int8)
	s = &state{storage: e.book.storage.Clone(), last: -1, left: e.switches}
	for i, a := range e.actors {
		m := &moment{actor: i}
		l := start(e.T, a, true)
		e.arrive(m, l, <-l.out)
		e.roots = append(e.roots, m)
		s.at = append(s.at, m)
	}
	return s, func() {
		for _, l := range e.running {
			l.stop()
		}
	}
}

// visit goes on from a state in all ways.
func (e *explorer) visit(s *state) {
	if e.stop = e.stop || !e.until.IsZero() && time.Now().After(e.until); e.stop {
		return
	}
	if !e.isNew(s) {
		return
	}
	e.states++
	if e.check != nil && e.fails(e.check(s)) {
		return
	}
	if s.over() {
		e.ends++
		if e.ended != nil {
			e.fails(e.ended(s))
		}
		return
	}
	if i := e.quiet(s); i >= 0 {
		e.visitStep(s, i, 0, s.last, s.left)
		return
	}
	for i := range s.at {
		if e.waits(s, i) {
			continue
		}
		left := s.left
		if left >= 0 && s.last >= 0 && s.last != i && len(s.at[s.last].asks) > 0 {
			if left--; left < 0 {
				e.cut = true
				continue
			}
		}
		read := false
		for n := range s.at[i].asks {
			q := &s.at[i].asks[n]
			if !q.writes() {
				if read {
					continue
				}
				read = true
			}
			e.visitStep(s, i, n, i, left)
			if e.stop {
				return
			}
		}
	}
}

// quiet returns a process whose next step is a matter of its own, -1 if there is none:
// it is the only one that waits there, and reads something that is there and that no other
// process can change or delete. When that step is done makes no difference to anybody,
// so it is done at once. In terms of partial-order reduction, the step alone is a
// persistent set.
func (e *explorer) quiet(s *state) int {
	for i, m := range s.at {
		if len(m.asks) != 1 || e.waits(s, i) {
			continue
		}
		q := &m.asks[0]
		if q.op != "open" && q.op != "read" && q.op != "stat" || !e.isOwn(i, q.name) {
			continue
		}
		stat := request{op: "stat", name: q.name}
		if a := stat.serve(s.storage); a.err == nil {
			return i
		}
	}
	return -1
}

// isOwn reports whether no other process ever changes or deletes an object of the name
// that is there. Writers delete what belongs to their leases only, and add objects;
// only prunes delete others; config, keys and tombstones stay. (See arrive, which looks
// whether that is so.)
func (e *explorer) isOwn(i int, name string) bool {
	kind, _, _ := strings.Cut(name, "/")
	switch kind {
	case "config", "keys", "tombstones":
		return true
	case "data", "meta", "index", "snapshots":
		for j, a := range e.actors {
			if j != i && a.prunes {
				return false
			}
		}
		return true
	}
	return false
}

// number returns which process has a name.
func (e *explorer) number(name string) int {
	i := slices.IndexFunc(e.actors, func(a actor) bool { return a.name == name })
	if i < 0 {
		e.Fatalf("no process %q", name)
	}
	return i
}

// waits reports whether a process begins only when another one is over that is not.
func (e *explorer) waits(s *state, i int) bool {
	after := e.actors[i].after
	return after != "" && len(s.at[e.number(after)].asks) > 0
}

func (e *explorer) visitStep(s *state, actor, n, last, left int) {
	next := e.do(s, actor, n)
	next.last, next.left = last, left
	e.visit(next)
	e.path = e.path[:len(e.path)-1]
}

// do answers one request of a process, and returns the state after that.
func (e *explorer) do(s *state, actor, n int) *state {
	m := s.at[actor]
	q := &m.asks[n]
	next := &state{storage: s.storage, sum: s.sum, at: slices.Clone(s.at)}
	var a answer
	if q.writes() {
		next.storage = s.storage.Clone()
		before := e.sumOfObject(next.storage, q.name)
		e.book.clock.time = simStart
		a = q.serve(next.storage)
		after := e.sumOfObject(next.storage, q.name)
		for i := range next.sum {
			next.sum[i] ^= before[i] ^ after[i]
		}
	} else {
		a = q.serve(s.storage)
	}
	e.steps++
	next.at[actor] = e.after(m, n, a)
	e.path = append(e.path, taken{e.actors[actor].name, q, &a})
	return next
}

func (e *explorer) sumOfObject(m *mem.Mem, name string) [2]uint64 {
	read, stat := request{op: "open", name: name}, request{op: "stat", name: name}
	a := read.serve(m)
	if a.err != nil {
		return [2]uint64{}
	}
	return sumOf(name, string(a.data), stat.serve(m).infos[0].Modified.String())
}

// isNew notes a state, and reports whether it was not met before with as many switches
// left.
func (e *explorer) isNew(s *state) bool {
	key := s.sum
	for i, m := range s.at {
		x := sumOf(fmt.Sprint(i, m.number))
		key[0] ^= x[0]
		key[1] ^= x[1]
	}
	if s.left >= 0 {
		x := sumOf(fmt.Sprint("last", s.last))
		key[0] ^= x[0]
		key[1] ^= x[1]
	}
	if was, ok := e.seen[key]; ok && int(was) >= s.left {
		return false
	}
	e.seen[key] = int8(s.left)
	return true
}

// fails notes what is wrong, with the way that led there.
func (e *explorer) fails(err error) bool {
	if err == nil {
		return false
	}
	var b strings.Builder
	for _, s := range e.path {
		fmt.Fprintf(&b, "\n\t%s", s)
	}
	e.err = fmt.Errorf("%w, after %d steps:%s", err, len(e.path), b.String())
	e.stop = true
	return true
}

func (s *state) over() bool {
	return !slices.ContainsFunc(s.at, func(m *moment) bool { return len(m.asks) > 0 })
}

// said returns what the processes were told.
func (s *state) said() (all []string) {
	for _, m := range s.at {
		all = append(all, m.said...)
	}
	return all
}

// acknowledged returns the snapshots whose commit was acknowledged.
func (s *state) acknowledged() (ids []snapshot.ID) {
	for _, line := range s.said() {
		what, hex, _ := strings.Cut(line, " ")
		if id, err := snapshot.ParseID(hex); err == nil && (what == "committed" || what == "undone") {
			ids = append(ids, id)
		}
	}
	return ids
}
