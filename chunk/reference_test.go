package chunk_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"slices"
	"testing"

	"github.com/restic/chunker"
	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
)

// reference returns the function that testdata/README.md defines, written
// from its words: no rolling, no skipping, no lanes.
func reference(t testing.TB, p chunk.Params, key [32]byte) func([]byte) int {
	t.Helper()
	var isCut func(window []byte, n int) bool
	if p.Algorithm == chunk.Rabin {
		pol := polynomial(t, key)
		isCut = func(window []byte, n int) bool { return fingerprint(pol, window)%uint64(p.Avg) == 0 }
	} else {
		hash := windowHash(p.Algorithm, key)
		normal := p.Avg*8926/10000 - p.Min/3 + 2*p.Min*p.Min/(9*p.Avg)
		strict := math.MaxUint64 / uint64(4*p.Avg)
		isCut = func(window []byte, n int) bool {
			if n < normal {
				return hash(window) <= strict
			}
			return hash(window) <= 16*strict+15
		}
	}
	return func(data []byte) int {
		data = data[:min(len(data), p.Max)]
		for n := p.Min; n < len(data); n++ {
			if isCut(data[n-64:n], n) {
				return n
			}
		}
		return len(data)
	}
}

// windowHash returns the hash of 64 bytes that the cut test looks at.
func windowHash(a chunk.Algorithm, key [32]byte) func(window []byte) uint64 {
	table := deriveWords("cairn 2026-11 chunker "+a.String()+" gear table", key, 256)
	odd := deriveWords("cairn 2026-11 chunker fastcdc-prf mixer", key, 2)
	return func(window []byte) uint64 {
		h := linearHash(table, window)
		if a == chunk.FastCDCPRF {
			h ^= h >> 32
			h *= odd[0] | 1
			h ^= h >> 32
			h *= odd[1] | 1
		}
		return h
	}
}

func linearHash(table []uint64, window []byte) (h uint64) {
	for i := range 64 {
		h += table[window[63-i]] << i
	}
	return h
}

func deriveWords(context string, key [32]byte, n int) []uint64 {
	raw := make([]byte, 8*n)
	blake3.DeriveKey(context, key[:], raw)
	words := make([]uint64, n)
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	return words
}

func polynomial(t testing.TB, key [32]byte) chunker.Pol {
	t.Helper()
	h := blake3.NewDeriveKey("cairn 2026-11 chunker rabin polynomial")
	h.Write(key[:])
	pol, err := chunker.DerivePolynomial(h.Digest())
	if err != nil {
		t.Fatal(err)
	}
	return pol
}

// fingerprint divides by pol bit by bit.
func fingerprint(pol chunker.Pol, window []byte) (f uint64) {
	for _, b := range window {
		for bit := 7; bit >= 0; bit-- {
			f = f<<1 | uint64(b>>bit&1)
			if f>>53 == 1 {
				f ^= uint64(pol)
			}
		}
	}
	return f
}

func TestAgainstDefinition(t *testing.T) {
	odd := chunk.Params{Min: 1001, Avg: 20011, Max: 77777}
	for _, c := range []struct {
		p    chunk.Params
		size int
	}{{tiny, 60 << 10}, {medium, 200 << 10}, {odd, 200 << 10}} {
		data := randomBytes(9, c.size)
		for _, a := range algorithms {
			p := c.p
			p.Algorithm = a
			if a == chunk.Rabin {
				// Bit by bit it is slow, and TestRabinIsRestics has the large
				// sizes.
				p, data = tiny, data[:15<<10]
				p.Algorithm = a
			}
			want := reference(t, p, testKey(3))
			s := newSplitter(t, p, testKey(3))
			at := 0
			for i, c := range split(t, s, data) {
				if n := want(data[at:]); n != len(c) {
					t.Fatalf("%+v: chunk %d has %d bytes, the definition says %d", p, i, len(c), n)
				}
				at += len(c)
			}
		}
	}
}

func TestRabinIsRestics(t *testing.T) {
	data := randomBytes(10, 1<<20)
	for _, p := range []chunk.Params{tiny, medium} {
		p.Algorithm = chunk.Rabin
		theirs := chunker.New(bytes.NewReader(data), polynomial(t, testKey(1)),
			chunker.WithBoundaries(uint(p.Min), uint(p.Max)),
			chunker.WithAverageBits(bits.TrailingZeros(uint(p.Avg))))
		var want []int
		for {
			c, err := theirs.Next(nil)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, int(c.Length))
		}
		if got := lengths(split(t, newSplitter(t, p, testKey(1)), data)); !slices.Equal(got, want) {
			t.Errorf("%+v: %d chunks differ from the %d of restic/chunker", p, len(got), len(want))
		}
	}
}

// At a cut of fastcdc the top bits of a hash that is linear in the table are
// known to be zero: the equations of the attacks. At a cut of fastcdc-prf
// every bit of that hash is as often zero as one.
func TestCutsTellNoLinearBits(t *testing.T) {
	data := randomBytes(11, 2<<20)
	for _, a := range []chunk.Algorithm{chunk.FastCDC, chunk.FastCDCPRF} {
		p := chunk.Params{Algorithm: a, Min: 64, Avg: 256, Max: 4096}
		table := deriveWords("cairn 2026-11 chunker "+a.String()+" gear table", testKey(1), 256)
		var ones [64]int
		cuts, end := 0, 0
		chunks := split(t, newSplitter(t, p, testKey(1)), data)
		for _, c := range chunks[:len(chunks)-1] {
			end += len(c)
			if len(c) == p.Max {
				continue // no cut by content
			}
			cuts++
			h := linearHash(table, data[end-64:end])
			for bit := range ones {
				ones[bit] += int(h >> bit & 1)
			}
		}
		sigma := math.Sqrt(float64(cuts)) / 2
		for bit, n := range ones {
			off := math.Abs(float64(n)-float64(cuts)/2) / sigma
			switch {
			case a == chunk.FastCDC && bit >= 58 && n != 0: // 6 bits: 1 in 256/4
				t.Errorf("%v: bit %d is one at %d of %d cuts, want none", a, bit, n, cuts)
			case a == chunk.FastCDCPRF && off > 5:
				t.Errorf("%v: bit %d is one at %d of %d cuts, %.1f standard deviations from half", a, bit, n, cuts, off)
			}
		}
	}
}
