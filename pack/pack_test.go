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
		i.entry.Base = chunk.ID{0xba, 0x5e}
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
		"base without delta":     func(i *item) { i.entry.Base[0] = 1 },
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

// TestEveryFlip says who notices a damaged byte. That the hash of all bytes
// notices is no news; here is what a reader of parts of a pack notices.
func TestEveryFlip(t *testing.T) {
	w := newWorld(t)
	items := []item{newItem(chunk.Data, pack.Plain, []byte("first chunk")), newItem(chunk.Data, pack.Zstd, []byte("second"))}
	p, f := w.build(t, seal.DataPack, 1, items...)
	frames := int(f.Entries[1].Offset + f.Entries[1].Stored)
	start := int(must[int64](t)(pack.DirectoryStart(f.Size, p)))
	if start == frames {
		t.Fatal("this pack has no padding")
	}
	for i := range p {
		// The directory authenticates the prefix, so whoever can't open the pack key
		// still notices that it was changed.
		want := directory
		switch {
		case i >= pack.PrefixSize && i < frames:
			want = frame
		case i >= frames && i < start:
			want = padding
		}
		for _, mask := range []byte{0x01, 0x80} {
			flipped := bytes.Clone(p)
			flipped[i] ^= mask
			if pack.ID(blake3.Sum256(flipped)) == f.ID {
				t.Errorf("byte %d: same ID", i)
			}
			bad := w.verify(flipped, seal.DataPack, items)
			if len(bad) != 1 || bad[want] == nil {
				t.Errorf("byte %d: noticed by %v, want %s", i, bad, want)
			}
		}
	}
	// The prefix alone does not open with another byte either.
	for i := range pack.PrefixSize {
		if i >= 8 && i < pack.PrefixSize && i%7 > 0 && i < 1100 {
			continue // HPKE takes its time
		}
		flipped := bytes.Clone(p[:pack.PrefixSize])
		flipped[i] ^= 1
		if k, err := pack.OpenKey(flipped, seal.DataPack, w.ring, w.private); k != nil || err == nil {
			t.Errorf("byte %d of the prefix: the key opens", i)
		}
	}
}

func TestTruncated(t *testing.T) {
	w := newWorld(t)
	items := []item{newItem(chunk.Data, pack.Plain, []byte("first chunk")), newItem(chunk.Data, pack.Plain, []byte("second"))}
	p, _ := w.build(t, seal.DataPack, 1, items...)
	for n := range p {
		if _, err := w.directory(p[:n], seal.DataPack); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := w.directory(append(bytes.Clone(p), 0), seal.DataPack); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a byte longer: %v", err)
	}
	// A listing that gives another size is found out, even with the true directory.
	start := must[int64](t)(pack.DirectoryStart(int64(len(p)), p))
	for _, size := range []int{len(p) - 1, len(p) + 1, len(p) + 16, seal.Padme(len(p) + 1), 1 << 31} {
		if _, err := pack.OpenDirectory(p[:pack.PrefixSize], p[start:len(p)-pack.FooterSize], int64(size), seal.DataPack, w.ring); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("said to have %d bytes: %v", size, err)
		}
	}
	for _, size := range []int64{-1, 0, pack.PrefixSize, pack.MaxSize + 1} {
		if _, err := pack.DirectoryStart(size, p); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("directory of a pack of %d bytes: %v", size, err)
		}
	}
	if _, err := pack.OpenKey(p[:pack.PrefixSize-1], seal.DataPack, w.ring, w.private); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("key of a short prefix: %v", err)
	}
}

