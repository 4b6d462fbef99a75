package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

var errMismatch = errors.New("what was read back is not what the snapshot has; the target's disk or memory may be at fault: restore it again, elsewhere")

// readBack is a file to verify.
type readBack struct {
	entry snapshot.Entry
	place place
}

// verify is the third pass: it reads each file that is as in the snapshot, also
// those that were there before, from the disk and compares it.
func (s *session) verify(ctx context.Context) error {
	// What is on the disk and clean can be dropped from memory, so that it is
	// read from there. This is an attempt: tmpfs has no disk.
	root, err := s.dirs.get("")
	if err != nil {
		return err
	}
	unix.Syncfs(root.Fd())
	s.dirs.release(root)

	g, ctx := errgroup.WithContext(ctx)
	files := make(chan readBack, 64)
	for range s.repo.Goroutines() {
		g.Go(func() error {
			c := s.newComparer()
			for f := range files {
				if err := s.readBack(ctx, c, &f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(files)
		return s.sel.walk(ctx, &verifier{session: s, files: files})
	})
	return g.Wait()
}

// verifier is the walk of that pass.
type verifier struct {
	*session
	files chan<- readBack
}

func (v *verifier) enter(_ context.Context, d, _ *directory) (skip bool, err error) {
	return v.outcomes.at(d.number).get() == Failed, nil
}

func (v *verifier) leave(context.Context, *directory, *directory) error { return nil }

func (v *verifier) item(ctx context.Context, e *snapshot.Entry, number int, _ *directory) error {
	if e.Type != snapshot.File {
		return nil
	}
	switch v.outcomes.at(number).get() {
	case Created, Replaced, Unchanged:
	default:
		return nil
	}
	select {
	case v.files <- readBack{entry: *e, place: v.sel.place(e.Key)}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readBack verifies one file.
func (s *session) readBack(ctx context.Context, c *comparer, f *readBack) error {
	err := s.compare(ctx, c, f)
	switch {
	case err == nil:
		s.count.Verified.Add(1)
	case ctx.Err() != nil:
		return err
	default:
		s.problem(f.entry.Key.Path(), fmt.Errorf("verify: %w", err))
	}
	return nil
}

func (s *session) compare(ctx context.Context, c *comparer, f *readBack) error {
	above, name := f.place.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	fd, st, err := fsmeta.OpenAt(d.Fd(), name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if uint64(st.Size) != f.entry.Size {
		return fmt.Errorf("it has %d bytes, not %d: %w", st.Size, f.entry.Size, errMismatch)
	}
	unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) // see verify
	return c.contents(ctx, fd, &f.entry)
}

// smallFile is the size from which on a content hash is one of chunk IDs
// (docs/format.md, section 10).
const smallFile = 1 << 18

// comparer compares files with entries: by their hashes, or, where it has no
// hash or no key, with the chunks themselves. It is for one goroutine.
type comparer struct {
	repo  *repo.Repository
	nodes snapshot.NodeSource
	ids   *chunk.Hasher  // nil without the keys
	sum   *blake3.Hasher // of small files; nil too
	buf   []byte
	last  chunk.ID // the chunk read last, as small files share them
	data  []byte
}

func (s *session) newComparer() *comparer {
	c := &comparer{repo: s.repo, nodes: s.sel.tree.Source}
	if k := s.keys(); k != nil {
		c.ids = chunk.NewHasher(chunk.Keys{Data: k.ChunkData, Node: k.ChunkNode, List: k.ChunkList})
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

// contents compares the contents of an open file of the right size.
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

// maxRead is what is read of a hole at once, in bytes.
const maxRead = 1 << 20

// extent compares one extent, which is at the given place of the file.
func (c *comparer) extent(ctx context.Context, fd int, x snapshot.Extent, at uint64) error {
	if x.IsHole() {
		return c.zeros(fd, at, x.Length)
	}
	p, err := c.read(fd, at, x.Length)
	if err != nil {
		return err
	}
	if c.ids != nil && x.Offset == 0 && x.Length == uint64(x.ChunkSize) {
		if c.ids.Sum(chunk.Data, p) != x.Chunk {
			return fmt.Errorf("bytes %d to %d: %w", at, at+x.Length, errMismatch)
		}
		return nil
	}
	if c.last != x.Chunk {
		if c.data, err = c.repo.Chunk(ctx, repo.Ref{ID: x.Chunk, Kind: chunk.Data}); err != nil {
			return err
		}
		c.last = x.Chunk
	}
	want, err := (&part{at: at, offset: x.Offset, length: x.Length}).cut(c.data, nil)
	if err == nil && !bytes.Equal(p, want) {
		err = fmt.Errorf("bytes %d to %d: %w", at, at+x.Length, errMismatch)
	}
	return err
}

func (c *comparer) zeros(fd int, at, length uint64) error {
	for length > 0 {
		n := min(length, maxRead)
		p, err := c.read(fd, at, n)
		if err != nil {
			return err
		}
		if len(bytes.Trim(p, "\x00")) > 0 {
			return fmt.Errorf("bytes %d to %d: %w", at, at+n, errMismatch)
		}
		at, length = at+n, length-n
	}
	return nil
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
