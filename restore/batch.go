package restore

import (
	"context"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// Bounds of a batch, which hold descriptors and memory down. Contents are only
// referred to, so their size has no bound.
const (
	maxOpen  = 256   // files of more than one extent, which stay open; see limits
	maxParts = 16384 // extents
)

// batch is chunks to read and where to write them.
type batch struct {
	refs  []repo.Ref
	index map[chunk.ID]int // position in refs
	bytes int64            // size of the chunks
	// parts are the extents, those of one chunk linked in a list.
	parts       []part
	first, last []int32 // by position in refs
	files       int     // of one extent
	open        int     // other files, also those of which only a part is in this batch
}

// part is an extent of a file.
type part struct {
	file   *file
	at     uint64 // in the file
	offset uint32 // in the chunk
	length uint64
	next   int32 // the next part of the same chunk in batch.parts, or -1
}

func newBatch() *batch { return &batch{index: make(map[chunk.ID]int)} }

func (b *batch) reset() {
	clear(b.index)
	clear(b.parts) // let go of the files
	b.refs, b.parts, b.first, b.last = b.refs[:0], b.parts[:0], b.first[:0], b.last[:0]
	b.bytes, b.files, b.open = 0, 0, 0
}

// add adds an extent that is at the given place of a file.
func (b *batch) add(f *file, x snapshot.Extent, at uint64) {
	n := int32(len(b.parts))
	b.parts = append(b.parts, part{file: f, at: at, offset: x.Offset, length: x.Length, next: -1})
	i, ok := b.find(x.Chunk)
	if ok {
		b.parts[b.last[i]].next = n
		b.last[i] = n
		return
	}
	b.index[x.Chunk] = len(b.refs)
	b.refs = append(b.refs, repo.Ref{ID: x.Chunk, Kind: chunk.Data})
	b.first = append(b.first, n)
	b.last = append(b.last, n)
	b.bytes += int64(x.ChunkSize)
}

// find looks a chunk up. Neighbouring small files mostly share the last one.
func (b *batch) find(id chunk.ID) (i int, ok bool) {
	if last := len(b.refs) - 1; last >= 0 && b.refs[last].ID == id {
		return last, true
	}
	i, ok = b.index[id]
	return i, ok
}

// deliver reads the chunks of a batch and writes them to all their places.
func (s *session) deliver(ctx context.Context, b *batch) error {
	return s.repo.Chunks(ctx, b.refs, func(i int, plaintext []byte, err error) error {
		for n := b.first[i]; n >= 0; n = b.parts[n].next {
			p := &b.parts[n]
			contents, damage := p.cut(plaintext, err)
			if damage != nil {
				p.file.lose(fmt.Errorf("bytes %d to %d are lost: %w", p.at, p.at+p.length, damage))
			}
			if err := s.take(ctx, p, contents, damage != nil); err != nil {
				return err
			}
			s.o.Observer.Progress.BytesDone.Add(int64(p.length))
		}
		return nil
	})
}

// cut returns the part's bytes of its chunk.
func (p *part) cut(plaintext []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if end := uint64(p.offset) + p.length; end > uint64(len(plaintext)) {
		return nil, &repo.DamageError{Object: "entry", Err: fmt.Errorf("it wants %d bytes of a chunk of %d", end, len(plaintext))}
	}
	return plaintext[p.offset:][:p.length], nil
}

// take writes a part's contents, unless they are lost. The error is one that
// should end the restore.
func (s *session) take(ctx context.Context, p *part, contents []byte, lost bool) error {
	f := p.file
	if f.whole && !lost {
		return s.fail(&f.entry, f.out, s.writeWhole(f, contents))
	}
	if f.whole {
		f.pending.Store(1)
	}
	var err error
	if !lost {
		err = s.writePart(f, contents, p.at)
	} else if f.cloned {
		err = s.zero(f, p.at, p.length)
	}
	if err := f.fail(err); err != nil {
		return err
	}
	return s.complete(ctx, f)
}
