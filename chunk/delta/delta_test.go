package delta_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cairn-backup/cairn/chunk/delta"
)

// roundTrip encodes target and returns the delta, after decoding it.
func roundTrip(t testing.TB, e *delta.Encoder, target []byte, bases ...[]byte) []byte {
	t.Helper()
	head := []byte("head")
	d := e.Encode(head, target, bases...)
	if !bytes.HasPrefix(d, head) {
		t.Fatal("Encode does not append")
	}
	d = d[len(head):]
	got, err := delta.Decode(head, d, len(target), bases...)
	if err != nil {
		t.Fatalf("target of %d bytes: %v", len(target), err)
	}
	if !bytes.Equal(got, append(head, target...)) {
		t.Fatalf("target of %d bytes comes back as other bytes", len(target))
	}
	return d
}

func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Each target is made of its bases so that at most so many bytes of delta are needed.
func TestEncodeFindsWhatIsShared(t *testing.T) {
	base, other, fresh := random(1, 1<<20), random(2, 1<<20), random(3, 1000)
	scattered := bytes.Clone(base)
	for i := 5000; i < len(scattered); i += 10000 {
		scattered[i]++
	}
	half := len(base) / 2
	for _, test := range []struct {
		name   string
		target []byte
		bases  [][]byte
		most   int
	}{
		{"identical", base, [][]byte{base}, 5},
		{"identical, short", base[:100], [][]byte{base[:100]}, 4},
		{"identical to the second", other, [][]byte{base, other}, 8},
		{"both", join(base, other), [][]byte{base, other}, 6},
		{"over the seam", base[100 : len(base)-100], [][]byte{base[:half], base[half:]}, 8},
		{"over a seam in a word", base[100 : len(base)-100], [][]byte{base[:half+3], base[half+3:]}, 8},
		{"both, swapped", join(other, base), [][]byte{base, other}, 20},
		{"front is gone", base[12345:], [][]byte{base}, 8},
		{"end is gone", base[:len(base)-12345], [][]byte{base}, 5},
		{"middle is gone", join(base[:half-7], base[half+7:]), [][]byte{base}, 12},
		{"something new at the front", join(fresh, base), [][]byte{base}, len(fresh) + 8},
		{"something new in the middle", join(base[:half-7], fresh, base[half-7:]), [][]byte{base}, len(fresh) + 16},
		{"something new at the end", join(base, fresh), [][]byte{base}, len(fresh) + 8},
		{"halves swapped", join(base[half:], base[:half]), [][]byte{base}, 20},
		{"twice", join(base, base), [][]byte{base}, 16},
		{"scattered bytes", scattered, [][]byte{base}, 10 + 105*5},
		{"scattered bytes, two bases", scattered, [][]byte{base[:half], base[half:]}, 10 + 105*5},
		{"nothing", fresh, [][]byte{base}, len(fresh) + 2},
		{"longer than what is sampled where nothing is shared", join(random(4, 1<<20), base[7:20000]), [][]byte{base}, 1<<20 + 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := roundTrip(t, delta.NewEncoder(), test.target, test.bases...); len(d) > test.most {
				t.Errorf("delta has %d bytes, want at most %d", len(d), test.most)
			}
		})
	}
}

func TestEncodeBoundaries(t *testing.T) {
	e := delta.NewEncoder() // that of all, so that nothing may stay from before
	base := random(1, 70)
	for n := range len(base) + 1 {
		for _, target := range [][]byte{base[:n], base[len(base)-n:], random(2, n), make([]byte, n)} {
			roundTrip(t, e, target)
			roundTrip(t, e, target, nil)
			roundTrip(t, e, target, nil, nil)
			roundTrip(t, e, target, base)
			roundTrip(t, e, target, base[:n])
			roundTrip(t, e, target, base[:n], base[n:])
			roundTrip(t, e, target, base[n:], base[:n])
			roundTrip(t, e, target, nil, base)
			roundTrip(t, e, target, base, nil)
		}
		// A difference at each distance from the end.
		changed := bytes.Clone(base)
		if n < len(changed) {
			changed[n]++
		}
		roundTrip(t, e, changed, base)
		roundTrip(t, e, changed, base[:n], base[n:])
	}
}

