package config_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/seal"
)

// random gives the same bytes in each run.
func random(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func signingKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func hpke(t testing.TB, seed byte) *seal.PrivateKey {
	return must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{seed}))
}

var admin = signingKey(1)

// A slot's HPKE key, writer and ID are made from one number.
func slot(t testing.TB, n byte, access seal.Access, domain uint32) config.Slot {
	s := config.Slot{
		ID: seal.SlotID{n}, Kind: seal.PassphraseSlot, Access: access, Domain: domain,
		Public: hpke(t, n).Public(), Signer: seal.SignerOf(admin),
	}
	if access == seal.WriteOnly {
		s.Signer = seal.SignerOf(signingKey(n))
	}
	return s
}

// newConfig has a full slot 10, writers' slots 20 and 21 in domain 0 and 30 in
// domain 7, and one epoch in each domain.
func newConfig(t testing.TB) (*config.Config, *seal.Keyring) {
	c := &config.Config{
		Generation: 1, Created: time.Unix(1700000000, 5).UTC(),
		Admin: seal.SignerOf(admin), Public: hpke(t, 1).Public(),
		Chunker: chunk.DefaultParams(), Compression: pack.Default, PackSize: 32 << 20,
	}
	ring := seal.NewKeyring(c.ID())
	for _, domain := range []uint32{7, 0} {
		must[seal.Place](t)(c.NewEpoch(random(byte(domain)), ring, domain))
	}
	for _, s := range []config.Slot{slot(t, 30, seal.WriteOnly, 7), slot(t, 20, seal.WriteOnly, 0), slot(t, 21, seal.WriteOnly, 0), slot(t, 10, seal.Full, 0)} {
		c.Slots = append(c.Slots, s)
		if s.Access == seal.WriteOnly {
			c.Writers = append(c.Writers, config.Writer{Signer: s.Signer, Domain: s.Domain, First: 1, Last: config.Forever})
		}
		if err := c.Grant(ring, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetNotes(random(3), ring, []config.Note{
		{Slot: seal.SlotID{20}, Created: time.Unix(1700000001, 0).UTC(), Label: "host a"},
		{Slot: seal.SlotID{10}, Created: time.Unix(-5, 1).UTC(), Label: "büro"},
	}); err != nil {
		t.Fatal(err)
	}
	return c, ring
}

// places returns which epochs a slot was given.
func places(c *config.Config, id seal.SlotID) (all []seal.Place) {
	for _, e := range c.Epochs {
		for _, b := range e.Boxes {
			if b.Slot == id {
				all = append(all, e.Place)
			}
		}
	}
	return all
}

func TestRoundTrip(t *testing.T) {
	c, _ := newConfig(t)
	object := c.Seal(admin)
	got := must[*config.Config](t)(config.Parse(object))
	if !bytes.Equal(got.Public.Bytes(), c.Public.Bytes()) || got.ID() != c.ID() || got.ID().IsZero() {
		t.Error("the keys came back otherwise")
	}
	for i := range got.Slots {
		if !bytes.Equal(got.Slots[i].Public.Bytes(), c.Slots[i].Public.Bytes()) {
			t.Errorf("slot %s came back with another key", got.Slots[i].ID.Short())
		}
		got.Slots[i].Public = c.Slots[i].Public // the same key, but not the same pointer
	}
	got.Public = c.Public
	if !reflect.DeepEqual(got, c) {
		t.Errorf("came back as\n%+v, want\n%+v", got, c)
	}
	if again := must[*config.Config](t)(config.Parse(object)).Seal(admin); !bytes.Equal(again, object) {
		t.Error("what was read encodes to other bytes")
	}
}

func TestTampering(t *testing.T) {
	c, _ := newConfig(t)
	object := c.Seal(admin)
	for i := range object {
		if i > 300 && i < len(object)-200 && i%11 > 0 {
			continue // keys and boxes: the signature covers all bytes alike
		}
		flipped := bytes.Clone(object)
		flipped[i] ^= 0x40
		if got, err := config.Parse(flipped); got != nil || err == nil {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for _, n := range []int{0, 47, 48, 143, 144, len(object) - 97, len(object) - 1} {
		if got, err := config.Parse(object[:n]); got != nil || !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := config.Parse(append(bytes.Clone(object), 0)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a byte longer: %v", err)
	}
}

// resign replaces the body's bytes from offset at and signs again.
func resign(object []byte, key ed25519.PrivateKey, at int, p ...byte) []byte {
	b := bytes.Clone(object[:len(object)-seal.SignatureSize])
	copy(b[at:], p)
	return seal.AppendSignature(b, key)
}

// Whoever can write the storage has keys of his own and all that is public.
func TestAnotherAdmin(t *testing.T) {
	c, _ := newConfig(t)
	object := c.Seal(admin)
	stranger := signingKey(2)
	for name, object := range map[string][]byte{
		"signed by a stranger": resign(object, stranger, 0),
		"signed by a writer":   resign(object, signingKey(20), 0),
		"of an epoch":          resign(object, admin, 40, 1),
		"of a domain":          resign(object, admin, 44, 1),
		"of another ID":        resign(object, admin, 8, object[8]^1),
		"another kind":         resign(object, admin, 6, byte(seal.Tombstone)),
	} {
		if got, err := config.Parse(object); got != nil || !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := config.Parse(resign(object, admin, 7, 2)); !errors.Is(err, seal.ErrNewer) {
		t.Errorf("newer: %v", err)
	}

	// A stranger who puts his keys into it makes another repository of it.
	for name, change := range map[string]func(c *config.Config){
		"admin key":      func(c *config.Config) { c.Admin = seal.SignerOf(stranger); c.Slots[0].Signer = c.Admin },
		"repository key": func(c *config.Config) { c.Public = hpke(t, 2).Public() },
	} {
		c, _ := newConfig(t)
		id := c.ID()
		change(c)
		forged := c.Seal(admin)
		if c.Admin == seal.SignerOf(stranger) {
			forged = c.Seal(stranger)
		}
		got := must[*config.Config](t)(config.Parse(forged))
		if got.ID() == id {
			t.Errorf("another %s, the same ID", name)
		}
		if _, err := config.Parse(resign(forged, signerOf(got, admin, stranger), 8, id[:]...)); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("another %s under the old ID: %v", name, err)
		}
	}
}

func signerOf(c *config.Config, keys ...ed25519.PrivateKey) ed25519.PrivateKey {
	for _, k := range keys {
		if seal.SignerOf(k) == c.Admin {
			return k
		}
	}
	return nil
}

func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *config.Config)
		want   error
	}{
		"generation 0":          {func(c *config.Config) { c.Generation = 0 }, seal.ErrDamaged},
		"a feature":             {func(c *config.Config) { c.Features = []string{"teleport"} }, seal.ErrNewer},
		"a feature and more":    {func(c *config.Config) { c.Features, c.Compression = []string{"x"}, 9 }, seal.ErrNewer},
		"unknown chunker":       {func(c *config.Config) { c.Chunker.Algorithm = 9 }, seal.ErrDamaged},
		"chunks too large":      {func(c *config.Config) { c.Chunker.Max = pack.MaxChunk + 1 }, seal.ErrDamaged},
		"unknown compression":   {func(c *config.Config) { c.Compression = 0 }, seal.ErrDamaged},
		"small packs":           {func(c *config.Config) { c.PackSize = 1<<16 - 1 }, seal.ErrDamaged},
		"large packs":           {func(c *config.Config) { c.PackSize = 1<<30 + 1 }, seal.ErrDamaged},
		"no epoch":              {func(c *config.Config) { c.Epochs = nil }, seal.ErrDamaged},
		"no epoch in domain 0":  {func(c *config.Config) { c.Epochs = c.Epochs[1:] }, seal.ErrDamaged},
		"epoch 0":               {func(c *config.Config) { c.Epochs[1].Epoch = 0 }, seal.ErrDamaged},
		"slot twice":            {func(c *config.Config) { c.Slots = append(c.Slots, c.Slots[0]) }, seal.ErrDamaged},
		"writer twice":          {func(c *config.Config) { c.Writers = append(c.Writers, c.Writers[0]) }, seal.ErrDamaged},
		"epoch twice":           {func(c *config.Config) { c.Epochs = append(c.Epochs, c.Epochs[0]) }, seal.ErrDamaged},
		"box twice":             {func(c *config.Config) { e := &c.Epochs[0]; e.Boxes = append(e.Boxes, e.Boxes[0]) }, seal.ErrDamaged},
		"full slot of a writer": {func(c *config.Config) { c.Slots[0].Signer = seal.SignerOf(signingKey(20)) }, seal.ErrDamaged},
		"writer's admin key":    {func(c *config.Config) { c.Slots[1].Signer = c.Admin }, seal.ErrDamaged},
		"unknown access":        {func(c *config.Config) { c.Slots[1].Access = 3 }, seal.ErrDamaged},
		"unknown kind of slot":  {func(c *config.Config) { c.Slots[1].Kind = 4 }, seal.ErrDamaged},
	} {
		cfg, _ := newConfig(t)
		c.change(cfg)
		if got, err := config.Parse(cfg.Seal(admin)); got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		} else if c.want == seal.ErrNewer && errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: called damaged too: %v", name, err)
		}
	}
}

