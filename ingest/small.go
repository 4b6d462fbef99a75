package ingest

import (
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// smallWork is a small file of a job.
type smallWork struct {
	entry    int      // in the job's entries
	contents []byte   // of a member of an archive, which was read already; else nil
	old      chunk.ID // of the parent, where its contents were; zero: none

	dir   *dirHandle
	name  string
	stat  fsmeta.Stat
	apart bool  // it turned out large: its contents are not in the bundle
	lacks error // attributes, when it was read last
}

// worker reads small files into bundles and stores chunks.
type worker struct {
	*pipeline
	buf    []byte
	layout []snapshot.Extent // of the file that was read last
	slab   []snapshot.Extent // where the extents of entries are cut from
	hasher *blake3.Hasher
	seen   map[[16]byte]int // content hash -> entry of the same job
	old    bundleHints
}

func newWorker(p *pipeline) *worker {
	return &worker{pipeline: p, hasher: p.contentHasher(), seen: make(map[[16]byte]int)}
}

// contentHash returns the content hash of the small file that was read last.
func (w *worker) contentHash() (sum [16]byte) {
	w.hasher.Reset()
	w.hasher.Write([]byte{0})
	for _, x := range w.layout {
		if x.ChunkSize == 0 {
			w.hasher.Write(zeros[:x.Length])
		} else {
			w.hasher.Write(w.buf[x.Offset:][:x.Length])
		}
	}
	var out [32]byte
	w.hasher.Sum(out[:0])
	return [16]byte(out[:])
}

// zeros are what a small file's holes read as.
var zeros [smallFile]byte

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
	for _, s := range j.small[first:end] {
		w.old.add(s.old, j.entries[s.entry].Size)
	}
	put, err := w.writer.PutNear(chunk.Data, w.buf, w.old.near(uint64(len(w.buf))))
	if err != nil {
		return err
	}
	for _, s := range j.small[first:end] {
		if s.apart {
			continue
		}
		extents := j.entries[s.entry].Extents
		for i := range extents {
			if x := &extents[i]; x.ChunkSize == inBundle {
				x.Chunk, x.ChunkSize = put.ID, uint32(len(w.buf))
			}
		}
	}
	return nil
}

// add appends contents that were read before to the bundle.
func (w *worker) add(j *job, s *smallWork) {
	start := len(w.buf)
	w.layout = w.layout[:0]
	if n := len(s.contents); n > 0 {
		w.layout = append(w.layout, snapshot.Extent{ChunkSize: inBundle, Offset: uint32(start), Length: uint64(n)})
	}
	w.buf = append(w.buf, s.contents...)
	w.opts.Observer.Progress.BytesDone.Add(int64(len(s.contents)))
	w.layOut(j, &j.entries[s.entry], s.entry, start)
}

// read appends a file's contents to the bundle. A file that changes while it
// is read is read once more.
func (w *worker) read(j *job, s *smallWork) error {
	e := &j.entries[s.entry]
	start := len(w.buf)
	for try := 0; ; try++ {
		w.buf, w.layout = w.buf[:start], w.layout[:0]
		before, after, n, err := w.readOnce(e, s)
		if err != nil {
			w.buf = w.buf[:start]
			w.unreadableFile(e, err)
			return nil
		}
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
		if s.lacks != nil {
			w.report(e.Key, s.lacks, true)
		}
		w.describe(e, s.stat, after, uint64(n))
		w.opts.Observer.Progress.BytesDone.Add(n)
		w.judge(e, before, after, s.stat, n)
		break
	}
	w.layOut(j, e, s.entry, start)
	return nil
}

// inBundle is the chunk size of extents in a bundle that is not stored yet.
const inBundle = 1

// layOut says where in the bundle a file's contents are. Equal files share their
// bytes, unless one has holes, as the other may have none there.
func (w *worker) layOut(j *job, e *snapshot.Entry, index, start int) {
	if len(w.layout) == 0 {
		return
	}
	e.Hash = w.contentHash()
	if dense := len(w.layout) == 1 && w.layout[0].ChunkSize == inBundle; dense {
		if first, ok := w.seen[e.Hash]; ok && j.entries[first].Size == e.Size {
			e.Extents = w.keep(j.entries[first].Extents)
			w.buf = w.buf[:start]
			return
		}
		w.seen[e.Hash] = index
	}
	e.Extents = w.keep(w.layout)
}

