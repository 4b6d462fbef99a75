package delta

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/zeebo/blake3"
)

const (
	// SketchSize is how many numbers a Sketch has.
	SketchSize = 4
	// grouped is how many features make a number of a sketch.
	grouped  = 3
	features = grouped * SketchSize
)

// Sketch stands for the contents of a chunk. Chunks that are largely the same
// probably have a number in common, at the same index of their sketches, and
// others hardly ever: the more numbers, the more alike they are. A number that
// is zero says nothing and equals none.
type Sketch [SketchSize]uint64

// Common returns how many numbers a and b have in common.
func (a Sketch) Common(b Sketch) int {
	n := 0
	for i := range a {
		if a[i] == b[i] && a[i] != 0 {
			n++
		}
	}
	return n
}

// Sketcher makes sketches. It may be used concurrently.
//
// The Gear hash of the 64 bytes before each place is computed, as for FastCDC,
// and where it is small, one in 512, it is a sample: so what is sampled depends
// on contents and not on places, as in X. Zou et al., "Odess: Speeding up
// Resemblance Detection for Redundancy Elimination by Fast Content-Defined
// Sampling" (ICDE 2021). The samples are spread over classes by their value,
// and the smallest of each class is a feature: one permutation and its ranges
// (P. Li, A. Owen and C. Zhang, "One Permutation Hashing", NIPS 2012) in place
// of the linear transforms, one for each feature, of Odess and of the
// N-transform (P. Shilane et al., "WAN-Optimized Replication of Backup Datasets
// Using Stream-Informed Delta Compression", FAST 2012). A feature is the same
// in two chunks with the probability of their similarity: samples in common by
// samples in all. Three of them together are a number of the sketch, their
// super-feature. Unlike those of Finesse (Y. Zhang et al., FAST 2019), features
// do not depend on where in the chunk something lies.
type Sketcher struct {
	table [256]uint64
	// groups has keyed BLAKE3 states. They make of features what tells
	// nothing, without the key, but that two are equal.
	groups sync.Pool
}

// The contexts of key derivation.
const (
	contextGear  = "cairn 2026-11 delta sketch gear table"
	contextGroup = "cairn 2026-11 delta sketch super-feature key"
)

// NewSketcher returns a Sketcher under a secret. Sketches under different
// secrets have nothing to do with each other. Nor has its table to do with that
// of a chunk.Splitter under the same secret: the cuts that one sees do not help
// to find features.
func NewSketcher(key [32]byte) *Sketcher {
	s := new(Sketcher)
	gear := derive(contextGear, key)
	if err := binary.Read(gear, binary.LittleEndian, s.table[:]); err != nil {
		panic(fmt.Sprintf("delta: internal error: derive gear table: %v", err))
	}
	var groupKey [32]byte
	derive(contextGroup, key).Read(groupKey[:]) // never fails, says its documentation
	keyed, err := blake3.NewKeyed(groupKey[:])
	if err != nil {
		panic(fmt.Sprintf("delta: internal error: BLAKE3 refuses a key of 32 bytes: %v", err))
	}
	s.groups.New = func() any { return &grouper{hash: keyed.Clone()} }
	return s
}

// derive returns an endless stream of secret bytes.
func derive(context string, key [32]byte) *blake3.Digest {
	h := blake3.NewDeriveKey(context)
	h.Write(key[:]) // never fails, says its documentation
	return h.Digest()
}

// Sketch returns the sketch of p, and false if it has no number: p is too
// short, below some 32 KiB, or too uniform. Once the Sketcher is warm it
// allocates nothing.
func (s *Sketcher) Sketch(p []byte) (sketch Sketch, ok bool) {
	var f sample
	for i := range f {
		f[i] = math.MaxUint64
	}
	f.take(&s.table, p)

	g := s.groups.Get().(*grouper)
	defer s.groups.Put(g)
	for i := range sketch {
		sketch[i] = g.group(i, (*[grouped]uint64)(f[i*grouped:]))
		ok = ok || sketch[i] != 0
	}
	return sketch, ok
}

// grouper makes super-features.
type grouper struct {
	hash *blake3.Hasher
	buf  [32]byte
}

// group returns the super-feature with index i: 0 if a feature is missing.
func (g *grouper) group(i int, features *[grouped]uint64) uint64 {
	b := append(g.buf[:0], byte(i))
	for _, f := range features {
		if f == math.MaxUint64 {
			return 0
		}
		b = binary.LittleEndian.AppendUint64(b, f)
	}
	g.hash.Reset()
	g.hash.Write(b) // never fails, says its documentation
	return binary.LittleEndian.Uint64(g.hash.Sum(g.buf[:0]))
}
