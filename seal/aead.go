package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
)

// Overhead is what an AEAD adds to a plaintext, in bytes.
const Overhead = 16

// NonceSize is the size of an AEAD nonce in bytes.
const NonceSize = 12

// NewAEAD returns AES-256-GCM with the given key.
func NewAEAD(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("internal error: " + err.Error()) // the key size is fixed
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return g
}

// onceNonce is for keys that seal one message only.
var onceNonce [NonceSize]byte

// SealOnce seals plaintext under a key that is used for nothing else, so that
// a fixed nonce is safe, and appends the result to dst.
func SealOnce(dst []byte, key [32]byte, plaintext, additional []byte) []byte {
	return NewAEAD(key).Seal(dst, onceNonce[:], plaintext, additional)
}

// OpenOnce opens what SealOnce sealed. An error wraps ErrDamaged.
func OpenOnce(key [32]byte, ciphertext, additional []byte) ([]byte, error) {
	p, err := NewAEAD(key).Open(nil, onceNonce[:], ciphertext, additional)
	if err != nil {
		return nil, fmt.Errorf("%w: authentication failed", ErrDamaged)
	}
	return p, nil
}

// SaltSize is the size of the salt of a section and of a pack, in bytes.
const SaltSize = 32

// SealSection appends the section (salt and ciphertext) that holds plaintext,
// padded, to dst. additional is authenticated with it: the object's header.
func SealSection(dst []byte, random io.Reader, k *Keys, additional, plaintext []byte) ([]byte, error) {
	var salt [SaltSize]byte
	if _, err := io.ReadFull(random, salt[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	dst = append(dst, salt[:]...)
	key := derive("cairn v1 section", k.Index[:], salt[:])
	return SealOnce(dst, key, appendPadding(plaintext), additional), nil
}

// OpenSection returns the padded plaintext of a section. The parser checks
// the padding (wire.Decoder.FinishPadded with Padme).
func OpenSection(section []byte, k *Keys, additional []byte) ([]byte, error) {
	if len(section) < SaltSize+Overhead {
		return nil, fmt.Errorf("section of %d bytes is %w: too short", len(section), ErrDamaged)
	}
	key := derive("cairn v1 section", k.Index[:], section[:SaltSize])
	p, err := OpenOnce(key, section[SaltSize:], additional)
	if err != nil {
		return nil, fmt.Errorf("section is %w", err)
	}
	return p, nil
}

// DirectoryKey derives the key of a pack's directory from the pack's salt.
func (k *Keys) DirectoryKey(salt [SaltSize]byte) [32]byte {
	return derive("cairn v1 pack directory", k.Index[:], salt[:])
}
