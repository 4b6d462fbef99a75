package repo_test

import (
	"context"
	"iter"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// lister is a storage in which something happens before a prefix is listed for the first
// time.
type lister struct {
	*mem.Mem
	prefix string
	before func()
}

func (l *lister) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	if do := l.before; prefix == l.prefix && do != nil {
		l.before = nil
		do()
	}
	return l.Mem.List(ctx, prefix)
}

// A snapshot that is made and forgotten while prune reads what there is: of its tombstone
// prune has not made sure, so its manifest stays until the next.
func TestPruneLeavesManifests(t *testing.T) {
	w := newRepository(t)
	forgotten := w.mustBackup(w.stranger(admin), "a", w.someFiles())
	w.mustBackup(w.stranger(admin), "b", w.someFiles())
	w.forget(forgotten)
	var late snapshot.ID
	storage := &lister{Mem: w.storage, prefix: "tombstones/"}
	r, err := repo.Open(t.Context(), w.options(storage, "", admin))
	w.must(err)
	defer r.Close()
	storage.before = func() {
		late = w.mustBackup(w.stranger(admin), "late", w.someFiles())
		w.forget(late)
	}
	_, err = r.Prune(t.Context(), repo.PruneOptions{})
	w.must(err)
	if storage.before != nil {
		t.Fatal("nothing happened meanwhile")
	}
	if names := w.names("snapshots/"); !slices.Contains(names, manifestName(late)) || slices.Contains(names, manifestName(forgotten)) {
		t.Errorf("manifests %v", names)
	}
	w.prune(repo.PruneOptions{})
	if names := w.names("snapshots/"); len(names) != 1 {
		t.Errorf("manifests %v", names)
	}
	w.isSound()
}
