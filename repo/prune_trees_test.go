package repo_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
)

// far is a storage that takes a while, and counts how many reads of nodes go on at once.
type far struct {
	*mem.Mem
	now, most atomic.Int64
}

func (f *far) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if strings.HasPrefix(name, "meta/") {
		n := f.now.Add(1)
		defer f.now.Add(-1)
		for was := f.most.Load(); n > was && !f.most.CompareAndSwap(was, n); was = f.most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
	}
	return f.Mem.ReadAt(ctx, name, p, off)
}

// Nodes are read many at once, unless one goroutine is all that there may be.
func TestPruneReadsNodesAtOnce(t *testing.T) {
	w := newRepository(t)
	for range 10 {
		w.mustBackup(w.stranger(admin), "set", files{"x": w.random.bytes(100)})
	}
	for _, goroutines := range []int{1, 2} {
		f := &far{Mem: w.storage}
		o := w.options(f, "", admin)
		o.Goroutines = goroutines
		r, err := repo.Open(t.Context(), o)
		w.must(err)
		report, err := r.Prune(t.Context(), repo.PruneOptions{DryRun: true})
		w.must(err)
		w.must(r.Close())
		if most := f.most.Load(); (most > 2) != (goroutines > 1) || report.Dead.Packs > 0 || report.Snapshots != 10 {
			t.Errorf("%d goroutines: up to %d reads at once, %+v", goroutines, most, report)
		}
	}
}
