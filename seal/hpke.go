package seal

import (
	"crypto/hpke"
	"fmt"
)

// Sizes of HPKE values in bytes.
const (
	PublicKeySize = 1216              // an HPKE public key
	SeedSize      = 32                // the seed of an HPKE private key
	hpkeOverhead  = 1120 + 16         // what Seal adds: encapsulated key and tag
	SealedKeySize = hpkeOverhead + 32 // a sealed 32-byte key
)

var (
	kem  = hpke.MLKEM768X25519()
	kdf  = hpke.HKDFSHA256()
	aead = hpke.AES256GCM()
)

// PublicKey seals messages that only the holder of the PrivateKey can open
// (HPKE, RFC 9180, with the hybrid of ML-KEM-768 and X25519, so that a recording
// of the storage stays closed to a quantum computer too).
type PublicKey struct {
	key   hpke.PublicKey
	bytes []byte
}

// ParsePublicKey reads the 1,216 bytes of a public key.
func ParsePublicKey(p []byte) (*PublicKey, error) {
	key, err := kem.NewPublicKey(p)
	if err != nil {
		return nil, fmt.Errorf("HPKE public key: %w", err)
	}
	return &PublicKey{key: key, bytes: key.Bytes()}, nil
}

// Bytes returns the key's 1,216 bytes, which the caller must not change.
func (k *PublicKey) Bytes() []byte { return k.bytes }

// Seal seals plaintext; info is the context that Open must be given too. The
// result is 1,136 bytes longer than the plaintext.
func (k *PublicKey) Seal(info, plaintext []byte) ([]byte, error) {
	return hpke.Seal(k.key, kdf, aead, info, plaintext)
}

// PrivateKey opens what was sealed to its public key. It is safe for
// concurrent use.
type PrivateKey struct {
	key    hpke.PrivateKey
	public *PublicKey
}

// NewPrivateKey expands a 32-byte seed.
func NewPrivateKey(seed [SeedSize]byte) (*PrivateKey, error) {
	key, err := kem.NewPrivateKey(seed[:])
	if err != nil {
		return nil, fmt.Errorf("HPKE private key: %w", err)
	}
	pub := key.PublicKey()
	return &PrivateKey{key: key, public: &PublicKey{key: pub, bytes: pub.Bytes()}}, nil
}

// Public returns the public key.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// Open opens a message of Seal. An error wraps ErrDamaged.
func (k *PrivateKey) Open(info, message []byte) ([]byte, error) {
	p, err := hpke.Open(k.key, kdf, aead, info, message)
	if err != nil {
		return nil, fmt.Errorf("sealed message is %w: %w", ErrDamaged, err)
	}
	return p, nil
}
