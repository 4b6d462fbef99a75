package repo_test

import (
	"context"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
)

// blind is a storage that shows no segments. At the first read of a pack something happens.
type blind struct {
	*mem.Mem
	isBlind bool

	mu   sync.Mutex
	read func()
}

func (b *blind) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	if b.isBlind && prefix == "index/" {
		return func(func(backend.Info, error) bool) {}
	}
	return b.Mem.List(ctx, prefix)
}

func (b *blind) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "meta/") {
		b.mu.Lock()
		do := b.read
		b.read = nil
		b.mu.Unlock()
		if do != nil {
			do()
		}
	}
	return b.Mem.ReadAt(ctx, name, p, off)
}

// Another program on this machine lets go of segments, as it has listed them long ago. That
// is no damage.
func TestPruneVanishedIndex(t *testing.T) {
	for _, early := range []bool{true, false} {
		w := newRepository(t)
		cache := t.TempDir()
		f := files{"x": w.random.bytes(1000)}
		gone := w.mustBackup(w.stranger(admin), "gone", files{"x": w.random.bytes(1000)})
		w.delete(w.names("index/")...) // so that packs are read before anything is marked
		id := w.mustBackup(w.stranger(admin), "kept", f)
		w.forget(gone)
		old, err := repo.Open(t.Context(), w.options(&blind{Mem: w.storage, isBlind: true}, cache, admin))
		w.must(err)
		defer old.Close()
		storage := &blind{Mem: w.storage}
		o := w.options(storage, cache, admin)
		o.Goroutines = 1
		r, err := repo.Open(t.Context(), o)
		w.must(err)
		defer r.Close()
		w.has(r, id, f) // with the nodes in the cache, nothing is looked up while it marks
		happened := 0
		vanish := func() {
			happened++
			w.check(old)
		}
		p := repo.PruneOptions{}
		if early {
			storage.read = vanish
		} else {
			p.Progress = func(phase string, _, _ int64) {
				if phase == "snapshots" && happened == 0 {
					vanish()
				}
			}
		}
		report, err := r.Prune(t.Context(), p)
		w.must(err)
		if happened != 1 || report.Freed.Packs == 0 {
			t.Errorf("early %v: %d times, %+v", early, happened, report)
		}
		w.has(w.stranger(admin), id, f)
		w.isSound()
	}
}