func TestSlotAndCurrent(t *testing.T) {
	c, _ := newConfig(t)
	if s, ok := c.Slot(seal.SlotID{20}); !ok || s.Signer != seal.SignerOf(signingKey(20)) {
		t.Errorf("slot 20 is %+v, %v", s, ok)
	}
	if _, ok := c.Slot(seal.SlotID{99}); ok {
		t.Error("there is no slot 99")
	}
	if p, ok := c.Current(7); !ok || p != (seal.Place{Epoch: 1, Domain: 7}) {
		t.Errorf("domain 7 is at %v, %v", p, ok)
	}
	if p, ok := c.Current(8); ok {
		t.Errorf("domain 8 is at %v", p)
	}
}

func TestMayWrite(t *testing.T) {
	c, _ := newConfig(t)
	c.Writers[0].First, c.Writers[0].Last = 3, 5
	w := c.Writers[0]
	for _, x := range []struct {
		signer seal.Signer
		place  seal.Place
		want   bool
	}{
		{w.Signer, seal.Place{Epoch: 2, Domain: w.Domain}, false},
		{w.Signer, seal.Place{Epoch: 3, Domain: w.Domain}, true},
		{w.Signer, seal.Place{Epoch: 5, Domain: w.Domain}, true},
		{w.Signer, seal.Place{Epoch: 6, Domain: w.Domain}, false},
		{w.Signer, seal.Place{Epoch: 4, Domain: w.Domain + 1}, false},
		{c.Admin, seal.Place{Epoch: 99, Domain: 99}, true},
		{seal.SignerOf(signingKey(99)), seal.Place{Epoch: 4}, false},
		{seal.Signer{}, seal.Place{Epoch: 4}, false},
	} {
		if got := c.MayWrite(x.signer, x.place); got != x.want {
			t.Errorf("%s in %s: %v", x.signer.Short(), x.place, got)
		}
	}
}

