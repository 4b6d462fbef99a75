package ingest

import (
	"cmp"
	"context"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// hints says which chunks the parent had at the place of each new chunk of a file or
// stream. Chunks that are found again, and those that became deltas, tell how far contents have
// moved since. A nil one knows nothing. It looks at a part of the parent's chunks only, so it
// takes the same memory for any file.
type hints struct {
	next   func() (snapshot.Extent, error) // the parent's chunks in turn; nil at their end
	window []oldChunk
	end    uint64 // of what next has delivered, in bytes of the parent's file
	shift  int64  // how much further back the parent has what comes now
	fails  int    // chunks in a row that did not become deltas though there was one near
	rest   int    // chunks for which nothing is said, after failures
	found  pack.Bases
}

// oldChunk is a chunk of the parent, from start to end in its file.
type oldChunk struct {
	id         chunk.ID
	start, end uint64
}

const (
	// windowAhead and windowBehind are how many of the parent's chunks are known in front of and
	// behind the place that is expected: so much may be cut out or put in, and what follows is found.
	windowAhead  = 512
	windowBehind = 128
	// A second base must have a part of the chunk, 1/minPart, or it is not worth to be fetched.
	minPart = 16
	// After patience failures in a row some chunks are left out, twice as many each time.
	patience = 3
	maxRest  = 64
)

// hints returns those of a file of the parent, which may be nil.
func (p *pipeline) hints(old *snapshot.Entry) *hints {
	if old == nil || old.Type != snapshot.File || old.Size == 0 || p.opts.DeltaBudget <= 0 {
		return nil
	}
	return newHints(snapshot.Extents(p.ctx, p.repo, old))
}

func newHints(next func() (snapshot.Extent, error)) *hints { return &hints{next: next} }

// near returns the chunks that the parent has at the place of a chunk at offset at, in their
// order; the result is valid until the next call. Chunks must be asked for in their order.
func (h *hints) near(at, size uint64) []chunk.ID {
	if h == nil {
		return nil
	}
	if h.rest > 0 {
		h.rest--
		return nil
	}
	from := uint64(max(int64(at)+h.shift, 0))
	to := from + size
	h.slide(from, to)
	best, second := -1, -1
	for i := range h.window {
		n := h.window[i].overlap(from, to)
		switch {
		case n == 0 || h.window[i].id.IsZero():
		case best < 0 || n > h.window[best].overlap(from, to):
			best, second = i, best
		case second < 0 || n > h.window[second].overlap(from, to):
			second = i
		}
	}
	if best < 0 {
		return nil
	}
	h.found[0] = h.window[best].id
	if second < 0 || h.window[second].overlap(from, to) < size/minPart || h.window[second].id == h.found[0] {
		return h.found[:1]
	}
	if h.found[1] = h.window[second].id; second < best {
		h.found[0], h.found[1] = h.found[1], h.found[0]
	}
	return h.found[:]
}

func (c *oldChunk) overlap(from, to uint64) uint64 {
	if lo, hi := max(from, c.start), min(to, c.end); lo < hi {
		return hi - lo
	}
	return 0
}

// slide moves the window such that it has the range and its surroundings.
func (h *hints) slide(from, to uint64) {
	place := func() int {
		i, _ := slices.BinarySearchFunc(h.window, from, func(c oldChunk, at uint64) int {
			if c.end <= at {
				return -1
			}
			return 1
		})
		return i
	}
	for at := place(); h.next != nil && (len(h.window)-at < windowAhead || h.end < to); {
		x, err := h.next()
		if err != nil { // the end; what can't be read only gives no hints
			h.next = nil
			return
		}
		h.window = append(h.window, oldChunk{x.Chunk, h.end, h.end + x.Length})
		h.end += x.Length
		if len(h.window) >= 2*(windowBehind+windowAhead) {
			at = place()
			h.window = slices.Delete(h.window, 0, max(at-windowBehind, 0))
		}
		at = place()
	}
}

// learn is told what became of each chunk, in their order.
func (h *hints) learn(at, size uint64, hinted bool, put *repo.Put) {
	if h == nil {
		return
	}
	if put.IsNew && put.Bases[0].IsZero() {
		if hinted {
			h.failed()
		}
		return
	}
	if h.fails, h.rest = 0, 0; !put.IsNew {
		if c := h.closest(put.ID, at); c != nil {
			h.shift = int64(c.start) - int64(at)
		}
		return
	}
	// A delta of one base, about as long: contents decided where both end. If there are two, the
	// cuts have moved.
	if !put.Bases[1].IsZero() {
		return
	}
	c := h.closest(put.Bases[0], at)
	if c == nil {
		return
	}
	if old := c.end - c.start; max(old, size)-min(old, size) <= size/4 {
		h.shift = int64(c.end) - int64(at+size)
	}
}

// failed makes the next attempts rarer.
func (h *hints) failed() {
	if h.fails++; h.fails >= patience {
		h.rest = min(1<<(h.fails-patience), maxRest)
	}
}

// closest returns the place of a chunk in the window that is nearest to where it is expected,
// nil if it has none.
func (h *hints) closest(id chunk.ID, at uint64) (found *oldChunk) {
	expected := int64(at) + h.shift
	distance := func(c *oldChunk) int64 {
		d := int64(c.start) - expected
		return max(d, -d)
	}
	for i := range h.window {
		if c := &h.window[i]; c.id == id && (found == nil || distance(c) < distance(found)) {
			found = c
		}
	}
	return found
}

// bundleHint counts how much of a bundle was in which chunk of the parent.
type bundleHint struct {
	id    chunk.ID
	bytes uint64
}

// bundleHints are the chunks of the parent that have most of a bundle's files.
type bundleHints struct {
	counts [8]bundleHint
	found  pack.Bases
}

// add counts a file. Files that stand together mostly were together in the parent.
func (b *bundleHints) add(id chunk.ID, bytes uint64) {
	if id.IsZero() {
		return
	}
	least := 0
	for i := range b.counts {
		c := &b.counts[i]
		if c.id == id {
			c.bytes += bytes
			return
		}
		if c.bytes < b.counts[least].bytes {
			least = i
		}
	}
	b.counts[least] = bundleHint{id, bytes}
}

// near returns the chunks that have most of a bundle of that size, and begins anew.
func (b *bundleHints) near(size uint64) []chunk.ID {
	slices.SortStableFunc(b.counts[:], func(x, y bundleHint) int { return cmp.Compare(y.bytes, x.bytes) })
	n := 0
	for n < len(b.found) && b.counts[n].bytes > size/minPart {
		b.found[n] = b.counts[n].id
		n++
	}
	clear(b.counts[:])
	return b.found[:n]
}

// oldChunkOf returns the chunk that a small file of the parent was in, zero if it was in none.
func oldChunkOf(old *snapshot.Entry) chunk.ID {
	if old != nil {
		for _, x := range old.Extents {
			if !x.IsHole() {
				return x.Chunk
			}
		}
	}
	return chunk.ID{}
}

// memberHints finds what the parent has for the large members of a source, which come in
// any order. A nil one finds nothing.
type memberHints struct{ cursor *snapshot.Cursor }

func (p *pipeline) memberHints() *memberHints {
	if p.parent == nil {
		return nil
	}
	return &memberHints{snapshot.NewCursor(snapshot.Tree{Root: p.parent.info.Body.Root, Source: p.repo})}
}

// find returns the parent's entry of a member, nil if there is none or it can't be read.
func (m *memberHints) find(ctx context.Context, key snapshot.Key) *snapshot.Entry {
	if m == nil {
		return nil
	}
	e, err := m.cursor.Seek(ctx, key)
	if err != nil || e == nil || e.Key != key {
		return nil
	}
	return e
}
