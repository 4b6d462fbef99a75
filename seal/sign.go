package seal

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// SignatureSize is the size of the signature at the end of an object: the
// signer's public key and the signature proper.
const SignatureSize = ed25519.PublicKeySize + ed25519.SignatureSize

// Signer is the public key of whoever signed an object: the admin or a
// writer.
type Signer [ed25519.PublicKeySize]byte

// Short returns the first eight digits of the key, for people.
func (s Signer) Short() string { return hex.EncodeToString(s[:4]) }

// String returns the key as 64 hexadecimal digits.
func (s Signer) String() string { return hex.EncodeToString(s[:]) }

// SignerOf returns the public part of a signing key.
func SignerOf(key ed25519.PrivateKey) Signer {
	return Signer(key.Public().(ed25519.PublicKey))
}

// AppendSignature signs all of object and appends the signature to it.
func AppendSignature(object []byte, key ed25519.PrivateKey) []byte {
	s := SignerOf(key)
	object = append(object, s[:]...)
	return append(object, ed25519.Sign(key, signed(object))...)
}

// VerifySignature checks the signature at the end of an object and returns
// what stands before it, and the signer. Whether that signer may say such a
// thing is for the caller to decide.
func VerifySignature(object []byte) (body []byte, by Signer, err error) {
	n := len(object) - SignatureSize
	if n < HeaderSize {
		return nil, Signer{}, fmt.Errorf("object of %d bytes is %w: too short for a signature", len(object), ErrDamaged)
	}
	by = Signer(object[n : n+ed25519.PublicKeySize])
	m := signed(object[:n+ed25519.PublicKeySize])
	if !ed25519.Verify(by[:], m, object[n+ed25519.PublicKeySize:]) {
		return nil, Signer{}, fmt.Errorf("object is %w: its signature does not fit", ErrDamaged)
	}
	return object[:n:n], by, nil
}

// signed is the message that is signed for an object. The hash keeps it small,
// as Ed25519 passes over its message twice.
func signed(object []byte) []byte {
	sum := blake3.Sum256(object)
	return append([]byte("cairn v1 signature\x00"), sum[:]...)
}
