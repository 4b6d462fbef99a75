// Package corpus makes the data that benchmarks and tests of deduplication work on:
// text, database dumps and disk images, in versions that differ as they do in life.
// Everything follows from the parameters alone, on every machine.
package corpus

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
)

// Words returns some thousand words that look like words, the common ones first. Nobody
// may change them.
var Words = sync.OnceValue(func() []string {
	r := rand.New(rand.NewPCG(1, 1))
	words := make([]string, 4000)
	for i := range words {
		var w []byte
		for range 1 + r.IntN(4) {
			w = append(w, "bcdfghklmnprstvw"[r.IntN(16)], "aeiou"[r.IntN(5)])
			if r.IntN(3) == 0 {
				w = append(w, "lmnrst"[r.IntN(6)])
			}
		}
		words[i] = string(w)
	}
	return words
})

// Prose draws words as often as they occur in a language: the n-th most common one with a
// probability of about n to the power of -1.1 (Zipf's law). It is not for concurrent use.
type Prose struct{ r *rand.Rand }

// NewProse returns a Prose that draws from r.
func NewProse(r *rand.Rand) Prose { return Prose{r} }

// shares are the probabilities of the words, added up, as integers: a float is not the same on
// every processor.
var shares = sync.OnceValue(func() []uint64 {
	sums := make([]uint64, len(Words()))
	var sum uint64
	for i := range sums {
		n := uint64(i + 3)
		// n^0.1 is about 1 + 0.108 log2(n) up to some thousand.
		sum += 1 << 40 / (n * uint64(1000+108*(bits.Len64(n)-1)))
		sums[i] = sum
	}
	return sums
})

// Word returns the next word.
func (p Prose) Word() string {
	sums := shares()
	i, _ := slices.BinarySearch(sums, p.r.Uint64N(sums[len(sums)-1])+1)
	return Words()[i]
}

// Append appends n words to b, with a space between two.
func (p Prose) Append(b []byte, n int) []byte {
	for i := range n {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, p.Word()...)
	}
	return b
}

// FillText fills p with lines of prose.
func FillText(p []byte, seed uint64) {
	prose := NewProse(rand.New(rand.NewPCG(3, seed)))
	line := make([]byte, 0, 256)
	for len(p) > 0 {
		line = append(prose.Append(line[:0], 12), '\n')
		p = p[copy(p, line):]
	}
}

// FillRandom fills p with bytes that no compressor can make fewer.
func FillRandom(p []byte, seed uint64) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(key).Read(p)
}
