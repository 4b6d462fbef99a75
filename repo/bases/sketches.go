// Package bases is what one machine remembers of chunks to find those that others
// can be stored as differences to. It is all guesses: whoever asks decides by the
// repository's index whether a chunk may be a base, and by its ID whether contents are
// those of the chunk. Without it snapshots only take more room.
package bases

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
)

// SketchesSize is the usual size of the file of Sketches, in bytes: room for
// the sketches of 350,000 chunks.
const SketchesSize = 64 << 20

// Sketches finds chunks that look like a given one. It is a file of a fixed size: a
// header and a table of slots, each with a number of a sketch and a chunk that
// has it. A number has a bucket of slots that it can be in; there it takes
// the place of the oldest.
//
// There are no locks and no trust: each slot has a checksum, and what is damaged, or
// written by two at once, counts as empty. All methods may be called
// concurrently, and by several processes.
type Sketches struct {
	file    *os.File // nil if nothing is kept
	buckets uint64
	isNew   bool

	mu     sync.Mutex
	failed error            // the first failed write, after which nothing is written
	buf    [bucketSize]byte // the bucket that was read last
	slot   [slotSize]byte   // the slot that was written last
}

// The file begins with a header of a block:
//
//	0   8  "CAIRNSKT"
//	8   4  version, 1
//	12  4  CRC-32C of the label
//
// and a block is 10 slots with 32 unused bytes behind them, so that no bucket lies in
// two sectors of the disk:
//
//	0   8  number of the sketch; not zero
//	8  32  ID of the chunk
//	40  4  when it was written, in seconds since 1970, modulo 2^32
//	44  4  CRC-32C of the bytes before it
//
// A number can only be in the block 1 + number mod (blocks - 1).
// All integers are little-endian.
const (
	sketchesMagic   = "CAIRNSKT"
	sketchesVersion = 1
	bucketSize      = 512
	slotSize        = 48
	bucketSlots     = 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenSketches opens the file with the given name, and makes it if needed. label
// tells sketches apart that have nothing to do with each other, because they were
// made under other keys: a file with another label is begun anew, as is a damaged one
// or one of another size. If there is an error, the Sketches can still be
// used: it finds nothing, or takes in nothing.
func OpenSketches(name string, size int64, label []byte) (*Sketches, error) {
	s := &Sketches{buckets: uint64(max(size/bucketSize-1, 1))}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		s.failed = err
		if f, err = os.Open(name); err != nil {
			return s, fmt.Errorf("open sketch index: %w", s.failed)
		}
	}
	s.file = f
	want := header(label)
	got := make([]byte, len(want))
	_, err = io.ReadFull(io.NewSectionReader(f, 0, int64(len(want))), got)
	fi, statErr := f.Stat()
	if err == nil && statErr == nil && bytes.Equal(got, want) && fi.Size() == s.length() {
		return s, s.wrap(s.failed)
	}
	if s.failed == nil {
		s.failed = s.begin(name, want)
	}
	if s.failed != nil {
		s.file.Close()
		s.file = nil
	}
	return s, s.wrap(s.failed)
}

func (s *Sketches) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("open sketch index: %w", err)
}

// length is that of the file.
func (s *Sketches) length() int64 { return int64(1+s.buckets) * bucketSize }

// begin puts an empty file in the place of one that is of no use. Another process that
// has the old one open goes on with that, unseen.
func (s *Sketches) begin(name string, header []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(header)
	if err == nil {
		err = f.Truncate(s.length()) // what was never written takes no room
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return errors.Join(err, f.Close())
	}
	s.file.Close()
	s.file, s.isNew = f, true
	return nil
}

func header(label []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(sketchesMagic), sketchesVersion)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(label, castagnoli))
}

// IsNew reports whether there was nothing in the file when it was opened.
func (s *Sketches) IsNew() bool { return s.isNew || s.file == nil }

