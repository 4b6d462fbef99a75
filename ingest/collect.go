package ingest

import (
	"encoding/binary"
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// contents cuts what r delivers into chunks in buf (nil: one of its own), stores them, and gives e the
// extents (or the list) and the content hash. An error of r comes back as *readError,
// whatever was read before. old is what the parent had in its place, or nil.
func (p *pipeline) contents(e, old *snapshot.Entry, r io.Reader, buf []byte, put putter) (n uint64, err error) {
	c := p.collect(e, old, buf, put)
	defer c.drain()
	if _, err := c.read(r); err != nil {
		return c.size, err
	}
	return c.size, c.finish()
}

// collector puts the chunks and holes of one file into order: into the entry while they
// are few, into a list tree when they are many.
type collector struct {
	p     *pipeline
	entry *snapshot.Entry
	buf   []byte // to cut chunks from
	put   putter
	hints *hints // nil: none
	sum   *blake3.Hasher
	at    uint64         // the end of what was put
	size  uint64         // of what was collected
	tasks []pendingChunk // at most inFlight
	list  *snapshot.ListBuilder
	holes int
	// The contents, while they may turn out to be those of a small file,
	// whose hash is made of them.
	seen  int64
	first []byte
}

// collect begins the contents of e anew. buf and old may be nil.
func (p *pipeline) collect(e, old *snapshot.Entry, buf []byte, put putter) *collector {
	e.Hash, e.Extents, e.List = [16]byte{}, nil, nil // perhaps of a read before
	c := &collector{p: p, entry: e, buf: buf, put: put, hints: p.hints(old), sum: p.contentHasher()}
	c.sum.Write([]byte{1})
	return c
}

// read takes all that r delivers, n bytes, in chunks that end where r ends.
func (c *collector) read(r io.Reader) (n int64, err error) {
	if c.buf == nil {
		c.buf = make([]byte, 2*c.p.split.Params().Max)
	}
	stream := chunk.NewStream(r, c.p.split, c.buf)
	for {
		data, err := stream.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, &readError{err}
		}
		n += int64(len(data))
		c.keepSmall(data)
		near := c.hints.near(c.at, uint64(len(data)))
		t, err := c.put(c.p.ctx, data, near)
		if err != nil {
			return n, err
		}
		if err := c.add(pendingChunk{t, uint64(len(data)), len(near) > 0}); err != nil {
			return n, err
		}
		c.p.opts.Observer.Progress.BytesDone.Add(int64(len(data)))
	}
}

// Holes. Each ends a chunk, and so a file with many would have chunks that cost
// more than the zeros. Beyond so many holes, the smaller ones are read like data.
const (
	manyHoles = 1024
	smallHole = 64 << 10
)

// sparse takes a file up to limit by its map of data and holes. A file that
// changes meanwhile is taken as it seems to be; the caller finds out.
func (c *collector) sparse(r fdReader, limit int64) error {
	for at := int64(0); at < limit; {
		start, end, err := fsmeta.NextData(r.fd, at)
		if err != nil {
			return &readError{err}
		}
		if start > at {
			if err := c.hole(start - at); err != nil {
				return err
			}
		}
		if start == end || start >= limit {
			return nil
		}
		if end, err = c.overSmallHoles(r.fd, start, end, limit); err != nil {
			return &readError{err}
		}
		n, err := c.read(io.LimitReader(r, min(end, limit)-start))
		if err != nil {
			return err
		}
		if at = start + n; at < end {
			return nil // it ends here by now
		}
	}
	return nil
}

// overSmallHoles moves the end of a range of data over holes that are to be
// read.
func (c *collector) overSmallHoles(fd int, start, end, limit int64) (int64, error) {
	for c.holes >= manyHoles && end < limit {
		next, nextEnd, err := fsmeta.NextData(fd, end)
		if err != nil {
			return 0, err
		}
		if next == nextEnd || next-end >= smallHole {
			break
		}
		end = nextEnd
	}
	_, err := unix.Seek(fd, start, unix.SEEK_SET)
	return end, err
}

// hole takes n zero bytes that are not stored.
func (c *collector) hole(n int64) error {
	c.holes++
	if c.seen+n < smallFile {
		c.keepSmall(make([]byte, n))
	} else {
		c.seen, c.first = c.seen+n, nil
	}
	c.p.opts.Observer.Progress.BytesDone.Add(n)
	return c.add(pendingChunk{size: uint64(n)})
}

// keepSmall keeps contents that may be all of a small file.
func (c *collector) keepSmall(data []byte) {
	if c.seen += int64(len(data)); c.seen < smallFile {
		c.first = append(c.first, data...)
	} else {
		c.first = nil
	}
}

// pendingChunk is a chunk on its way, or a hole, which has no task.
type pendingChunk struct {
	task   *chunkTask
	size   uint64
	hinted bool
}

// add notes a chunk or hole, and collects the oldest if many are on their way.
func (c *collector) add(t pendingChunk) error {
	c.tasks = append(c.tasks, t)
	c.at += t.size
	if len(c.tasks) < c.p.inFlight {
		return nil
	}
	return c.collect()
}

// collect waits for the oldest chunk.
func (c *collector) collect() error {
	t := c.tasks[0]
	c.tasks = c.tasks[:copy(c.tasks, c.tasks[1:])]
	x := snapshot.Extent{Length: t.size}
	if t.task != nil {
		select {
		case err := <-t.task.done:
			put := t.task.put
			c.giveBack(t.task)
			if err != nil {
				return err
			}
			c.hints.learn(c.size, t.size, t.hinted, &put)
			x.Chunk, x.ChunkSize = put.ID, uint32(t.size)
		case <-c.p.ctx.Done():
			return c.p.ctx.Err()
		}
	}
	c.sum.Write(x.Chunk[:])
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], x.Length)
	c.sum.Write(b[:])
	c.size += x.Length
	return c.extent(x)
}

func (c *collector) giveBack(t *chunkTask) {
	if t.data == nil {
		return
	}
	select {
	case c.p.spare <- t:
	default:
	}
}

// extent appends an extent to the entry, or to the list if there are many.
func (c *collector) extent(x snapshot.Extent) error {
	e := c.entry
	if c.list == nil && len(e.Extents) < snapshot.MaxExtents {
		e.Extents = append(e.Extents, x)
		return nil
	}
	if c.list == nil {
		c.list = snapshot.NewListBuilder(c.p.keys.TreeCut, c.p.sink(chunk.List))
		for _, old := range e.Extents {
			if err := c.list.Add(c.p.ctx, old); err != nil {
				return err
			}
		}
		e.Extents = nil
	}
	return c.list.Add(c.p.ctx, x)
}

// finish collects what is on its way and completes the entry.
func (c *collector) finish() error {
	for len(c.tasks) > 0 {
		if err := c.collect(); err != nil {
			return err
		}
	}
	if c.size == 0 {
		return nil
	}
	if c.size < smallFile {
		c.sum.Reset()
		c.sum.Write([]byte{0})
		c.sum.Write(c.first)
	}
	var out [32]byte
	c.sum.Sum(out[:0])
	c.entry.Hash = [16]byte(out[:])
	if c.list != nil {
		ref, err := c.list.Finish(c.p.ctx)
		if err != nil {
			return err
		}
		c.entry.List = &ref
	}
	return nil
}

// drain gives back the tasks of chunks that nobody waits for any more.
func (c *collector) drain() {
	for _, t := range c.tasks {
		if t.task == nil {
			continue
		}
		select {
		case <-t.task.done:
			c.giveBack(t.task)
		case <-c.p.ctx.Done():
			return
		}
	}
}
