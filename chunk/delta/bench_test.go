package delta_test

import (
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/chunk/delta"
)

// pairs are the chunks of a dump, and the same with one row in 100 changed.
func pairs(b *testing.B) (bases, targets [][]byte, size int64) {
	bases = cut(b, dump(b, 24<<20, 1))
	for i, p := range bases {
		targets = append(targets, changeRows(p, 100, uint64(i)))
		size += int64(len(p))
	}
	return bases, targets, size
}

func BenchmarkEncode(b *testing.B) {
	bases, targets, size := pairs(b)
	e := delta.NewEncoder()
	var d []byte
	b.SetBytes(size)
	b.ReportAllocs()
	made := 0
	for b.Loop() {
		made = 0
		for i, p := range targets {
			d = e.Encode(d[:0], p, bases[i])
			made += len(d)
		}
	}
	b.ReportMetric(float64(made)/float64(size), "of-1")
}

// BenchmarkEncodeAndCompress is what storing a delta costs, but for verifying it.
func BenchmarkEncodeAndCompress(b *testing.B) {
	bases, targets, size := pairs(b)
	e := delta.NewEncoder()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		b.Fatal(err)
	}
	var d, out []byte
	b.SetBytes(size)
	b.ReportAllocs()
	made := 0
	for b.Loop() {
		made = 0
		for i, p := range targets {
			d = e.Encode(d[:0], p, bases[i])
			out = z.EncodeAll(d, out[:0])
			made += len(out)
		}
	}
	b.ReportMetric(float64(made)/float64(size), "of-1")
}

func BenchmarkDecode(b *testing.B) {
	bases, targets, size := pairs(b)
	var deltas [][]byte
	for i, p := range targets {
		deltas = append(deltas, delta.NewEncoder().Encode(nil, p, bases[i]))
	}
	var out []byte
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for i, p := range targets {
			var err error
			if out, err = delta.Decode(out[:0], deltas[i], len(p), bases[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkEncodeHard shows that no contents are much slower, at two lengths.
func BenchmarkEncodeHard(b *testing.B) {
	for _, n := range []int{1 << 20, 16 << 20} {
		for name, pair := range hard(n) {
			b.Run(name+"/"+map[int]string{1 << 20: "1MiB", 16 << 20: "16MiB"}[n], func(b *testing.B) {
				e := delta.NewEncoder()
				var d []byte
				b.SetBytes(int64(n))
				for b.Loop() {
					d = e.Encode(d[:0], pair[1], pair[0])
				}
			})
		}
	}
}

func BenchmarkSketch(b *testing.B) {
	chunks := cut(b, dump(b, 24<<20, 1))
	s := delta.NewSketcher([32]byte{1})
	size := int64(0)
	for _, c := range chunks {
		size += int64(len(c))
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range chunks {
			s.Sketch(c)
		}
	}
}
