package delta

import (
	"encoding/binary"
	"math/bits"
)

const (
	// anchor is the length of the pieces that the table knows, in bytes.
	anchor = 16
	// stride is the distance of their places in the bases, in bytes.
	stride = 16
)

// table finds places in the bases. It remembers one piece every stride bytes,
// each in the slot of its hash. Of pieces with the same slot it keeps the first:
// in a run of equal ones, that is where the longest match begins.
type table struct {
	slots []uint32 // position of a piece, plus 1
	shift int
}

// fill makes t the table of s.
//
//go:norace
func (t *table) fill(s *space) {
	width := bits.Len(uint(s.size() / stride))
	t.shift = 64 - width
	if n := 1 << width; n <= cap(t.slots) {
		t.slots = t.slots[:n]
		clear(t.slots)
	} else {
		t.slots = make([]uint32, n)
	}
	t.add(s.first, 0)
	t.add(s.second, len(s.first))
}

func (t *table) add(base []byte, position int) {
	for i := 0; i+anchor <= len(base); i += stride {
		if slot := &t.slots[t.slot(base[i:])]; *slot == 0 {
			*slot = uint32(position + i + 1)
		}
	}
}

// lookup returns the position of the piece whose hash is that of the one at the
// front of p, if there is one.
func (t *table) lookup(p []byte) (position int, ok bool) {
	slot := t.slots[t.slot(p)]
	return int(slot) - 1, slot != 0
}

// slot returns the slot of the piece at the front of p.
func (t *table) slot(p []byte) uint64 {
	a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	return (a*0x9e3779b185ebca87 ^ bits.RotateLeft64(b, 29)) * 0xc2b2ae3d27d4eb4f >> t.shift
}
