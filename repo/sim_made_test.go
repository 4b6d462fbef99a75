package repo_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo"
)

// makeRandom makes the world of a seed.
func makeRandom(t *testing.T, bases []*base, seed uint64) *randomWorld {
	rng := rand.New(rand.NewPCG(seed, 1))
	from := bases[rng.IntN(len(bases))]
	b := *from
	b.book = from.book.fork()
	w := &randomWorld{
		T: t, base: &b, seed: seed, rng: rng, storage: from.storage.Clone(), heard: make(map[string]int),
		acknowledged: slices.Clone(from.acked), forgotten: slices.Clone(from.forgotten),
	}
	w.clock.time = simStart
	w.sway = []float64{0.02, 0.05, 0.1, 1}[w.rng.IntN(4)]
	if w.rng.IntN(2) == 0 {
		// Prunes that stop at nothing meet writers in a storage where all goes well.
		w.scripts = []int{5, 4, 1, 1, 0, 0, 1}
		w.hasty = true
	} else {
		w.scripts = []int{5, 4, 2, 2, 1, 1, 1}
		if w.rng.IntN(3) > 0 {
			w.odds.jump = 0.01
		}
		p := []float64{0, 0.003, 0.01, 0.03}[w.rng.IntN(4)]
		w.odds.fail, w.odds.lose, w.odds.delay, w.odds.crash = p/2, p, p, p
	}
	for i := range 2 + w.rng.IntN(3) {
		w.places = append(w.places, w.randomPlace(string('a'+rune(i))))
	}
	if w.rng.IntN(4) == 0 {
		w.replica = newReplica(w)
	}
	return w
}

func (w *randomWorld) randomPlace(name string) *place {
	p := &place{name: name}
	switch w.rng.IntN(4) {
	case 0: // nothing is remembered
	case 1:
		p.cache = copyOf(w.T, w.cache)
	default:
		dir, err := os.MkdirTemp("", "sim-")
		w.must(err)
		p.cache = dir
	}
	if w.rng.IntN(3) == 0 {
		p.skew = w.randomSkew()
	}
	if w.rng.IntN(4) == 0 {
		p.pass = hostSecret
	}
	if w.rng.IntN(4) > 0 {
		p.kin = w.kin
	}
	for n := w.rng.IntN(3); n >= 1 || len(p.scripts) == 0; n-- {
		p.scripts = append(p.scripts, w.randomScript(p))
	}
	return p
}

func (w *randomWorld) randomBackup(p *place) script {
	f := make(files)
	for _, name := range slices.Sorted(maps.Keys(w.pool)) {
		if w.rng.IntN(2) == 0 {
			f[name] = w.pool[name]
		}
	}
	set := fmt.Sprintf("%s%d-%d", p.name, len(p.scripts), w.seed)
	w.add(set, f)
	return backupOf(set, f)
}

// randomScript makes up what a process does, as often as the world says: a backup, prune,
// forget, undo, restore, check or repair.
func (w *randomWorld) randomScript(p *place) script {
	if p.pass != "" {
		return w.randomBackup(p)
	}
	sum := 0
	for _, n := range w.scripts {
		sum += n
	}
	n, kind := w.rng.IntN(sum), 0
	for ; n >= w.scripts[kind]; kind++ {
		n -= w.scripts[kind]
	}
	switch kind {
	case 0:
		return w.randomBackup(p)
	case 1:
		return pruneOf(w.randomPrune(), 1+w.rng.IntN(2))
	case 2:
		return forgetSome(w.rng.Uint64())
	case 3:
		return undoSome(w.rng.Uint64())
	case 4:
		return readAll(w.book)
	case 5:
		return checkAll()
	default:
		return repairAll()
	}
}

func (w *randomWorld) randomSkew() time.Duration {
	return time.Duration(w.rng.IntN(200)-100) * time.Hour
}

func (w *randomWorld) randomPrune() repo.PruneOptions {
	o := repo.PruneOptions{
		Patience: []time.Duration{-1, time.Minute, 0, 100 * time.Hour}[w.rng.IntN(4)],
		DryRun:   w.rng.IntN(10) == 0,
		Wait:     w.rng.IntN(4) == 0,
	}
	if w.hasty {
		o = repo.PruneOptions{Patience: -1}
	}
	switch w.rng.IntN(4) {
	case 0:
		o.MaxUnused.Percent = 100
	case 1:
		o.MaxUnused.Percent = 20
	}
	if w.rng.IntN(4) == 0 {
		o.MaxRepack = 1000
	}
	return o
}
