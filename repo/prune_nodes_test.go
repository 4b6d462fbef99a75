package repo_test

import (
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/repo"
)

// A pack that is condemned, and that no segment names, is no home. If it has a node that a
// snapshot needs, prune must not go on because it can read the node all the same: from
// the pack itself, or from the cache. (A copy of a storage that was taken bit by bit can
// be so, or one that lost a segment.)
func TestPruneMissesNode(t *testing.T) {
	for _, cached := range []bool{false, true} {
		w := newRepository(t)
		cache := ""
		if cached {
			cache = t.TempDir()
		}
		r := w.machine(cache, admin)
		f := w.someFiles()
		id := w.mustBackup(r, "first", f)
		w.delete(w.names("index/")...)
		packs := w.names("meta/")
		w.condemn(packs...)
		_, err := w.machine(cache, admin).Prune(t.Context(), repo.PruneOptions{Patience: -1})
		w.wants(err, repo.ErrDamage)
		if now := w.names("meta/"); !slices.Equal(now, packs) {
			t.Errorf("cached %v: of %q it left %q", cached, packs, now)
		}
		w.has(w.stranger(admin), id, f)
	}
}