// Frames are good in their own place of their own pack, for their own entry only.
func TestFramesAreBound(t *testing.T) {
	w := newWorld(t)
	items := []item{newItem(chunk.Data, pack.Zstd, []byte("chunk A")), newItem(chunk.Data, pack.Zstd, []byte("chunk B"))}
	p, f := w.build(t, seal.DataPack, 1, items...)
	other, _ := w.build(t, seal.DataPack, 2, items...)
	k := must[*pack.Key](t)(pack.OpenKey(p[:pack.PrefixSize], seal.DataPack, w.ring, w.private))
	a, b := f.Entries[0], f.Entries[1]
	cut := func(p []byte, e pack.Entry) []byte { return p[e.Offset : e.Offset+e.Stored] }
	if got, err := k.Open([]byte("> "), cut(p, a), a); err != nil || string(got) != "> chunk A" {
		t.Fatalf("got %q, %v", got, err)
	}
	refused := func(what string, frame []byte, e pack.Entry) {
		t.Helper()
		if got, err := k.Open(nil, frame, e); !errors.Is(err, seal.ErrDamaged) || got != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	refused("swapped", cut(p, b), a)
	refused("another pack's", cut(other, a), a)
	refused("cut off", cut(p, a)[1:], a)
	refused("none", nil, a)
	refused("padding for a frame", make([]byte, a.Stored), a)
	for name, change := range map[string]func(*pack.Entry){
		"moved":            func(e *pack.Entry) { e.Offset = b.Offset },
		"another ID":       func(e *pack.Entry) { e.ID = b.ID },
		"another kind":     func(e *pack.Entry) { e.Kind = chunk.Node },
		"another encoding": func(e *pack.Entry) { e.Encoding = pack.Plain },
		"another length":   func(e *pack.Entry) { e.Raw++ },
		"another base":     func(e *pack.Entry) { e.Base[0]++ },
	} {
		e := a
		change(&e)
		refused(name, cut(p, a), e)
	}

	// A true frame can't stand where padding belongs, nor the padding elsewhere.
	if err := k.OpenPadding(cut(p, a), a.Offset); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("frame for padding: %v", err)
	}
	start := must[int64](t)(pack.DirectoryStart(f.Size, p))
	if err := k.OpenPadding(p[b.Offset+b.Stored:start], a.Offset); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("moved padding: %v", err)
	}
}

// A directory is good for its own prefix only, and needs the index key of its
// place; the pack key needs the repository's private key.
func TestDirectoryAndKeyAreBound(t *testing.T) {
	w := newWorld(t)
	it := newItem(chunk.Data, pack.Plain, []byte("chunk"))
	p, f := w.build(t, seal.DataPack, 1, it)
	other, _ := w.build(t, seal.DataPack, 2, it)
	start := must[int64](t)(pack.DirectoryStart(f.Size, p))
	dir := p[start : f.Size-pack.FooterSize]
	open := func(prefix []byte, kind seal.Kind, ring *seal.Keyring) error {
		_, err := pack.OpenDirectory(prefix[:pack.PrefixSize], dir, f.Size, kind, ring)
		_, kerr := pack.OpenKey(prefix[:pack.PrefixSize], kind, ring, w.private)
		if (err == nil) != (kerr == nil) && &prefix[0] != &other[0] {
			t.Errorf("directory: %v, key: %v", err, kerr)
		}
		return err
	}
	if err := open(p, seal.DataPack, w.ring); err != nil {
		t.Fatal(err)
	}
	if err := open(other, seal.DataPack, w.ring); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("another pack's directory: %v", err)
	}
	if err := open(p, seal.MetaPack, w.ring); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("as a meta pack: %v", err)
	}
	foreign := seal.NewKeyring(seal.RepositoryID{9})
	foreign.Add(w.place, [32]byte{3})
	if err := open(p, seal.DataPack, foreign); !errors.Is(err, seal.ErrForeign) {
		t.Errorf("in another repository: %v", err)
	}
	later := seal.NewKeyring(w.ring.Repository)
	later.Add(seal.Place{Epoch: 2}, [32]byte{3})
	if err := open(p, seal.DataPack, later); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the epoch: %v", err)
	}
	stranger := must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{7}))
	if _, err := pack.OpenKey(p[:pack.PrefixSize], seal.DataPack, w.ring, stranger); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("key for a stranger: %v", err)
	}
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
