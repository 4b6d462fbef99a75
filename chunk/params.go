package chunk

import (
	"fmt"
	"math/bits"
)

// Algorithm is a way of finding cuts. The numbers and names are stored in
// repositories and never change their meaning.
type Algorithm uint8

const (
	// FastCDC is the Gear hash with normalised chunking and a secret table.
	FastCDC Algorithm = 1
	// FastCDCPRF is FastCDC with a keyed non-linear step before the cut test.
	FastCDCPRF Algorithm = 2
	// Rabin is the Rabin fingerprint of restic with a secret polynomial.
	Rabin Algorithm = 3
)

// Valid reports whether a is one of the algorithms above.
func (a Algorithm) Valid() bool { return a >= FastCDC && a <= Rabin }

// String returns the name that ParseAlgorithm reads.
func (a Algorithm) String() string {
	switch a {
	case FastCDC:
		return "fastcdc"
	case FastCDCPRF:
		return "fastcdc-prf"
	case Rabin:
		return "rabin"
	}
	return fmt.Sprintf("algorithm %d", uint8(a))
}

// ParseAlgorithm returns the algorithm of that name.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a := FastCDC; a.Valid(); a++ {
		if a.String() == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("unknown chunker %q: choose fastcdc, fastcdc-prf or rabin", name)
}

const (
	// window is how many bytes before a place decide whether it is a cut, in
	// each of the algorithms.
	window = 64

	// MinLimit and MaxLimit bound what Params may ask for, in bytes. No chunk
	// can be shorter than the window that cuts it. A chunk is held in memory
	// whole, several at a time, so a large Max is not only a matter of taste.
	MinLimit = window
	MaxLimit = 64 << 20
)

// Params say how an input is split. They are part of a repository: other
// parameters, other chunks, no deduplication against the old ones.
type Params struct {
	Algorithm Algorithm

	// Min and Max are the length of the shortest chunk, but for the last of
	// an input, and of the longest, in bytes.
	Min, Max int

	// Avg is the length to aim at, in bytes. On random data the mean of
	// FastCDC and FastCDCPRF is within 1 % of Avg. Rabin, as in restic,
	// starts to look for a cut only at Min, and its mean is below Min + Avg,
	// the more so the nearer Max is.
	Avg int
}

// DefaultParams returns FastCDC with chunks of 256 KiB to 4 MiB, 1 MiB on
// average: small enough that a change in a large file costs little, and large
// enough that a terabyte has a million chunks to keep in an index.
func DefaultParams() Params { return ParamsOf(FastCDC, 1<<20) }

// ParamsOf returns parameters for chunks of avg bytes on average, with a fourth of
// that at least and four times as much at most.
func ParamsOf(a Algorithm, avg int) Params {
	return Params{Algorithm: a, Min: avg / 4, Avg: avg, Max: 4 * avg}
}

// Validate reports what is wrong with p: an unknown algorithm, sizes outside
// of MinLimit and MaxLimit, a Min above half of Avg or a Max below twice of
// it (the limits, and not the content, would make most of the cuts), or, for
// Rabin, an Avg that is no power of two.
func (p Params) Validate() error {
	switch {
	case !p.Algorithm.Valid():
		return fmt.Errorf("chunker: unknown %v: this version knows fastcdc, fastcdc-prf and rabin", p.Algorithm)
	case p.Min < MinLimit:
		return fmt.Errorf("chunker: minimum of %d bytes is too small: choose at least %d", p.Min, MinLimit)
	case p.Max > MaxLimit:
		return fmt.Errorf("chunker: maximum of %d bytes is too large: choose at most %d", p.Max, MaxLimit)
	case p.Min > p.Avg/2:
		return fmt.Errorf("chunker: minimum of %d bytes is too close to the average of %d: choose at most half of the average", p.Min, p.Avg)
	case p.Avg > p.Max/2:
		return fmt.Errorf("chunker: maximum of %d bytes is too close to the average of %d: choose at least twice the average", p.Max, p.Avg)
	case p.Algorithm == Rabin && bits.OnesCount(uint(p.Avg)) != 1:
		return fmt.Errorf("chunker: average of %d bytes is no power of two: rabin needs one, fastcdc does not", p.Avg)
	}
	return nil
}
