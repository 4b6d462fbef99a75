package refreader_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/internal/refreader"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// The fuzz targets of this file give the same bytes to the engine and to this reader,
// which share no code: one that takes what the other refuses has read the document
// otherwise. What is sealed or signed is so with keys that both believe, as no fuzzer
// would come past them.

// signer signs what is fuzzed.
var signer = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// fuzzID and fuzzRing are of the repository that it belongs to.
var (
	fuzzID   = seal.RepositoryID{1, 2, 3}
	fuzzRing = func() *seal.Keyring {
		r := seal.NewKeyring(fuzzID)
		r.Add(seal.Place{Epoch: 1}, [32]byte{4})
		return r
	}()
	fuzzKeys, _ = fuzzRing.Keys(seal.Place{Epoch: 1})
)

// agree runs a target. engine says what the engine thinks of the bytes, which may be
// padded first.
func agree(f *testing.F, form string, padded bool, engine func([]byte) error) {
	parse := refreader.Parsers[form]
	for _, p := range refreader.Samples()[form] {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if padded {
			p = append(slices.Clone(p), make([]byte, seal.Padme(len(p))-len(p))...)
		}
		mine, theirs := parse(slices.Clone(p)), engine(p)
		if (mine == nil) != (theirs == nil) && !errors.Is(theirs, seal.ErrNewer) {
			t.Errorf("%s %x: this reader says %v, the engine %v", form, p, mine, theirs)
		}
	})
}

// sealed returns the object of a kind whose section says p.
func sealed(kind seal.Kind, p []byte) ([]byte, error) {
	h := seal.Header{Kind: kind, Repository: fuzzID, Place: seal.Place{Epoch: 1}}
	return seal.SealObject(zeros{}, h, fuzzKeys, signer, p)
}

// signed returns the object of a kind whose body is p.
func signed(kind seal.Kind, id seal.RepositoryID, p []byte) []byte {
	return seal.AppendSignature(append(seal.Header{Kind: kind, Repository: id}.Append(nil), p...), signer)
}

// zeros is a source of salts that are always the same.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzAgreeOnNode(f *testing.F) {
	agree(f, "node", false, func(p []byte) error {
		if len(p) > 0 && p[0] > 0 {
			return new(snapshot.Inner).Decode(p, p[0])
		}
		return new(snapshot.Leaf).Decode(p)
	})
}

func FuzzAgreeOnList(f *testing.F) {
	agree(f, "list", false, func(p []byte) error {
		if len(p) == 0 {
			return seal.ErrDamaged
		}
		return new(snapshot.ListNode).Decode(p, p[0])
	})
}

func FuzzAgreeOnSegment(f *testing.F) {
	agree(f, "segment", true, func(p []byte) error {
		object, err := sealed(seal.Segment, p)
		if err == nil {
			_, err = index.Open(object, fuzzRing)
		}
		return err
	})
}

func FuzzAgreeOnOpenPart(f *testing.F) {
	agree(f, "open part", true, func(p []byte) error {
		b := seal.Header{Kind: seal.Manifest, Repository: fuzzID, Place: seal.Place{Epoch: 1}}.Append(nil)
		section, err := seal.SealSection(nil, zeros{}, fuzzKeys, b[:seal.HeaderSize:seal.HeaderSize], p)
		if err != nil {
			return err
		}
		n := len(section)
		b = append(append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)), section...)
		_, err = snapshot.OpenManifest(seal.AppendSignature(b, signer), fuzzRing)
		return err
	})
}

func FuzzAgreeOnBody(f *testing.F) {
	agree(f, "body", true, func(p []byte) error {
		_, err := snapshot.ParseBody(p)
		return err
	})
}

func FuzzAgreeOnBegin(f *testing.F) {
	sealer := protocol.Sealer{Random: zeros{}, Repository: fuzzID, Place: seal.Place{Epoch: 1}, Keys: fuzzKeys, Key: signer}
	addSection(f, func() ([]byte, error) { return (&protocol.Begin{Host: "host", Process: 300}).Seal(sealer) }, seal.LeaseBegin)
	agree(f, "begin", true, func(p []byte) error {
		object, err := sealed(seal.LeaseBegin, p)
		if err == nil {
			_, _, err = protocol.OpenBegin(object, fuzzRing)
		}
		return err
	})
}

