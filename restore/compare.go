package restore

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// smallFile is the size from which on a content hash is one of chunk IDs
// (docs/format.md, section 10).
const smallFile = 1 << 18

// comparer compares files with entries, by their hashes. It is for one goroutine.
type comparer struct {
	repo  *repo.Repository
	nodes snapshot.NodeSource
	sum   *blake3.Hasher // of small files; nil without the key
	buf   []byte         // what was read last of the file

	// fetch: where no hash tells, the chunk itself is read and compared. Without
	// it, what can't be told is errMismatch.
	fetch bool
	last  chunk.ID // the chunk read last, as small files share them
	data  []byte
}

func (s *session) newComparer(fetch bool) *comparer {
	c := &comparer{repo: s.repo, nodes: s.sel.tree.Source, fetch: fetch}
	if k := s.keys(); k != nil {
		var err error
		if c.sum, err = blake3.NewKeyed(k.ContentHash[:]); err != nil {
			panic("internal error: " + err.Error()) // the key size is fixed
		}
	}
	return c
}

// keys returns the keys that the snapshot was written with, if they are those that
// this key writes with too, and else nil.
func (s *session) keys() *seal.Keys {
	slot, ok := s.repo.Config().Slot(s.repo.SlotID())
	if !ok {
		return nil
	}
	if current, ok := s.repo.Config().Current(slot.Domain); !ok || current != s.o.Snapshot.Place {
		return nil
	}
	k, err := s.repo.WriteKeys()
	if err != nil {
		return nil
	}
	return k
}

// contents compares the contents of an open file of the right size. If they differ
// the error is errMismatch.
func (c *comparer) contents(ctx context.Context, fd int, e *snapshot.Entry) error {
	if c.sum != nil && e.Size > 0 && e.Size < smallFile {
		p, err := c.read(fd, 0, e.Size)
		if err != nil {
			return err
		}
		c.sum.Reset()
		c.sum.Write([]byte{0})
		c.sum.Write(p)
		var sum [32]byte
		if c.sum.Sum(sum[:0]); [16]byte(sum[:16]) != e.Hash {
			return errMismatch
		}
		return nil
	}
	var at uint64
	next := snapshot.Extents(ctx, c.nodes, e)
	for {
		x, err := next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.extent(ctx, fd, x, at)
		}
		if err != nil {
			return err
		}
		at += x.Length
	}
}

// extent compares one extent, which is at the given place of the file. If it is
// equal and no hole, c.buf has it.
func (c *comparer) extent(ctx context.Context, fd int, x snapshot.Extent, at uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if x.IsHole() {
		return c.zeros(ctx, fd, at, at+x.Length)
	}
	p, err := c.read(fd, at, x.Length)
	if err != nil {
		return err
	}
	if x.Offset == 0 && x.Length == uint64(x.ChunkSize) {
		if !c.repo.IsChunk(repo.Ref{ID: x.Chunk, Kind: chunk.Data}, p) {
			return differs(at, at+x.Length)
		}
		return nil
	}
	if !c.fetch {
		return errMismatch
	}
	if c.last != x.Chunk {
		if c.data, err = c.repo.Chunk(ctx, repo.Ref{ID: x.Chunk, Kind: chunk.Data}); err != nil {
			return err
		}
		c.last = x.Chunk
	}
	want, err := (&part{at: at, offset: x.Offset, length: x.Length}).cut(c.data, nil)
	if err == nil && !bytes.Equal(p, want) {
		err = differs(at, at+x.Length)
	}
	return err
}

func differs(from, to uint64) error { return fmt.Errorf("bytes %d to %d: %w", from, to, errMismatch) }

// maxRead is what is read of a hole at once, in bytes.
const maxRead = 1 << 20

// zeros reports whether a file has but zeros in a range. Its own holes there are
// passed over, so a hole costs nothing, however long it is.
func (c *comparer) zeros(ctx context.Context, fd int, from, to uint64) error {
	for from < to {
		data, end, err := nextData(fd, from, to)
		if err != nil {
			return err
		}
		for from = data; from < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(end-from, maxRead)
			p, err := c.read(fd, from, n)
			if err != nil {
				return err
			}
			if len(bytes.Trim(p, "\x00")) > 0 {
				return differs(from, from+n)
			}
			from += n
		}
	}
	return nil
}

// nextData returns the first range of a file at or behind from that is no hole,
// up to limit; from limit to limit if there is none. Where a file system knows of no
// holes, all is data.
func nextData(fd int, from, limit uint64) (start, end uint64, err error) {
	at, err := seek(fd, from, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return limit, limit, nil
	}
	if err == unix.EINVAL || err == unix.ENOTSUP {
		return from, limit, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look for holes: %w", err)
	}
	if at >= limit {
		return limit, limit, nil
	}
	stop, err := seek(fd, at, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("look for holes: %w", err)
	}
	return at, min(stop, limit), nil
}

func seek(fd int, offset uint64, whence int) (uint64, error) {
	n, err := unix.Seek(fd, int64(offset), whence)
	return uint64(n), err
}

// read reads n bytes into c.buf.
func (c *comparer) read(fd int, at, n uint64) ([]byte, error) {
	if uint64(cap(c.buf)) < n {
		c.buf = make([]byte, n)
	}
	p := c.buf[:n]
	for done := 0; done < len(p); {
		m, err := unix.Pread(fd, p[done:], int64(at)+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("read: %w", err)
		case m == 0:
			return nil, fmt.Errorf("the file became shorter: %w", errMismatch)
		}
		done += max(m, 0)
	}
	return p, nil
}
