package index_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

const benchChunks = 300_000

// benchSegments makes segments of 2,000 chunks in packs of 40, as backups leave them.
func benchSegments(b *testing.B, w *world) []*index.Segment {
	var all []*index.Segment
	for range benchChunks / 2000 {
		var packs []pack.Finished
		for range 50 {
			f := pack.Finished{ID: w.id(), Kind: seal.DataPack}
			offset := uint32(pack.PrefixSize)
			for range 40 {
				e := pack.Entry{ID: w.id(), Offset: offset, Kind: chunk.Data, Encoding: pack.Zstd, Raw: 1 << 20, Stored: 1 << 18}
				w.chunks = append(w.chunks, e.ID)
				f.Entries = append(f.Entries, e)
				offset += e.Stored
			}
			f.Size = int64(offset) + 3000
			packs = append(packs, f)
		}
		all = append(all, w.open(w.object(w.admin, epoch1, nil, packs...)))
	}
	return all
}

func BenchmarkAbsorb(b *testing.B) {
	for _, mode := range []string{"together", "one by one"} {
		b.Run(mode, func(b *testing.B) {
			w := newWorld(b, 50)
			all := benchSegments(b, w)
			var peak uint64
			for b.Loop() {
				l := w.localAt(filepath.Join(b.TempDir(), "index"))
				if mode == "together" {
					w.absorb(l, all...)
				} else {
					for _, s := range all {
						w.absorb(l, s)
					}
				}
				st, err := l.Stats()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(st.Bytes)/float64(st.Chunks), "bytes/chunk")
				b.ReportMetric(float64(st.Runs), "runs")
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapSys)
			}
			b.ReportMetric(float64(benchChunks)*float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
			b.ReportMetric(float64(peak)/1e6, "heap-MB")
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	w := newWorld(b, 51)
	l, _ := w.local()
	for _, s := range benchSegments(b, w) {
		if err := l.Absorb(context.Background(), w.adminSigner(), s); err != nil {
			b.Fatal(err)
		}
	}
	st, err := l.Stats()
	if err != nil {
		b.Fatal(err)
	}
	for _, known := range []bool{true, false} {
		name := "new"
		if known {
			name = "known"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(st.Runs), "runs")
			rng := rand.New(rand.NewPCG(1, 2))
			var places []index.Place
			for b.Loop() {
				id := w.chunks[rng.IntN(len(w.chunks))]
				if !known {
					id[31] ^= 0x55
				}
				var err error
				if places, err = l.AppendPlaces(places[:0], id); err != nil || (len(places) > 0) != known {
					b.Fatalf("%d places, %v", len(places), err)
				}
			}
		})
	}
}

func BenchmarkEntries(b *testing.B) {
	w := newWorld(b, 52)
	l, _ := w.local()
	for _, s := range benchSegments(b, w) {
		if err := l.Absorb(context.Background(), w.adminSigner(), s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range l.Entries() {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != benchChunks {
			b.Fatalf("%d entries", n)
		}
	}
	b.ReportMetric(float64(benchChunks)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
