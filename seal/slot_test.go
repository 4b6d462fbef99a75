package seal_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

// cheap is the least that Argon2id may cost.
var cheap = seal.Cost{Passes: 1, Memory: 8, Lanes: 1}

func passphrase(text string) seal.Passphrase {
	return seal.Passphrase{Text: []byte(text), Cost: cheap}
}

func bundle(access seal.Access) *seal.Bundle {
	b := &seal.Bundle{Access: access, Slot: [32]byte{1}, Signing: [32]byte{2}}
	if access == seal.Full {
		b.Repository = [32]byte{3}
	}
	return b
}

// A secret locks a slot and opens it again.
type secret struct {
	name string
	kind seal.SlotKind
	lock seal.Locker
	key  seal.Unlocker
}

func secrets(t testing.TB) []secret {
	var all []secret
	for n := byte(1); n <= 2; n++ {
		i := must[*seal.Identity](t)(seal.NewIdentity(random(n)))
		r := must[*seal.RecoveryKey](t)(seal.NewRecoveryKey(random(n)))
		p := passphrase(fmt.Sprintf("passphrase %d", n))
		all = append(all,
			secret{fmt.Sprint("passphrase ", n), seal.PassphraseSlot, p, p},
			secret{fmt.Sprint("recipient ", n), seal.RecipientSlot, i.Recipient(), i},
			secret{fmt.Sprint("recovery key ", n), seal.RecoverySlot, r, r})
	}
	return all
}

func TestSlotOpensWithItsSecretOnly(t *testing.T) {
	for _, access := range []seal.Access{seal.Full, seal.WriteOnly} {
		for _, mine := range secrets(t) {
			object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, mine.lock, bundle(access), signingKey(1)))
			s := must[*seal.Slot](t)(seal.ParseSlot(object))
			if s.Kind != mine.kind || s.Access != access || s.Signer != seal.SignerOf(signingKey(1)) || s.Header.Repository != repositoryID {
				t.Errorf("%s, %s: parsed as %+v", mine.name, access, s)
			}
			for _, other := range secrets(t) {
				b, err := s.Open(other.key)
				switch {
				case other.name != mine.name && (b != nil || !errors.Is(err, seal.ErrWrongSecret)):
					t.Errorf("slot of %s with %s: %v, %v", mine.name, other.name, b, err)
				case other.name == mine.name && (err != nil || *b != *bundle(access)):
					t.Errorf("slot of %s: %v, %v", mine.name, b, err)
				}
			}
		}
	}
}

func TestWriteOnlyBundleCannotRead(t *testing.T) {
	r := must[*seal.RecoveryKey](t)(seal.NewRecoveryKey(random(1)))
	open := func(b *seal.Bundle) (*seal.Bundle, error) {
		object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, r, b, signingKey(1)))
		return must[*seal.Slot](t)(seal.ParseSlot(object)).Open(r)
	}
	b := must[*seal.Bundle](t)(open(bundle(seal.WriteOnly)))
	if b.Repository != [32]byte{} {
		t.Error("a write-only bundle holds the repository's key")
	}
	if k, err := b.RepositoryKey(); k != nil || !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("repository key of a write-only bundle: %v", err)
	}
	if _, err := b.SlotKey(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(b.SigningKey(), ed25519.NewKeyFromSeed(b.Signing[:])) {
		t.Error("the signing key is not that of its seed")
	}
	full := must[*seal.Bundle](t)(open(bundle(seal.Full)))
	k := must[*seal.PrivateKey](t)(full.RepositoryKey())
	if want := must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{3})); !bytes.Equal(k.Public().Bytes(), want.Public().Bytes()) {
		t.Error("the repository key is not that of its seed")
	}

	// Bundles that no program should have written.
	leaky, useless := bundle(seal.WriteOnly), bundle(seal.Full)
	leaky.Repository = [32]byte{3}
	useless.Repository = [32]byte{}
	for name, bad := range map[string]*seal.Bundle{"leaky": leaky, "useless": useless} {
		if b, err := open(bad); b != nil || !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s bundle: %v, %v", name, b, err)
		}
	}
}

