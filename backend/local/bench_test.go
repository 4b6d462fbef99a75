package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkStage writes packs of 32 MiB in pieces of 0.5 MiB.
func BenchmarkStage(b *testing.B) {
	l := newLocal(b)
	piece := make([]byte, 512<<10)
	b.SetBytes(32 << 20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s, err := l.Stage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for range 64 {
			if _, err := s.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
		name := fmt.Sprintf("data/%02x/%d", i%256, i)
		if err := s.Commit(b.Context(), name); err != nil {
			b.Fatal(err)
		}
		if err := l.Delete(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList lists 30,000 objects of one directory.
func BenchmarkList(b *testing.B) {
	l := newLocal(b)
	const objects = 30000
	dir := filepath.Join(l.String(), "index")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	for i := range objects {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%064x", i)), nil, 0o400); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range l.List(b.Context(), "") {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != objects {
			b.Fatalf("%d objects, want %d", n, objects)
		}
	}
}

// BenchmarkReadAt reads ranges of 64 KiB of one pack.
func BenchmarkReadAt(b *testing.B) {
	l := newLocal(b)
	put(b, l, "data/ab/x", string(make([]byte, 32<<20)))
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := l.ReadAt(b.Context(), "data/ab/x", p, int64(i%500)<<16); err != nil {
			b.Fatal(err)
		}
	}
}
