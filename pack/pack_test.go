package pack_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// random gives the same bytes in each run.
func random(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A world has what a pack needs around it.
type world struct {
	ring    *seal.Keyring
	keys    *seal.Keys
	private *seal.PrivateKey
	place   seal.Place
}

func newWorld(t testing.TB) *world {
	w := &world{
		ring:    seal.NewKeyring(seal.RepositoryID{1}),
		private: must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{2})),
		place:   seal.Place{Epoch: 1},
	}
	w.ring.Add(w.place, [32]byte{3})
	w.keys, _ = w.ring.Keys(w.place)
	return w
}

func (w *world) header(kind seal.Kind) seal.Header {
	return seal.Header{Kind: kind, Repository: w.ring.Repository, Place: w.place}
}

func (w *world) writer(t testing.TB, to io.Writer, kind seal.Kind, seed byte) *pack.Writer {
	return must[*pack.Writer](t)(pack.NewWriter(to, w.header(kind), w.private.Public(), w.keys, random(seed)))
}

// item is a chunk to be packed; its ID is made up.
type item struct {
	entry   pack.Entry
	encoded []byte
}

func newItem(kind chunk.Kind, encoding pack.Encoding, encoded []byte) item {
	i := item{entry: pack.Entry{ID: sha256.Sum256(encoded), Kind: kind, Encoding: encoding, Raw: uint32(len(encoded))}, encoded: encoded}
	switch encoding {
	case pack.Zstd:
		i.entry.Raw += 100
	case pack.Delta:
		i.entry.Raw += 1000
		i.entry.Bases = pack.Bases{{0xba, 0x5e}}
	}
	return i
}

// build packs items and returns the bytes.
func (w *world) build(t testing.TB, kind seal.Kind, seed byte, items ...item) ([]byte, pack.Finished) {
	t.Helper()
	var b bytes.Buffer
	p := w.writer(t, &b, kind, seed)
	for i, it := range items {
		size := p.Size()
		e, err := p.Append(it.entry, bytes.Clone(it.encoded)) // Append takes what it is given
		if err != nil {
			t.Fatal(err)
		}
		if int(e.Offset) != size || int(e.Stored) != len(it.encoded)+seal.Overhead || p.Size() != size+int(e.Stored) || p.Len() != i+1 {
			t.Fatalf("frame at %d with %d bytes: %+v, size is %d", size, len(it.encoded), e, p.Size())
		}
	}
	f := must[pack.Finished](t)(p.Finish())
	return b.Bytes(), f
}

// directory opens the directory of a whole pack.
func (w *world) directory(p []byte, kind seal.Kind) ([]pack.Entry, error) {
	start, err := pack.DirectoryStart(int64(len(p)), p[max(0, len(p)-100):])
	if err != nil {
		return nil, err
	}
	return pack.OpenDirectory(p[:pack.PrefixSize], p[start:len(p)-pack.FooterSize], int64(len(p)), kind, w.ring)
}

// region is a part of a pack that is noticed to be bad by its own means.
type region string

const (
	directory region = "directory" // OpenDirectory and DirectoryStart
	key       region = "key"       // OpenKey
	frame     region = "frame"     // Key.Open
	padding   region = "padding"   // Key.OpenPadding
)

// verify reads all of a pack and reports which regions are bad; the ID, the
// hash of it all, is left out.
func (w *world) verify(p []byte, kind seal.Kind, items []item) map[region]error {
	bad := make(map[region]error)
	entries, err := w.directory(p, kind)
	if err != nil {
		bad[directory] = err
		return bad
	}
	if len(entries) != len(items) {
		bad[directory] = fmt.Errorf("%d entries", len(entries))
		return bad
	}
	k, err := pack.OpenKey(p[:pack.PrefixSize], kind, w.ring, w.private)
	if err != nil {
		bad[key] = err
		return bad
	}
	var end uint32
	for i, e := range entries {
		end = e.Offset + e.Stored
		got, err := k.Open(nil, p[e.Offset:end], e)
		if err == nil && !bytes.Equal(got, items[i].encoded) {
			err = errors.New("other contents")
		}
		if err != nil {
			bad[frame] = err
		}
	}
	start, _ := pack.DirectoryStart(int64(len(p)), p)
	if err := k.OpenPadding(p[end:start], end); err != nil {
		bad[padding] = err
	}
	return bad
}

