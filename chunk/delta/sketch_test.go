package delta_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/cairn-backup/cairn/bench/corpus"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
)

func dump(t testing.TB, size int64, version int) []byte {
	var b bytes.Buffer
	if _, err := (corpus.Dump{Size: size, Version: version}).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func cut(t testing.TB, p []byte) (chunks [][]byte) {
	s, err := chunk.NewSplitter(chunk.DefaultParams(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for len(p) > 0 {
		n := s.Cut(p)
		chunks = append(chunks, p[:n])
		p = p[n:]
	}
	return chunks
}

func sketches(t testing.TB, s *delta.Sketcher, chunks [][]byte) (all []delta.Sketch) {
	for i, c := range chunks {
		sketch, ok := s.Sketch(c)
		if !ok {
			t.Fatalf("chunk %d of %d bytes has no sketch", i, len(c))
		}
		all = append(all, sketch)
	}
	return all
}

// changeRows returns p with one of so many lines changed in a number or a word.
func changeRows(p []byte, one int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	var out []byte
	for line := range bytes.Lines(p) {
		at := len(out)
		out = append(out, line...)
		if r.IntN(one) == 0 && len(line) > 4 {
			at += r.IntN(len(line) - 3)
			copy(out[at:], []byte{'a' + byte(r.IntN(26)), '0' + byte(r.IntN(10)), 'A' + byte(r.IntN(26))})
		}
	}
	return out
}

// Of a chunk in which one row in 100 changed where it is, the sketch has most of its
// numbers still; of others, of the same table or not, hardly any.
func TestSketchOfChangedRows(t *testing.T) {
	chunks := cut(t, dump(t, 48<<20, 1))
	s := delta.NewSketcher([32]byte{1})
	old := sketches(t, s, chunks)
	for _, test := range []struct {
		one   int     // row in so many is changed
		least float64 // share of chunks that have a number in common
	}{{1000, 0.999}, {100, 0.97}, {30, 0.90}, {10, 0.5}} {
		hits, alike, wrong, pairs := 0, 0, 0, 0
		for i, c := range chunks {
			sketch, _ := s.Sketch(changeRows(c, test.one, uint64(i)))
			n := sketch.Common(old[i])
			alike += n
			hits += min(n, 1)
			for j := range old {
				if i != j {
					pairs++
					wrong += min(1, sketch.Common(old[j]))
				}
			}
		}
		rate := float64(hits) / float64(len(chunks))
		t.Logf("1 row in %d: %.1f %% of %d chunks found, with %.2f numbers; %d of %d other pairs agree",
			test.one, 100*rate, len(chunks), float64(alike)/float64(len(chunks)), wrong, pairs)
		if rate < test.least {
			t.Errorf("1 row in %d: %.1f %% of the chunks are found, want %.1f %%", test.one, 100*rate, 100*test.least)
		}
		if wrong*500 > pairs {
			t.Errorf("1 row in %d: %d of %d pairs of other chunks agree", test.one, wrong, pairs)
		}
	}
}

// The next version of a dump, with rows that moved: nearly each new chunk finds one to
// which it is a small difference.
func TestSketchOfNextDump(t *testing.T) {
	s := delta.NewSketcher([32]byte{1})
	before, after := cut(t, dump(t, 48<<20, 1)), cut(t, dump(t, 48<<20, 2))
	old := sketches(t, s, before)
	e := delta.NewEncoder()
	all, small := 0, 0
	for i, sketch := range sketches(t, s, after) {
		best, most := -1, 0
		for j := range old {
			if n := sketch.Common(old[j]); n > most {
				best, most = j, n
			}
		}
		all += len(after[i])
		if best >= 0 && len(e.Encode(nil, after[i], before[best])) < len(after[i])/4 {
			small += len(after[i])
		}
	}
	t.Logf("%.1f %% of the bytes are small differences", 100*float64(small)/float64(all))
	if float64(small) < 0.85*float64(all) {
		t.Errorf("%d of %d bytes are small differences to what the sketches find", small, all)
	}
}

func TestSketchDependsOnItsKey(t *testing.T) {
	p := random(1, 1<<20)
	a, _ := delta.NewSketcher([32]byte{1}).Sketch(p)
	b, _ := delta.NewSketcher([32]byte{2}).Sketch(p)
	for i := range a {
		for j := range b {
			if a[i] == b[j] {
				t.Errorf("number %d under one key is number %d under another", i, j)
			}
		}
	}
	if again, _ := delta.NewSketcher([32]byte{1}).Sketch(p); a != again {
		t.Errorf("%x and then %x", a, again)
	}
}

// Where something lies does not matter, but for the few bytes around a change.
func TestSketchOfMovedBytes(t *testing.T) {
	s := delta.NewSketcher([32]byte{1})
	base := random(1, 1<<20)
	want, ok := s.Sketch(base)
	if !ok {
		t.Fatal("no sketch")
	}
	for _, n := range []int{1, 7, 2048, 5000, 8192} {
		if got, _ := s.Sketch(join(random(2, n), base)); got.Common(want) < delta.SketchSize-2 {
			t.Errorf("%d bytes in front: %d numbers in common", n, got.Common(want))
		}
	}
	if got, _ := s.Sketch(join(base[1<<19:], base[:1<<19])); got.Common(want) < delta.SketchSize-2 {
		t.Errorf("halves swapped: %d numbers in common", got.Common(want))
	}
}

func TestNoSketch(t *testing.T) {
	s := delta.NewSketcher([32]byte{1})
	for name, p := range map[string][]byte{
		"nothing": nil,
		"short":   random(1, 1000),
		"zeros":   make([]byte, 1<<20),
		"period":  bytes.Repeat(random(1, 40), 1<<15),
	} {
		if sketch, ok := s.Sketch(p); ok || sketch != (delta.Sketch{}) {
			t.Errorf("%s has sketch %x", name, sketch)
		}
	}
	var none delta.Sketch
	if n := none.Common(none); n != 0 {
		t.Errorf("no sketch has %d numbers in common with none", n)
	}
}
