package repo

import (
	"context"
	"io"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/snapshot"
)

// File reads the contents of a file of a snapshot from its beginning. It is
// for one goroutine. Reading a bundle's or chunk's part twice in a row costs
// one read of the storage.
type File struct {
	ctx     context.Context
	repo    *Repository
	extents func() (snapshot.Extent, error) // io.EOF at the end
	current []byte                          // of the extent being read
	hole    uint64                          // zero bytes still to give
	id      chunk.ID                        // of plain
	plain   []byte
}

// NewFile returns a reader of a file's contents. Each chunk's ID is checked
// before any byte of it is given.
func NewFile(ctx context.Context, r *Repository, e *snapshot.Entry) *File {
	return &File{ctx: ctx, repo: r, extents: snapshot.Extents(ctx, r, e)}
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	for len(p) > 0 && len(f.current) == 0 && f.hole == 0 {
		x, err := f.extents()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		if x.Chunk.IsZero() {
			f.hole = x.Length
			continue
		}
		if x.Chunk != f.id {
			if f.plain, err = f.repo.Chunk(f.ctx, Ref{x.Chunk, chunk.Data}); err != nil {
				return 0, err
			}
			f.id = x.Chunk
		}
		end := uint64(x.Offset) + x.Length
		if end > uint64(len(f.plain)) {
			return 0, damaged("chunk "+x.Chunk.Short(), io.ErrUnexpectedEOF)
		}
		f.current = f.plain[x.Offset:end]
	}
	if f.hole > 0 {
		n := int(min(uint64(len(p)), f.hole))
		clear(p[:n])
		f.hole -= uint64(n)
		return n, nil
	}
	n := copy(p, f.current)
	f.current = f.current[n:]
	return n, nil
}
