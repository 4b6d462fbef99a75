package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// largeWork is a file that is cut into chunks of its own.
type largeWork struct {
	entry int // in the job's entries
	dir   *dirHandle
	name  string
	stat  fsmeta.Stat
	old   *snapshot.Entry // of the parent, for its chunks; nil: none
	lacks error           // attributes, when it was read last
}

// chunkTask is a chunk on its way to be stored.
type chunkTask struct {
	data []byte     // the task's own space; nil if it was stored at once
	near []chunk.ID // of the parent, at the same place; likewise
	put  repo.Put
	done chan error // gets one value; the task can be used again then
}

// putter stores a chunk now or later: what became of it is there when done has a value. near is of
// no use to it afterwards, nor is data.
type putter func(ctx context.Context, data []byte, near []chunk.ID) (*chunkTask, error)

// put stores a chunk for the reader.
func (w *worker) put(t *chunkTask) error {
	var err error
	t.put, err = w.writer.PutNear(chunk.Data, t.data, t.near)
	t.done <- err
	return err
}

// putNow is a putter without a queue, for a worker that met a large file.
func (w *worker) putNow(_ context.Context, data []byte, near []chunk.ID) (*chunkTask, error) {
	put, err := w.writer.PutNear(chunk.Data, data, near)
	t := &chunkTask{put: put, done: make(chan error, 1)}
	t.done <- err
	return t, err
}

// putLater is the reader's putter: it hands the chunk to whichever worker is
// free. So one large file keeps all of them busy.
func (p *pipeline) putLater(ctx context.Context, data []byte, near []chunk.ID) (*chunkTask, error) {
	var t *chunkTask
	select {
	case t = <-p.spare:
	default:
		t = &chunkTask{data: make([]byte, 0, p.split.Params().Max), done: make(chan error, 1)}
	}
	t.data, t.near = append(t.data[:0], data...), append(t.near[:0], near...)
	return t, send(ctx, p.chunks, t)
}

// readLarge reads large files, one after the other. Cutting is so much quicker than compressing
// that one reader would feed all workers, did it not wait for the last chunks of each file.
func (p *pipeline) readLarge() error {
	buf := make([]byte, 2*p.split.Params().Max)
	for l := range p.large {
		if err := p.readFile(&l.job.entries[l.work.entry], l.work, buf, p.putLater); err != nil {
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
		if l.lacks != nil {
			p.report(e.Key, l.lacks, true)
		}
		p.describe(e, l.stat, after, n)
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
	xs, xerr := fsmeta.Xattrs(fd)
	l.lacks = addXattrs(e, xs, xerr)
	if n, err = p.fileContents(e, l.old, fd, before, buf, put); err != nil {
		return before, after, n, err
	}
	if after, err = fsmeta.StatFd(fd); err != nil {
		return before, after, n, &readError{err}
	}
	return before, after, n, nil
}

// fileContents is contents for an open file, and finds its holes.
func (p *pipeline) fileContents(e, old *snapshot.Entry, fd int, st fsmeta.Stat, buf []byte, put putter) (n uint64, err error) {
	c := p.collect(e, old, buf, put)
	defer c.drain()
	// A file that grows faster than it can be read must end some time.
	limit := st.Size + min(st.Size/8+1<<20, math.MaxInt64-st.Size)
	r := fdReader{sysRead: p.sysRead, fd: fd}
	if st.MayHaveHoles() {
		err = c.sparse(r, limit)
	} else {
		_, err = c.read(io.LimitReader(r, limit))
	}
	if err != nil {
		return c.size, err
	}
	return c.size, c.finish()
}

// fdReader reads a descriptor without the runtime's poller, which regular files
// have no use for.
type fdReader struct {
	sysRead func(fd int, p []byte) (int, error)
	fd      int
	// end, if not 0, is where the file should end. A call that gets just that much, though it
	// asked for more, met the end, and none is made to hear of it again. It is for whoever
	// has stat agree afterwards.
	end int64
}

// Read reads until p is full or the file ends. Its errors are *readError.
func (r fdReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := r.sysRead(r.fd, p[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, &readError{fmt.Errorf("read: %w", err)}
		}
		n += m
		if m == 0 || int64(n) == r.end {
			break
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
