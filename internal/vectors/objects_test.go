package vectors

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/seal"
)

// Packs.

func makePacks(t *testing.T) map[string]*vector {
	text := bytes.Repeat([]byte("text that zstd makes smaller "), 10)
	data := makePack(t, "A data pack of a plain chunk and a compressed one.\n", seal.DataPack, chunk.Data, []byte("first chunk"), text)
	meta := makePack(t, "A meta pack. The chunks are no real nodes.\n", seal.MetaPack, chunk.Node, text)
	return map[string]*vector{
		"data":      data,
		"meta":      meta,
		"prefix":    data.changed("A bit of the sealed pack key is flipped.\n", "damaged", "pack", flip(100)),
		"frame":     data.changed("A bit of the first frame is flipped.\n", "damaged", "pack", flip(pack.PrefixSize+3)),
		"padding":   data.changed("A bit of the padding is flipped.\n", "damaged", "pack", flip(paddingOf(t, data))),
		"directory": data.changed("A bit of the directory is flipped.\n", "damaged", "pack", flip(-20)),
		"cut-off":   data.changed("The last byte is missing.\n", "damaged", "pack", func(p []byte) []byte { return p[:len(p)-1] }),
		"swapped": data.changed("Frames of equal length, exchanged.\n", "damaged", "pack", func([]byte) []byte {
			p := twins(t)
			a, b := p[pack.PrefixSize:][:20], p[pack.PrefixSize+20:][:20]
			for i := range a {
				a[i], b[i] = b[i], a[i]
			}
			return p
		}),
		"foreign": data.changed("A pack of another repository.\n", "foreign", "repository-id", flip(0)),
		"kind":    meta.changed("A meta pack that is read as a data pack.\n", "damaged", "kind", func([]byte) []byte { return []byte{byte(seal.DataPack)} }),
	}
}

// twins is a pack of two chunks of four bytes each.
func twins(t *testing.T) []byte {
	return makePack(t, "", seal.DataPack, chunk.Data, []byte("Anne"), []byte("Beth")).get("pack")
}