func shapes() map[string][]item {
	r := random(99)
	noise := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(r, b)
		return b
	}
	many := make([]item, 3000)
	for i := range many {
		many[i] = newItem(chunk.Data, pack.Encoding(i%3), noise(1+i%50))
	}
	s := map[string][]item{
		"one byte":      {newItem(chunk.Data, pack.Plain, noise(1))},
		"all encodings": {newItem(chunk.Data, pack.Plain, noise(10)), newItem(chunk.Data, pack.Zstd, noise(10)), newItem(chunk.Data, pack.Delta, noise(10))},
		"same chunk":    {newItem(chunk.Data, pack.Plain, []byte("twice")), newItem(chunk.Data, pack.Plain, []byte("twice"))},
		"many":          many,
		"largest chunk": {newItem(chunk.Data, pack.Plain, noise(pack.MaxChunk))},
		"tree":          {newItem(chunk.Node, pack.Zstd, noise(100)), newItem(chunk.List, pack.Plain, noise(300))},
	}
	// All lengths of padding, among them none and those too short for a tag.
	for n := 1; n < 150; n++ {
		s[fmt.Sprintf("%d bytes", n)] = []item{newItem(chunk.Data, pack.Plain, noise(n))}
	}
	return s
}

func kindOf(items []item) seal.Kind {
	if items[0].entry.Kind.IsMeta() {
		return seal.MetaPack
	}
	return seal.DataPack
}

func TestRoundTrip(t *testing.T) {
	w := newWorld(t)
	paddings := make(map[int]bool)
	for name, items := range shapes() {
		kind := kindOf(items)
		p, f := w.build(t, kind, 1, items...)
		if f.Size != int64(len(p)) || f.Kind != kind || f.ID != blake3.Sum256(p) {
			t.Errorf("%s: finished as %s of %d bytes, %s; %d were written", name, f.Kind, f.Size, f.ID.Short(), len(p))
		}
		entries, err := w.directory(p, kind)
		if err != nil || !slices.Equal(entries, f.Entries) {
			t.Errorf("%s: the directory says %v, %v; want %v", name, entries, err, f.Entries)
		}
		if bad := w.verify(p, kind, items); len(bad) > 0 {
			t.Errorf("%s: %v", name, bad)
		}
		paddings[checkPadding(t, name, p, f)] = true
	}
	if !paddings[0] {
		t.Error("no shape came without padding")
	}
}

// checkPadding checks the rule of docs/format.md, section 7, and returns the
// length of the padding.
func checkPadding(t *testing.T, name string, p []byte, f pack.Finished) int {
	d := int(binary.LittleEndian.Uint32(p[len(p)-8:]))
	last := f.Entries[len(f.Entries)-1]
	pad := len(p) - pack.FooterSize - d - int(last.Offset+last.Stored)
	bare := len(p) - pad
	want := seal.Padme(bare)
	if want-bare > 0 && want-bare < seal.Overhead {
		want = seal.Padme(bare + seal.Overhead)
	}
	if len(p) != want || pad < 0 || pad > 0 && pad < seal.Overhead {
		t.Errorf("%s: %d bytes of padding make %d, want %d", name, pad, len(p), want)
	}
	return pad
}

// Two writers of the same chunks never make the same pack.
func TestPacksDiffer(t *testing.T) {
	w := newWorld(t)
	it := newItem(chunk.Data, pack.Plain, []byte("chunk"))
	_, a := w.build(t, seal.DataPack, 1, it)
	_, b := w.build(t, seal.DataPack, 2, it)
	_, c := w.build(t, seal.DataPack, 1, it) // HPKE has randomness of its own
	if a.ID == b.ID || a.ID == c.ID {
		t.Error("two packs of one name")
	}
}

func TestIDText(t *testing.T) {
	id := pack.ID(blake3.Sum256([]byte("x")))
	if got, err := pack.ParseID(id.String()); err != nil || got != id {
		t.Errorf("%s came back as %s, %v", id, got, err)
	}
	if _, err := pack.ParseID(id.String()[1:]); err == nil {
		t.Error("a short ID was accepted")
	}
}