func TestGrant(t *testing.T) {
	c, ring := newConfig(t)
	if p := must[seal.Place](t)(c.NewEpoch(random(50), ring, 0)); p != (seal.Place{Epoch: 2}) {
		t.Fatalf("the next epoch is %v", p)
	}
	if _, ok := ring.Keys(seal.Place{Epoch: 2}); !ok {
		t.Error("the keyring does not know the new epoch")
	}
	for n := range byte(100) {
		if got := places(c, seal.SlotID{n}); slices.Contains(got, seal.Place{Epoch: 2}) {
			t.Errorf("slot %d was given the new epoch", n)
		}
	}
	first, second, other := seal.Place{Epoch: 1}, seal.Place{Epoch: 2}, seal.Place{Epoch: 1, Domain: 7}
	newcomer := slot(t, 22, seal.WriteOnly, 0)
	full := slot(t, 11, seal.Full, 0)
	elsewhere := slot(t, 31, seal.WriteOnly, 7)
	c.Slots = append(c.Slots, newcomer, full, elsewhere)
	for range 2 { // the second time changes nothing
		for _, s := range slices.Clone(c.Slots) {
			if err := c.Grant(ring, s); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range map[byte][]seal.Place{
			10: {first, second, other}, 11: {first, second, other}, // full: all
			20: {first, second}, 21: {first, second}, // they had the first
			22: {second}, // the newest only
			30: {other}, 31: {other},
		} {
			if got := places(c, seal.SlotID{id}); !slices.Equal(got, want) {
				t.Errorf("slot %d knows %v, want %v", id, got, want)
			}
		}
	}
	c = must[*config.Config](t)(config.Parse(c.Seal(admin)))
	for id, want := range map[byte]int{10: 3, 11: 3, 20: 2, 22: 1, 31: 1} {
		got := must[*seal.Keyring](t)(c.Keyring(seal.SlotID{id}, hpke(t, id)))
		if got.Len() != want || got.Repository != c.ID() {
			t.Errorf("slot %d opens %d epochs, want %d", id, got.Len(), want)
		}
		for _, p := range places(c, seal.SlotID{id}) {
			mine, _ := got.Secret(p)
			if true_, _ := ring.Secret(p); mine != true_ {
				t.Errorf("slot %d opens another secret of %s", id, p)
			}
		}
	}

	// Who does not know a secret can't pass it on.
	ignorant := seal.NewKeyring(c.ID())
	if err := c.Grant(ignorant, slot(t, 12, seal.Full, 0)); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("with an empty keyring: %v", err)
	}
	broken := errors.New("no entropy")
	if _, err := c.NewEpoch(errReader{broken}, ring, 0); !errors.Is(err, broken) {
		t.Errorf("without randomness: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestKeyringErrors(t *testing.T) {
	c, ring := newConfig(t)
	if _, err := c.Keyring(seal.SlotID{10}, hpke(t, 20)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("with another's key: %v", err)
	}
	if _, err := c.Keyring(seal.SlotID{99}, hpke(t, 99)); err == nil {
		t.Error("a slot that was given nothing has a keyring")
	}
	// A box is good for its own epoch and domain only.
	must[seal.Place](t)(c.NewEpoch(random(50), ring, 0))
	if err := c.Grant(ring, c.Slots[0]); err != nil {
		t.Fatal(err)
	}
	for i := range c.Epochs {
		for j := range c.Epochs {
			moved := *c
			moved.Epochs = slices.Clone(c.Epochs)
			moved.Epochs[i].Boxes = c.Epochs[j].Boxes
			if _, err := moved.Keyring(seal.SlotID{10}, hpke(t, 10)); (err == nil) != (i == j) {
				t.Errorf("boxes of %s in %s: %v", c.Epochs[j].Place, c.Epochs[i].Place, err)
			}
		}
	}
	// A secret of a wrong length.
	short := must[[]byte](t)(hpke(t, 10).Public().Seal(seal.EpochInfo(c.ID(), c.Epochs[0].Place), make([]byte, 31)))
	c.Epochs[0].Boxes = []config.Box{{Slot: seal.SlotID{10}, Sealed: short}}
	if _, err := c.Keyring(seal.SlotID{10}, hpke(t, 10)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("secret of 31 bytes: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	c, ring := newConfig(t)
	writer := seal.SignerOf(signingKey(20))
	first, second := seal.Place{Epoch: 1}, seal.Place{Epoch: 2}
	if err := c.Revoke(seal.SlotID{99}); err == nil {
		t.Error("a slot that does not exist was revoked")
	}
	if err := c.Revoke(seal.SlotID{20}); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Slot(seal.SlotID{20}); ok || len(c.Slots) != 3 {
		t.Errorf("%d slots are left, the revoked one: %v", len(c.Slots), ok)
	}
	if got := places(c, seal.SlotID{20}); got != nil {
		t.Errorf("the revoked slot still has boxes: %v", got)
	}
	must[seal.Place](t)(c.NewEpoch(random(50), ring, 0))
	for _, s := range slices.Clone(c.Slots) {
		if err := c.Grant(ring, s); err != nil {
			t.Fatal(err)
		}
	}
	c = must[*config.Config](t)(config.Parse(c.Seal(admin)))
	if !c.MayWrite(writer, first) {
		t.Error("what the revoked writer wrote before does not count any more")
	}
	if c.MayWrite(writer, second) {
		t.Error("the revoked writer may write in the new epoch")
	}
	for _, n := range []byte{21} {
		if !c.MayWrite(seal.SignerOf(signingKey(n)), second) {
			t.Errorf("writer %d was revoked too", n)
		}
	}
	if !c.MayWrite(seal.SignerOf(signingKey(30)), seal.Place{Epoch: 1, Domain: 7}) {
		t.Error("a writer of another domain was revoked too")
	}
	for _, id := range []byte{10, 21} {
		if !slices.Contains(places(c, seal.SlotID{id}), second) {
			t.Errorf("slot %d was not given the new epoch", id)
		}
	}
	if _, err := c.Keyring(seal.SlotID{20}, hpke(t, 20)); err == nil {
		t.Error("the revoked slot still opens epochs")
	}
}

// A writer who has two slots (a passphrase and a recovery key, say) stays one
// until the last of them goes.
func TestRevokeOneOfTwoSlots(t *testing.T) {
	c, ring := newConfig(t)
	second := slot(t, 22, seal.WriteOnly, 0)
	second.Signer = seal.SignerOf(signingKey(20))
	c.Slots = append(c.Slots, second)
	if err := c.Grant(ring, second); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		revoke byte
		writes bool
	}{{20, true}, {22, false}} {
		if err := c.Revoke(seal.SlotID{x.revoke}); err != nil {
			t.Fatal(err)
		}
		p := must[seal.Place](t)(c.NewEpoch(random(x.revoke), ring, 0))
		if got := c.MayWrite(second.Signer, p); got != x.writes {
			t.Errorf("after slot %d went: %v", x.revoke, got)
		}
	}
	// Removing a full slot revokes nobody.
	if err := c.Revoke(seal.SlotID{10}); err != nil {
		t.Fatal(err)
	}
	if p, _ := c.Current(0); !c.MayWrite(seal.SignerOf(admin), p) || !c.MayWrite(seal.SignerOf(signingKey(21)), p) {
		t.Error("removing a full slot revoked somebody")
	}
}