func (v *vector) get(name string) []byte {
	for _, f := range v.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

func makePack(t *testing.T, comment string, kind seal.Kind, as chunk.Kind, chunks ...[]byte) *vector {
	id := repositoryID(t)
	v := &vector{comment: comment, expect: "success"}
	v.addRing(id)
	v.add("repository-seed", repositorySeed[:])
	v.add("kind", []byte{byte(kind)})

	keys := seal.DeriveKeys(epochSecret)
	public := must[*seal.PrivateKey](t)(seal.NewPrivateKey(repositorySeed)).Public()
	hasher := chunk.NewHasher(chunk.Keys{Data: keys.ChunkData, Node: keys.ChunkNode, List: keys.ChunkList})
	encoder := must[*pack.Encoder](t)(pack.NewEncoder(pack.Default, 1))
	var b bytes.Buffer
	w := must[*pack.Writer](t)(pack.NewWriter(&b, seal.Header{Kind: kind, Repository: id, Place: place}, public, keys, random(6)))
	for _, p := range chunks {
		encoded, encoding := encoder.Encode(nil, p)
		e := pack.Entry{ID: hasher.Sum(as, p), Kind: as, Encoding: encoding, Raw: uint32(len(p))}
		must[pack.Entry](t)(w.Append(e, encoded))
	}
	f := must[pack.Finished](t)(w.Finish())
	v.add("pack", b.Bytes())
	v.add("pack-id", f.ID[:])
	for i, e := range f.Entries {
		v.add("entry", entryFields(e))
		v.add("plaintext", chunks[i])
	}
	return v
}

// entryFields is an entry as the README of the vectors describes it.
func entryFields(e pack.Entry) []byte {
	b := append(e.ID[:], byte(e.Kind), byte(e.Encoding))
	for _, n := range []uint32{e.Raw, e.Stored, e.Offset} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// paddingOf returns where the padding of a pack begins.
func paddingOf(t *testing.T, v *vector) int {
	var last []byte
	for _, f := range v.fields {
		if f.name == "entry" {
			last = f.value
		}
	}
	end := binary.LittleEndian.Uint32(last[38:]) + binary.LittleEndian.Uint32(last[42:])
	p := v.get("pack")
	if start := must[int64](t)(pack.DirectoryStart(int64(len(p)), p)); start == int64(end) {
		t.Fatal("the pack has no padding")
	}
	return int(end)
}

func checkPack(r *reader) {
	p := r.bytes("pack")
	entries, plaintexts, err := openPack(r, p)
	if r.failed(err) {
		return
	}
	id := blake3.Sum256(p)
	r.equal("pack-id", id[:])
	wantEntries, wantPlain := r.all("entry"), r.all("plaintext")
	if len(entries) != len(wantEntries) || len(entries) != len(wantPlain) {
		r.Fatalf("%d entries, want %d", len(entries), len(wantEntries))
	}
	for i, e := range entries {
		if got := entryFields(e); !bytes.Equal(got, wantEntries[i]) || !bytes.Equal(plaintexts[i], wantPlain[i]) {
			r.Errorf("entry %d is %x, want %x, with %q", i, got, wantEntries[i], plaintexts[i])
		}
	}
}

// openPack reads all of a pack, as a reader without an index does.
func openPack(r *reader, p []byte) (entries []pack.Entry, plaintexts [][]byte, err error) {
	kind, ring := seal.Kind(r.u8("kind")), r.ring()
	private := must[*seal.PrivateKey](r.T)(seal.NewPrivateKey(r.array32("repository-seed")))
	start, err := pack.DirectoryStart(int64(len(p)), p)
	if err != nil {
		return nil, nil, err
	}
	if entries, err = pack.OpenDirectory(p[:pack.PrefixSize], p[start:len(p)-pack.FooterSize], int64(len(p)), kind, ring); err != nil {
		return nil, nil, err
	}
	key, err := pack.OpenKey(p[:pack.PrefixSize], kind, ring, private)
	if err != nil {
		return nil, nil, err
	}
	keys, _ := ring.Keys(key.Header.Place)
	hasher := chunk.NewHasher(chunk.Keys{Data: keys.ChunkData, Node: keys.ChunkNode, List: keys.ChunkList})
	decoder := must[*pack.Decoder](r.T)(pack.NewDecoder(1))
	var end uint32
	for _, e := range entries {
		end = e.Offset + e.Stored
		encoded, err := key.Open(nil, p[e.Offset:end], e)
		if err != nil {
			return nil, nil, err
		}
		plain, err := decoder.Decode(nil, encoded, e)
		if err != nil {
			return nil, nil, err
		}
		if hasher.Sum(e.Kind, plain) != e.ID {
			return nil, nil, errors.New("the chunk has another ID")
		}
		plaintexts = append(plaintexts, plain)
	}
	return entries, plaintexts, key.OpenPadding(p[end:start], end)
}

// Config objects.

var (
	slotSeed   = seed32(0x80)
	writerSeed = seed32(0x90)
	secret0    = seed32(0xa0) // of epoch 1 of domain 0
)

func makeConfigs(t *testing.T) map[string]*vector {
	good := makeConfig(t, nil)
	again := func(p []byte) []byte { return seal.AppendSignature(p[:len(p)-seal.SignatureSize], adminKey) }
	stranger := seed32(0xb0)
	return map[string]*vector{
		"object":  good,
		"flipped": good.changed("A bit is flipped.\n", "damaged", "config", flip(60)),
		"other-admin": good.changed("Signed by somebody else.\n", "damaged", "config", func(p []byte) []byte {
			return seal.AppendSignature(p[:len(p)-seal.SignatureSize], ed25519.NewKeyFromSeed(stranger[:]))
		}),
		"other-id": good.changed("The header names a repository that these keys do not give.\n", "damaged", "config",
			func(p []byte) []byte { return again(flip(20)(p)) }),
		"placed": good.changed("The header names an epoch.\n", "damaged", "config",
			func(p []byte) []byte { return again(flip(40)(p)) }),
		"longer": good.changed("A byte too many stands before the signature.\n", "damaged", "config",
			func(p []byte) []byte { return seal.AppendSignature(append(p[:len(p)-seal.SignatureSize], 0), adminKey) }),
		"feature": good.changed("The config needs a feature that no program knows yet.\n", "newer", "config", func([]byte) []byte {
			return makeConfig(t, []string{"example"}).get("config")
		}),
	}
}

func makeConfig(t *testing.T, features []string) *vector {
	slotKey := must[*seal.PrivateKey](t)(seal.NewPrivateKey(slotSeed))
	writer := seal.SignerOf(ed25519.NewKeyFromSeed(writerSeed[:]))
	c := &config.Config{
		Generation: 2, Created: time.Unix(1767225600, 0), Features: features,
		Admin: seal.SignerOf(adminKey), Public: must[*seal.PrivateKey](t)(seal.NewPrivateKey(repositorySeed)).Public(),
		Chunker: chunk.DefaultParams(), Compression: pack.Default, PackSize: 32 << 20,
		Slots:   []config.Slot{{ID: seed32(0xc0), Kind: seal.PassphraseSlot, Access: seal.WriteOnly, Public: slotKey.Public(), Signer: writer}},
		Writers: []config.Writer{{Signer: writer, First: 1, Last: config.Forever}},
		Epochs:  []config.Epoch{{Place: seal.Place{Epoch: 1}}},
	}
	ring := seal.NewKeyring(c.ID())
	ring.Add(c.Epochs[0].Place, secret0)
	if err := c.Grant(ring, c.Slots[0]); err != nil {
		t.Fatal(err)
	}
	note := config.Note{Slot: c.Slots[0].ID, Created: c.Created, Label: "host a"}
	if err := c.SetNotes(random(7), ring, []config.Note{note}); err != nil {
		t.Fatal(err)
	}

	v := &vector{comment: "A config with one write-only slot, its writer, one epoch and one note.\n", expect: "success"}
	id := c.ID()
	v.add("config", c.Seal(adminKey))
	v.add("admin-seed", adminSeed[:])
	v.add("repository-id", id[:])
	v.add("generation", binary.LittleEndian.AppendUint64(nil, c.Generation))
	v.add("slot-id", c.Slots[0].ID[:])
	v.add("slot-seed", slotSeed[:])
	v.add("writer", writer[:])
	v.add("epoch-secret", secret0[:])
	v.add("label-text", []byte(note.Label))
	return v
}

func checkConfig(r *reader) {
	object := r.bytes("config")
	c, err := config.Parse(object)
	if r.failed(err) {
		return
	}
	id := c.ID()
	r.equal("repository-id", id[:])
	r.equal("generation", binary.LittleEndian.AppendUint64(nil, c.Generation))
	slotID := seal.SlotID(r.array32("slot-id"))
	slot, ok := c.Slot(slotID)
	if !ok {
		r.Fatalf("no slot %s", slotID)
	}
	r.equal("writer", slot.Signer[:])
	place, _ := c.Current(0)
	if !c.MayWrite(slot.Signer, place) {
		r.Errorf("the writer may not write in %s", place)
	}
	key := must[*seal.PrivateKey](r.T)(seal.NewPrivateKey(r.array32("slot-seed")))
	ring := must[*seal.Keyring](r.T)(c.Keyring(slotID, key))
	secret, _ := ring.Secret(place)
	r.equal("epoch-secret", secret[:])
	notes := must[[]config.Note](r.T)(c.Notes(ring))
	if len(notes) != 1 || notes[0].Slot != slotID {
		r.Fatalf("notes %v", fmt.Sprint(notes))
	}
	r.equal("label-text", []byte(notes[0].Label))
	// No matter who signs, Ed25519 gives the same signature: all bytes are determined.
	r.equal("config", c.Seal(ed25519.NewKeyFromSeed(r.bytes("admin-seed"))))
}
