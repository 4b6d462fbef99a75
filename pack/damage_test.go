package pack_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

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
		"another base":     func(e *pack.Entry) { e.Bases[0][0]++ },
		"a second base":    func(e *pack.Entry) { e.Bases[1][0]++ },
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
