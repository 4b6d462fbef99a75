package repo_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

// readFrames is a storage in which something happens after a frame of a pack was read.
type readFrames struct {
	*mem.Mem
	after func()
}

func (s *readFrames) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	err := s.Mem.ReadAt(ctx, name, p, off)
	if after := s.after; after != nil && off >= pack.PrefixSize && strings.HasPrefix(name, "meta/") {
		s.after = nil
		after()
	}
	return err
}

// Programs on one machine share its index. What another takes from it, as it listed the
// segments before some came, must not make packs look dead.
func TestPruneOfAnIndexThatShrinks(t *testing.T) {
	w := newRepository(t)
	f := files{"small": w.random.bytes(100)}
	id := w.mustBackup(w.stranger(admin), "stays", f)
	before := w.names("data/")
	shared := t.TempDir()
	late, err := repo.Open(t.Context(), w.options(w.faulted("yield index/*: hide"), shared, admin))
	w.must(err)
	defer late.Close()
	r := w.machine(shared, admin)
	shrunk := 0
	shrink := func() {
		_, err := late.NewWriter(t.Context(), repo.WriterOptions{DryRun: true})
		w.must(err)
		shrunk++
	}
	r.Use(&readFrames{w.storage, shrink})
	report, err := r.Prune(t.Context(), repo.PruneOptions{})
	w.must(err) // it looks again
	if shrunk != 1 || report.Dead.Packs > 0 {
		t.Errorf("%d times, %+v", shrunk, report)
	}
	// But not for ever.
	_, err = r.Prune(t.Context(), repo.PruneOptions{Progress: func(phase string, _, _ int64) {
		if phase == "snapshots" {
			shrink()
		}
	}})
	w.saying(err, "vanished")
	if shrunk > 4 {
		t.Errorf("it looked %d times", shrunk)
	}
	if after := w.names("data/"); len(after) != len(before) {
		t.Errorf("%d packs became %d", len(before), len(after))
	}
	w.has(w.stranger(admin), id, f)
	w.prune(repo.PruneOptions{})
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

// A stolen key can name one chunk in very many packs. What that costs grows with their
// number, and not with its square.
func TestPruneManyHomes(t *testing.T) {
	w := newRepository(t)
	const packs = 500_000
	began := time.Now()
	n, err := w.stranger(admin).ClaimedHomes(packs)
	w.must(err)
	if n != packs {
		t.Errorf("%d homes in %d packs", n, packs)
	}
	if took := time.Since(began); took > 20*time.Second { // it takes a part of a second; the square takes minutes
		t.Errorf("it took %v", took)
	}
}
