package repo

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/cache"
)

// verified is what this machine remembers of packs that it read whole and found good,
// for one run. It is safe for concurrent use. Open it before packs are listed, lest
// those be forgotten that others note meanwhile.
type verified struct {
	repo   *Repository
	memory *cache.Verified

	mu      sync.Mutex
	unsaved int64 // bytes of packs that were read since the last save
}

// saveEvery is after how many bytes of packs the memory is saved: as much is read again
// after a kill. Saving what is known of 10 TB of packs writes 24 MB.
const saveEvery = 1 << 30

func (r *Repository) openVerified() *verified {
	return &verified{repo: r, memory: r.cache.Verified(r.storage.String(), r.opts.Now())}
}

// note remembers that a pack was read to its end just now, and was good or was not. What
// is not good is the first to be read again.
func (v *verified) note(info backend.Info, good bool) error {
	if good {
		v.memory.Note(packIDOf(info), v.repo.opts.Now())
	} else {
		v.memory.Forget(packIDOf(info))
	}
	v.mu.Lock()
	v.unsaved += info.Size
	due := v.unsaved >= cmp.Or(v.repo.saveEvery, saveEvery)
	v.mu.Unlock()
	if due {
		return v.save()
	}
	return nil
}

// save makes the memory outlive this run. It should be called however that ends.
func (v *verified) save() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unsaved == 0 {
		return nil
	}
	v.unsaved = 0
	return v.repo.tolerate(v.memory.Save(v.repo.opts.Now()))
}

// retain forgets packs that are not stored any more.
func (v *verified) retain(stored map[pack.ID]backend.Info) {
	v.memory.Retain(func(id [32]byte) bool { _, ok := stored[id]; return ok })
}

// Verification says what this machine knows of the contents of packs, from this run
// and earlier ones: when it last read them whole and found them good.
type Verification struct {
	Oldest     time.Time // when that was with the pack of which it is longest ago; zero if with none
	Never      int       // packs with which it never was
	NeverBytes int64
}

func (v *verified) status(packs []backend.Info) (s Verification) {
	for _, info := range packs {
		at, ok := v.memory.When(packIDOf(info))
		switch {
		case !ok:
			s.Never++
			s.NeverBytes += info.Size
		case s.Oldest.IsZero() || at.Before(s.Oldest):
			s.Oldest = at
		}
	}
	return s
}

// sample chooses packs to read: first those that were never verified, then those for
// which it is longest ago, so that repeated runs go through all. Which of equals come
// first is left to chance. Some is at least one pack.
func (v *verified) sample(packs []backend.Info, s Sample) ([]backend.Info, error) {
	if s == (Sample{}) {
		return nil, nil
	}
	var seed [32]byte
	if _, err := io.ReadFull(v.repo.opts.Random, seed[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	slices.SortFunc(packs, func(a, b backend.Info) int { return cmp.Compare(a.Name, b.Name) }) // so the seed decides alone
	type candidate struct {
		backend.Info
		at int64
	}
	all := make([]candidate, len(packs))
	var total int64
	for i, info := range packs {
		all[i] = candidate{info, math.MinInt64}
		if at, ok := v.memory.When(packIDOf(info)); ok {
			all[i].at = at.UnixNano()
		}
		total += info.Size
	}
	rand.New(rand.NewChaCha8(seed)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.at, b.at) })
	budget := s.Bytes
	switch {
	case s.Percent >= 100:
		budget = math.MaxInt64
	case s.Percent > 0:
		budget = max(1, int64(s.Percent/100*float64(total)))
	}
	chosen := packs[:0]
	for _, c := range all {
		if budget <= 0 {
			break
		}
		budget -= c.Size
		chosen = append(chosen, c.Info)
	}
	return chosen, nil
}
