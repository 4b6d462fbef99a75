package ingest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/snapshot"
)

// sparseFile makes a file of 64 KiB of data, a hole, and 64 KiB of data.
func (b *bench) sparseFile(hole int64) (path string, st fsmeta.Stat, dir *dirHandle) {
	b.T.Helper()
	path, _, dir = b.file(64 << 10)
	b.must(writeAt(path, 64<<10+hole, 64<<10))
	st, err := fsmeta.StatAt(dir.fd, "file")
	b.must(err)
	if !st.MayHaveHoles() {
		need.Missing(b.T, "the file system of %s has no holes", b.dir)
	}
	return path, st, dir
}

func writeAt(path string, at int64, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = 'x'
	}
	_, err = f.WriteAt(data, at)
	return errors.Join(err, f.Close())
}

// shape is the layout of an entry in KiB: data positive, holes negative, as one
// sees them from outside, whatever the chunks.
func shape(e *snapshot.Entry) (s []int64) {
	for _, x := range e.Extents {
		n := int64(x.Length)
		switch last := len(s) - 1; {
		case x.IsHole():
			s = append(s, -n)
		case last >= 0 && s[last] > 0:
			s[last] += n
		default:
			s = append(s, n)
		}
	}
	for i := range s { // chunks end anywhere, runs of them do not
		s[i] /= 1 << 10
	}
	return s
}

// TestSparseChangedWhileRead changes a file with a hole when its first bytes
// are read, each time or once. (Its map is looked at again for each range.)
func TestSparseChangedWhileRead(t *testing.T) {
	changed, shrank := fmt.Sprint(errChanged, " ", false), fmt.Sprint(errShrank, " ", true)
	const hole = 1 << 20
	size := int64(hole + 128<<10)
	truncate := func(n int64) func(string) error { return func(p string) error { return os.Truncate(p, n) } }
	tests := []struct {
		name    string
		times   int
		change  func(path string) error
		shape   []int64
		partial bool
		problem string
	}{
		{"hole filled in part", 1, func(p string) error { return writeAt(p, 512<<10, 64<<10) }, []int64{64, -448, 64, -512, 64}, false, ""},
		{"hole filled always", 9, func(p string) error { return writeAt(p, 64<<10, hole) }, []int64{1152}, false, changed},
		{"data punched out", 1, func(p string) error {
			fd, err := unix.Open(p, unix.O_RDWR, 0)
			if err == nil {
				err = errors.Join(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, hole, 128<<10), unix.Close(fd))
			}
			return err
		}, []int64{64, -1088}, false, ""},
		{"cut in the hole", 1, truncate(512 << 10), []int64{64, -448}, false, shrank},
		{"cut at the hole", 1, truncate(64 << 10), []int64{64}, false, shrank},
		{"emptied", 1, truncate(0), nil, false, shrank},
		{"grew by a hole", 1, truncate(size + 1<<20), []int64{64, -1024, 64, -1024}, false, ""},
		{"grew by a huge hole always", 9, func(p string) error {
			st, err := os.Stat(p)
			return errors.Join(err, os.Truncate(p, st.Size()+1<<40))
		}, []int64{64, -1024, 64, -2 << 30}, false, changed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			path, st, dir := b.sparseFile(hole)
			n, reads := 0, 0
			b.sysRead = func(fd int, p []byte) (int, error) {
				at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
				b.must(err)
				got, err := unix.Read(fd, p)
				if at == 0 && n < test.times {
					n++
					b.must(test.change(path))
				}
				reads++
				return got, err
			}
			e := &snapshot.Entry{Key: "\x00file", Type: snapshot.File}
			b.must(b.readFile(e, &largeWork{dir: dir, name: "file", stat: st}, nil, newWorker(b.pipeline).putNow))
			if got := shape(e); fmt.Sprint(got) != fmt.Sprint(test.shape) {
				t.Errorf("it is stored as %v, want %v", got, test.shape)
			}
			b.check(e, int64(e.Size), test.partial, test.problem)
			if n != min(test.times, 2) || reads > 60 {
				t.Errorf("changed %d times, read with %d calls", n, reads)
			}
		})
	}
}

// TestSparseGrewOut: a small file with holes that became a large one since the
// walk, and one that shrinks in its hole when it is read.
func TestSparseGrewOut(t *testing.T) {
	for name, size := range map[string]int64{"grew": 1 << 40, "just large": smallFile, "small": smallFile - 1, "shrank": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			path, st, dir := b.sparseFile(64 << 10)
			b.must(os.Truncate(path, size))
			j := &job{entries: []snapshot.Entry{{Key: "\x00file", Type: snapshot.File}}}
			j.small = []smallWork{{dir: dir, name: "file", stat: st}}
			b.must(newWorker(b.pipeline).bundle(j))
			problem := ""
			if size < st.Size {
				problem = fmt.Sprint(errShrank, " ", true)
			}
			e := &j.entries[0]
			b.check(e, size, false, problem)
			last := e.Extents[len(e.Extents)-1]
			if !last.IsHole() {
				t.Errorf("it does not end with a hole: %v", e.Extents)
			}
		})
	}
}
