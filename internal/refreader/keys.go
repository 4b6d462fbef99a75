package refreader

import (
	"crypto/ed25519"
	"crypto/hpke"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Section 4: from a passphrase to the epoch secrets.

// Slot kinds and accesses.
const (
	slotPassphrase = 1
	slotRecipient  = 2
	slotRecovery   = 3

	accessFull      = 1
	accessWriteOnly = 2
)

const bundleSize = 2 + 3*32

// chunkKinds gives each chunk kind of section 6 the context of its ID key.
var chunkKinds = map[uint8]string{
	chunkData: "cairn v1 chunk id data",
	chunkNode: "cairn v1 chunk id node",
	chunkList: "cairn v1 chunk id list",
}

// realmKeys are the keys that a reader needs of one epoch of one domain.
type realmKeys struct {
	index       ID
	contentHash ID
	chunkID     map[uint8]ID // by chunk kind
}

func deriveKeys(secret []byte) *realmKeys {
	k := &realmKeys{
		index:       kdf("cairn v1 index", secret),
		contentHash: kdf("cairn v1 content hash", secret),
		chunkID:     make(map[uint8]ID),
	}
	for kind, context := range chunkKinds {
		k.chunkID[kind] = kdf(context, secret)
	}
	return k
}

func (r *Repo) keysOf(rl realm) (*realmKeys, error) {
	if k := r.keys[rl]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("config gives this key slot no secret for %v", rl)
}

// errOtherSecret says that a slot is whole but does not open under this passphrase.
var errOtherSecret = errors.New("slot has another passphrase")

// A keySlot is a parsed object of kind K.
type keySlot struct {
	kind, access uint8
	argon        struct {
		salt           []byte
		passes, memory uint32
		lanes          uint8
	}
	commitment ID
	before     []byte // all bytes before the wrapped bundle, its associated data
	wrapped    []byte
}

func parseSlot(o signed) (s keySlot, err error) {
	c := newCursor(o.body)
	s.kind, s.access = c.u8(), c.u8()
	c.require(s.access == accessFull || s.access == accessWriteOnly, "unknown access %d", s.access)
	switch a := &s.argon; s.kind {
	case slotPassphrase:
		a.salt = c.fixed(saltSize)
		a.passes, a.memory, a.lanes = c.u32(), c.u32(), c.u8()
		c.require(a.passes >= 1 && a.passes <= 64, "%d passes of Argon2id", a.passes)
		c.require(a.lanes >= 1 && a.lanes <= 64, "%d lanes of Argon2id", a.lanes)
		c.require(a.memory >= 8*uint32(a.lanes) && a.memory <= 2<<20, "%d KiB for Argon2id", a.memory)
	case slotRecipient:
		c.take(32 + hpkeSecret)
	case slotRecovery:
		c.take(saltSize)
	default:
		c.fail("unknown slot kind %d", s.kind)
	}
	s.commitment = c.id()
	s.before = append(append([]byte(nil), o.raw...), o.body[:c.n]...)
	s.wrapped = c.take(bundleSize + gcmTag)
	return s, c.end()
}

// A bundle is what a slot holds.
type bundle struct {
	access     uint8
	slotKey    hpke.PrivateKey // opens the epoch secrets of this slot
	signer     ID              // public half of the signing key
	repository hpke.PrivateKey // nil for write-only access
}

// open returns the slot's bundle, or errOtherSecret.
func (s keySlot) open(passphrase []byte) (bundle, error) {
	a := s.argon
	m := argon2.IDKey(passphrase, a.salt, a.passes, a.memory, a.lanes, 32)
	// The commitment comes first: AES-GCM by itself could be made to open under two passphrases.
	if kdf("cairn v1 slot commitment", m) != s.commitment {
		return bundle{}, errOtherSecret
	}
	plain, err := openAEAD(kdf("cairn v1 slot wrap", m), zeroNonce, s.before, s.wrapped)
	if err != nil {
		return bundle{}, fmt.Errorf("open bundle: %w", err)
	}
	b, err := parseBundle(plain)
	if err != nil {
		return bundle{}, fmt.Errorf("bundle: %w", err)
	}
	if b.access != s.access {
		return bundle{}, errors.New("bundle and slot disagree about the access")
	}
	return b, nil
}

func parseBundle(plain []byte) (b bundle, err error) {
	c := newCursor(plain)
	version := c.u8()
	c.require(version == 1, "unknown version %d", version)
	b.access = c.u8()
	slotSeed, signerSeed, repoSeed := c.fixed(32), c.fixed(32), c.fixed(32)
	c.require(b.access == accessFull || b.access == accessWriteOnly, "unknown access %d", b.access)
	c.require(isZero(repoSeed) == (b.access == accessWriteOnly), "access %d does not fit the keys", b.access)
	if err := c.end(); err != nil {
		return bundle{}, err
	}
	b.signer = ID(ed25519.NewKeyFromSeed(signerSeed).Public().(ed25519.PublicKey))
	if b.slotKey, err = hpke.MLKEM768X25519().NewPrivateKey(slotSeed); err != nil {
		return bundle{}, err
	}
	if b.access == accessFull {
		b.repository, err = hpke.MLKEM768X25519().NewPrivateKey(repoSeed)
	}
	return b, err
}
