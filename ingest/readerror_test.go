package ingest

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/snapshot"
)

// TestReadError: a file that can't be read to its end is not in the snapshot, not
// even as far as it could be read, and is named.
func TestReadError(t *testing.T) {
	const problem = "read: input/output error true"
	// fail makes reads from an offset on fail as those of a bad disk do.
	fail := func(b *bench, from int64) {
		b.sysRead = func(fd int, p []byte) (int, error) {
			at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
			if err == nil && at >= from {
				return 0, unix.EIO
			}
			return unix.Read(fd, p[:min(int64(len(p)), from-at)])
		}
	}
	for _, from := range []int64{0, 1000, 100 << 10} {
		t.Run(fmt.Sprintf("small at %d", from), func(t *testing.T) {
			b := newBench(t)
			fail(b, from)
			_, st, dir := b.file(110 << 10)
			j := &job{entries: []snapshot.Entry{{Key: "\x00file", Type: snapshot.File}}}
			j.small = []smallWork{{dir: dir, name: "file", stat: st}}
			w := newWorker(b.pipeline)
			b.must(w.bundle(j))
			b.check(&j.entries[0], -1, false, problem)
			if len(w.buf) != 0 || b.storedRaw() != 0 {
				t.Errorf("%d bytes are in the bundle, %d stored", len(w.buf), b.storedRaw())
			}
		})
	}
	for _, from := range []int64{0, 1000, 300 << 10, 1<<20 - 1} {
		t.Run(fmt.Sprintf("large at %d", from), func(t *testing.T) {
			b := newBench(t)
			fail(b, from)
			_, st, dir := b.file(1 << 20)
			e := &snapshot.Entry{Key: "\x00file", Type: snapshot.File}
			b.must(b.readFile(e, &largeWork{dir: dir, name: "file", stat: st}, nil, newWorker(b.pipeline).putNow))
			b.check(e, -1, false, problem)
		})
	}
	for _, from := range []int64{0, 1<<20 + 64<<10} {
		t.Run(fmt.Sprintf("sparse at %d", from), func(t *testing.T) {
			b := newBench(t)
			_, st, dir := b.sparseFile(1 << 20)
			fail(b, from)
			e := &snapshot.Entry{Key: "\x00file", Type: snapshot.File}
			b.must(b.readFile(e, &largeWork{dir: dir, name: "file", stat: st}, nil, newWorker(b.pipeline).putNow))
			b.check(e, -1, false, problem)
		})
	}
	// What was on its way in the queues is given back.
	t.Run("queued", func(t *testing.T) {
		b := newBench(t)
		fail(b, 1<<20-1)
		_, st, dir := b.file(1 << 20)
		e := &snapshot.Entry{Key: "\x00file", Type: snapshot.File}
		put := func(ctx context.Context, data []byte, near []chunk.ID) (*chunkTask, error) {
			task := &chunkTask{data: append([]byte(nil), data...), done: make(chan error, 1)}
			return task, newWorker(b.pipeline).put(task)
		}
		b.must(b.readFile(e, &largeWork{dir: dir, name: "file", stat: st}, nil, put))
		b.check(e, -1, false, problem)
		if n := len(b.spare); n == 0 {
			t.Error("no task came back")
		}
	})
}

func (b *bench) storedRaw() int64 {
	raw, _ := b.writer.Added()
	return int64(raw)
}
