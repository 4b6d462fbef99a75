package repo_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// randomWorld is a world of processes that a seed decides all of: what they do, on
// which machines, in which order their operations are done, and which of these fail.
type randomWorld struct {
	*testing.T
	*base
	seed    uint64
	rng     *rand.Rand
	storage *mem.Mem
	places  []*place
	late    []lateWrite
	replica *replica
	omit    func(*repo.Repository)
	odds    odds
	scripts []int   // how often each kind of script is drawn
	hasty   bool    // prunes take all runs for dead
	sway    float64 // how often who goes on is drawn anew
	trace   []string

	heard                   map[string]int // how often what was said
	acknowledged, forgotten []snapshot.ID
	holes                   []string
}

// odds say how often what goes wrong, per operation.
type odds struct{ fail, lose, delay, crash, jump float64 }

// place is where one process after the other runs, on one machine.
type place struct {
	name    string
	cache   string
	skew    time.Duration
	scripts []script
	started int
	live    *live
	calls   []*call
	weight  float64 // the greatest goes on
	pass    string  // that it opens the repository with; "": admin
	kin     *kin
}

// lateWrite is an operation that was reported to have failed and is yet to be done.
type lateWrite struct {
	by string
	q  request
}

var errFault = errors.New("the storage failed")

// play runs a world, and returns what is wrong with it, then or in the end.
func (w *randomWorld) play() error {
	defer w.end()
	if err := w.run(); err != nil {
		return err
	}
	if err := w.countDeltas(); err != nil {
		return err
	}
	return w.settled()
}

// countDeltas notes whether there are chunks that are stored as deltas, and some of each other.
func (w *randomWorld) countDeltas() error {
	v, err := w.look(w.storage)
	if err != nil {
		return err
	}
	mutual := false
	for id, all := range v.delta {
		for _, of := range all {
			for _, base := range of.IDs() {
				mutual = mutual || slices.ContainsFunc(v.delta[base], func(of pack.Bases) bool { return slices.Contains(of.IDs(), id) })
			}
		}
	}
	if len(v.delta) > 0 {
		w.heard["deltas"]++
	}
	if mutual {
		w.heard["deltas of each other"]++
	}
	return nil
}

// run runs a world until all is over.
func (w *randomWorld) run() error {
	for n := 0; ; n++ {
		if n > 20_000 {
			return errors.New("it does not come to an end")
		}
		w.begin()
		p := w.choose()
		if p == nil {
			return nil
		}
		if w.chance(w.odds.jump) || n%500 == 499 { // some wait for dead runs
			w.jump()
			continue
		}
		if len(w.late) > 0 && w.chance(0.03) {
			w.catchUp(1)
		}
		if w.replica != nil && w.chance(0.5) {
			w.replica.step(w)
		}
		if err := w.step(p); err != nil {
			return err
		}
		if len(w.holes) > 0 {
			return errors.New(w.holes[0])
		}
	}
}

func (w *randomWorld) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *randomWorld) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// begin starts the next process where none runs.
func (w *randomWorld) begin() {
	for _, p := range w.places {
		for p.live == nil && len(p.scripts) > 0 {
			p.started++
			a := actor{name: fmt.Sprintf("%s-%d-%d", p.name, p.started, w.seed), script: p.scripts[0], skew: p.skew, cache: p.cache, keep: true, pass: p.pass, kin: p.kin, omit: w.omit}
			p.scripts = p.scripts[1:]
			p.live = start(w.T, a, !racing) // the detector does not see that a process stands still
			w.follow(p, <-p.live.out)
		}
	}
}

// follow notes for what a process waits, and what it says when it is over.
func (w *randomWorld) follow(p *place, calls []*call) {
	p.calls = calls
	if len(calls) > 0 {
		return
	}
	p.live.stop()
	for _, line := range p.live.said {
		w.say("%-8s %s", p.name, line)
	}
	w.hear(p.live.said)
	p.live = nil
}

