package seal

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cairn-backup/cairn/internal/wire"
)

// SlotID names a key slot.
type SlotID = Digest[slots]

type slots struct{}

// Access is what the holder of a slot may do.
type Access uint8

const (
	// Full can read and write everything, and administer.
	Full Access = 1
	// WriteOnly can make snapshots. It can neither read contents back nor
	// remove or change anything.
	WriteOnly Access = 2
)

func (a Access) String() string {
	switch a {
	case Full:
		return "full"
	case WriteOnly:
		return "write-only"
	}
	return fmt.Sprintf("access %d", uint8(a))
}

// SlotKind says what opens a slot.
type SlotKind uint8

const (
	// PassphraseSlot opens with a passphrase.
	PassphraseSlot SlotKind = 1
	// RecipientSlot opens with the identity of a recipient.
	RecipientSlot SlotKind = 2
	// RecoverySlot opens with a recovery key.
	RecoverySlot SlotKind = 3
)

func (k SlotKind) String() string {
	switch k {
	case PassphraseSlot:
		return "passphrase"
	case RecipientSlot:
		return "recipient"
	case RecoverySlot:
		return "recovery"
	}
	return fmt.Sprintf("slot kind %d", uint8(k))
}

// ErrWrongSecret is what Unlocker.unlock and OpenSlot return if the secret does
// not open the slot: try the next one. Every other error means that the slot
// itself is bad.
var ErrWrongSecret = errors.New("wrong passphrase or key")

// Bundle is what a slot keeps: the secrets of its holder.
type Bundle struct {
	Access Access
	// Slot is the seed of the slot's own HPKE key, to which config seals the
	// epoch secrets that the holder may know.
	Slot [SeedSize]byte
	// Signing is the seed of the admin key (Full) or of the writer's own key.
	Signing [SeedSize]byte
	// Repository is the seed of the key that packs and manifests are sealed
	// to. Zero for WriteOnly.
	Repository [SeedSize]byte
}

const bundleSize = 2 + 3*SeedSize

// SigningKey expands the signing seed.
func (b *Bundle) SigningKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(b.Signing[:]) }

// SlotKey expands the seed of the slot's HPKE key.
func (b *Bundle) SlotKey() (*PrivateKey, error) { return NewPrivateKey(b.Slot) }

// RepositoryKey expands the seed of the repository's HPKE key. It returns
// ErrNoKey for a write-only bundle.
func (b *Bundle) RepositoryKey() (*PrivateKey, error) {
	if b.Access != Full {
		return nil, fmt.Errorf("a write-only key can't read: %w", ErrNoKey)
	}
	return NewPrivateKey(b.Repository)
}

func (b *Bundle) append(p []byte) []byte {
	p = append(p, 1, byte(b.Access))
	p = append(p, b.Slot[:]...)
	p = append(p, b.Signing[:]...)
	return append(p, b.Repository[:]...)
}

func parseBundle(p []byte) (*Bundle, error) {
	d := wire.NewDecoder(p)
	if v := d.U8(); d.Err() == nil && v != 1 {
		return nil, fmt.Errorf("bundle of version %d %w", v, ErrNewer)
	}
	b := &Bundle{Access: Access(d.U8()), Slot: d.Array32(), Signing: d.Array32(), Repository: d.Array32()}
	switch {
	case b.Access != Full && b.Access != WriteOnly:
		d.Fail("%s", b.Access)
	case (b.Access == WriteOnly) != (b.Repository == [SeedSize]byte{}):
		d.Fail("%s bundle with or without the repository's key", b.Access)
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("bundle is %w: %w", ErrDamaged, err)
	}
	return b, nil
}

// Locker makes slots of one kind: it chooses key material that only its
// secret gives again, and the parameters for that.
type Locker interface {
	// lock returns the slot's kind, the parameters to store, and the key
	// material. The header is that of the slot.
	lock(random io.Reader, header []byte) (kind SlotKind, params []byte, material [32]byte, err error)
}