// Whoever stores a slot can't change a byte of it; nor can an admin's key
// that does not know the secret make it say something else.
func TestSlotIsBound(t *testing.T) {
	for _, mine := range secrets(t)[:3] {
		object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, mine.lock, bundle(seal.Full), signingKey(1)))
		midst := func(i int) bool { // of the HPKE message, which takes its time
			return mine.kind == seal.RecipientSlot && i > 120 && i < 1220 && i%20 > 0
		}
		for i := range object {
			if midst(i) {
				continue
			}
			flipped := bytes.Clone(object)
			flipped[i] ^= 0x20
			if s, err := seal.ParseSlot(flipped); s != nil || err == nil {
				t.Errorf("%s: byte %d flipped: %v", mine.name, i, err)
			}
		}
		body := object[:len(object)-seal.SignatureSize]
		for i := range body {
			if midst(i) {
				continue
			}
			if mine.kind == seal.PassphraseSlot && i == seal.HeaderSize+2+seal.SaltSize+4+2 {
				continue // Argon2id with 64 MiB
			}
			flipped := bytes.Clone(body)
			flipped[i] ^= 0x01
			s, err := seal.ParseSlot(seal.AppendSignature(flipped, signingKey(1)))
			if err != nil {
				continue
			}
			if b, err := s.Open(mine.key); b != nil || !errors.Is(err, seal.ErrWrongSecret) && !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("%s: byte %d flipped and signed again: %v, %v", mine.name, i, b, err)
			}
		}
	}
}

func TestSlotErrors(t *testing.T) {
	good := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, passphrase("p"), bundle(seal.Full), signingKey(1)))
	body := good[:len(good)-seal.SignatureSize]
	const (
		kind   = seal.HeaderSize
		access = kind + 1
		passes = access + 1 + seal.SaltSize
		memory = passes + 4
		lanes  = memory + 4
	)
	change := func(at int, p ...byte) []byte {
		b := bytes.Clone(body)
		copy(b[at:], p)
		return seal.AppendSignature(b, signingKey(1))
	}
	u32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	for name, c := range map[string]struct {
		object []byte
		want   error
	}{
		"empty":            {nil, seal.ErrDamaged},
		"not signed":       {body, seal.ErrDamaged},
		"another object":   {change(6, byte(seal.Manifest)), seal.ErrDamaged},
		"newer":            {change(7, 2), seal.ErrNewer},
		"of an epoch":      {change(40, 1), seal.ErrDamaged},
		"kind 0":           {change(kind, 0), seal.ErrDamaged},
		"kind 4":           {change(kind, 4), seal.ErrDamaged},
		"another kind":     {change(kind, byte(seal.RecoverySlot)), seal.ErrDamaged},
		"access 0":         {change(access, 0), seal.ErrDamaged},
		"access 3":         {change(access, 3), seal.ErrDamaged},
		"no pass":          {change(passes, u32(0)...), seal.ErrDamaged},
		"65 passes":        {change(passes, u32(65)...), seal.ErrDamaged},
		"little memory":    {change(memory, u32(7)...), seal.ErrDamaged},
		"more than 2 GiB":  {change(memory, u32(2<<20+1)...), seal.ErrDamaged},
		"no lane":          {change(lanes, 0), seal.ErrDamaged},
		"memory for lanes": {change(lanes, 2), seal.ErrDamaged},
		"65 lanes":         {change(memory, append(u32(1<<20), 65)...), seal.ErrDamaged},
		"longer":           {seal.AppendSignature(append(bytes.Clone(body), 0), signingKey(1)), seal.ErrDamaged},
		"shorter":          {seal.AppendSignature(bytes.Clone(body[:len(body)-1]), signingKey(1)), seal.ErrDamaged},
	} {
		if s, err := seal.ParseSlot(c.object); s != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A slot that was moved to another repository keeps its signature if the same
// admin key signs there, but does not open.
func TestSlotIsBoundToItsRepository(t *testing.T) {
	for _, mine := range secrets(t)[:3] {
		object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, mine.lock, bundle(seal.Full), signingKey(1)))
		moved := seal.Header{Kind: seal.KeySlot, Repository: seal.RepositoryID{9}}.Append(nil)
		moved = append(moved, object[seal.HeaderSize:len(object)-seal.SignatureSize]...)
		s := must[*seal.Slot](t)(seal.ParseSlot(seal.AppendSignature(moved, signingKey(1))))
		if b, err := s.Open(mine.key); b != nil || !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v, %v", mine.name, b, err)
		}
	}
}

