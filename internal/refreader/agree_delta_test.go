package refreader_test

import (
	"bytes"
	"testing"

	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/internal/refreader"
)

// FuzzAgreeOnDelta gives instructions and bases to the engine and to this reader: both refuse
// them, or both make the same of them.
func FuzzAgreeOnDelta(f *testing.F) {
	first, second := bytes.Repeat([]byte("one base, "), 30), bytes.Repeat([]byte("and another; "), 20)
	target := append(bytes.Clone(first[100:]), second[:150]...)
	target[20]++
	f.Add(delta.NewEncoder().Encode(nil, target, first, second), uint32(len(target)), first, second)
	f.Add(delta.NewEncoder().Encode(nil, target, first), uint32(len(target)), first, []byte(nil))
	f.Add([]byte{0, 4, 0, 5, 'v', 'e', 'r', 'y', ' ', 12, 2}, uint32(21), []byte("a small base"), []byte(nil))
	f.Fuzz(func(t *testing.T, p []byte, raw uint32, first, second []byte) {
		raw = raw%(1<<16) + 1
		bases := [][]byte{first}
		if len(second) > 0 {
			bases = append(bases, second)
		}
		mine, err := refreader.ApplyDelta(bytes.Clone(p), raw, bases)
		theirs, terr := delta.Decode(nil, p, int(raw), bases...)
		if (err == nil) != (terr == nil) {
			t.Fatalf("%x to %d bytes: this reader says %v, the engine %v", p, raw, err, terr)
		}
		if err == nil && !bytes.Equal(mine, theirs) {
			t.Fatalf("%x: this reader makes %x of it, the engine %x", p, mine, theirs)
		}
	})
}
