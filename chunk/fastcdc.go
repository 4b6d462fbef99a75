package chunk

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// fastCDC is content-defined chunking by the Gear hash, after W. Xia et al.,
// "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
// Deduplication" (USENIX ATC 2016) and "The Design of Fast Content-Defined
// Chunking for Data Deduplication Based Storage Systems" (IEEE TPDS 31(9),
// 2020), with a secret table.
//
// The hash of a place is the sum of table[b] << i over the 64 bytes before
// it, b being the byte i places back, modulo 2^64; it rolls on by one byte as
// h<<1 + table[b]. Bit k of it depends on the last k+1 bytes only. So the cut
// test looks at the top bits, which see the whole window: a place is a cut if
// its hash is at most a limit. For a limit of 2^(64-n)-1 that is the paper's
// mask of n bits, all of them at the top, and other limits give the averages
// between the powers of two.
//
// Normalised chunking draws the lengths together: up to the length normal, a
// place is a cut with probability 1/(4 Avg), and from there on with 4/Avg
// (two bits more and two bits less than Avg asks for, the paper's level 2).
//
// Two things differ from the paper. The window at the shortest length reaches
// back into the Min bytes that need no test, where the paper starts with an
// empty hash, so that a place is judged alike from wherever its chunk began.
// And normal is not Avg but what makes the mean length Avg, see normalLength.
type fastCDC struct {
	params        Params
	normal        int
	strict, loose uint64 // limits before and from normal

	table [256]uint64

	// mixed makes the cut test look at mix(h, odd1, odd2) instead of h.
	mixed      bool
	odd1, odd2 uint64
}

func newFastCDC(p Params, key [32]byte) *fastCDC {
	strict := math.MaxUint64 / (4 * uint64(p.Avg))
	f := &fastCDC{
		params: p,
		normal: normalLength(p.Min, p.Avg),
		strict: strict,
		loose:  strict<<4 | 15, // sixteen times as likely
		mixed:  p.Algorithm == FastCDCPRF,
	}
	if !f.mixed {
		readWords(derive(contextGear, key), f.table[:])
		return f
	}
	readWords(derive(contextGearPRF, key), f.table[:])
	var odd [2]uint64
	readWords(derive(contextMixer, key), odd[:])
	f.odd1, f.odd2 = odd[0]|1, odd[1]|1
	return f
}

// readWords fills words from r, little-endian. r does not end.
func readWords(r io.Reader, words []uint64) {
	if err := binary.Read(r, binary.LittleEndian, words); err != nil {
		panic(fmt.Sprintf("chunk: internal error: derive words: %v", err))
	}
}

// normalLength returns the length N at which the strict limit gives way to
// the loose one. With A for Avg and q = exp(-(N-Min)/4A), the share of chunks
// that get as far as N, the mean length is Min + 4A(1-q) + qA/4. It is A for
//
//	N = Min + 4A (ln 1.25 - ln(1 + Min/3A))
//	  ≈ 0.8926 A - Min/3 + 2 Min²/9A
//
// The second form is the definition, in integers, each division rounded down:
// cuts must not depend on how a machine computes logarithms. For a Min of at
// most half of A its error is below 1 % of A.
func normalLength(minimum, avg int) int {
	m, a := uint64(minimum), uint64(avg)
	return int(a*8926/10000 - m/3 + 2*m*m/(9*a))
}

// Params implements Splitter.
func (f *fastCDC) Params() Params { return f.params }

// Cut implements Splitter.
func (f *fastCDC) Cut(p []byte) int {
	shortest := f.params.Min
	if len(p) <= shortest {
		return len(p)
	}
	p = p[:min(len(p), f.params.Max)]

	var h uint64
	for _, b := range p[shortest-window : shortest-1] {
		h = h<<1 + f.table[b]
	}
	// The byte at shortest-1 completes the first window and the shortest
	// chunk.
	normal := min(f.normal, len(p))
	n, h := f.scan(h, p[shortest-1:normal-1], f.strict)
	if n > 0 {
		return shortest - 1 + n
	}
	if n, _ = f.scan(h, p[normal-1:], f.loose); n > 0 {
		return normal - 1 + n
	}
	return len(p)
}

// scan rolls h over p and returns how many bytes it took to come to a cut, or
// 0 and the hash at the end of p if there is none.
func (f *fastCDC) scan(h uint64, p []byte, limit uint64) (int, uint64) {
	n := 0
	for len(p)-n >= block {
		end, quiet := f.pass(h, (*[block]byte)(p[n:]), limit)
		if !quiet {
			break // the loop below finds which of the cuts in it is the first
		}
		h = end
		n += block
	}
	for i, b := range p[n:] {
		h = h<<1 + f.table[b]
		x := h
		if f.mixed {
			x = mix(h, f.odd1, f.odd2)
		}
		if x <= limit {
			return n + i + 1, h
		}
	}
	return 0, h
}

// mix is a keyed bijection in two rounds of xor-shift and multiplication by
// an odd constant. The shift comes first: a multiple of the plain hash is the
// plain hash of another table, so a multiplication up front would add
// nothing. The test looks at the top bits, which depend on all bits of both
// products, so no shift is needed after the second. As a bijection it leaves
// the probability of a cut as it was.
//
// It is applied at every place. Applying it only where a cheaper test on h
// succeeds would be faster, and would tell at each cut that the hash passed
// that test: the linear equations that it is there to deny.
func mix(h, odd1, odd2 uint64) uint64 {
	h ^= h >> 32
	h *= odd1
	h ^= h >> 32
	return h * odd2
}
