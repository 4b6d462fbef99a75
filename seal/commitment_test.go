package seal_test

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"math/bits"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/argon2"

	"github.com/cairn-backup/cairn/seal"
)

// A ciphertext of AES-GCM can be made to be authentic under two keys (Dodis et
// al., Fast Message Franking, CRYPTO 2018; Len et al., Partitioning Oracle
// Attacks, USENIX Security 2021: with a slot that many passphrases open, one try tells whether the
// passphrase is among them). This test makes such a slot, and sees that the
// commitment refuses the second passphrase.
func TestSlotCommitsToItsKey(t *testing.T) {
	first, second := passphrase("first"), passphrase("second")
	object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, first, bundle(seal.Full), signingKey(1)))
	body := object[:len(object)-seal.SignatureSize]
	const bundleSize = 98
	bound, wrapped := body[:len(body)-bundleSize-seal.Overhead], body[len(body)-bundleSize-seal.Overhead:]
	salt := bound[seal.HeaderSize+2:][:seal.SaltSize]
	wrapKey := func(p seal.Passphrase) [32]byte { return wrapKey(p, salt) }
	if _, err := seal.OpenOnce(wrapKey(first), wrapped, bound); err != nil {
		t.Fatalf("this test does not know how slots are made: %v", err)
	}

	collide(wrapKey(first), wrapKey(second), bound, wrapped, 5) // a block of the repository's seed
	for _, p := range []seal.Passphrase{first, second} {
		if _, err := seal.OpenOnce(wrapKey(p), wrapped, bound); err != nil {
			t.Fatalf("the ciphertext is not authentic under the key of %q", p.Text)
		}
	}
	s := must[*seal.Slot](t)(seal.ParseSlot(seal.AppendSignature(body, signingKey(1))))
	if _, err := s.Open(first); err != nil {
		t.Errorf("with the first passphrase: %v", err)
	}
	if b, err := s.Open(second); b != nil || !errors.Is(err, seal.ErrWrongSecret) {
		t.Errorf("with the second passphrase: %v, %v", b, err)
	}
}

// wrapKey is the key of a slot's bundle; the passphrase is cheap.
func wrapKey(p seal.Passphrase, salt []byte) (key [32]byte) {
	blake3.DeriveKey("cairn v1 slot wrap", argon2.IDKey(p.Text, salt, cheap.Passes, cheap.Memory, cheap.Lanes, 32), key[:])
	return key
}

// Bundles that only somebody who knows the secret can have put there.
func TestBundleErrors(t *testing.T) {
	p := passphrase("p")
	object := must[[]byte](t)(seal.SealSlot(random(1), repositoryID, p, bundle(seal.Full), signingKey(1)))
	const bundleSize = 98
	bound := object[:len(object)-seal.SignatureSize-bundleSize-seal.Overhead]
	key := wrapKey(p, bound[seal.HeaderSize+2:][:seal.SaltSize])
	plain := must[[]byte](t)(seal.OpenOnce(key, object[len(bound):len(object)-seal.SignatureSize], bound))
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   error
	}{
		"as it was":         {func(b []byte) []byte { return b }, nil},
		"newer":             {func(b []byte) []byte { b[0] = 2; return b }, seal.ErrNewer},
		"access 0":          {func(b []byte) []byte { b[1] = 0; return b }, seal.ErrDamaged},
		"access 3":          {func(b []byte) []byte { b[1] = 3; return b }, seal.ErrDamaged},
		"less than outside": {func(b []byte) []byte { b[1] = byte(seal.WriteOnly); clear(b[66:]); return b }, seal.ErrDamaged},
	} {
		sealed := seal.SealOnce(bytes.Clone(bound), key, c.change(bytes.Clone(plain)), bound)
		s := must[*seal.Slot](t)(seal.ParseSlot(seal.AppendSignature(sealed, signingKey(1))))
		if b, err := s.Open(p); !errors.Is(err, c.want) || (b == nil) != (err != nil) {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

// collide changes a block of 16 bytes of a sealed message, and its tag, so that
// it is authentic under two keys of AES-256-GCM with a nonce of zeros. The tag is
// GHASH(H, ad, ciphertext) + E(counter 1), and linear in each block.
func collide(k1, k2 [32]byte, ad, sealed []byte, block int) {
	ciphertext, tag := sealed[:len(sealed)-16], sealed[len(sealed)-16:]
	clear(ciphertext[16*block:][:16])
	h1, e1 := gcmKeys(k1)
	h2, e2 := gcmKeys(k2)
	// The block at position i of n is multiplied by H^(n-i).
	blocks := func(n int) int { return (n + 15) / 16 }
	power := blocks(len(ciphertext)) + 1 - block
	x := mul(add(add(ghash(h1, ad, ciphertext), e1), add(ghash(h2, ad, ciphertext), e2)), inverse(add(pow(h1, power), pow(h2, power))))
	copy(ciphertext[16*block:], x.bytes())
	copy(tag, add(ghash(h1, ad, ciphertext), e1).bytes())
}

// gcmKeys returns the key of GHASH and what the tag is masked with.
func gcmKeys(key [32]byte) (h, mask element) {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	var b [16]byte
	c.Encrypt(b[:], b[:])
	h = toElement(b[:])
	b = [16]byte{15: 1}
	c.Encrypt(b[:], b[:])
	return h, toElement(b[:])
}

// element is one of GF(2^128) in the order of bits of NIST SP 800-38D, section
// 6.3: the most significant bit of hi is the coefficient of x^0.
type element struct{ hi, lo uint64 }

func toElement(p []byte) element {
	var b [16]byte
	copy(b[:], p)
	return element{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func (e element) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, e.hi), e.lo)
}

func add(a, b element) element { return element{a.hi ^ b.hi, a.lo ^ b.lo} }

func mul(a, b element) (sum element) {
	for range 128 {
		if a.hi>>63 == 1 {
			sum = add(sum, b)
		}
		a = element{a.hi<<1 | a.lo>>63, a.lo << 1}
		reduce := b.lo & 1 * 0xe1 << 56
		b = element{b.hi >> 1, b.lo>>1 | b.hi<<63}
		b.hi ^= reduce
	}
	return sum
}

func pow(a element, n int) element {
	p := element{hi: 1 << 63}
	for i := bits.Len(uint(n)) - 1; i >= 0; i-- {
		p = mul(p, p)
		if n>>i&1 == 1 {
			p = mul(p, a)
		}
	}
	return p
}

// inverse is a^(2^128 - 2).
func inverse(a element) element {
	p := element{hi: 1 << 63}
	for range 127 {
		p = mul(mul(p, p), a)
	}
	return mul(p, p)
}

func ghash(h element, ad, ciphertext []byte) (y element) {
	for _, part := range [][]byte{ad, ciphertext} {
		for len(part) > 0 {
			n := min(16, len(part))
			y = mul(add(y, toElement(part[:n])), h)
			part = part[n:]
		}
	}
	return mul(add(y, element{uint64(len(ad)) * 8, uint64(len(ciphertext)) * 8}), h)
}
