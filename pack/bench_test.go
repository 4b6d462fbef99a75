package pack_test

import (
	"bytes"
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

// BenchmarkOpen measures opening frames of 64 KiB into a buffer that is used again.
func BenchmarkOpen(b *testing.B) {
	w := newWorld(b)
	var stored bytes.Buffer
	p := w.writer(b, &stored, seal.DataPack, 1)
	const size = 64 << 10
	e, err := p.Append(pack.Entry{ID: chunk.ID{1}, Kind: chunk.Data, Encoding: pack.Plain, Raw: size}, make([]byte, size, size+seal.Overhead))
	if err != nil {
		b.Fatal(err)
	}
	k := must[*pack.Key](b)(pack.OpenKey(stored.Bytes()[:pack.PrefixSize], seal.DataPack, w.ring, w.private))
	frame, dst := stored.Bytes()[e.Offset:], make([]byte, 0, size)
	b.ReportAllocs()
	b.SetBytes(size)
	for b.Loop() {
		if _, err := k.Open(dst, frame, e); err != nil {
			b.Fatal(err)
		}
	}
}
