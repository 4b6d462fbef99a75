package chunk_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

func BenchmarkCut(b *testing.B) {
	data := randomBytes(1, 32<<20)
	for _, a := range algorithms {
		p := chunk.DefaultParams()
		p.Algorithm = a
		s := newSplitter(b, p, testKey(1))
		b.Run(a.String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for p := data; len(p) > 0; {
					p = p[s.Cut(p):]
				}
			}
		})
	}
}

func BenchmarkStream(b *testing.B) {
	data := randomBytes(1, 32<<20)
	for _, a := range algorithms {
		p := chunk.DefaultParams()
		p.Algorithm = a
		s := newSplitter(b, p, testKey(1))
		buf := make([]byte, 2*p.Max)
		b.Run(a.String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				st := chunk.NewStream(bytes.NewReader(data), s, buf)
				for {
					if _, err := st.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkSum(b *testing.B) {
	data := randomBytes(1, 1<<20)
	h := chunk.NewHasher(testKeys())
	for _, n := range []int{1 << 10, 32 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				h.Sum(chunk.Data, data[:n])
			}
		})
	}
}

func BenchmarkNewSplitter(b *testing.B) {
	for _, a := range algorithms {
		p := chunk.DefaultParams()
		p.Algorithm = a
		b.Run(a.String(), func(b *testing.B) {
			for i := byte(0); b.Loop(); i++ {
				newSplitter(b, p, testKey(i))
			}
		})
	}
}
