package extsort

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// collect returns the records of a sorter, as text.
func collect(t *testing.T, s *Sorter) (got []string) {
	t.Helper()
	for r, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.Key)+"="+string(r.Value))
	}
	return got
}

func TestOrder(t *testing.T) {
	// The limits make: no run, few runs, and merged runs of three levels.
	for _, limit := range []int{0, 20 << 10, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			s := &Sorter{limit: limit}
			defer s.Close()
			type pair struct{ key, value string }
			var want []pair
			for i := range 10000 {
				p := pair{strings.Repeat("x", r.IntN(3)) + fmt.Sprint(r.IntN(3000)), fmt.Sprint(i)}
				if i%1000 == 0 {
					p.value += strings.Repeat(".", 100<<10) // more than a block
				}
				want = append(want, p)
				if err := s.Add([]byte(p.key), []byte(p.value)); err != nil {
					t.Fatal(err)
				}
			}
			slices.SortStableFunc(want, func(a, b pair) int { return strings.Compare(a.key, b.key) })
			var text []string
			for _, p := range want {
				text = append(text, p.key+"="+p.value)
			}
			if s.Len() != 10000 {
				t.Errorf("%d records, want 10000", s.Len())
			}
			if limit == 1 && len(s.levels) < 3 {
				t.Errorf("%d levels of runs, so the test shows nothing", len(s.levels))
			}
			for range 2 { // it can be read again
				if got := collect(t, s); !slices.Equal(got, text) {
					t.Fatalf("records are not in order, or not the same: %d, want %d", len(got), len(text))
				}
			}
		})
	}
}

func TestEmpty(t *testing.T) {
	var s Sorter
	if got := collect(t, &s); len(got) > 0 || s.Close() != nil {
		t.Errorf("%q is in a new sorter", got)
	}
}

// TestSecret reads the file as a thief would.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := &Sorter{limit: 1000}
	defer s.Close()
	for i := range 1000 {
		if err := s.Add(fmt.Appendf(nil, "secret name %d", i), []byte("secret value")); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("%v is in the folder for temporary files (%v)", names, err)
	}
	plain := make([]byte, s.end)
	if _, err := s.file.ReadAt(plain, 0); err != nil {
		t.Fatal(err)
	}
	if len(plain) < 10000 || bytes.Contains(plain, []byte("secret")) {
		t.Errorf("the file of %d bytes has records in plain text", len(plain))
	}
}

func TestChangedFile(t *testing.T) {
	s := &Sorter{limit: 1000}
	defer s.Close()
	for i := range 1000 {
		if err := s.Add(fmt.Append(nil, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []int64{0, 3, 4, s.end / 2, s.end - 1} {
		var b [1]byte
		if _, err := s.file.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		flip := func() {
			b[0] ^= 0x40
			if _, err := s.file.WriteAt(b[:], at); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		var failed error
		n := 0
		for _, err := range s.All() {
			failed = err
			n++
		}
		if failed == nil {
			t.Errorf("a change at %d goes unnoticed; %d records", at, n)
		}
		flip()
	}
	if n := len(collect(t, s)); n != 1000 {
		t.Errorf("%d records", n)
	}
}
