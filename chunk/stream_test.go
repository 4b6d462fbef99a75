package chunk_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/cairn-backup/cairn/chunk"
)

// collect returns copies of all chunks and the error that ended them, which
// has to come again.
func collect(t testing.TB, st *chunk.Stream) ([][]byte, error) {
	t.Helper()
	var chunks [][]byte
	for {
		c, err := st.Next()
		if err != nil {
			if again, err2 := st.Next(); again != nil || err2 != err {
				t.Errorf("after %v, Next = %d bytes, %v", err, len(again), err2)
			}
			return chunks, err
		}
		chunks = append(chunks, slices.Clone(c))
	}
}

var readers = []struct {
	name string
	wrap func(io.Reader) io.Reader
}{
	{"whole", func(r io.Reader) io.Reader { return r }},
	{"one byte", iotest.OneByteReader},
	{"half", iotest.HalfReader},
	{"EOF with data", iotest.DataErrReader},
	{"halting", func(r io.Reader) io.Reader { return &haltingReader{r: r} }},
}

// A haltingReader delivers nothing in every second call.
type haltingReader struct {
	r    io.Reader
	halt bool
}

func (h *haltingReader) Read(p []byte) (int, error) {
	if h.halt = !h.halt; h.halt {
		return 0, nil
	}
	return h.r.Read(p[:min(len(p), 100)])
}

func equalChunks(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

func TestStreamEqualsCut(t *testing.T) {
	forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
		for _, size := range []int{0, 1, 63, 64, 511, 512, 513, 1023, 1024, 1025, 30000} {
			data := randomBytes(1, size)
			want := split(t, s, data)
			for _, r := range readers {
				for _, buf := range []int{0, 511, 512, 1025, 40000} {
					st := chunk.NewStream(r.wrap(bytes.NewReader(data)), s, make([]byte, buf))
					got, err := collect(t, st)
					if err != io.EOF || !equalChunks(got, want) {
						t.Errorf("%d bytes, reader %s, buffer of %d: %d chunks, %v; want %d", size, r.name, buf, len(got), err, len(want))
					}
				}
			}
		}
	})
}

func TestStreamLargeChunks(t *testing.T) {
	data := slices.Concat(randomBytes(1, 700<<10), make([]byte, 300<<10), randomBytes(2, 100<<10))
	forEach(t, medium, func(t *testing.T, s chunk.Splitter) {
		want := split(t, s, data)
		for _, buf := range []int{medium.Max, 2 * medium.Max, 2<<20 + 1} {
			got, err := collect(t, chunk.NewStream(bytes.NewReader(data), s, make([]byte, buf)))
			if err != io.EOF || !equalChunks(got, want) {
				t.Errorf("buffer of %d: %d chunks, %v; want %d", buf, len(got), err, len(want))
			}
		}
	})
}

// A reader that fails after n bytes gives the chunks that were certain by
// then, its own error, and nothing of the chunk it failed in.
func TestStreamReaderFails(t *testing.T) {
	data := randomBytes(2, 1500)
	for _, failure := range []error{errors.New("disk on fire"), io.ErrUnexpectedEOF} {
		forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
			all := split(t, s, data)
			for n := range data {
				certain, end := 0, 0
				for _, c := range all {
					// One that ends with the data may have been about to go
					// on.
					if end += len(c); end > n || end == n && len(c) < tiny.Max {
						break
					}
					certain++
				}
				for _, buf := range []int{512, 2000} {
					r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(failure))
					got, err := collect(t, chunk.NewStream(r, s, make([]byte, buf)))
					if err != failure || !equalChunks(got, all[:certain]) {
						t.Fatalf("failure after %d bytes, buffer of %d: %d chunks, %v; want %d, %v", n, buf, len(got), err, certain, failure)
					}
				}
			}
		})
	}
}

// An error that comes together with bytes does not lose them.
func TestStreamErrorWithData(t *testing.T) {
	data := randomBytes(3, 5000)
	failure := errors.New("disk on fire")
	forEach(t, tiny, func(t *testing.T, s chunk.Splitter) {
		r := iotest.DataErrReader(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(failure)))
		got, err := collect(t, chunk.NewStream(r, s, nil))
		want := split(t, s, data)
		if err != failure || !equalChunks(got, want[:len(want)-1]) {
			t.Errorf("%d chunks, %v; want %d, %v", len(got), err, len(want)-1, failure)
		}
	})
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestStreamIdleReader(t *testing.T) {
	s := newSplitter(t, chunk.DefaultParams(), testKey(1))
	if c, err := chunk.NewStream(idleReader{}, s, nil).Next(); c != nil || err != io.ErrNoProgress {
		t.Errorf("Next = %d bytes, %v, want io.ErrNoProgress", len(c), err)
	}
}

// A chunk can be appended to without harm to the next.
func TestStreamChunksAreCapped(t *testing.T) {
	p := tiny
	p.Algorithm = chunk.FastCDC
	st := chunk.NewStream(bytes.NewReader(randomBytes(4, 5000)), newSplitter(t, p, testKey(1)), nil)
	c, err := st.Next()
	if err != nil || cap(c) != len(c) {
		t.Errorf("a chunk of %d bytes has a capacity of %d, %v", len(c), cap(c), err)
	}
}
