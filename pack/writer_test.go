package pack_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

func TestWriterOrder(t *testing.T) {
	w := newWorld(t)
	var b bytes.Buffer
	p := w.writer(t, &b, seal.DataPack, 1)
	if _, err := p.Finish(); err == nil {
		t.Error("a pack without chunks was finished")
	}
	it := newItem(chunk.Data, pack.Plain, []byte("x"))
	if _, err := p.Append(it.entry, bytes.Clone(it.encoded)); err != nil {
		t.Fatalf("after an early Finish: %v", err)
	}
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	size := b.Len()
	if f, err := p.Finish(); err == nil || f.Entries != nil {
		t.Errorf("finished twice: %v, %v", f, err)
	}
	if e, err := p.Append(it.entry, bytes.Clone(it.encoded)); err == nil || e != (pack.Entry{}) {
		t.Errorf("appended after the end: %v, %v", e, err)
	}
	if b.Len() != size {
		t.Errorf("%d bytes were written after the end", b.Len()-size)
	}
}

// Append seals in place and needs room for the tag, but writes over nothing
// behind it.
func TestAppendKeepsToItsRoom(t *testing.T) {
	w := newWorld(t)
	for _, room := range []int{0, seal.Overhead - 1, seal.Overhead, seal.Overhead + 1} {
		var b bytes.Buffer
		p := w.writer(t, &b, seal.DataPack, 1)
		it := newItem(chunk.Data, pack.Plain, []byte("contents"))
		whole := append(bytes.Clone(it.encoded), bytes.Repeat([]byte{0xee}, 40)...)
		n := len(it.encoded)
		e := must[pack.Entry](t)(p.Append(it.entry, whole[:n:n+room]))
		behind := whole[n:]
		if room >= seal.Overhead {
			behind = behind[seal.Overhead:]
		}
		if len(bytes.Trim(behind, "\xee")) > 0 {
			t.Errorf("with room for %d bytes: %x stands behind", room, behind)
		}
		must[pack.Finished](t)(p.Finish())
		k := must[*pack.Key](t)(pack.OpenKey(b.Bytes()[:pack.PrefixSize], seal.DataPack, w.ring, w.private))
		if got, err := k.Open(nil, b.Bytes()[e.Offset:e.Offset+e.Stored], e); err != nil || !bytes.Equal(got, it.encoded) {
			t.Errorf("with room for %d bytes: %q, %v", room, got, err)
		}
	}
}

func TestWriterRefusesEntries(t *testing.T) {
	w := newWorld(t)
	var b bytes.Buffer
	p := w.writer(t, &b, seal.DataPack, 1)
	good := newItem(chunk.Data, pack.Plain, []byte("12345"))
	for name, change := range map[string]func(*item){
		"node in a data pack":    func(i *item) { i.entry.Kind = chunk.Node },
		"unknown kind":           func(i *item) { i.entry.Kind = 9 },
		"unknown encoding":       func(i *item) { i.entry.Encoding = 3 },
		"base without delta":     func(i *item) { i.entry.Bases[0][0] = 1 },
		"only a second base":     func(i *item) { i.entry.Encoding, i.entry.Bases = pack.Delta, pack.Bases{{}, {1}} },
		"one base twice":         func(i *item) { i.entry.Encoding, i.entry.Bases = pack.Delta, pack.Bases{{1}, {1}} },
		"its own base":           func(i *item) { i.entry.Encoding, i.entry.Bases = pack.Delta, pack.Bases{i.entry.ID} },
		"its own second base":    func(i *item) { i.entry.Encoding, i.entry.Bases = pack.Delta, pack.Bases{{1}, i.entry.ID} },
		"delta without base":     func(i *item) { i.entry.Encoding = pack.Delta },
		"no plaintext":           func(i *item) { i.entry.Raw, i.entry.Encoding = 0, pack.Zstd },
		"plaintext too large":    func(i *item) { i.entry.Raw, i.entry.Encoding = pack.MaxChunk+1, pack.Zstd },
		"plain of another size":  func(i *item) { i.entry.Raw++ },
		"empty frame":            func(i *item) { i.encoded, i.entry.Encoding = nil, pack.Zstd },
		"frame larger than ever": func(i *item) { i.encoded, i.entry.Encoding = make([]byte, pack.MaxChunk+1), pack.Zstd },
	} {
		it := good
		change(&it)
		if e, err := p.Append(it.entry, bytes.Clone(it.encoded)); err == nil {
			t.Errorf("%s: accepted as %+v", name, e)
		}
	}
	if b.Len() != pack.PrefixSize || p.Len() != 0 {
		t.Errorf("refused chunks left %d bytes, %d entries", b.Len()-pack.PrefixSize, p.Len())
	}
	meta := w.writer(t, &b, seal.MetaPack, 1)
	if _, err := meta.Append(good.entry, good.encoded); err == nil {
		t.Error("data in a meta pack was accepted")
	}
	if _, err := meta.Append(newItem(chunk.Node, pack.Delta, []byte("12345")).entry, []byte("12345")); err == nil {
		t.Error("a delta of a node was accepted")
	}
	if _, err := pack.NewWriter(&b, w.header(seal.Segment), w.private.Public(), w.keys, random(1)); err == nil {
		t.Error("a segment is a kind of pack")
	}
	if _, err := pack.NewWriter(&b, w.header(seal.DataPack), w.private.Public(), w.keys, io.LimitReader(random(1), 63)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("with too little randomness: %v", err)
	}
}

// failAfter fails once when n bytes have been written, and would work again.
type failAfter struct {
	n      int
	failed bool
}

var errDisk = errors.New("disk is full")

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 && !f.failed {
		f.failed = true
		return 0, errDisk
	}
	return len(p), nil
}

func TestErrorOfTheStorageIsSticky(t *testing.T) {
	w := newWorld(t)
	it := newItem(chunk.Data, pack.Plain, bytes.Repeat([]byte("x"), 100))
	_, whole := w.build(t, seal.DataPack, 1, it, it)
	for _, n := range []int{0, pack.PrefixSize, pack.PrefixSize + 116, pack.PrefixSize + 232, int(whole.Size) - 1} {
		to := &failAfter{n: n}
		p, err := pack.NewWriter(to, w.header(seal.DataPack), w.private.Public(), w.keys, random(1))
		if n == 0 {
			if !errors.Is(err, errDisk) {
				t.Errorf("NewWriter: %v", err)
			}
			if p == nil {
				continue
			}
		}
		for range 2 {
			p.Append(it.entry, bytes.Clone(it.encoded))
		}
		for range 2 {
			if f, err := p.Finish(); !errors.Is(err, errDisk) || f.Entries != nil {
				t.Errorf("failed after %d bytes: %v, %v", n, f, err)
			}
		}
		if _, err := p.Append(it.entry, bytes.Clone(it.encoded)); !errors.Is(err, errDisk) {
			t.Errorf("Append, failed after %d bytes: %v", n, err)
		}
	}
}
