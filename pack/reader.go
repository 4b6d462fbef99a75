package pack

import (
	"crypto/cipher"
	"fmt"
	"sync"

	"github.com/cairn-backup/cairn/seal"
)

// Key opens the frames of one pack. It is safe for concurrent use.
type Key struct {
	Header seal.Header
	aead   cipher.AEAD
}

// OpenKey opens a pack's key from its first PrefixSize bytes.
func OpenKey(prefix []byte, kind seal.Kind, ring *seal.Keyring, private *seal.PrivateKey) (*Key, error) {
	h, _, err := openPrefix(prefix, kind, ring)
	if err != nil {
		return nil, err
	}
	const bound = seal.HeaderSize + seal.SaltSize
	k, err := private.Open(append([]byte(keyContext), prefix[:bound]...), prefix[bound:PrefixSize])
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", h.Kind, err)
	}
	if len(k) != 32 {
		return nil, fmt.Errorf("key of %s is %w: %d bytes", h.Kind, seal.ErrDamaged, len(k))
	}
	return &Key{Header: h, aead: seal.NewAEAD([32]byte(k))}, nil
}

// space is for what an AEAD is given with a frame: behind its interface, that would be
// allocated for each.
type space struct {
	nonce      [seal.NonceSize]byte
	associated [associatedSize]byte
}

var spaces = sync.Pool{New: func() any { return new(space) }}

// Open authenticates a frame against its entry and appends the encoded
// contents to dst. Whether they give the chunk of the entry's ID is for the
// caller to check, after decoding.
func (k *Key) Open(dst, frame []byte, e Entry) ([]byte, error) {
	if len(frame) != int(e.Stored) {
		return nil, fmt.Errorf("frame of chunk %s is %w: %d bytes, not %d", e.ID.Short(), seal.ErrDamaged, len(frame), e.Stored)
	}
	s := spaces.Get().(*space)
	defer spaces.Put(s)
	s.nonce = nonce(e.Offset)
	p, err := k.aead.Open(dst, s.nonce[:], frame, e.associated(s.associated[:0]))
	if err != nil {
		return nil, fmt.Errorf("frame of chunk %s is %w: authentication failed", e.ID.Short(), seal.ErrDamaged)
	}
	return p, nil
}

// OpenPadding authenticates the bytes between the last frame and the
// directory.
func (k *Key) OpenPadding(padding []byte, offset uint32) error {
	if len(padding) == 0 {
		return nil
	}
	n := nonce(offset)
	p, err := k.aead.Open(nil, n[:], padding, []byte(paddingContext))
	if err != nil {
		return fmt.Errorf("padding is %w: authentication failed", seal.ErrDamaged)
	}
	for _, c := range p {
		if c != 0 {
			return fmt.Errorf("padding is %w: not zero", seal.ErrDamaged)
		}
	}
	return nil
}
