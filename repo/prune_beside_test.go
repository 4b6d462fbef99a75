package repo_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// Two prunes that wait for a run do not wait for each other, and both come to their end when
// the run has.
func TestTwoPrunesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id, rest := halfNeeded(t, admin)
		r := w.stranger(admin)
		wr := w.begin(r)
		var prunes sync.WaitGroup
		var freed atomic.Int64
		for range 2 {
			p := w.stranger(admin)
			prunes.Go(func() {
				var waits atomic.Bool
				report, err := p.Prune(t.Context(), repo.PruneOptions{Wait: true, Progress: func(phase string, _, _ int64) {
					if phase == "running snapshots" {
						waits.Store(true)
					}
				}})
				if err != nil && !errors.Is(err, repo.ErrFenced) {
					t.Error(err)
				}
				if err == nil && !waits.Load() {
					t.Error("it did not wait")
				}
				freed.Add(int64(report.Freed.Packs))
			})
		}
		synctest.Wait()
		if freed.Load() > 0 {
			t.Error("they did not wait")
		}
		second, err := w.finish(r, wr, "second", rest)
		w.must(err)
		prunes.Wait()
		if freed.Load() == 0 {
			t.Error("nothing was freed")
		}
		w.prune(repo.PruneOptions{})
		w.isEmpty()
		w.isIndexed()
		w.has(w.stranger(admin), id, rest)
		w.has(w.stranger(admin), second, rest)
		w.isSound()
	})
}

// Writers on two keys, forgets and two prunes all at once: whatever was committed and not
// forgotten is there.
func TestPruneBesideWriters(t *testing.T) {
	w := newRepository(t)
	w.addSlot(honest, seal.WriteOnly)
	pool := make([][]byte, 12)
	for i := range pool {
		pool[i] = w.random.bytes(5000)
	}
	var mu sync.Mutex
	stay := make(map[snapshot.ID]files)
	writers, prunes := sync.WaitGroup{}, sync.WaitGroup{}
	for n, pass := range []string{admin, honest, honest} {
		r := w.machine(t.TempDir(), pass)
		writers.Go(func() {
			for i := range 8 {
				f := make(files)
				for k := range 5 {
					f[fmt.Sprint(k)] = pool[(i*(n+2)+k*(n+1))%len(pool)]
				}
				id, err := w.backup(r, fmt.Sprint(n), f)
				if errors.Is(err, repo.ErrFenced) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				stay[id] = f
				mu.Unlock()
			}
		})
	}
	forgetter := w.stranger(admin)
	writers.Go(func() {
		for range 15 {
			mu.Lock()
			var ids []snapshot.ID
			for id := range stay {
				if len(stay) > 3 && len(ids) < 2 {
					ids = append(ids, id)
				}
			}
			for _, id := range ids {
				delete(stay, id)
			}
			mu.Unlock()
			if len(ids) == 0 {
				continue
			}
			if _, err := forgetter.Forget(t.Context(), ids); err != nil {
				t.Error(err)
			}
		}
	})
	var done atomic.Bool
	for n := range 2 {
		r := w.machine(t.TempDir(), admin)
		prunes.Go(func() {
			for last := false; !last; {
				last = done.Load()
				_, err := r.Prune(t.Context(), repo.PruneOptions{MaxRepack: int64(n) * 100_000})
				if err != nil && !errors.Is(err, repo.ErrFenced) {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	prunes.Wait()
	for range 2 {
		w.prune(repo.PruneOptions{})
	}
	w.isEmpty()
	w.isIndexed()
	r := w.stranger(admin)
	if len(stay) == 0 {
		t.Error("no snapshot is left")
	}
	for id, f := range stay {
		w.has(r, id, f)
	}
	w.isSound()
	if again := w.prune(repo.PruneOptions{DryRun: true}); again.Frees() > 0 || again.Unused > 0 {
		t.Errorf("%+v", again)
	}
}
