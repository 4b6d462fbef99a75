package snapshot_test

import (
	"testing"

	"github.com/cairn-backup/cairn/snapshot"
)

const benchEntries = 200_000

func BenchmarkBuild(b *testing.B) {
	entries := plainFiles(benchEntries, 2000)
	b.ReportAllocs()
	for b.Loop() {
		build(b, newStore(), entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/entry")
}

func BenchmarkWalk(b *testing.B) {
	tree := build(b, newStore(), plainFiles(benchEntries, 2000))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = 0
		for _, err := range tree.All(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
}

func BenchmarkLeafDecode(b *testing.B) {
	entries := plainFiles(300, 2000)
	p, err := (&snapshot.Leaf{Entries: entries}).Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	var leaf snapshot.Leaf
	for b.Loop() {
		if err := leaf.Decode(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/entry")
}

func BenchmarkLookup(b *testing.B) {
	entries := plainFiles(benchEntries, 2000)
	tree := build(b, newStore(), entries)
	r := seeded(2)
	b.ReportAllocs()
	for b.Loop() {
		if e, err := tree.Lookup(b.Context(), entries[r.IntN(len(entries))].Key); err != nil || e == nil {
			b.Fatal(e, err)
		}
	}
}

// BenchmarkSize tells what a million files cost in nodes.
func BenchmarkSize(b *testing.B) {
	for name, size := range map[string]uint32{"empty": 0, "small": 2000} {
		b.Run(name, func(b *testing.B) {
			entries := plainFiles(1_000_000, size)
			var plain, compressed float64
			for b.Loop() {
				plain, compressed = sizes(b, entries)
			}
			b.ReportMetric(plain, "B/entry")
			b.ReportMetric(compressed, "zstd-B/entry")
		})
	}
}