// keep copies extents. Most files have but one, so many of them share an allocation.
func (w *worker) keep(xs []snapshot.Extent) []snapshot.Extent {
	if cap(w.slab)-len(w.slab) < len(xs) {
		w.slab = make([]snapshot.Extent, 0, max(slabExtents, len(xs)))
	}
	start := len(w.slab)
	w.slab = append(w.slab, xs...)
	return w.slab[start:len(w.slab):len(w.slab)]
}

// slabExtents is how many extents share an allocation: few enough that one that is
// kept, of a file with several names, keeps little else.
const slabExtents = 64

// readOnce opens a file and appends its data to the bundle and its map to
// the layout. It returns what stat said before and after, and how many bytes the
// file has, with its holes; smallFile or more if it is no small file.
func (w *worker) readOnce(e *snapshot.Entry, s *smallWork) (before, after fsmeta.Stat, n int64, err error) {
	fd, before, err := fsmeta.OpenAt(s.dir.fd, s.name)
	if err != nil {
		return before, after, 0, err
	}
	defer unix.Close(fd)
	r := fdReader{sysRead: w.sysRead, fd: fd}
	if before.MayHaveHoles() {
		n, err = w.readSparse(r)
	} else {
		n, err = w.readDense(r, before.Size)
	}
	if err != nil {
		return before, after, n, err
	}
	xs, xerr := fsmeta.Xattrs(fd)
	s.lacks = addXattrs(e, xs, xerr)
	after, err = fsmeta.StatFd(fd)
	return before, after, n, err
}

// readDense takes a file without holes to its end, or to smallFile bytes.
func (w *worker) readDense(r fdReader, size int64) (n int64, err error) {
	start := len(w.buf)
	r.end = size
	for want := min(size+1, smallFile); want > 0; want = min(64<<10, smallFile-n) { // one more than expected, to meet the end
		got, err := w.append(r, int(want))
		n += int64(got)
		if err != nil {
			return n, err
		}
		if int64(got) < want {
			break
		}
		r.end = 0
	}
	w.data(start)
	return n, nil
}

// readSparse takes a file by its map of data and holes, for as long as it has
// less than smallFile bytes.
func (w *worker) readSparse(r fdReader) (n int64, err error) {
	for {
		start, end, err := fsmeta.NextData(r.fd, n)
		if err != nil || max(start, end) >= smallFile {
			return max(start, end), err
		}
		if start > n {
			w.layout = append(w.layout, snapshot.Extent{Length: uint64(start - n)})
		}
		at := len(w.buf)
		got, err := w.append(r, int(end-start))
		if n = start + int64(got); err != nil {
			return n, err
		}
		w.data(at)
		if got == 0 || n < end {
			return n, nil // it ends here
		}
	}
}

// append appends up to n bytes of a file to the bundle. Less are there only
// if the file ends.
func (w *worker) append(r fdReader, n int) (int, error) {
	at := len(w.buf)
	if cap(w.buf)-at < n {
		w.buf = append(make([]byte, 0, max(2*cap(w.buf), at+n, maxBundle+smallFile)), w.buf...)
	}
	got, err := r.Read(w.buf[at : at+n])
	w.buf = w.buf[:at+got]
	if err == io.EOF {
		err = nil
	}
	return got, err
}

// data adds what is in the bundle from start on to the layout.
func (w *worker) data(start int) {
	if n := len(w.buf) - start; n > 0 {
		w.layout = append(w.layout, snapshot.Extent{ChunkSize: inBundle, Offset: uint32(start), Length: uint64(n)})
	}
}

// sameFile reports whether a file was left alone between two stats.
func sameFile(a, b fsmeta.Stat) bool {
	return a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// describe takes over what stat says now: an entry's metadata should fit the
// contents that were read. Another file than the walk found is none of the names
// of that one.
func (p *pipeline) describe(e *snapshot.Entry, found, now fsmeta.Stat, size uint64) {
	e.Size = size
	e.Mtime = snapshot.Time(now.Mtime)
	if e.Ctime != (snapshot.Time{}) { // see addXattrs
		e.Ctime = snapshot.Time(now.Ctime)
	}
	e.Mode, e.UID, e.GID, e.Inode = now.Perm(), now.UID, now.GID, now.Ino
	e.User, e.Group = p.owners.User(now.UID), p.owners.Group(now.GID)
	if now.Ino != found.Ino || now.Dev != found.Dev {
		e.HasLink, e.Link = false, 0
	}
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
