package repo_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// opens counts how often objects of leases are read, and how often at once.
type opens struct {
	*mem.Mem
	now, most, all atomic.Int64
}

func (o *opens) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "leases/") {
		o.all.Add(1)
		n := o.now.Add(1)
		defer o.now.Add(-1)
		if n > o.most.Load() {
			o.most.Store(n)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return o.Mem.Open(ctx, name)
}

// Of leases there can be many: a long run has hundreds of beats, and the ends of those that
// were fenced stay. They are read at once, and the ends not again to clean up.
func TestPruneReadsManyLeases(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	for range 40 {
		w.must(wr.Beat(t.Context()))
	}
	read := func(patience time.Duration) (all, most int64) {
		o := &opens{Mem: w.storage}
		_, err := w.through(o, admin).Prune(t.Context(), repo.PruneOptions{Patience: patience})
		w.must(err)
		return o.all.Load(), o.most.Load()
	}
	if _, most := read(0); most < 10 {
		t.Errorf("%d read at once", most)
	}
	w.must(wr.Abort(t.Context()))
	for range 10 {
		w.begin(w.stranger(admin)) // and dies
	}
	read(-1)
	ends := int64(len(w.names("leases/")))
	if all, _ := read(0); ends != 10 || all > 3*ends {
		t.Errorf("%d objects were read for %d ends", all, ends)
	}
}
