package seal_test

import (
	"math"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

// padme is Algorithm 1 of the paper (PURBs, PETS 2019), to the letter.
func padme(l int) int {
	e := math.Floor(math.Log2(float64(l)))
	s := math.Floor(math.Log2(e)) + 1
	z := int(e) - int(s)
	mask := 1<<z - 1
	return (l + mask) &^ mask
}

func TestPadme(t *testing.T) {
	for _, c := range [][2]int{
		{0, 0}, {1, 1}, {2, 2}, {3, 3}, {8, 8}, {9, 10}, {10, 10}, {17, 18}, {100, 104}, {129, 144}, {1000, 1024}, {1025, 1088}, {4096, 4096},
		{16<<20 + 1, 16<<20 + 1<<19}, {1<<30 + 1, 1<<30 + 1<<25},
	} {
		if got := seal.Padme(c[0]); got != c[1] {
			t.Errorf("%d is padded to %d, want %d", c[0], got, c[1])
		}
	}
}

func TestPadmeIsThatOfThePaper(t *testing.T) {
	last := 0
	check := func(n int) {
		got := seal.Padme(n)
		switch {
		case n > 2 && got != padme(n):
			t.Fatalf("%d is padded to %d, the paper says %d", n, got, padme(n))
		case got < n:
			t.Fatalf("%d shrinks to %d", n, got)
		case float64(got-n) > 0.12*float64(n):
			t.Fatalf("%d is padded to %d, more than 12 %%", n, got)
		case got < last:
			t.Fatalf("%d is padded to %d, less than a smaller one", n, got)
		case seal.Padme(got) != got:
			t.Fatalf("%d is padded to %d and that to %d", n, got, seal.Padme(got))
		}
		last = got
	}
	for n := range 1 << 17 {
		check(n)
	}
	for n := 1 << 17; n < 1<<40; n += 1 + n/1009 {
		check(n)
	}
}
