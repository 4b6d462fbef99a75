package chunk_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

var algorithms = []chunk.Algorithm{chunk.FastCDC, chunk.FastCDCPRF, chunk.Rabin}

// tiny are the smallest sizes there can be, so that short inputs have many
// chunks; medium is large enough for several blocks of four lanes in a chunk.
var (
	tiny   = chunk.Params{Min: 64, Avg: 128, Max: 512}
	medium = chunk.Params{Min: 2 << 10, Avg: 16 << 10, Max: 64 << 10}
)

// forEach runs a test under every algorithm, with the sizes of p.
func forEach(t *testing.T, p chunk.Params, test func(t *testing.T, s chunk.Splitter)) {
	for _, a := range algorithms {
		t.Run(a.String(), func(t *testing.T) {
			p.Algorithm = a
			test(t, newSplitter(t, p, testKey(1)))
		})
	}
}

func newSplitter(t testing.TB, p chunk.Params, key [32]byte) chunk.Splitter {
	t.Helper()
	s, err := chunk.NewSplitter(p, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testKey(b byte) (key [32]byte) {
	for i := range key {
		key[i] = b + byte(i)
	}
	return key
}

// randomBytes returns the same n bytes for the same seed.
func randomBytes(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// split returns the chunks of p. It fails the test where a length is not
// legal.
func split(t testing.TB, s chunk.Splitter, p []byte) [][]byte {
	t.Helper()
	var chunks [][]byte
	for len(p) > 0 {
		n := s.Cut(p)
		if n <= 0 || n > s.Params().Max || n > len(p) || n < s.Params().Min && n < len(p) {
			t.Fatalf("chunk %d: Cut returned %d with %d bytes left, %+v", len(chunks), n, len(p), s.Params())
		}
		chunks = append(chunks, p[:n])
		p = p[n:]
	}
	return chunks
}

func lengths(chunks [][]byte) []int {
	var l []int
	for _, c := range chunks {
		l = append(l, len(c))
	}
	return l
}

func TestCutEmpty(t *testing.T) {
	forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
		if n := s.Cut(nil); n != 0 {
			t.Errorf("Cut(nil) = %d, want 0", n)
		}
	})
}

func TestCutShortInputs(t *testing.T) {
	data := randomBytes(1, 4*tiny.Max)
	forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
		for n := range data {
			p := data[:n]
			if got := slices.Concat(split(t, s, p)...); !slices.Equal(got, p) {
				t.Fatalf("%d bytes: the chunks are not the input", n)
			}
		}
	})
}

// A cut depends on nothing behind it: this is what Stream relies on.
func TestCutStands(t *testing.T) {
	data := randomBytes(2, 3*medium.Max)
	for _, p := range []chunk.Params{tiny, medium} {
		forEach(t, p, func(t *testing.T, s chunk.Splitter) {
			rng := rand.New(rand.NewPCG(1, 2))
			for range 100 {
				from := rng.IntN(len(data) - p.Max)
				rest := data[from : from+p.Max]
				want := s.Cut(rest)
				n := rng.IntN(len(rest) + 1)
				if got := s.Cut(rest[:n]); got != min(want, n) {
					t.Fatalf("at %d: cut at %d of %d bytes, but at %d of the first %d", from, want, len(rest), got, n)
				}
			}
		})
	}
}

