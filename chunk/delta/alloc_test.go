//go:build !race

// Under the race detector a sync.Pool drops things at random.

package delta_test

import (
	"testing"

	"github.com/cairn-backup/cairn/chunk/delta"
)

func TestAllocatesNothing(t *testing.T) {
	base := random(1, 1<<18)
	target := join(base[1000:1<<17], random(2, 1000), base[1<<17:])
	e, s := delta.NewEncoder(), delta.NewSketcher([32]byte{1})
	d := e.Encode(nil, target, base[:1000], base[1000:])
	buf := make([]byte, 0, len(target)+len(d))
	for name, f := range map[string]func(){
		"Encode": func() { e.Encode(buf, target, base[:1000], base[1000:]) },
		"Decode": func() { delta.Decode(buf, d, len(target), base[:1000], base[1000:]) },
		"Sketch": func() { s.Sketch(target) },
	} {
		if n := testing.AllocsPerRun(20, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
