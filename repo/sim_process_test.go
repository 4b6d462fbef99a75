package repo_test

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// A script is what a process does: real calls of package repo, one after the other.
type script func(p *process) error

// process is a run of a script on a machine, whose storage somebody else drives.
type process struct {
	actor
	gate    *gate
	random  *source
	storage *mem.Mem // instead of gate, if nobody drives the process
	clock   *clock   // then

	mu   sync.Mutex
	said []string
	err  error
	over bool
}

// actor says which process it is, and how it differs from others.
type actor struct {
	name   string
	script script
	pass   string                 // that it opens the repository with; "": the admin's
	cache  string                 // of its machine, as it is before; "": it has none
	keep   bool                   // what the process leaves in the cache, for the next one
	skew   time.Duration          // of the machine's clock
	kin    *kin                   // by which it stores deltas; nil: it stores none
	omit   func(*repo.Repository) // leaves out a step of the protocol, if not nil

	// What the explorer has to know.
	prunes bool   // it deletes what is not its own
	after  string // the process that must be over before this one begins; "": none
}

// say notes what the process was told: acknowledged commits, errors.
func (p *process) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

// simStart is when bubbles of synctest begin.
var simStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (p *process) now() time.Time {
	if p.clock != nil {
		return p.clock.now()
	}
	return time.Now().Add(p.skew)
}

func (p *process) options(storage backend.Interface) repo.Options {
	return repo.Options{
		Storage: storage, Cache: p.cache, Now: p.now, Random: p.random, Goroutines: 1,
		Secrets: []seal.Unlocker{secret(cmp.Or(p.pass, admin))},
	}
}

// open opens the repository on the process's storage.
func (p *process) open(ctx context.Context) (*repo.Repository, error) {
	var storage backend.Interface = p.gate
	if p.storage != nil {
		storage = p.storage
	}
	r, err := repo.Open(ctx, p.options(storage))
	if err == nil && p.omit != nil {
		p.omit(r)
	}
	return r, err
}

// seeded returns random bytes that a text decides on.
func seeded(text string) *source {
	h := fnv.New128a()
	h.Write([]byte(text))
	var seed [32]byte
	h.Sum(seed[:0])
	return &source{rng: rand.NewChaCha8(seed)}
}

// live is a process that runs, and stops at each operation of the storage. It has a bubble
// of package synctest to itself: so it is known when all of its goroutines stand
// still, and time passes for it when it is told so, or when it waits for nothing else.
type live struct {
	*process
	fixed bool        // what it does hangs on its answers alone
	in    chan func() // what to do next, inside of the bubble
	out   chan []*call
}

// start begins to run a process. What it waits for comes from out: the calls of its
// goroutines, none if it is over. Then in takes what to do: nil ends it.
func start(t *testing.T, a actor, fixed bool) *live {
	l := &live{fixed: fixed, process: &process{actor: a, gate: new(gate), random: seeded(a.name)}, in: make(chan func()), out: make(chan []*call)}
	if a.cache != "" && !a.keep {
		l.cache = copyOf(t, a.cache)
	}
	if fixed {
		settle(t)
	}
	go func() {
		defer close(l.out)
		synctest.Test(t, func(*testing.T) {
			go l.run()
			for {
				synctest.Wait()
				// Who waits for nothing but the time gets it.
				for n := 0; n < 1000 && len(l.gate.pending()) == 0 && !l.isOver(); n++ {
					time.Sleep(time.Minute)
					synctest.Wait()
				}
				l.out <- l.gate.pending()
				do := <-l.in
				if do == nil {
					l.gate.kill()
					for synctest.Wait(); !l.isOver(); synctest.Wait() {
						time.Sleep(time.Minute) // it may wait for the time
					}
					return
				}
				do()
			}
		})
		if l.cache != "" && !l.keep {
			os.RemoveAll(l.cache)
		}
	}()
	return l
}

func (l *live) run() {
	err := l.script(l.process)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.over = err, true
	if err != nil {
		l.said = append(l.said, "failed: "+err.Error())
	}
}

func (l *live) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// reply answers a call. The process then goes on until it waits again.
func (l *live) reply(t *testing.T, c *call, a answer) []*call {
	if l.fixed {
		settle(t)
	}
	l.in <- func() { l.gate.reply(c, a) }
	return <-l.out
}

// sleep lets time pass for the process.
func (l *live) sleep(d time.Duration) []*call {
	l.in <- func() { time.Sleep(d) }
	return <-l.out
}

// heard returns what the process was told so far.
func (l *live) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// stop kills the process.
func (l *live) stop() {
	l.in <- nil
	for range l.out {
	}
}

// settle makes what the standard library draws at random by itself, to seal keys, hang on
// nothing that happened before. So a process does the same whenever it gets the
// same answers.
func settle(t *testing.T) { cryptotest.SetGlobalRandom(t, 1) }

func copyOf(t *testing.T, dir string) string {
	to, err := os.MkdirTemp("", "sim-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