func TestSlotsDiffer(t *testing.T) {
	for _, mine := range secrets(t)[:3] {
		r := random(1)
		a := must[[]byte](t)(seal.SealSlot(r, repositoryID, mine.lock, bundle(seal.Full), signingKey(1)))
		b := must[[]byte](t)(seal.SealSlot(r, repositoryID, mine.lock, bundle(seal.Full), signingKey(1)))
		if seal.SlotIDOf(a) == seal.SlotIDOf(b) {
			t.Errorf("two slots of %s are the same", mine.name)
		}
	}
}

func TestPassphraseToLock(t *testing.T) {
	for name, p := range map[string]seal.Passphrase{
		"empty":           passphrase(""),
		"no memory":       {Text: []byte("p"), Cost: seal.Cost{Passes: 1, Lanes: 1}},
		"no passes":       {Text: []byte("p"), Cost: seal.Cost{Memory: 8, Lanes: 1}},
		"too much memory": {Text: []byte("p"), Cost: seal.Cost{Passes: 1, Memory: 2<<20 + 1, Lanes: 1}},
	} {
		if b, err := seal.SealSlot(random(1), repositoryID, p, bundle(seal.Full), signingKey(1)); b != nil || err == nil {
			t.Errorf("%s: a slot of %d bytes, %v", name, len(b), err)
		}
	}
}

func TestDefaultCostIsUsed(t *testing.T) {
	p := seal.Passphrase{Text: []byte("p")}
	object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, p, bundle(seal.Full), signingKey(1)))
	cost := object[seal.HeaderSize+2+seal.SaltSize:]
	want := seal.DefaultCost
	if binary.LittleEndian.Uint32(cost) != want.Passes || binary.LittleEndian.Uint32(cost[4:]) != want.Memory || cost[8] != want.Lanes {
		t.Errorf("the slot says % x", cost[:9])
	}
}

func FuzzParseSlot(f *testing.F) {
	r, err := seal.NewRecoveryKey(random(1))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range secrets(f)[:3] {
		object, err := seal.SealSlot(random(1), repositoryID, s.lock, bundle(seal.Full), signingKey(1))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(object[:len(object)-seal.SignatureSize])
	}
	params := map[seal.SlotKind]int{seal.PassphraseSlot: 41, seal.RecipientSlot: 1200, seal.RecoverySlot: 32}
	f.Fuzz(func(t *testing.T, body []byte) {
		seal.ParseSlot(body)
		s, err := seal.ParseSlot(seal.AppendSignature(bytes.Clone(body), signingKey(1)))
		if err != nil {
			return
		}
		// All fields have fixed sizes, so an accepted slot has one encoding.
		if want := seal.HeaderSize + 2 + params[s.Kind] + 32 + 98 + seal.Overhead; len(body) != want {
			t.Fatalf("%s slot of %d bytes, want %d", s.Kind, len(body), want)
		}
		if s.Kind != seal.RecoverySlot {
			if _, err := s.Open(r); !errors.Is(err, seal.ErrWrongSecret) {
				t.Fatalf("%s slot with a recovery key: %v", s.Kind, err)
			}
		} else if b, err := s.Open(r); err == nil && *b != *bundle(seal.Full) {
			t.Fatalf("a forged slot opens as %v", b)
		}
	})
}
