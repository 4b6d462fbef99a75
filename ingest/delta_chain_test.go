package ingest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cairn-backup/cairn/repo"
)

// TestDeltasOfNearDeltas: from the third version on, what is near is stored as deltas. Their bases
// serve then, and no sketch is needed to find them.
func TestDeltasOfNearDeltas(t *testing.T) {
	w := newWorldOf(t, repo.Params{Chunker: middling})
	var first uint64
	for v := range 4 {
		p := rows(1, 2<<20, v)
		w.write("file", p)
		o := w.clean(deltas(1<<30), w.fromStorage)
		w.view(o.ID).wantContents(w.path("file"), p)
		if v == 0 {
			first = o.Totals.NewStored
		} else if added := o.Totals.NewStored; added*10 > first {
			t.Errorf("version %d adds %d bytes, the first one %d", v, added, first)
		}
		found, err := filepath.Glob(filepath.Join(w.cache, "*", "sketches*"))
		w.must(err)
		if len(found) == 0 {
			t.Fatal("there is no sketch index")
		}
		for _, name := range found {
			w.must(os.Remove(name))
		}
	}
}