// Close closes the file. What was added is on its way to the disk.
func (s *Sketches) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Similar appends to dst chunks that have a number in common with sketch, those first that
// have most. They are guesses: a chunk may be gone, or be another's.
func (s *Sketches) Similar(dst []chunk.ID, sketch delta.Sketch) []chunk.ID {
	if s.file == nil {
		return dst
	}
	var found [len(sketch) * bucketSlots]candidate
	n := 0
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, number := range sketch {
		if number == 0 || !s.read(s.bucket(number)) {
			continue
		}
		for i := range bucketSlots {
			if got, ok := s.at(i, s.bucket(number)); ok && got.number == number {
				n = count(found[:], n, got)
			}
		}
	}
	best := found[:n]
	slices.SortFunc(best, func(a, b candidate) int { return cmp.Or(b.hits-a.hits, cmp.Compare(b.when, a.when)) })
	for _, c := range best {
		dst = append(dst, c.id)
	}
	return dst
}

// candidate is a chunk that has numbers in common with a sketch.
type candidate struct {
	id   chunk.ID
	hits int
	when uint32
}

// count counts a slot for its chunk, and returns how many candidates there are then.
func count(found []candidate, n int, s slot) int {
	at := 0
	for at < n && found[at].id != s.id {
		at++
	}
	if at == n {
		found[at] = candidate{id: s.id}
		n++
	}
	found[at].hits++
	found[at].when = max(found[at].when, s.when)
	return n
}

// Add notes that a chunk, which others can be differences to, has a sketch. now is in
// seconds since 1970. A failure is not an error: Failed tells of it.
func (s *Sketches) Add(id chunk.ID, sketch delta.Sketch, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return
	}
	for _, number := range sketch {
		if number == 0 || !s.read(s.bucket(number)) {
			continue
		}
		add := slot{number, id, uint32(now)}
		i, known := s.place(add)
		if known {
			continue
		}
		add.encode(&s.slot)
		if _, err := s.file.WriteAt(s.slot[:], s.offset(s.bucket(number))+int64(i)*slotSize); err != nil {
			s.failed = err
			return
		}
	}
}

// Failed returns why nothing is taken in any more, nil if all is well.
func (s *Sketches) Failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// maxAlike is how many chunks with the same number are kept. More of them are hardly of
// use, and would push others out.
const maxAlike = 3

// place returns which slot of the bucket that was read a new one goes into: an empty one, or the
// oldest, or if there are many of its number already the oldest of these. known: it is there.
func (s *Sketches) place(add slot) (i int, known bool) {
	empty, alike := -1, 0
	var oldest, oldestAlike int
	var age, ageAlike uint32
	for i := range bucketSlots {
		got, ok := s.at(i, s.bucket(add.number))
		if !ok {
			empty = i
			continue
		}
		old := add.when - got.when // also when the seconds have begun anew
		if old >= age {
			oldest, age = i, old
		}
		if got.number != add.number {
			continue
		}
		if got.id == add.id {
			return i, true
		}
		alike++
		if old >= ageAlike {
			oldestAlike, ageAlike = i, old
		}
	}
	switch {
	case alike >= maxAlike:
		return oldestAlike, false
	case empty >= 0:
		return empty, false
	}
	return oldest, false
}

func (s *Sketches) bucket(number uint64) uint64 { return number % s.buckets }

func (s *Sketches) offset(bucket uint64) int64 { return int64(1+bucket) * bucketSize }

func (s *Sketches) read(bucket uint64) bool {
	_, err := s.file.ReadAt(s.buf[:], s.offset(bucket))
	return err == nil
}

// slot is what a slot holds.
type slot struct {
	number uint64
	id     chunk.ID
	when   uint32
}

// at decodes a slot of the bucket that was read. ok is false if it is empty or damaged.
func (s *Sketches) at(i int, bucket uint64) (x slot, ok bool) {
	b := s.buf[i*slotSize:][:slotSize]
	x = slot{binary.LittleEndian.Uint64(b), chunk.ID(b[8:40]), binary.LittleEndian.Uint32(b[40:])}
	ok = x.number != 0 && s.bucket(x.number) == bucket && binary.LittleEndian.Uint32(b[44:]) == crc32.Checksum(b[:44], castagnoli)
	return x, ok
}

func (x slot) encode(b *[slotSize]byte) {
	binary.LittleEndian.PutUint64(b[:], x.number)
	copy(b[8:], x.id[:])
	binary.LittleEndian.PutUint32(b[40:], x.when)
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
}
