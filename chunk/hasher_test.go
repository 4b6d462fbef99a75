package chunk_test

import (
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

func testKeys() chunk.Keys {
	return chunk.Keys{Data: testKey(10), Node: testKey(20), List: testKey(30)}
}

func TestHasherKinds(t *testing.T) {
	seen := make(map[chunk.ID]string)
	other := testKeys()
	other.Data[0]++
	for name, k := range map[string]chunk.Keys{"first keys": testKeys(), "other keys": other} {
		h := chunk.NewHasher(k)
		for kind := chunk.Data; kind.Valid(); kind++ {
			id := h.Sum(kind, []byte("plaintext"))
			if id != h.Sum(kind, []byte("plaintext")) {
				t.Errorf("%s, %v: a second sum differs", name, kind)
			}
			if by, ok := seen[id]; ok && kind == chunk.Data {
				t.Errorf("%s, %v: same ID as %s", name, kind, by)
			}
			seen[id] = name + ", " + kind.String()
		}
	}
	if len(seen) != 4 { // two under the changed key, and two kinds whose key is the same
		t.Errorf("%d different IDs, want 4", len(seen))
	}
}

func TestHasherRefusesUnknownKind(t *testing.T) {
	h := chunk.NewHasher(testKeys())
	for _, kind := range []chunk.Kind{0, 4, 255} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: no panic", kind)
				}
			}()
			h.Sum(kind, nil)
		}()
	}
}

func TestHasherConcurrently(t *testing.T) {
	data := randomBytes(1, 40000)
	h := chunk.NewHasher(testKeys())
	// Sums that follow on a longer one find its remains in the state.
	want := make(map[int]chunk.ID)
	for n := 0; n < len(data); n += 1237 {
		want[n] = chunk.NewHasher(testKeys()).Sum(chunk.Node, data[:n])
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n, id := range want {
				if got := h.Sum(chunk.Node, data[:n]); got != id {
					t.Errorf("%d bytes: %v, want %v", n, got, id)
				}
			}
		})
	}
	wg.Wait()
}
