package ingest

import (
	"io"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// oldID is that of the chunk of a number in the parent.
func oldID(n int) chunk.ID { return chunk.ID{byte(n), byte(n >> 8)} }

// hintsOf makes hints of a file of the parent with chunks of the given lengths.
func hintsOf(lengths ...uint64) *hints {
	n := 0
	return newHints(func() (snapshot.Extent, error) {
		if n == len(lengths) {
			return snapshot.Extent{}, io.EOF
		}
		n++
		return snapshot.Extent{Chunk: oldID(n), ChunkSize: uint32(lengths[n-1]), Length: lengths[n-1]}, nil
	})
}

func found(n int) *repo.Put { return &repo.Put{ID: oldID(n)} }
func whole() *repo.Put      { return &repo.Put{ID: chunk.ID{31: 1}, IsNew: true} }

func deltaOf(ns ...int) *repo.Put {
	p := whole()
	for i, n := range ns {
		p.Bases[i] = oldID(n)
	}
	return p
}

func (h *hints) wants(t *testing.T, at, size uint64, ns ...int) {
	t.Helper()
	var want []chunk.ID
	for _, n := range ns {
		want = append(want, oldID(n))
	}
	if got := h.near(at, size); !slices.Equal(got, want) {
		t.Errorf("near %d: %v, want %v", at, got, want)
	}
}

func TestHints(t *testing.T) {
	t.Run("in place", func(t *testing.T) {
		h := hintsOf(100, 100, 100)
		h.wants(t, 0, 100, 1)
		h.wants(t, 100, 104, 2) // of the next there is too little
		h.wants(t, 204, 60, 3)
		h.wants(t, 350, 100)
	})
	t.Run("cuts moved", func(t *testing.T) {
		h := hintsOf(100, 100, 100, 100)
		h.wants(t, 0, 160, 1, 2)
		h.wants(t, 160, 240, 3, 4) // the largest parts, in their order
	})
	t.Run("put in", func(t *testing.T) {
		h := hintsOf(100, 100, 100, 100, 100)
		h.wants(t, 0, 180, 1, 2)
		h.learn(0, 180, true, whole())
		h.learn(180, 100, true, found(2)) // 80 bytes were put in
		h.wants(t, 280, 100, 3)
		h.learn(280, 120, true, deltaOf(3)) // and 20 more
		h.wants(t, 400, 100, 4)
	})
	t.Run("cut out", func(t *testing.T) {
		h := hintsOf(100, 100, 100, 100, 100)
		h.learn(0, 100, false, found(1))
		h.wants(t, 100, 100, 2)
		h.learn(100, 100, true, found(4))
		h.wants(t, 200, 100, 5)
	})
	t.Run("the same again", func(t *testing.T) {
		h := newHints(func() (snapshot.Extent, error) {
			return snapshot.Extent{Chunk: oldID(1), Length: 100}, nil // without end
		})
		h.near(0, 100)
		h.learn(0, 100, true, found(1))
		if h.near(100, 100); h.shift != 0 || len(h.window) > 2*(windowAhead+windowBehind) {
			t.Errorf("shift %d, %d chunks", h.shift, len(h.window))
		}
	})
	t.Run("two bases say nothing of the place", func(t *testing.T) {
		h := hintsOf(100, 100, 100)
		h.near(0, 150)
		h.learn(0, 150, true, deltaOf(1, 2))
		if h.shift != 0 {
			t.Errorf("shift %d", h.shift)
		}
	})
	t.Run("a hole", func(t *testing.T) {
		n := 0
		h := newHints(func() (snapshot.Extent, error) {
			if n++; n > 3 {
				return snapshot.Extent{}, io.EOF
			}
			return snapshot.Extent{Chunk: [...]chunk.ID{oldID(1), {}, oldID(3)}[n-1], Length: 100}, nil
		})
		h.wants(t, 100, 100)
		h.wants(t, 140, 100, 3)
	})
	t.Run("nothing known", func(t *testing.T) {
		var h *hints
		h.wants(t, 0, 100)
		h.learn(0, 100, false, whole())
	})
}

// TestHintsOfLongFile: the window follows, and takes no more memory for it.
func TestHintsOfLongFile(t *testing.T) {
	lengths := slices.Repeat([]uint64{100}, 20_000)
	h := hintsOf(lengths...)
	for i := range lengths {
		h.wants(t, uint64(100*i), 100, i+1)
		if len(h.window) > 2*(windowAhead+windowBehind) {
			t.Fatalf("%d chunks in the window", len(h.window))
		}
	}
}

// TestHintsRest: after failures there is an attempt now and then, and after a success all is tried.
func TestHintsRest(t *testing.T) {
	h := hintsOf(slices.Repeat([]uint64{100}, 1000)...)
	tried := 0
	for i := range 500 {
		hinted := len(h.near(uint64(100*i), 100)) > 0
		if hinted {
			tried++
		}
		h.learn(uint64(100*i), 100, hinted, whole())
	}
	if tried < 8 || tried > 20 {
		t.Errorf("%d attempts for 500 chunks", tried)
	}
	h.learn(500*100, 100, true, deltaOf(501))
	for i := 501; i < 510; i++ {
		h.wants(t, uint64(100*i), 100, i+1)
		h.learn(uint64(100*i), 100, true, deltaOf(i+1))
	}
}

func TestBundleHints(t *testing.T) {
	var b bundleHints
	for i, bytes := range []uint64{10, 20, 300, 10, 200, 10, 10, 10, 10, 10, 10, 90} {
		b.add(oldID(1+i%11), bytes) // the last is of the first again
	}
	b.add(chunk.ID{}, 1000)
	if got := b.near(800); !slices.Equal(got, []chunk.ID{oldID(3), oldID(5)}) {
		t.Errorf("%v", got)
	}
	if got := b.near(800); len(got) > 0 {
		t.Errorf("from the bundle before: %v", got)
	}
	b.add(oldID(1), 1)
	if got := b.near(800); len(got) > 0 {
		t.Errorf("of a single byte: %v", got)
	}
}