// hear notes what processes were told.
func (w *randomWorld) hear(said []string) {
	for _, line := range said {
		what, hex, _ := strings.Cut(line, " ")
		w.heard[strings.TrimSuffix(what, ":")]++
		id, err := snapshot.ParseID(hex)
		switch {
		case what == "hole:":
			w.holes = append(w.holes, line)
		case err != nil:
		case what == "committed", what == "undone":
			w.acknowledged = append(w.acknowledged, id)
		case what == "forgot":
			w.forgotten = append(w.forgotten, id)
		}
	}
}

// choose returns who goes on, nil if all is over. Weights that stay for a while make
// some run for long and others stall.
func (w *randomWorld) choose() *place {
	var next *place
	for _, p := range w.places {
		if w.chance(w.sway) {
			p.weight = w.rng.Float64()
		}
		if p.live != nil && (next == nil || p.weight > next.weight) {
			next = p
		}
	}
	return next
}

// jump lets time pass, for all.
func (w *randomWorld) jump() {
	d := []time.Duration{time.Second, 3 * time.Minute, 2 * time.Hour, 50 * time.Hour}[w.rng.IntN(4)]
	w.say("%s pass", d)
	w.clock.time = w.clock.time.Add(d)
	for _, p := range w.places {
		if p.live != nil {
			w.follow(p, p.live.sleep(d))
		}
	}
}

// step does one operation of a process, or what goes wrong instead.
func (w *randomWorld) step(p *place) error {
	c := p.calls[w.rng.IntN(len(p.calls))]
	w.clock.time = w.clock.time.Add(time.Second)
	if w.chance(w.odds.crash) {
		w.crash(p, c)
		return w.sound(c)
	}
	var a answer
	how := ""
	switch {
	case w.chance(w.odds.fail):
		a.err = errFault
	case w.chance(w.odds.lose):
		a = c.serve(w.storage)
		how = fmt.Sprintf(" (was %s)", &a)
		a = answer{err: errFault}
	case c.writes() && w.chance(w.odds.delay):
		w.late = append(w.late, lateWrite{p.name, c.request})
		how = " (to be done later)"
		a.err = errFault
	default:
		a = c.serve(w.storage)
	}
	w.say("%-8s %s: %s%s", p.name, &c.request, &a, how)
	if err := w.sound(c); err != nil {
		return err
	}
	w.follow(p, p.live.reply(w.T, c, a))
	return nil
}

// crash kills a process. What it was about to do is done, or not, or later.
func (w *randomWorld) crash(p *place, c *call) {
	w.say("%-8s is killed at %s", p.name, &c.request)
	w.heard["killed"]++
	for _, c := range p.calls {
		switch n := w.rng.IntN(3); {
		case n == 0 && c.writes():
			a := c.serve(w.storage)
			w.say("%-8s   %s is done: %s", p.name, &c.request, &a)
		case n == 1 && c.writes():
			w.say("%-8s   %s is to be done later", p.name, &c.request)
			w.late = append(w.late, lateWrite{p.name, c.request})
		}
	}
	w.hear(p.live.heard())
	p.live.stop()
	p.live = nil
}

// catchUp does operations that are late.
func (w *randomWorld) catchUp(n int) {
	for ; n > 0 && len(w.late) > 0; n-- {
		i := w.rng.IntN(len(w.late))
		l := w.late[i]
		w.late = slices.Delete(w.late, i, i+1)
		a := l.q.serve(w.storage)
		w.heard["late"]++
		w.say("%-8s %s, late: %s", l.by, &l.q, &a)
	}
}

// sound looks at the storage after what may have changed it.
func (w *randomWorld) sound(c *call) error {
	if !c.writes() {
		return nil
	}
	return w.holds(w.storage, w.acknowledged)
}

// end kills what still runs.
func (w *randomWorld) end() {
	for _, p := range w.places {
		if p.live != nil {
			p.live.stop()
		}
		if p.cache != "" {
			os.RemoveAll(p.cache)
		}
	}
}
