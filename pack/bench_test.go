package pack_test

import (
	"io"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// BenchmarkAppend measures sealing and hashing chunks of 64 KiB into packs of 32 MiB.
func BenchmarkAppend(b *testing.B) {
	w := newWorld(b)
	p := w.writer(b, io.Discard, seal.DataPack, 1)
	encoded := make([]byte, 64<<10, 64<<10+seal.Overhead)
	b.ReportAllocs()
	b.SetBytes(int64(len(encoded)))
	for b.Loop() {
		if p.Size() >= 32<<20 {
			p = w.writer(b, io.Discard, seal.DataPack, 1)
		}
		e := pack.Entry{ID: chunk.ID{1}, Kind: chunk.Data, Encoding: pack.Plain, Raw: uint32(len(encoded))}
		if _, err := p.Append(e, encoded); err != nil {
			b.Fatal(err)
		}
	}
}
