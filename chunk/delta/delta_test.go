package delta_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/seal"
)

// roundTrip encodes target and returns the delta, after decoding it.
func roundTrip(t testing.TB, e *delta.Encoder, target []byte, bases ...[]byte) []byte {
	t.Helper()
	d := e.Encode([]byte("head"), target, bases...)
	if !bytes.HasPrefix(d, []byte("head")) {
		t.Fatal("what dst held is gone")
	}
	d = d[4:]
	got, err := delta.Decode([]byte("head"), d, len(target), bases...)
	if err != nil {
		t.Fatalf("target of %d: %v", len(target), err)
	}
	if !bytes.Equal(got, append([]byte("head"), target...)) {
		t.Fatalf("target of %d comes back as other bytes", len(target))
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

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a target that is long enough to be a copy"), []byte("a target that is long"), []byte(" enough to be a copy"))
	f.Fuzz(func(t *testing.T, target, first, second []byte) {
		e := delta.NewEncoder()
		roundTrip(t, e, target)
		roundTrip(t, e, target, first)
		roundTrip(t, e, target, first, second)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 'x', 2, 0}, uint16(3), []byte("ab"), []byte("cd"))
	f.Fuzz(func(t *testing.T, d []byte, raw uint16, first, second []byte) {
		got, err := delta.Decode(nil, d, int(raw), first, second)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) {
				t.Fatalf("error %v is not ErrDamaged", err)
			}
			return
		}
		if len(got) != int(raw) {
			t.Fatalf("%d bytes, want %d", len(got), raw)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	e := delta.NewEncoder()
	base := random(1, 1<<20)
	target := bytes.Clone(base)
	for i := 5000; i < len(target); i += 10000 {
		target[i]++
	}
	if d := roundTrip(t, e, target, base); len(d) > 105*10 {
		t.Errorf("delta of 105 changed bytes has %d bytes", len(d))
	}
	if d := roundTrip(t, e, target, base[:1<<19], base[1<<19:]); len(d) > 105*10 {
		t.Errorf("delta of 105 changed bytes to two bases has %d bytes", len(d))
	}
}
