package repo

import (
	"sync/atomic"

	"github.com/cairn-backup/cairn/pack"
)

// ownPack is a pack that this writer stored, or the one before it.
type ownPack struct {
	size, raw, stored int64 // bytes: of the pack, and as Added counts them
	deltas            Deltas
}

func ownPackOf(f pack.Finished) ownPack {
	p := ownPack{size: f.Size}
	for _, e := range f.Entries {
		p.raw += int64(e.Raw)
		p.stored += int64(e.Stored)
		if e.Encoding == pack.Delta {
			p.deltas.Raw += int64(e.Raw)
			p.deltas.Stored += int64(e.Stored)
		}
	}
	return p
}

// inherit counts what a writer before this one stored, as far as it is still there.
func (w *Writer) inherit(before *Writer) {
	for id, p := range before.own {
		if w.stays(id, p.size) {
			w.own[id] = p
			w.newBytes.Add(p.raw)
			w.stoBytes.Add(p.stored)
			if d := p.deltas; d.Raw > 0 {
				w.deltas.add(d.Raw, d.Stored, int64(float64(d.Raw)*before.deltas.ratio()))
			}
		}
	}
}

// Added returns the bytes of the chunks that were new so far, before and after
// compression and sealing, with those of the writer before (WriterOptions.After).
func (w *Writer) Added() (raw, stored int64) { return w.newBytes.Load(), w.stoBytes.Load() }

// Deltas counts what was stored as deltas, in bytes.
type Deltas struct {
	Raw    int64 // of the chunks
	Stored int64 // what they take
	// Saved is how much less that is than whole chunks would take. It is an estimate: a chunk is
	// not compressed to find out, if it can be guessed of its bases.
	Saved int64
}

// deltaCounts are Deltas that are counted concurrently.
type deltaCounts struct{ raw, stored, whole atomic.Int64 }

func (c *deltaCounts) add(raw, stored, whole int64) {
	c.raw.Add(raw)
	c.stored.Add(stored)
	c.whole.Add(whole)
}

// ratio is the share of a chunk's bytes that it takes if it is stored whole.
func (c *deltaCounts) ratio() float64 {
	return float64(c.whole.Load()) / float64(max(c.raw.Load(), 1))
}

// Deltas returns what of Added was stored as deltas.
func (w *Writer) Deltas() Deltas {
	c := &w.deltas
	return Deltas{Raw: c.raw.Load(), Stored: c.stored.Load(), Saved: max(c.whole.Load()-c.stored.Load(), 0)}
}
