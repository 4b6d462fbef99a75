package delta

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/blake3"
)

// Features is how many features a Sketch has.
const Features = 8

// Sketch is a summary of a chunk. Two chunks that have a feature in common, at
// whatever places of their sketches, are probably similar: the more of them,
// the more so.
type Sketch [Features]uint64

// Sketcher makes sketches. It may be used concurrently.
type Sketcher struct {
	table    [256]uint64
	multiply [Features]uint64
}

// NewSketcher returns a Sketcher under a secret. Sketches under different
// secrets have nothing to do with each other.
func NewSketcher(key [32]byte) *Sketcher {
	h := blake3.NewDeriveKey("cairn 2026-11 delta sketch")
	h.Write(key[:]) // never fails, says its documentation
	s := new(Sketcher)
	r := h.Digest()
	for _, words := range [][]uint64{s.table[:], s.multiply[:]} {
		if err := binary.Read(r, binary.LittleEndian, words); err != nil {
			panic("delta: internal error: derive words: " + err.Error())
		}
	}
	for i := range s.multiply {
		s.multiply[i] |= 1
	}
	return s
}

// Sketch returns the sketch of p, and false if p is too short or too uniform
// to have one.
func (s *Sketcher) Sketch(p []byte) (sketch Sketch, ok bool) {
	var h uint64
	n := 0
	for _, b := range p {
		h = h<<1 + s.table[b]
		if h>>57 != 0 {
			continue
		}
		n++
		for j, m := range s.multiply {
			x := bits.RotateLeft64(h, 32) * m
			sketch[j] = max(sketch[j], x)
		}
	}
	if n < Features {
		return Sketch{}, false
	}
	return sketch, true
}