func TestMeanLength(t *testing.T) {
	data := randomBytes(3, 4<<20)
	// Sizes that are no powers of two are for the FastCDC family alone.
	for _, p := range []chunk.Params{
		{Min: 512, Avg: 2048, Max: 8192},
		{Min: 1024, Avg: 2048, Max: 16384},
		{Min: 64, Avg: 2048, Max: 4096},
		{Min: 700, Avg: 3000, Max: 9999},
	} {
		for _, a := range []chunk.Algorithm{chunk.FastCDC, chunk.FastCDCPRF} {
			p.Algorithm = a
			n := len(split(t, newSplitter(t, p, testKey(1)), data))
			if mean := float64(len(data)) / float64(n); mean < 0.96*float64(p.Avg) || mean > 1.04*float64(p.Avg) {
				t.Errorf("%+v: mean length %.0f, want within 4 %% of Avg", p, mean)
			}
		}
	}
	p := chunk.Params{Algorithm: chunk.Rabin, Min: 512, Avg: 2048, Max: 8192}
	n := len(split(t, newSplitter(t, p, testKey(1)), data))
	// Min + Avg (1 - exp(-(Max-Min)/Avg)), an exponential cut off at Max.
	if mean := float64(len(data)) / float64(n); mean < 0.95*2512 || mean > 1.05*2512 {
		t.Errorf("rabin: mean length %.0f, want within 5 %% of 2512", mean)
	}
}

// An edit changes the chunks around it and no others.
func TestResync(t *testing.T) {
	p := chunk.Params{Min: 512, Avg: 2048, Max: 8192}
	data := randomBytes(4, 256<<10)
	edits := []struct {
		name         string
		remove, more int
	}{
		{"insert 1", 0, 1}, {"insert 1000", 0, 1000}, {"delete 1", 1, 0},
		{"delete 1000", 1000, 0}, {"overwrite 3", 3, 3}, {"replace 100 by 7", 100, 7},
	}
	forEach(t, p, func(t *testing.T, s chunk.Splitter) {
		old := make(map[string]bool)
		for _, c := range split(t, s, data) {
			old[string(c)] = true
		}
		rng := rand.New(rand.NewPCG(3, 4))
		for _, e := range edits {
			for range 2 {
				at := rng.IntN(len(data) - e.remove)
				edited := slices.Concat(data[:at], randomBytes(5, e.more), data[at+e.remove:])
				fresh := 0
				for _, c := range split(t, s, edited) {
					if !old[string(c)] {
						fresh++
					}
				}
				if fresh > 15 {
					t.Errorf("%s at %d: %d of about %d chunks are new", e.name, at, fresh, len(old))
				}
			}
		}
	})
}

// A cut is found wherever in a block and a lane of the search it lies. Random
// inputs seldom have one at the seams.
func TestCutAtSeams(t *testing.T) {
	forEach(t, medium, func(t *testing.T, s chunk.Splitter) {
		// Windows that are cuts at any length, for a chunk as short as these
		// was cut by the stricter of two limits.
		var windows [][]byte
		for _, c := range split(t, s, randomBytes(12, 2<<20)) {
			if len(c) < medium.Avg/2 && len(windows) < 8 {
				windows = append(windows, c[len(c)-64:])
			}
		}
		if len(windows) < 4 {
			t.Fatalf("%d windows to test with", len(windows))
		}
		quiet := bytes.Repeat([]byte{0xa5}, medium.Avg)
		for seam := medium.Min; seam < medium.Avg; seam += 1024 {
			for end := seam; end < seam+4; end++ {
				for i, w := range windows {
					input := slices.Concat(quiet[:end-64], w, quiet)
					if n := s.Cut(input); n != end {
						t.Errorf("window %d at %d: cut at %d", i, end, n)
					}
				}
			}
		}
	})
}

// Inputs without variety can't be cut by content, but the lengths stay legal,
// which split checks, and the result is the same at each place of the input.
func TestDegenerateInputs(t *testing.T) {
	for _, p := range []chunk.Params{tiny, medium} {
		forEach(t, p, func(t *testing.T, s chunk.Splitter) {
			for period := 1; period < 8; period++ {
				for seed := range byte(3) {
					unit := randomBytes(seed, period)
					if seed == 0 {
						clear(unit)
					}
					data := make([]byte, 0, 3*p.Max+period)
					for len(data) < 3*p.Max {
						data = append(data, unit...)
					}
					chunks := split(t, s, data)
					if got := slices.Concat(chunks...); !slices.Equal(got, data) {
						t.Fatalf("unit %x: the chunks are not the input", unit)
					}
					if shifted := s.Cut(data[period:]); shifted != len(chunks[0]) {
						t.Errorf("unit %x: first chunk of %d bytes, but of %d one period on", unit, len(chunks[0]), shifted)
					}
				}
			}
		})
	}
}

