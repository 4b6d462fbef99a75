package chunk

import (
	"fmt"
	"math/bits"

	"github.com/restic/chunker"
)

// rabin is the splitter of restic, github.com/restic/chunker: the fingerprint
// of the last 64 bytes modulo an irreducible polynomial of degree 53, and a
// cut where its low log2(Avg) bits are zero. Zeros have the fingerprint zero,
// so a run of them is cut into chunks of Min bytes.
type rabin struct {
	params Params
	start  chunker.BaseChunker // as it is at the start of a chunk; never used itself
}

// newRabin derives the polynomial: from 64-bit little-endian words of the key
// stream, bits 54 to 63 are cleared and bits 53 and 0 set, and the first word
// that is irreducible is it. That takes some milliseconds. The library keeps
// the tables of each polynomial that it has seen, 4 KB, until the process ends.
func newRabin(p Params, key [32]byte) (Splitter, error) {
	pol, err := chunker.DerivePolynomial(derive(contextPolynomial, key))
	if err != nil {
		return nil, fmt.Errorf("derive the polynomial of the rabin chunker: %w", err)
	}
	return &rabin{
		params: p,
		start: *chunker.NewBase(pol,
			chunker.WithBaseBoundaries(uint(p.Min), uint(p.Max)),
			chunker.WithBaseAverageBits(bits.Len(uint(p.Avg))-1)),
	}, nil
}

// Params implements Splitter.
func (r *rabin) Params() Params { return r.params }

// Cut implements Splitter. A BaseChunker changes as it goes, so each call
// works on a copy: 4 KB on the stack, where a pool of them would need a
// Reset, which allocates as much.
func (r *rabin) Cut(p []byte) int {
	p = p[:min(len(p), r.params.Max)]
	c := r.start
	if n := c.NextSplitPoint(p); n >= 0 {
		return n
	}
	return len(p)
}
