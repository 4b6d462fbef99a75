package delta

import (
	"encoding/binary"
	"math/bits"
)

const (
	// Every stride bytes of the bases an anchor is remembered.
	stride = 32
	// anchor is how many bytes make one.
	anchor = 16
)

// Encoder finds what a target shares with bases. It keeps its tables, so that
// a used one allocates nothing. It must not be used concurrently.
type Encoder struct {
	space
	table []uint32 // position of an anchor, plus 1
	shift int

	out                       []byte
	inserts, lengths, offsets []byte
	target                    []byte
	done, end                 int
	copies                    uint64
	literals                  []byte
}

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return new(Encoder) }

// Encode appends to dst a delta from which Decode, given the same bases in the
// same order, makes target. It is good for any target and bases, but of no use
// where they share little: it is then a few bytes longer than target. Lengths
// are up to 16 MiB each. It takes time linear in the lengths, whatever they
// hold. It panics if there are more than MaxBases bases.
func (e *Encoder) Encode(dst, target []byte, bases ...[]byte) []byte {
	e.space = newSpace(bases)
	e.target = target
	e.done, e.end, e.copies = 0, 0, 0
	e.inserts, e.lengths, e.offsets, e.literals = e.inserts[:0], e.lengths[:0], e.offsets[:0], e.literals[:0]
	e.index()
	e.search()
	dst = binary.AppendUvarint(dst, e.copies)
	dst = append(dst, e.inserts...)
	dst = append(dst, e.lengths...)
	dst = append(dst, e.offsets...)
	dst = append(dst, e.literals...)
	dst = append(dst, target[e.done:]...)
	e.space, e.target = space{}, nil
	return dst
}

// index puts the anchors of the bases into the table.
func (e *Encoder) index() {
	slots := 1 << bits.Len(uint(e.size()/stride*2+1))
	if slots > len(e.table) {
		e.table = make([]uint32, slots)
	} else {
		clear(e.table[:slots])
	}
	e.shift = 64 - bits.Len(uint(slots-1))
	for from, p := range [][]byte{e.first, e.second} {
		from *= len(e.first)
		for i := 0; i+anchor <= len(p); i += stride {
			e.table[e.slot(p[i:])] = uint32(from + i + 1)
		}
	}
}

func (e *Encoder) slot(p []byte) uint64 {
	a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	return (a*0x9E3779B185EBCA87 ^ bits.RotateLeft64(b, 29)) * 0xC2B2AE3D27D4EB4F >> e.shift
}

// search emits copies while there are any.
func (e *Encoder) search() {
	if n := e.forward(0, e.target); n >= anchor {
		e.emit(0, 0, n)
	}
	for i := e.done; i+anchor <= len(e.target); i++ {
		at := int(e.table[e.slot(e.target[i:])]) - 1
		if at < 0 {
			continue
		}
		n := e.forward(at, e.target[i:])
		if n < anchor {
			continue
		}
		m := e.backward(at, e.target[e.done:i])
		e.emit(i-m, at-m, n+m)
		i = e.done - 1
	}
}

// emit makes target[start:start+n] a copy of what is at position at.
func (e *Encoder) emit(start, at, n int) {
	e.inserts = binary.AppendUvarint(e.inserts, uint64(start-e.done))
	e.lengths = binary.AppendUvarint(e.lengths, uint64(n))
	e.offsets = binary.AppendVarint(e.offsets, int64(at-e.end))
	e.literals = append(e.literals, e.target[e.done:start]...)
	e.done, e.end = start+n, at+n
	e.copies++
}
