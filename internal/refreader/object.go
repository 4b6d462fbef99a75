package refreader

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// Section 3: what all objects have in common.

const (
	headerSize    = 48
	signatureSize = 32 + ed25519.SignatureSize
	saltSize      = 32
)

// The kinds of section 2.
const (
	kindConfig    = 'C'
	kindSlot      = 'K'
	kindData      = 'D'
	kindMeta      = 'M'
	kindSegment   = 'I'
	kindManifest  = 'S'
	kindTombstone = 'T'
	kindBegin     = 'B'
	kindBeat      = 'H'
	kindEnd       = 'E'
	kindCondemned = 'X'
)

// A realm is what has an epoch secret of its own: an epoch of a deduplication domain.
type realm struct{ domain, epoch uint32 }

func (r realm) String() string { return fmt.Sprintf("epoch %d of domain %d", r.epoch, r.domain) }

// A header is the first 48 bytes of an object.
type header struct {
	raw  []byte // the bytes themselves: they are associated data in many places
	kind byte
	repo ID
	realm
}

func parseHeader(b []byte, kind byte) (header, error) {
	if len(b) < headerSize {
		return header{}, fmt.Errorf("%d bytes are too short for a header", len(b))
	}
	c := newCursor(b[:headerSize])
	c.require(string(c.fixed(6)) == "cairn\x00", "not a cairn object")
	h := header{raw: b[:headerSize:headerSize], kind: c.u8()}
	c.require(h.kind == kind, "object is of kind %q, not %q", h.kind, kind)
	version := c.u8()
	c.require(version == 1, "format version %d is not known to this program", version)
	h.repo = c.id()
	h.epoch = c.u32()
	h.domain = c.u32()
	if kind == kindConfig || kind == kindSlot || kind == kindTombstone || kind == kindCondemned {
		c.require(h.realm == realm{}, "objects of kind %c belong to no epoch", kind)
	} else {
		c.require(h.epoch > 0, "epochs count from 1")
	}
	return h, c.end()
}

// withRealm returns the header's bytes with another epoch and domain (section 5, private part).
func (h header) withRealm(r realm) []byte {
	b := append([]byte(nil), h.raw[:40]...)
	return append(append(b, le32(r.epoch)...), le32(r.domain)...)
}

// A signed object is every object but a pack.
type signed struct {
	header
	id     ID
	signer ID     // an Ed25519 public key
	body   []byte // between header and signature
}

// parseSigned takes an object apart and verifies its signature. Whether the signer may write such
// an object is for config to say.
func parseSigned(b []byte, kind byte) (signed, error) {
	h, err := parseHeader(b, kind)
	if err != nil {
		return signed{}, err
	}
	end := len(b) - signatureSize
	if end < headerSize {
		return signed{}, errors.New("too short for a signature")
	}
	o := signed{header: h, id: hash(b), signer: ID(b[end:]), body: b[headerSize:end]}
	digest := hash(b[:end], o.signer[:])
	message := append([]byte("cairn v1 signature\x00"), digest[:]...)
	if !ed25519.Verify(o.signer[:], message, b[end+32:]) {
		return signed{}, errors.New("signature does not verify")
	}
	return o, nil
}

// openSection opens a section that was sealed under the index key of r with ad, a header.
func (r *Repo) openSection(rl realm, ad, section []byte) ([]byte, error) {
	k, err := r.keysOf(rl)
	if err != nil {
		return nil, err
	}
	if len(section) < saltSize+gcmTag {
		return nil, errors.New("section is too short")
	}
	key := kdf("cairn v1 section", k.index[:], section[:saltSize])
	plain, err := openAEAD(key, zeroNonce, ad, section[saltSize:])
	if err != nil {
		return nil, fmt.Errorf("open section: %w", err)
	}
	return plain, nil
}
