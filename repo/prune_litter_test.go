package repo_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// Segments that only supersede what is gone by now don't pile up.
func TestPruneJoinsEmptySegments(t *testing.T) {
	w := newRepository(t)
	w.mustBackup(w.stranger(admin), "stays", w.someFiles())
	r, p := w.stranger(admin), w.stranger(admin)
	most := 0
	for range 70 {
		w.forget(w.mustBackup(r, "gone", files{"x": w.random.bytes(100)}))
		_, err := p.Prune(t.Context(), repo.PruneOptions{})
		w.must(err)
		most = max(most, len(w.names("index/")))
	}
	if n := len(w.names("index/")); n > 10 || most < 60 {
		t.Errorf("%d segments are left, of up to %d", n, most)
	}
	w.isSound()
}

// counting counts how often an object is read whole.
type counting struct {
	*mem.Mem
	name string
	n    int
}

func (c *counting) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == c.name {
		c.n++
	}
	return c.Mem.Open(ctx, name)
}

// The list can be long. It is not read again for every few packs that are deleted.
func TestPruneReadsTheListRarely(t *testing.T) {
	w := newRepository(t)
	list := protocol.Condemned{Generation: 1, Phase: protocol.Final}
	for i := range 20_000 {
		list.Packs = append(list.Packs, protocol.CondemnedPack{Kind: seal.DataPack, ID: [32]byte{byte(i), byte(i >> 8)}})
	}
	r := w.stranger(admin)
	w.must(r.SwapCondemned(t.Context(), list))
	c := &counting{Mem: w.storage, name: "condemned"}
	r.Use(c)
	report, err := r.Prune(t.Context(), repo.PruneOptions{})
	w.must(err)
	if c.n == 0 || c.n > 10 || w.phase() != protocol.Empty {
		t.Errorf("read %d times: %s", c.n, fmt.Sprint(report))
	}
}