func TestKeyMatters(t *testing.T) {
	data := randomBytes(6, 256<<10)
	forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
		a := places(split(t, s, data))
		if again := newSplitter(t, s.Params(), testKey(1)); !slices.Equal(a, places(split(t, again, data))) {
			t.Error("the same key gave other cuts")
		}
		b := places(split(t, newSplitter(t, s.Params(), testKey(2)), data))
		if same := common(a, b); same > len(a)/20 {
			t.Errorf("under another key %d of %d cuts are the same", same, len(a))
		}
	})
}

func TestAlgorithmsDiffer(t *testing.T) {
	data := randomBytes(7, 256<<10)
	var cuts [][]int
	forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
		cuts = append(cuts, places(split(t, s, data)))
	})
	for i, a := range cuts {
		for _, b := range cuts[:i] {
			if same := common(a, b); same > len(a)/20 {
				t.Errorf("two algorithms have %d of %d cuts in common", same, len(a))
			}
		}
	}
}

// places returns where chunks end.
func places(chunks [][]byte) []int {
	var ends []int
	end := 0
	for _, c := range chunks {
		end += len(c)
		ends = append(ends, end)
	}
	return ends
}

// common counts the numbers that are in both of two ascending lists.
func common(a, b []int) int {
	n := 0
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); ok {
			n++
		}
	}
	return n
}

func TestSplitterConcurrently(t *testing.T) {
	data := randomBytes(8, 512<<10)
	forEach(t, medium, func(t *testing.T, s chunk.Splitter) {
		want := lengths(split(t, s, data))
		got := make(chan []int)
		for range 4 {
			go func() {
				var l []int
				for p := data; len(p) > 0; {
					n := s.Cut(p)
					l, p = append(l, n), p[n:]
				}
				got <- l
			}()
		}
		for range 4 {
			if l := <-got; !slices.Equal(l, want) {
				t.Errorf("concurrent call: lengths %v, want %v", l, want)
			}
		}
	})
}

func FuzzSplitter(f *testing.F) {
	f.Add(uint8(0), uint16(0), uint16(0), uint16(0), []byte(nil))
	f.Add(uint8(0), uint16(0), uint16(0), uint16(0), randomBytes(1, 3000))
	f.Add(uint8(1), uint16(100), uint16(90), uint16(300), randomBytes(2, 5000))
	f.Add(uint8(2), uint16(10), uint16(5), uint16(0), make([]byte, 2000))
	f.Fuzz(func(t *testing.T, a uint8, shortest, above, longest uint16, data []byte) {
		// Small ones, as the definition is slow.
		data = data[:min(len(data), 8<<10)]
		shortest, above, longest = shortest%512, above%512, longest%2048
		p := chunk.Params{Algorithm: algorithms[int(a)%len(algorithms)], Min: 64 + int(shortest)}
		p.Avg = 2*p.Min + int(above)
		if p.Algorithm == chunk.Rabin {
			p.Avg = 128
			for p.Avg < 2*p.Min {
				p.Avg *= 2
			}
		}
		p.Max = 2*p.Avg + int(longest)
		s := newSplitter(t, p, testKey(a))
		chunks := split(t, s, data)
		if got := slices.Concat(chunks...); !slices.Equal(got, data) {
			t.Error("the chunks are not the input")
		}
		want := reference(t, p, testKey(a))
		for i, c := range chunks {
			rest := data[len(slices.Concat(chunks[:i]...)):]
			if n := want(rest); n != len(c) {
				t.Fatalf("chunk %d has %d bytes, the definition says %d", i, len(c), n)
			}
			if i == 8 {
				break
			}
		}
	})
}
