package repo_test

import (
	"context"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

// frees fails the test unless what was freed is what the report says that it would be.
func (w *world) frees(r *repo.PruneReport) {
	w.Helper()
	if r.Freed.Packs == 0 || r.Freed.Packs != r.Adopted.Packs+r.Dead.Packs+r.Repacked.Packs || r.Frees() != r.Freed.Bytes-r.Rewritten.Bytes {
		w.Errorf("it does not add up: %+v", r)
	}
}

// swapped is a storage in which something happens after a swap.
type swapped struct {
	*mem.Mem
	after func()
}

func (s *swapped) Swap(ctx context.Context, name string, old, new []byte) error {
	err := s.Mem.Swap(ctx, name, old, new)
	if after := s.after; after != nil {
		s.after = nil
		after()
	}
	return err
}

// What is adopted counts with what a round of its own finds, and while it waits.
func TestPruneReportsAdopted(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", f)
	other := w.mustBackup(w.stranger(admin), "other", files{"x": w.random.bytes(5 * blockSize)})
	later := w.mustBackup(w.stranger(admin), "later", files{"x": w.random.bytes(5 * blockSize)})
	r := w.stranger(admin)
	wr := w.begin(r)
	if _, isNew, err := wr.Put(chunk.Data, f["small"]); err != nil || isNew {
		t.Fatal(err)
	}
	w.forget(gone, other)
	first := w.prune(repo.PruneOptions{})
	second := w.prune(repo.PruneOptions{})
	if first.Dead.Packs == 0 || second.Adopted != first.Dead || second.Frees() != first.Frees() {
		t.Errorf("of %+v it adopted %+v", first, second)
	}
	_, err := w.finish(r, wr, "second", files{"small": f["small"]})
	w.must(err)
	w.forget(later)
	third := w.prune(repo.PruneOptions{})
	if third.Dead.Packs == 0 || third.Adopted.Packs == 0 || third.Adopted.Packs >= first.Dead.Packs {
		t.Errorf("%+v", third)
	}
	w.frees(third)
}

// What comes to be needed during the wait does not count as freed.
func TestPruneReportsSpared(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", f)
	w.forget(gone)
	r := w.stranger(admin)
	wr := w.begin(r)
	if _, isNew, err := wr.Put(chunk.Data, f["small"]); err != nil || isNew {
		t.Fatal(err)
	}
	commit := func() {
		_, err := w.finish(r, wr, "second", files{"small": f["small"]})
		w.must(err)
	}
	report, err := w.through(&swapped{w.storage, commit}, admin).Prune(t.Context(), repo.PruneOptions{})
	w.must(err)
	w.frees(report)
	w.isSound()
}

// A damaged pack counts once, however often the prune looks at it.
func TestPruneReportsDamagedOnce(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", f)
	junk := repo.PackName(1, pack.ID{1})
	w.replace(junk, w.random.bytes(pack.PrefixSize+pack.FooterSize))
	w.forget(gone)
	commit := func() { w.mustBackup(w.stranger(admin), "second", files{"y": w.random.bytes(100)}) }
	report, err := w.through(&swapped{w.storage, commit}, admin).Prune(t.Context(), repo.PruneOptions{})
	w.must(err)
	if len(report.Damaged) != 1 {
		t.Errorf("damaged are %v", report.Damaged)
	}
}

// A prune that stops cleans nothing up either.
func TestPruneStopsBeforeItCleans(t *testing.T) {
	w := newRepository(t)
	gone := w.mustBackup(w.stranger(admin), "gone", w.someFiles())
	w.forget(gone)
	w.prune(repo.PruneOptions{})
	w.halfCommitted("half", w.someFiles())
	object := w.object("condemned")
	object[len(object)/2] ^= 1
	w.replace("condemned", object)
	before := len(w.names("leases/"))
	report, err := w.stranger(admin).Prune(t.Context(), repo.PruneOptions{})
	w.wants(err, repo.ErrDamage)
	if after := len(w.names("leases/")); report.Leases > 0 || before == 0 || after != before {
		t.Errorf("%d objects of leases became %d", before, after)
	}
}
