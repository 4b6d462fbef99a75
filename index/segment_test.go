package index_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"math/rand/v2"

	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

func TestSegmentRoundTrip(t *testing.T) {
	w := newWorld(t, 1)
	old := w.open(w.object(w.admin, epoch1, nil, w.pack(3)))
	packs := []pack.Finished{w.pack(40), w.pack(1), w.pack(200)}
	s := w.open(w.object(w.writers[0], epoch1, []index.SegmentID{old.ID}, packs...))

	if s.Signer != seal.SignerOf(w.writers[0]) || s.Header.Place != epoch1 || !slices.Equal(s.Supersedes, []index.SegmentID{old.ID}) {
		t.Errorf("signer %s, %s, supersedes %v", s.Signer.Short(), s.Header.Place, s.Supersedes)
	}
	if s.Len() != 241 {
		t.Errorf("%d entries, want 241", s.Len())
	}
	got := index.Finished(s)
	for _, f := range packs {
		i := slices.IndexFunc(got, func(g pack.Finished) bool { return g.ID == f.ID })
		if i < 0 {
			t.Fatalf("no pack %s", f.ID.Short())
		}
		slices.SortFunc(got[i].Entries, func(a, b pack.Entry) int { return int(a.Offset) - int(b.Offset) })
		if got[i].Kind != f.Kind || got[i].Size != f.Size || !slices.Equal(got[i].Entries, f.Entries) {
			t.Errorf("pack %s came back changed", f.ID.Short())
		}
	}
}

// The same packs and random bytes give the same object, in whatever order.
func TestSegmentDeterministic(t *testing.T) {
	w := newWorld(t, 2)
	packs := []pack.Finished{w.pack(10), w.pack(20), w.pack(30)}
	var objects [][]byte
	for range 2 {
		w.random = rand.NewChaCha8([32]byte{9})
		objects = append(objects, w.object(w.admin, epoch1, nil, packs...))
		slices.Reverse(packs)
	}
	if !bytes.Equal(objects[0], objects[1]) {
		t.Error("the order of AddPack shows in the object")
	}
}

func TestSegmentEmpty(t *testing.T) {
	w := newWorld(t, 3)
	s := w.open(w.object(w.admin, epoch1, nil))
	if s.Len() != 0 || len(s.Packs) != 0 {
		t.Errorf("%d entries in %d packs", s.Len(), len(s.Packs))
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t, 4)
	object := w.object(w.admin, epoch1, nil, w.pack(5))
	stranger := newWorld(t, 5)
	noKey := seal.NewKeyring(w.ring.Repository)
	for _, c := range []struct {
		name   string
		object []byte
		ring   *seal.Keyring
		want   error
	}{
		{"nothing", nil, w.ring, seal.ErrDamaged},
		{"cut off", object[:len(object)-1], w.ring, seal.ErrDamaged},
		{"changed", flip(object, 200), w.ring, seal.ErrDamaged},
		{"other signer", flip(object, len(object)-80), w.ring, seal.ErrDamaged},
		{"another repository", object, stranger.ring, seal.ErrForeign},
		{"unknown epoch", object, noKey, seal.ErrNoKey},
		{"newer version", flip(object, 7), w.ring, seal.ErrNewer},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := index.Open(c.object, c.ring); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func flip(p []byte, at int) []byte {
	p = bytes.Clone(p)
	p[at] ^= 0x02
	return p
}

func TestParseRefuses(t *testing.T) {
	w := newWorld(t, 6)
	a, b := w.pack(2), w.pack(2)
	a.Entries[0].Encoding, a.Entries[0].Bases = pack.Delta, pack.Bases{w.id()}
	good := index.Plaintext(w.open(w.object(w.admin, epoch1, []index.SegmentID{{1}, {2}}, a, b)))
	if _, err := index.ParsePlaintext(good); err != nil {
		t.Fatal(err)
	}
	const packs = 4 + 2*32 + 4
	bases := packs + 2*41
	entries := bases + 4 + pack.BasesSize*int(binary.LittleEndian.Uint32(good[bases:])) + 4
	for _, c := range []struct {
		name   string
		change func(p []byte)
	}{
		{"superseded not sorted", func(p []byte) { p[4], p[36] = 2, 1 }},
		{"superseded twice", func(p []byte) { p[36] = 1 }},
		{"packs not sorted", func(p []byte) { p[packs] = 0xff; p[packs+41] = 0 }},
		{"kind of pack", func(p []byte) { p[packs+32] = 'S' }},
		{"pack too small", func(p []byte) { copy(p[packs+33:], []byte{1, 0, 0, 0}) }},
		{"pack too large", func(p []byte) { p[packs+33+7] = 1 }},
		{"entries not sorted", func(p []byte) { p[entries], p[entries+56] = 0xff, 0 }},
		{"no such pack", func(p []byte) { p[entries+32] = 2 }},
		{"no such bases", func(p []byte) { copy(p[entries+48:], []byte{9, 0, 0, 0}) }},
		{"offset in the prefix", func(p []byte) { copy(p[entries+36:], []byte{1, 0, 0, 0}) }},
		{"offset behind the pack", func(p []byte) { p[entries+39] = 0x70 }},
		{"not zero", func(p []byte) { p[entries+55] = 1 }},
		{"padding", func(p []byte) { p[len(p)-1] = 1 }},
		{"too many entries", func(p []byte) { p[entries-1] = 0xff }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := bytes.Clone(good)
			c.change(p)
			if _, err := index.ParsePlaintext(p); err == nil {
				t.Errorf("accepted\n%s", hex.Dump(p))
			}
		})
	}
}

func TestAddPackRefuses(t *testing.T) {
	w := newWorld(t, 7)
	b := index.NewBuilder()
	f := w.pack(3)
	if err := b.AddPack(f); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(f *pack.Finished){
		"twice":         func(*pack.Finished) {},
		"no entries":    func(f *pack.Finished) { f.ID[0]++; f.Entries = nil },
		"kind":          func(f *pack.Finished) { f.ID[0]++; f.Kind = seal.Manifest },
		"size":          func(f *pack.Finished) { f.ID[0]++; f.Size = 1300 },
		"entry":         func(f *pack.Finished) { f.ID[0]++; f.Entries[1].Raw = 0 },
		"order":         func(f *pack.Finished) { f.ID[0]++; f.Entries[2].Offset = f.Entries[1].Offset },
		"kind of chunk": func(f *pack.Finished) { f.ID[0]++; f.Entries[0].Kind = 9 },
	} {
		c := f
		c.Entries = slices.Clone(f.Entries)
		change(&c)
		if err := b.AddPack(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if b.Len() != 3 {
		t.Errorf("%d entries, want 3: a refused pack left something", b.Len())
	}
}

// Whatever the parser accepts encodes to the same bytes again.
func FuzzParse(f *testing.F) {
	w := newWorld(f, 8)
	f.Add(index.Plaintext(w.open(w.object(w.admin, epoch1, nil))))
	f.Add(index.Plaintext(w.open(w.object(w.admin, epoch1, nil, w.pack(1)))))
	f.Add(index.Plaintext(w.open(w.object(w.admin, epoch1, []index.SegmentID{{1}, {2}}, w.pack(3), w.pack(12)))))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := index.ParsePlaintext(p)
		if err != nil {
			return
		}
		if again := index.Plaintext(s); !bytes.Equal(again, p) {
			t.Errorf("accepted\n%s\nencodes to\n%s", hex.Dump(p), hex.Dump(again))
		}
	})
}
