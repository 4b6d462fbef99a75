//go:build !race

// Under the race detector a sync.Pool drops things at random.

package chunk_test

import (
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

func TestSumAllocatesNothing(t *testing.T) {
	h := chunk.NewHasher(testKeys())
	data := randomBytes(1, 20000)
	if n := testing.AllocsPerRun(100, func() { h.Sum(chunk.Data, data) }); n != 0 {
		t.Errorf("%v allocations in a sum", n)
	}
}

func TestCutAllocatesNothing(t *testing.T) {
	data := randomBytes(1, medium.Max)
	forEach(t, medium, func(t *testing.T, s chunk.Splitter) {
		if n := testing.AllocsPerRun(20, func() { s.Cut(data) }); n != 0 {
			t.Errorf("%v allocations in a cut", n)
		}
	})
}