func FuzzAgreeOnEnd(f *testing.F) {
	sealer := protocol.Sealer{Random: zeros{}, Repository: fuzzID, Place: seal.Place{Epoch: 1}, Keys: fuzzKeys, Key: signer}
	for _, e := range []protocol.End{{Outcome: protocol.Abandoned}, {Outcome: protocol.Committed, Manifest: []byte("manifest")}} {
		addSection(f, func() ([]byte, error) { return e.Seal(sealer) }, seal.LeaseEnd)
	}
	agree(f, "end", true, func(p []byte) error {
		object, err := sealed(seal.LeaseEnd, p)
		if err == nil {
			_, _, err = protocol.OpenEnd(object, fuzzRing)
		}
		return err
	})
}

// addSection adds the plaintext of an object as a seed.
func addSection(f *testing.F, make func() ([]byte, error), kind seal.Kind) {
	object, err := make()
	if err != nil {
		f.Fatal(err)
	}
	o, err := seal.OpenObject(object, kind, fuzzRing)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o.Plaintext)
}

// bodyOf is what an object says between header and signature.
func bodyOf(object []byte) []byte {
	return object[seal.HeaderSize : len(object)-seal.SignatureSize]
}

func FuzzAgreeOnTombstone(f *testing.F) {
	t := protocol.Tombstone{Forgotten: []protocol.Forgotten{{ID: snapshot.ID{1}}, {ID: snapshot.ID{2}, Links: []snapshot.ID{{1}, {3}}}}}
	f.Add(bodyOf(t.Sign(fuzzID, signer)))
	agree(f, "tombstone", false, func(p []byte) error {
		_, _, err := protocol.OpenTombstone(signed(seal.Tombstone, fuzzID, p), fuzzID)
		return err
	})
}

func FuzzAgreeOnCondemned(f *testing.F) {
	c := protocol.Condemned{Generation: 3, Phase: protocol.Waiting, Packs: []protocol.CondemnedPack{{Kind: seal.DataPack}, {Kind: seal.MetaPack}}, Leases: []protocol.LeaseID{{1}}}
	f.Add(bodyOf(c.Sign(fuzzID, signer)))
	for p := protocol.Empty; p <= protocol.Final+1; p++ {
		f.Add(bodyOf((&protocol.Condemned{Generation: 1, Phase: p}).Sign(fuzzID, signer)))
	}
	agree(f, "condemned", false, func(p []byte) error {
		_, _, err := protocol.OpenCondemned(signed(seal.Condemned, fuzzID, p), fuzzID)
		return err
	})
}

// vector returns a field of a test vector.
func vector(tb testing.TB, file, field string) []byte {
	tb.Helper()
	r, err := os.Open(filepath.Join("..", "..", "testdata", "vectors", file))
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), field+": "); ok {
			p, err := hex.DecodeString(v)
			if err != nil {
				tb.Fatal(err)
			}
			return p
		}
	}
	tb.Fatalf("%s has no %s", file, field)
	return nil
}

// A config names its own admin and is of the repository that its keys make. So the one
// that is fuzzed is signed by that of the vector, put in place of it.
func FuzzAgreeOnConfig(f *testing.F) {
	c, err := config.Parse(vector(f, "config-object.txt", "config"))
	if err != nil {
		f.Fatal(err)
	}
	c.Admin = seal.SignerOf(signer)
	id := c.ID()
	f.Add(bodyOf(c.Seal(signer)))
	c.Epochs[0].Boxes = nil
	f.Add(bodyOf(c.Seal(signer)))
	whole := refreader.Parsers["config"]
	f.Fuzz(func(t *testing.T, p []byte) {
		object := signed(seal.Config, id, p)
		mine := whole(slices.Clone(object))
		c, theirs := config.Parse(object)
		if (mine == nil) != (theirs == nil) {
			t.Errorf("config %x: this reader says %v, the engine %v", p, mine, theirs)
		}
		if theirs == nil && !bytes.Equal(c.Seal(signer), object) {
			t.Errorf("config %x encodes to other bytes", p)
		}
	})
}

func FuzzAgreeOnSlot(f *testing.F) {
	for _, file := range []string{"slot-passphrase.txt", "slot-recovery.txt", "recipient-slot.txt"} {
		f.Add(bodyOf(vector(f, file, "slot")))
	}
	parse := refreader.Parsers["slot"]
	f.Fuzz(func(t *testing.T, p []byte) {
		object := signed(seal.KeySlot, fuzzID, p)
		mine := parse(slices.Clone(object))
		_, theirs := seal.ParseSlot(object)
		if (mine == nil) != (theirs == nil) {
			t.Errorf("slot %x: this reader says %v, the engine %v", p, mine, theirs)
		}
	})
}
