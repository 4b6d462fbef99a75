package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// largeWork is a file that is cut into chunks of its own.
type largeWork struct {
	entry int // in the job's entries
	dir   *dirHandle
	name  string
	stat  fsmeta.Stat
}

// chunkTask is a chunk on its way to be stored.
type chunkTask struct {
	data []byte // of pipeline.buffers; nil if it was stored at once
	id   chunk.ID
	done chan error // gets one value; the data is free then
}

// putter stores a chunk now or later: its ID is there when done has a value.
type putter func(ctx context.Context, data []byte) (*chunkTask, error)

// put stores a chunk for the reader.
func (w *worker) put(t *chunkTask) error {
	id, _, err := w.writer.Put(chunk.Data, t.data)
	t.id = id
	t.done <- err
	return err
}

// putNow is a putter without a queue, for a worker that met a large file.
func (w *worker) putNow(_ context.Context, data []byte) (*chunkTask, error) {
	id, _, err := w.writer.Put(chunk.Data, data)
	t := &chunkTask{id: id, done: make(chan error, 1)}
	t.done <- err
	return t, err
}

// putLater is the reader's putter: it hands the chunk to whichever worker is
// free. So one large file keeps all of them busy.
func (p *pipeline) putLater(ctx context.Context, data []byte) (*chunkTask, error) {
	var buf []byte
	select {
	case buf = <-p.buffers:
	default:
		buf = make([]byte, 0, p.split.Params().Max)
	}
	t := &chunkTask{data: append(buf, data...), done: make(chan error, 1)}
	return t, send(ctx, p.chunks, t)
}

// readLarge reads large files, one after the other: cutting is so much quicker
// than compressing that one reader feeds all workers.
func (p *pipeline) readLarge() error {
	for l := range p.large {
		if err := p.readFile(&l.job.entries[l.work.entry], l.work, p.cutting, p.putLater); err != nil {
			return err
		}
		l.job.partDone()
	}
	return nil
}

// readFile stores a file's contents and describes them in e. It releases the
// directory. A file that changes while it is read is read once more.
func (p *pipeline) readFile(e *snapshot.Entry, l *largeWork, buf []byte, put putter) error {
	defer l.dir.release()
	for try := 0; ; try++ {
		before, after, n, err := p.readFileOnce(e, l, buf, put)
		var readErr *readError
		if errors.As(err, &readErr) {
			p.unreadableFile(e, readErr.err)
			return nil
		}
		if err != nil {
			return err
		}
		same := sameFile(before, after) && n == uint64(after.Size)
		if !same && try == 0 {
			p.opts.Observer.Progress.BytesDone.Add(-int64(n))
			continue
		}
		p.describe(e, after, n)
		p.judge(e, before, after, l.stat, int64(n))
		return nil
	}
}

// readError is an error of the source, as against one of the repository.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

func (p *pipeline) readFileOnce(e *snapshot.Entry, l *largeWork, buf []byte, put putter) (before, after fsmeta.Stat, n uint64, err error) {
	fd, before, err := fsmeta.OpenAt(l.dir.fd, l.name)
	if err != nil {
		return before, after, 0, &readError{err}
	}
	defer unix.Close(fd)
	unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // only a hint
	e.Xattrs = e.Xattrs[:0]
	xs, xerr := fsmeta.Xattrs(fd)
	for _, x := range xs {
		e.Xattrs = append(e.Xattrs, snapshot.Xattr{Name: x.Name, Value: x.Value})
	}
	if xerr != nil {
		p.report(e.Key, xerr, true)
	}
	// A file that grows faster than it can be read must end some time.
	limit := before.Size + before.Size/8 + 1<<20
	if n, err = p.contents(e, io.LimitReader(fdReader(fd), limit), buf, put); err != nil {
		return before, after, n, err
	}
	if after, err = fsmeta.StatFd(fd); err != nil {
		return before, after, n, &readError{err}
	}
	return before, after, n, nil
}

// fdReader reads a descriptor without the runtime's poller, which regular files
// have no use for.
type fdReader int

func (fd fdReader) Read(p []byte) (int, error) {
	n, err := readFull(int(fd), p)
	if err != nil {
		return n, &readError{err}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// contents cuts what r delivers into chunks in buf (nil: one of its own), stores them, and gives e the
// extents (or the list) and the content hash. An error of r comes back as *readError,
// whatever was read before.
func (p *pipeline) contents(e *snapshot.Entry, r io.Reader, buf []byte, put putter) (n uint64, err error) {
	e.Hash, e.Extents, e.List = [16]byte{}, nil, nil // perhaps of a read before
	c := &collector{p: p, entry: e, sum: p.contentHasher()}
	c.sum.Write([]byte{1})
	defer c.drain()
	stream := chunk.NewStream(r, p.split, buf)
	for {
		data, err := stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return c.size, &readError{err}
		}
		c.keepSmall(data)
		t, err := put(p.ctx, data)
		if err != nil {
			return c.size, err
		}
		if err := c.add(t, len(data)); err != nil {
			return c.size, err
		}
		p.opts.Observer.Progress.BytesDone.Add(int64(len(data)))
	}
	return c.size, c.finish()
}

// collector puts the chunks of one file into order: into the entry while they
// are few, into a list tree when they are many.
type collector struct {
	p     *pipeline
	entry *snapshot.Entry
	sum   *blake3.Hasher
	size  uint64
	tasks []pendingChunk // at most inFlight
	list  *snapshot.ListBuilder
	// The contents, while they may turn out to be those of a small file,
	// whose hash is made of them.
	seen  int
	first []byte
}

// keepSmall keeps contents that may be all of a small file.
func (c *collector) keepSmall(data []byte) {
	if c.seen += len(data); c.seen < smallFile {
		c.first = append(c.first, data...)
	} else {
		c.first = nil
	}
}

type pendingChunk struct {
	task *chunkTask
	size int
}

// add notes a chunk, and collects the oldest if many are on their way.
func (c *collector) add(t *chunkTask, size int) error {
	c.tasks = append(c.tasks, pendingChunk{t, size})
	if len(c.tasks) < c.p.inFlight {
		return nil
	}
	return c.collect()
}

// collect waits for the oldest chunk.
func (c *collector) collect() error {
	t := c.tasks[0]
	c.tasks = c.tasks[:copy(c.tasks, c.tasks[1:])]
	select {
	case err := <-t.task.done:
		c.giveBack(t.task)
		if err != nil {
			return err
		}
	case <-c.p.ctx.Done():
		return c.p.ctx.Err()
	}
	c.sum.Write(t.task.id[:])
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(t.size))
	c.sum.Write(b[:])
	c.size += uint64(t.size)
	return c.extent(snapshot.Extent{Chunk: t.task.id, ChunkSize: uint32(t.size), Length: uint64(t.size)})
}

func (c *collector) giveBack(t *chunkTask) {
	if t.data == nil {
		return
	}
	select {
	case c.p.buffers <- t.data[:0]:
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

// drain gives back the buffers of chunks that nobody waits for any more.
func (c *collector) drain() {
	for _, t := range c.tasks {
		select {
		case <-t.task.done:
			c.giveBack(t.task)
		case <-c.p.ctx.Done():
			return
		}
	}
}
