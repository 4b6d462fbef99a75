package config

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

func sample(t testing.TB) (*Config, ed25519.PrivateKey) {
	admin := ed25519.NewKeyFromSeed(make([]byte, 32))
	public := func(seed byte) *seal.PublicKey {
		k, err := seal.NewPrivateKey([32]byte{seed})
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	box := func(id byte) Box {
		return Box{Slot: seal.SlotID{id}, Sealed: bytes.Repeat([]byte{id}, seal.SealedKeySize)}
	}
	c := &Config{
		Generation: 3, Created: time.Unix(0, 0), Admin: seal.SignerOf(admin), Public: public(1),
		Chunker: chunk.DefaultParams(), Compression: pack.Fastest, PackSize: 1 << 20,
		Writers: []Writer{{Signer: seal.Signer{1}, First: 1, Last: Forever}, {Signer: seal.Signer{2}, Domain: 5, First: 1, Last: 1}},
		Epochs: []Epoch{
			{Place: seal.Place{Epoch: 1}, Boxes: []Box{box(1), box(2)}},
			{Place: seal.Place{Epoch: 2}},
			{Place: seal.Place{Epoch: 1, Domain: 5}, Boxes: []Box{box(2)}},
		},
		Private: []byte("sealed"),
	}
	for n := byte(1); n <= 2; n++ {
		c.Slots = append(c.Slots, Slot{ID: seal.SlotID{n}, Kind: seal.RecipientSlot, Access: seal.WriteOnly, Domain: 5, Public: public(n), Signer: seal.Signer{n}})
	}
	return c, admin
}

// Seal sorts, so that an unsorted list is never sealed by mistake; here one is.
func TestUnsortedListsAreRefused(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"as they should be": func(c *Config) {},
		"slots":             func(c *Config) { slices.Reverse(c.Slots) },
		"writers":           func(c *Config) { slices.Reverse(c.Writers) },
		"epochs":            func(c *Config) { slices.Reverse(c.Epochs) },
		"epochs, domains behind": func(c *Config) {
			slices.SortFunc(c.Epochs, func(a, b Epoch) int { return cmp.Compare(a.Epoch, b.Epoch) })
		},
		"boxes": func(c *Config) { slices.Reverse(c.Epochs[0].Boxes) },
	} {
		c, admin := sample(t)
		change(c)
		b := seal.Header{Kind: seal.Config, Repository: c.ID()}.Append(nil)
		got, err := Parse(seal.AppendSignature(c.append(b), admin))
		if name == "as they should be" {
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got != nil || !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Parse(c.Seal(admin)); err != nil {
			t.Errorf("%s, after Seal: %v", name, err)
		}
	}
}

func FuzzParseBody(f *testing.F) {
	c, _ := sample(f)
	f.Add(c.append(nil))
	c.Slots, c.Writers, c.Private = nil, nil, nil
	f.Add(c.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := parseBody(p)
		if err != nil {
			return
		}
		if again := c.append(nil); !bytes.Equal(again, p) {
			t.Fatalf("%x was read, %x encodes it", p, again)
		}
		c.Normalize()
		if again := c.append(nil); !bytes.Equal(again, p) {
			t.Fatalf("%x was accepted unsorted", p)
		}
	})
}

func FuzzParseNotes(f *testing.F) {
	notes := []Note{{Slot: seal.SlotID{1}, Label: "a"}, {Slot: seal.SlotID{2}, Created: time.Unix(0, -1), Label: "bureau"}}
	f.Add(appendNotes(nil, notes))
	f.Add(appendNotes(nil, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		// Inputs rarely have the right padding; try them with it too.
		pad := func(p []byte) []byte { return append(bytes.Clone(p), make([]byte, seal.Padme(len(p))-len(p))...) }
		for _, p := range [][]byte{p, pad(p)} {
			notes, err := parseNotes(p)
			if err != nil {
				continue
			}
			if again := pad(appendNotes(nil, notes)); !bytes.Equal(again, p) {
				t.Fatalf("%x was read, %x encodes it", p, again)
			}
		}
	})
}
