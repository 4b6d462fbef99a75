package index

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cairn-backup/cairn/chunk"
)

// A filter says of a chunk ID that a run does not have it, or that it may: a Bloom filter
// in blocks of a cache line (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom
// Filters, 2007). So a look-up of a new chunk costs a cache line a run, and one of a known
// chunk reads a block in one run, and in one more of a hundred.
//
// The line of an ID is chosen by its first bytes, such that lines stand in the order of IDs: a
// merge writes the lines of the range of keys that it moves. IDs are even, being keyed
// hashes; were they not, the filter would only say "may" too often.
//
// A line is its bits and their checksum, which also covers the run and the line's number, and is
// verified before "does not have it" is believed.
//
// Lines are stored in parts of linesPerPart; the key is the run's number and the part's.
const (
	lineSize       = 64
	lineBits       = (lineSize - sumSize) * 8
	recordsPerLine = 40 // 11 bits each: 1 % of "may" are wrong
	linesPerPart   = 512
	lineProbes     = 6 // bits of an ID in its line
)

// linesFor returns how many lines the filter of a run has.
func linesFor(records uint64) uint32 { return uint32(records/recordsPerLine) + 1 }

// lineOf returns the line of a chunk ID among lines.
func lineOf(id []byte, lines uint32) uint32 {
	hi, _ := bits.Mul64(binary.BigEndian.Uint64(id), uint64(lines))
	return uint32(hi)
}

// bitOf returns the bit of probe i of an ID.
func bitOf(id []byte, i int) uint32 {
	return uint32(binary.BigEndian.Uint16(id[8+2*i:])) * lineBits >> 16
}

func sumLine(run, number uint32, line []byte) sum {
	h := summer{run, number}
	h.add(line)
	return h.sum()
}

func partKey(run, part uint32) []byte {
	return binary.BigEndian.AppendUint32(number(run), part)
}

// linesInPart returns how many lines a part of a filter has.
func linesInPart(lines, part uint32) uint32 { return min(linesPerPart, lines-part*linesPerPart) }

// firstPart returns the first part that a run's filter has or needs: that of its lower bound.
func (u *run) firstPart() uint32 { return lineOf(u.from[:], u.lines) / linesPerPart }

// lastPart returns the last part.
func (u *run) lastPart() uint32 { return (u.lines - 1) / linesPerPart }

// filterWriter writes the filter of a run, whose records come in order.
type filterWriter struct {
	tables *tables
	run    uint32
	lines  uint32
	part   uint32
	buf    []byte // of the part; nil if none was begun
}

// begin returns a writer that goes on where the filter of a run ends.
func (t *tables) beginFilter(u *run) (*filterWriter, error) {
	w := &filterWriter{tables: t, run: u.number, lines: u.lines}
	if u.records == 0 {
		return w, nil
	}
	w.part = lineOf(u.to[:], u.lines) / linesPerPart
	v, err := t.filterPart(u, w.part)
	if err != nil {
		return nil, err
	}
	for at := range len(v) / lineSize {
		if err := verifyLine(u.number, w.part*linesPerPart+uint32(at), v[at*lineSize:]); err != nil {
			return nil, err
		}
	}
	w.buf = append(make([]byte, 0, len(v)), v...) // bbolt's own must not be changed
	return w, nil
}

func verifyLine(run, number uint32, line []byte) error {
	if s := sumLine(run, number, line[:lineSize-sumSize]); s != sum(line[lineSize-sumSize:lineSize]) {
		return fmt.Errorf("%w: checksum of a filter does not fit", errDamaged)
	}
	return nil
}

func (w *filterWriter) add(id []byte) error {
	line := lineOf(id, w.lines)
	if w.buf == nil {
		w.open(line / linesPerPart)
	}
	if err := w.advance(line / linesPerPart); err != nil {
		return err
	}
	p := w.buf[line%linesPerPart*lineSize:]
	for i := range lineProbes {
		b := bitOf(id, i)
		p[b/8] |= 1 << (b % 8)
	}
	return nil
}

func (w *filterWriter) open(part uint32) {
	w.part, w.buf = part, make([]byte, linesInPart(w.lines, part)*lineSize)
}

// advance writes the parts before one and begins that.
func (w *filterWriter) advance(part uint32) error {
	for w.part < part {
		if err := w.flush(); err != nil {
			return err
		}
		w.open(w.part + 1)
	}
	return nil
}

// finish writes what there is, up to the line of the key that comes next in the run.
func (w *filterWriter) finish(next *recordKey) error {
	if w.buf == nil {
		return nil
	}
	if err := w.advance(lineOf(next[:], w.lines) / linesPerPart); err != nil {
		return err
	}
	return w.flush()
}

func (w *filterWriter) flush() error {
	for at := 0; at < len(w.buf); at += lineSize {
		s := sumLine(w.run, w.part*linesPerPart+uint32(at/lineSize), w.buf[at:at+lineSize-sumSize])
		copy(w.buf[at+lineSize-sumSize:], s[:])
	}
	return w.tables.filters.Put(partKey(w.run, w.part), w.buf)
}

// filterPart returns a part of the filter of a run.
func (t *tables) filterPart(u *run, part uint32) ([]byte, error) {
	v := t.filters.Get(partKey(u.number, part))
	if uint32(len(v)) != linesInPart(u.lines, part)*lineSize {
		return nil, fmt.Errorf("%w: part of a filter of %d bytes", errDamaged, len(v))
	}
	return v, nil
}

// deleteParts deletes parts of a run's filter, up to the one before the end.
func (t *tables) deleteParts(run, from, end uint32) error {
	for p := from; p < end; p++ {
		if err := t.filters.Delete(partKey(run, p)); err != nil {
			return err
		}
	}
	return nil
}

// runFilter is the filter of a run as a reader found it. Its parts are read when they are
// needed, and are good for as long as the transaction.
type runFilter [][]byte

// line returns the line of a chunk, which is within the run's bounds.
func (f *runFilter) line(t *tables, u *run, id *chunk.ID) ([]byte, error) {
	n := lineOf(id[:], u.lines)
	part := n / linesPerPart
	if *f == nil {
		*f = make(runFilter, u.lastPart()+1)
	}
	p := (*f)[part]
	if p == nil {
		var err error
		if p, err = t.filterPart(u, part); err != nil {
			return nil, err
		}
		(*f)[part] = p
	}
	return p[n%linesPerPart*lineSize:][:lineSize], nil
}

// absent reports whether the line of a chunk proves that a run has no record of it.
func absent(u *run, id *chunk.ID, line []byte) (bool, error) {
	for i := range lineProbes {
		if b := bitOf(id[:], i); line[b/8]&(1<<(b%8)) == 0 {
			return true, verifyLine(u.number, lineOf(id[:], u.lines), line)
		}
	}
	return false, nil
}