// Unlocker holds a secret that may open slots.
type Unlocker interface {
	// unlock returns the key material for stored parameters, or ErrWrongSecret
	// if it can't be the right secret (another kind of slot, another
	// recipient). It can't tell whether a passphrase is right: the commitment
	// does that.
	unlock(kind SlotKind, params, header []byte) (material [32]byte, err error)
}

// SealSlot makes the slot object that keeps bundle under lock, signed by the
// admin.
func SealSlot(random io.Reader, id RepositoryID, lock Locker, bundle *Bundle, admin ed25519.PrivateKey) ([]byte, error) {
	b := Header{Kind: KeySlot, Repository: id}.Append(nil)
	kind, params, m, err := lock.lock(random, b[:HeaderSize:HeaderSize])
	if err != nil {
		return nil, err
	}
	b = append(b, byte(kind), byte(bundle.Access))
	b = append(b, params...)
	commitment := derive("cairn v1 slot commitment", m[:])
	b = append(b, commitment[:]...)
	b = SealOnce(b, derive("cairn v1 slot wrap", m[:]), bundle.append(nil), b[:len(b):len(b)])
	return AppendSignature(b, admin), nil
}

// Slot is a parsed slot object, still closed.
type Slot struct {
	Header     Header
	Kind       SlotKind
	Access     Access
	Signer     Signer
	params     []byte
	commitment [32]byte
	wrapped    []byte
	bound      []byte // what the wrapping authenticates
}

// ParseSlot verifies a slot object's signature and takes it apart.
func ParseSlot(object []byte) (*Slot, error) {
	h, err := ParseHeader(object, KeySlot)
	if err != nil {
		return nil, err
	}
	body, by, err := VerifySignature(object)
	if err != nil {
		return nil, fmt.Errorf("key slot: %w", err)
	}
	d := wire.NewDecoder(body[HeaderSize:])
	s := &Slot{Header: h, Signer: by, Kind: SlotKind(d.U8()), Access: Access(d.U8())}
	if s.Access != Full && s.Access != WriteOnly {
		d.Fail("%s", s.Access)
	}
	if h.Place != (Place{}) {
		d.Fail("slot of %s", h.Place)
	}
	s.params = d.Fixed(paramsSize(s.Kind))
	s.commitment = d.Array32()
	s.bound = body[:len(body)-d.Len()]
	s.wrapped = d.Fixed(bundleSize + Overhead)
	if paramsSize(s.Kind) == 0 {
		d.Fail("unknown %s", s.Kind)
	}
	if s.Kind == PassphraseSlot && d.Err() == nil {
		if err := parsePassphraseParams(s.params).validate(); err != nil {
			d.Fail("%v", err)
		}
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("key slot is %w: %w", ErrDamaged, err)
	}
	return s, nil
}

// Open returns the slot's bundle, or ErrWrongSecret if key does not open it.
func (s *Slot) Open(key Unlocker) (*Bundle, error) {
	header := s.bound[:HeaderSize]
	m, err := key.unlock(s.Kind, s.params, header)
	if err != nil {
		return nil, err
	}
	if derive("cairn v1 slot commitment", m[:]) != s.commitment {
		return nil, ErrWrongSecret
	}
	p, err := OpenOnce(derive("cairn v1 slot wrap", m[:]), s.wrapped, s.bound)
	if err != nil {
		return nil, fmt.Errorf("key slot is %w", err)
	}
	b, err := parseBundle(p)
	if err != nil {
		return nil, err
	}
	if b.Access != s.Access {
		return nil, fmt.Errorf("key slot is %w: %s outside, %s inside", ErrDamaged, s.Access, b.Access)
	}
	return b, nil
}

// EpochInfo is the HPKE context of an epoch secret in config.
func EpochInfo(id RepositoryID, p Place) []byte {
	b := append([]byte("cairn v1 epoch secret"), id[:]...)
	b = binary.LittleEndian.AppendUint32(b, p.Epoch)
	return binary.LittleEndian.AppendUint32(b, p.Domain)
}

// SlotIDOf returns the name of a slot object.
func SlotIDOf(object []byte) SlotID { return Sum[slots](object) }
