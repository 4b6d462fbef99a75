package ingest

import (
	"fmt"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// smallWork is a small file of a job.
type smallWork struct {
	entry    int    // in the job's entries
	contents []byte // of a member of an archive, which was read already; else nil

	dir   *dirHandle
	name  string
	stat  fsmeta.Stat
	apart bool // it turned out large: its contents are not in the bundle
}

// worker reads small files into bundles and stores chunks.
type worker struct {
	*pipeline
	buf    []byte
	hasher *blake3.Hasher
	seen   map[[16]byte]int // content hash -> entry of the same job
}

func newWorker(p *pipeline) *worker {
	return &worker{pipeline: p, hasher: p.contentHasher(), seen: make(map[[16]byte]int)}
}

// contentHash returns the content hash of a small file.
func (w *worker) contentHash(p []byte) (sum [16]byte) {
	w.hasher.Reset()
	w.hasher.Write([]byte{0})
	w.hasher.Write(p)
	var out [32]byte
	w.hasher.Sum(out[:0])
	return [16]byte(out[:])
}

// bundle reads the small files of a job, one behind the other, and stores
// them as one chunk. Equal files of the bundle share their bytes.
func (w *worker) bundle(j *job) error {
	first := 0
	for i := range j.small {
		s := &j.small[i]
		if s.contents != nil {
			w.add(j, s)
			continue
		}
		err := w.read(j, s)
		s.dir.release()
		if err != nil {
			return err
		}
		// The files were meant to fit; many that grew since may not.
		if len(w.buf) >= 2*maxBundle {
			if err := w.store(j, first, i+1); err != nil {
				return err
			}
			first = i + 1
		}
	}
	return w.store(j, first, len(j.small))
}

// store stores the bundle with the contents of the small files from first up
// to end, and begins a new one.
func (w *worker) store(j *job, first, end int) error {
	defer func() {
		w.buf = w.buf[:0]
		clear(w.seen)
	}()
	if len(w.buf) == 0 {
		return nil
	}
	id, _, err := w.writer.Put(chunk.Data, w.buf)
	if err != nil {
		return err
	}
	for _, s := range j.small[first:end] {
		if e := &j.entries[s.entry]; !s.apart && len(e.Extents) == 1 {
			e.Extents[0].Chunk, e.Extents[0].ChunkSize = id, uint32(len(w.buf))
		}
	}
	return nil
}

// add appends contents that were read before to the bundle.
func (w *worker) add(j *job, s *smallWork) {
	start := len(w.buf)
	w.buf = append(w.buf, s.contents...)
	w.opts.Observer.Progress.BytesDone.Add(int64(len(s.contents)))
	w.place(j, &j.entries[s.entry], s.entry, start)
}

// read appends a file's contents to the bundle. A file that changes while it
// is read is read once more.
func (w *worker) read(j *job, s *smallWork) error {
	e := &j.entries[s.entry]
	start := len(w.buf)
	for try := 0; ; try++ {
		w.buf = w.buf[:start]
		before, after, err := w.readOnce(e, s)
		if err != nil {
			w.buf = w.buf[:start]
			w.unreadableFile(e, err)
			return nil
		}
		n := int64(len(w.buf) - start)
		if n >= smallFile {
			// It grew out of the bundle's measure since the walk.
			w.buf = w.buf[:start]
			s.apart = true
			return w.readFile(e, &largeWork{dir: s.dir.retain(), name: s.name, stat: s.stat}, nil, w.putNow)
		}
		same := sameFile(before, after) && n == after.Size
		if !same && try == 0 {
			continue
		}
		w.describe(e, after, uint64(n))
		w.opts.Observer.Progress.BytesDone.Add(n)
		w.judge(e, before, after, s.stat, n)
		break
	}
	w.place(j, e, s.entry, start)
	return nil
}

// place says where in the bundle a file's contents are.
func (w *worker) place(j *job, e *snapshot.Entry, index, start int) {
	contents := w.buf[start:]
	if len(contents) == 0 {
		return
	}
	e.Hash = w.contentHash(contents)
	if first, ok := w.seen[e.Hash]; ok && j.entries[first].Size == e.Size {
		e.Extents = append([]snapshot.Extent(nil), j.entries[first].Extents...)
		w.buf = w.buf[:start]
		return
	}
	w.seen[e.Hash] = index
	e.Extents = []snapshot.Extent{{Offset: uint32(start), Length: uint64(len(contents))}}
}

// readOnce opens a file and appends up to smallFile bytes of it to the bundle.
// It returns what stat said before and after.
func (w *worker) readOnce(e *snapshot.Entry, s *smallWork) (before, after fsmeta.Stat, err error) {
	fd, before, err := fsmeta.OpenAt(s.dir.fd, s.name)
	if err != nil {
		return before, after, err
	}
	defer unix.Close(fd)
	want := int(min(before.Size+1, smallFile)) // one more than expected, to meet the end
	for want > 0 {
		n := len(w.buf)
		if cap(w.buf)-n < want {
			w.buf = append(make([]byte, 0, max(2*cap(w.buf), n+want, maxBundle+smallFile)), w.buf...)
		}
		got, err := readFull(fd, w.buf[n:n+want])
		w.buf = w.buf[:n+got]
		if err != nil {
			return before, after, err
		}
		if got < want {
			break
		}
		want = min(64<<10, smallFile-want)
		if len(w.buf)-n >= smallFile {
			break
		}
	}
	e.Xattrs = e.Xattrs[:0]
	xs, xerr := fsmeta.Xattrs(fd)
	for _, x := range xs {
		e.Xattrs = append(e.Xattrs, snapshot.Xattr{Name: x.Name, Value: x.Value})
	}
	if xerr != nil {
		w.report(e.Key, xerr, true)
	}
	after, err = fsmeta.StatFd(fd)
	return before, after, err
}

// readFull reads until p is full or the file ends.
func readFull(fd int, p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Read(fd, p[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, fmt.Errorf("read: %w", err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// sameFile reports whether a file was left alone between two stats.
func sameFile(a, b fsmeta.Stat) bool {
	return a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// describe takes over what stat says now: an entry's metadata should fit the
// contents that were read.
func (p *pipeline) describe(e *snapshot.Entry, st fsmeta.Stat, size uint64) {
	e.Size = size
	e.Mtime, e.Ctime = snapshot.Time(st.Mtime), snapshot.Time(st.Ctime)
	e.Mode, e.UID, e.GID, e.Inode = st.Perm(), st.UID, st.GID, st.Ino
}

// judge reports a file that was not what it seemed to be. What was read, n
// bytes, leaves a hole in the snapshot only if the file became shorter than it was when it was
// opened or found by the walk. Of one that grew or was written to, which state is taken
// is a matter of chance anyway; and one that another file took the place of is whole.
func (p *pipeline) judge(e *snapshot.Entry, before, after, found fsmeta.Stat, n int64) {
	switch {
	case n < before.Size:
		e.Partial = true
		p.report(e.Key, errShrank, true)
	case after.Size < found.Size && after.Ino == found.Ino:
		p.report(e.Key, errShrank, true)
	case !sameFile(before, after) || n != after.Size:
		p.report(e.Key, errChanged, false)
	}
}

// unreadableFile takes an entry out of the tree: a file of which nothing could be
// read is not in the snapshot, and said to be missing.
func (p *pipeline) unreadableFile(e *snapshot.Entry, err error) {
	p.report(e.Key, err, true)
	e.Type = dropped
}

// dropped marks an entry that does not go into the tree.
const dropped snapshot.Type = 0
