package repo

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// baseCache keeps the plaintexts of the bases that were read last: neighbouring deltas share
// them. It is safe for concurrent use.
type baseCache struct {
	mu     sync.Mutex
	recent []base // the last one used comes last
	size   int
}

type base struct {
	id        chunk.ID
	plaintext []byte
}

// maxBases bounds what a baseCache keeps, in bytes: some eight chunks of the usual size.
const maxBases = 8 << 20

// get returns the plaintext of a base, which nobody may change, or nil.
func (c *baseCache) get(id chunk.ID) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.recent, func(b base) bool { return b.id == id })
	if i < 0 {
		return nil
	}
	b := c.recent[i]
	c.recent = append(slices.Delete(c.recent, i, i+1), b)
	return b.plaintext
}

func (c *baseCache) put(id chunk.ID, plaintext []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent = append(c.recent, base{id, plaintext})
	c.size += len(plaintext)
	for c.size > maxBases && len(c.recent) > 1 {
		c.size -= len(c.recent[0].plaintext)
		c.recent = slices.Delete(c.recent, 0, 1)
	}
}

// hangsOn returns the bases of an entry, of which each has to stay whole as long as the entry
// is to serve.
func (r *Repository) hangsOn(e *pack.Entry) []chunk.ID {
	bases := e.Bases.IDs()
	if len(bases) > 1 && !r.does(stepEachBase) {
		return bases[:1]
	}
	return bases
}

// baseError is an error of the storage that was met while a base was read. It says nothing
// of what hangs on the base.
type baseError struct{ error }

func (e baseError) Unwrap() error { return e.error }

// bases returns the plaintexts of the bases of an entry, none if it is no delta. Only whole
// homes count: what hangs on a delta in turn would need any number of reads, and could
// need itself.
func (r *Repository) bases(ctx context.Context, e pack.Entry) (plaintexts [][]byte, err error) {
	for _, id := range e.Bases.IDs() {
		p := r.recentBases.get(id)
		if p == nil {
			if p, err = r.wholeChunk(ctx, id); err != nil {
				err = fmt.Errorf("chunk %s hangs on base %s: %w", e.ID.Short(), id.Short(), err)
				if !isDamage(err) {
					err = baseError{err}
				}
				return nil, err
			}
			r.recentBases.put(id, p)
		}
		plaintexts = append(plaintexts, p)
	}
	return plaintexts, nil
}

// wholeChunk reads a data chunk from a home that hangs on no other chunk.
func (r *Repository) wholeChunk(ctx context.Context, id chunk.ID) ([]byte, error) {
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	p, err := r.find(ctx, &search{ref: Ref{id, chunk.Data}, buf: b, whole: true})
	return slices.Clone(p), err
}
