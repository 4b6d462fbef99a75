package seal

import (
	"crypto/ed25519"
	"fmt"
	"io"
)

// SealObject returns the object that is a header, one section with plaintext,
// and a signature: the form of most objects that are not packs or manifests.
func SealObject(random io.Reader, h Header, k *Keys, key ed25519.PrivateKey, plaintext []byte) ([]byte, error) {
	b := h.Append(make([]byte, 0, HeaderSize+SaltSize+Padme(len(plaintext))+Overhead+SignatureSize))
	b, err := SealSection(b, random, k, b[:HeaderSize:HeaderSize], plaintext)
	if err != nil {
		return nil, err
	}
	return AppendSignature(b, key), nil
}

// Opened is an object whose signature and seal were found good.
type Opened struct {
	Header    Header
	Signer    Signer
	Plaintext []byte // with its padding
}

// OpenObject verifies and opens what SealObject made. That the signer may sign
// an object of this kind and place is for the caller to decide.
func OpenObject(object []byte, kind Kind, ring *Keyring) (Opened, error) {
	h, err := ParseHeader(object, kind)
	if err != nil {
		return Opened{}, err
	}
	if err := h.Check(ring.Repository); err != nil {
		return Opened{}, err
	}
	body, by, err := VerifySignature(object)
	if err != nil {
		return Opened{}, fmt.Errorf("%s: %w", kind, err)
	}
	k, ok := ring.Keys(h.Place)
	if !ok {
		return Opened{}, fmt.Errorf("%s of %s: %w", kind, h.Place, ErrNoKey)
	}
	p, err := OpenSection(body[HeaderSize:], k, body[:HeaderSize])
	if err != nil {
		return Opened{}, fmt.Errorf("%s: %w", kind, err)
	}
	return Opened{Header: h, Signer: by, Plaintext: p}, nil
}
