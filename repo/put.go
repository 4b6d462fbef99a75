package repo

import (
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Put stores a chunk unless it is stored already, and returns its ID and
// whether it was new. It does not keep plaintext. The chunk is durable only
// when Commit returns nil.
func (w *Writer) Put(kind chunk.Kind, plaintext []byte) (id chunk.ID, isNew bool, err error) {
	p, err := w.PutNear(kind, plaintext, nil)
	return p.ID, p.IsNew, err
}

// Put is what became of a chunk.
type Put struct {
	ID    chunk.ID
	IsNew bool
	Bases pack.Bases // if it is new, and stored as a delta
}

// PutNear is Writer.Put for a chunk of which an earlier version had the data chunks near at the same
// place: it may be stored as its differences to them. Those are best that come first; it keeps
// none of them.
func (w *Writer) PutNear(kind chunk.Kind, plaintext []byte, near []chunk.ID) (put Put, err error) {
	if len(plaintext) == 0 || len(plaintext) > pack.MaxChunk {
		return put, fmt.Errorf("a chunk of %d bytes can't be stored", len(plaintext))
	}
	if err := w.failure(); err != nil {
		return put, err
	}
	id := w.hasher.Sum(kind, plaintext)
	put.ID = id
	w.mu.Lock()
	_, known := w.pending[id]
	w.mu.Unlock()
	if !known {
		if known, err = w.isStored(Ref{id, kind}); err != nil {
			return put, err
		}
	}
	if known {
		return put, nil
	}
	// From here on others count it as stored: if it fails, all of this run
	// fails.
	w.mu.Lock()
	if _, known = w.pending[id]; !known {
		w.pending[id] = struct{}{}
	}
	w.mu.Unlock()
	if known {
		return put, nil
	}
	if put.Bases, err = w.write(kind, &NewChunk{ID: id, Plaintext: plaintext, Near: near}); err != nil {
		w.fail(err)
		return put, err
	}
	put.IsNew = true
	return put, nil
}

// write stores a new chunk. It returns the bases, if it is stored as a delta.
func (w *Writer) write(kind chunk.Kind, c *NewChunk) (bases pack.Bases, err error) {
	e := pack.Entry{ID: c.ID, Kind: kind, Raw: uint32(len(c.Plaintext))}
	encoded, whole, err := w.encode(c, &e)
	if err != nil {
		return bases, err
	}
	defer w.recycle(encoded)
	if !w.dry {
		if err := w.keep(c, &e, encoded); err != nil {
			return bases, err
		}
	}
	stored := int64(len(encoded) + seal.Overhead)
	w.newBytes.Add(int64(e.Raw))
	w.stoBytes.Add(stored)
	if e.Encoding == pack.Delta {
		w.deltas.add(int64(e.Raw), stored, int64(whole+seal.Overhead))
	}
	return e.Bases, nil
}

// keep appends an encoded chunk to a pack.
func (w *Writer) keep(c *NewChunk, e *pack.Entry, encoded []byte) (err error) {
	p := w.data
	switch { // before it is sealed in place
	case e.Kind.IsMeta():
		p = w.meta
		w.keepNode(c, encoded, e.Encoding)
	case w.similar != nil:
		w.similar.Stored(c, encoded, e.Encoding)
	}
	*e, err = p.append(*e, encoded)
	return err
}

// keepNode puts a node into this machine's cache.
func (w *Writer) keepNode(c *NewChunk, encoded []byte, encoding pack.Encoding) {
	if encoding == pack.Zstd {
		w.repo.cache.PutFrame(nodeClass, c.ID, encoded)
	} else {
		w.repo.cache.Put(nodeClass, c.ID, c.Plaintext)
	}
}

// space returns space for an encoded chunk. It is not from a sync.Pool, which the collector would
// empty: these are large.
func (w *Writer) space() []byte {
	select {
	case s := <-w.scratch:
		return s
	default:
		return nil
	}
}

// recycle takes space for encoded chunks back.
func (w *Writer) recycle(scratch []byte) {
	if scratch == nil {
		return
	}
	select {
	case w.scratch <- scratch[:0]:
	default:
	}
}

// PutNode stores a node of a tree and returns its ID.
func (w *Writer) PutNode(kind chunk.Kind, plaintext []byte) (chunk.ID, error) {
	id, _, err := w.Put(kind, plaintext)
	return id, err
}
