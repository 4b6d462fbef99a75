package index_test

import (
	"errors"
	"testing"

	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
)

// Answers are the same whether a look-up is the first that comes by a block or a source, or goes
// by what others have found, from whatever goroutine; also for a chunk whose places fill blocks.
func TestLookupsShareWhatTheyFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 63)
	var all []*index.Segment
	l, _ := w.local()
	for _, n := range []int{3, 400, 9000, 40_000} {
		often := w.pack(3000)
		for i, e := range often.Entries {
			if e.Encoding != pack.Delta {
				often.Entries[i].ID = w.chunks[0]
			}
		}
		all = append(all, w.open(w.object(w.admin, epoch1, nil, often, w.pack(n), w.pack(n))))
		w.absorb(l, all[len(all)-1])
	}
	dropped := all[1].ID
	if err := l.Retain(t.Context(), func(id index.SegmentID) bool { return id != dropped }); err != nil {
		t.Fatal(err)
	}
	all = append(all[:1], all[2:]...)
	const readers = 4
	answers := make(chan error, readers)
	for range readers {
		go func() {
			err := w.compare(l, all, 0)
			answers <- errors.Join(err, w.compare(l, all, 0))
		}()
	}
	for range readers {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}