func TestTheLargestChunks(t *testing.T) {
	const largest = 16 << 20
	e := delta.NewEncoder()
	base, other := random(1, largest), random(2, largest)
	target := join(other[:largest/2], base[largest/4:3*largest/4])
	if d := roundTrip(t, e, target, base, other); len(d) > 40 {
		t.Errorf("delta of two halves has %d bytes", len(d))
	}
	if d := roundTrip(t, e, target); len(d) != largest+4 {
		t.Errorf("delta to nothing has %d bytes, want an insert of all", len(d))
	}
}

// hard are contents that make a search slow if nothing bounds it: pairs of a base and a
// target of about n bytes.
func hard(n int) map[string][2][]byte {
	period := func(length, n int, seed uint64) []byte {
		return bytes.Repeat(random(seed, length), n/length+1)[:n]
	}
	// Pieces of the base of a few bytes each, from everywhere.
	shuffled := func(base []byte, piece int) (p []byte) {
		r := rand.New(rand.NewPCG(uint64(piece), 1))
		for len(p) < len(base) {
			i := r.IntN(len(base) - piece)
			p = append(p, base[i:i+piece]...)
		}
		return p
	}
	every := func(base []byte, n int) []byte {
		p := bytes.Clone(base)
		for i := n; i < len(p); i += n {
			p[i]++
		}
		return p
	}
	zeros, noise := make([]byte, n), random(1, n)
	pairs := map[string][2][]byte{
		"zeros":                  {zeros, zeros},
		"zeros, longer":          {zeros[:n/16], zeros},
		"zeros, with a one":      {zeros, every(zeros, 300)},
		"ones in both":           {every(zeros, 300), every(zeros, 310)},
		"random":                 {random(2, n), noise},
		"period":                 {period(200, n, 3), period(200, n, 3)},
		"period, changed":        {period(200, n, 3), every(period(200, n, 3), 190)},
		"other periods":          {period(500, n, 3), every(period(498, n, 3), 250)},
		"long period":            {period(5000, n, 3), every(period(4999, n, 3), 490)},
		"each tenth byte":        {noise, every(noise, 10)},
		"zeros against a period": {zeros, period(33, n, 4)},
	}
	for _, piece := range []int{16, 40, 300} {
		pairs[fmt.Sprintf("pieces of %d", piece)] = [2][]byte{noise, shuffled(noise, piece)}
	}
	return pairs
}

func TestHardContents(t *testing.T) {
	e := delta.NewEncoder()
	for name, pair := range hard(1 << 18) {
		t.Run(name, func(t *testing.T) {
			base, target := pair[0], pair[1]
			roundTrip(t, e, target, base)
			roundTrip(t, e, target, base[:len(base)/3], base[len(base)/3:])
			if d := roundTrip(t, e, target, base, target); len(d) > 50 {
				t.Logf("delta has %d bytes with the target as second base", len(d))
			}
		})
	}
}

func TestTooManyBases(t *testing.T) {
	for name, f := range map[string]func(){
		"Encode": func() { delta.NewEncoder().Encode(nil, nil, nil, nil, nil) },
		"Decode": func() { delta.Decode(nil, nil, 0, nil, nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a target that is long enough to be a copy"), []byte("a target that is long"), []byte(" enough to be a copy"))
	text := []byte("0123456789 the same in both, of more bytes than the shortest copy")
	f.Add(text, text[5:], []byte{})
	f.Add(append(text, text...), []byte("!"), append(text[7:], text...))
	f.Fuzz(func(t *testing.T, target, first, second []byte) {
		e := delta.NewEncoder()
		roundTrip(t, e, target)
		roundTrip(t, e, target, first)
		d := bytes.Clone(roundTrip(t, e, target, first, second))
		if again := roundTrip(t, delta.NewEncoder(), target, first, second); !bytes.Equal(d, again) {
			t.Errorf("a used encoder makes %x, a new one %x", d, again)
		}
	})
}
