package seal_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cairn-backup/cairn/seal"
)

func TestSection(t *testing.T) {
	k := seal.DeriveKeys([32]byte{1})
	ad := []byte("a header")
	for _, n := range []int{0, 1, 2, 9, 100, 1000, 100_000} {
		plain := bytes.Repeat([]byte{'p'}, n)
		s := must[[]byte](t)(seal.SealSection([]byte("front"), random(1), k, ad, plain))
		s = bytes.TrimPrefix(s, []byte("front"))
		if want := seal.SaltSize + seal.Padme(n) + seal.Overhead; len(s) != want {
			t.Errorf("section of %d bytes has %d, want %d", n, len(s), want)
		}
		p, err := seal.OpenSection(s, k, ad)
		if err != nil || len(p) != seal.Padme(n) || !bytes.Equal(p[:n], plain) || len(bytes.Trim(p[n:], "\x00")) > 0 {
			t.Errorf("section of %d bytes came back as %d bytes, %v", n, len(p), err)
		}
	}
}

func TestSectionIsBound(t *testing.T) {
	k := seal.DeriveKeys([32]byte{1})
	ad := []byte("a header")
	s := must[[]byte](t)(seal.SealSection(nil, random(1), k, ad, []byte("nine byte")))
	refused := func(what string, s []byte, k *seal.Keys, ad []byte) {
		t.Helper()
		if p, err := seal.OpenSection(s, k, ad); !errors.Is(err, seal.ErrDamaged) || p != nil {
			t.Errorf("%s: %q, %v", what, p, err)
		}
	}
	for i := range s {
		for bit := range 8 {
			flipped := bytes.Clone(s)
			flipped[i] ^= 1 << bit
			refused("flipped", flipped, k, ad)
		}
	}
	for n := range s {
		refused("cut off", s[:n], k, ad)
	}
	refused("longer", append(bytes.Clone(s), 0), k, ad)
	refused("with another key", s, seal.DeriveKeys([32]byte{2}), ad)
	refused("with another header", s, k, []byte("A header"))
}

func TestSectionsNeedRandomness(t *testing.T) {
	k := seal.DeriveKeys([32]byte{1})
	r := random(1)
	a := must[[]byte](t)(seal.SealSection(nil, r, k, nil, []byte("x")))
	b := must[[]byte](t)(seal.SealSection(nil, r, k, nil, []byte("x")))
	if bytes.Equal(a[:seal.SaltSize], b[:seal.SaltSize]) || bytes.Equal(a[seal.SaltSize:], b[seal.SaltSize:]) {
		t.Error("two sections of one plaintext look alike")
	}
	if _, err := seal.SealSection(nil, io.LimitReader(r, 31), k, nil, []byte("x")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("with too little randomness: %v", err)
	}
	broken := errors.New("no entropy")
	if _, err := seal.SealObject(iotest.ErrReader(broken), header(seal.Tombstone), k, signingKey(1), nil); !errors.Is(err, broken) {
		t.Errorf("without randomness: %v", err)
	}
}

func TestSignature(t *testing.T) {
	body := append(header(seal.Tombstone).Append(nil), "says something"...)
	key := signingKey(1)
	object := seal.AppendSignature(bytes.Clone(body), key)
	if len(object) != len(body)+seal.SignatureSize {
		t.Errorf("signature of %d bytes", len(object)-len(body))
	}
	got, by, err := seal.VerifySignature(object)
	if err != nil || !bytes.Equal(got, body) || by != seal.SignerOf(key) {
		t.Fatalf("got %q by %s, %v", got, by, err)
	}
	if cap(got) != len(got) {
		t.Error("an append to the body would write over the signature")
	}
	refused := func(what string, p []byte) {
		t.Helper()
		if got, by, err := seal.VerifySignature(p); !errors.Is(err, seal.ErrDamaged) || got != nil || by != (seal.Signer{}) {
			t.Errorf("%s: %q by %s, %v", what, got, by, err)
		}
	}
	for i := range object {
		flipped := bytes.Clone(object)
		flipped[i] ^= 0x10
		refused("flipped", flipped)
	}
	for n := range object {
		refused("cut off", object[:n])
	}
	refused("longer", append(bytes.Clone(object), 0))

	// Another signer's key in place of the true one must not make it his.
	other := seal.SignerOf(signingKey(2))
	posed := bytes.Clone(object)
	copy(posed[len(body):], other[:])
	refused("with another's public key", posed)

	// Signed without the context, as another program may have done with the same key.
	bare := append(append(bytes.Clone(body), key.Public().(ed25519.PublicKey)...), ed25519.Sign(key, body)...)
	refused("signed as something else", bare)
}

func TestObject(t *testing.T) {
	k, _ := ring().Keys(place)
	object := must[[]byte](t)(seal.SealObject(random(1), header(seal.Tombstone), k, signingKey(1), []byte("nine byte")))
	o, err := seal.OpenObject(object, seal.Tombstone, ring())
	if err != nil || o.Header != header(seal.Tombstone) || o.Signer != seal.SignerOf(signingKey(1)) || string(o.Plaintext) != "nine byte\x00" {
		t.Fatalf("came back as %+v, %v", o, err)
	}

	for i := range object {
		flipped := bytes.Clone(object)
		flipped[i] ^= 0x04
		if o, err := seal.OpenObject(flipped, seal.Tombstone, ring()); err == nil || o.Plaintext != nil {
			t.Errorf("byte %d flipped: %q, %v", i, o.Plaintext, err)
		}
	}
	// A signer who is no holder of the index key can't change it either.
	body := object[:len(object)-seal.SignatureSize]
	for i := range body {
		flipped := bytes.Clone(body)
		flipped[i] ^= 0x01
		flipped = seal.AppendSignature(flipped, signingKey(1))
		if o, err := seal.OpenObject(flipped, seal.Tombstone, ring()); err == nil || o.Plaintext != nil {
			t.Errorf("byte %d flipped and signed again: %q, %v", i, o.Plaintext, err)
		}
	}
}

func TestObjectErrors(t *testing.T) {
	k, _ := ring().Keys(place)
	make := func(h seal.Header) []byte {
		return must[[]byte](t)(seal.SealObject(random(1), h, k, signingKey(1), []byte("x")))
	}
	h := header(seal.Tombstone)
	foreign, unknown, moved := h, h, h
	foreign.Repository[0]++
	unknown.Epoch = 99
	moved.Epoch = 3 // known, but these are the keys of epoch 2
	for name, c := range map[string]struct {
		object []byte
		want   error
	}{
		"of another repository": {make(foreign), seal.ErrForeign},
		"of an unknown epoch":   {make(unknown), seal.ErrNoKey},
		"of another epoch":      {make(moved), seal.ErrDamaged},
		"of another kind":       {make(header(seal.Manifest)), seal.ErrDamaged},
		"without a section":     {seal.AppendSignature(h.Append(nil), signingKey(1)), seal.ErrDamaged},
		"header alone":          {h.Append(nil), seal.ErrDamaged},
	} {
		if _, err := seal.OpenObject(c.object, seal.Tombstone, ring()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpenObject signs what it is given, so that the input gets past the signature.
func FuzzOpenObject(f *testing.F) {
	k, _ := ring().Keys(place)
	good, err := seal.SealObject(random(1), header(seal.Tombstone), k, signingKey(1), []byte("nine byte"))
	if err != nil {
		f.Fatal(err)
	}
	body := good[:len(good)-seal.SignatureSize]
	f.Add(good)
	f.Add(body)
	f.Add(body[:seal.HeaderSize])
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, object := range [][]byte{p, seal.AppendSignature(bytes.Clone(p), signingKey(1))} {
			o, err := seal.OpenObject(object, seal.Tombstone, ring())
			if err == nil && !bytes.Equal(object[:len(object)-seal.SignatureSize], body) {
				t.Fatalf("a forged object says %q", o.Plaintext)
			}
		}
	})
}

func TestHPKE(t *testing.T) {
	key := must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{1}))
	public := must[*seal.PublicKey](t)(seal.ParsePublicKey(key.Public().Bytes()))
	info, plain := []byte("context"), []byte("a secret of some 32 bytes in all")
	message := must[[]byte](t)(public.Seal(info, plain))
	if len(message) != seal.SealedKeySize {
		t.Errorf("message of %d bytes, want %d", len(message), seal.SealedKeySize)
	}
	if p, err := key.Open(info, message); err != nil || !bytes.Equal(p, plain) {
		t.Errorf("opened as %q, %v", p, err)
	}
	refused := func(what string, key *seal.PrivateKey, info, message []byte) {
		t.Helper()
		if p, err := key.Open(info, message); !errors.Is(err, seal.ErrDamaged) || p != nil {
			t.Errorf("%s: %q, %v", what, p, err)
		}
	}
	for i := 0; i < len(message); i += 7 {
		flipped := bytes.Clone(message)
		flipped[i] ^= 1
		refused("flipped", key, info, flipped)
	}
	refused("cut off", key, info, message[:len(message)-1])
	refused("empty", key, info, nil)
	refused("in another context", key, []byte("Context"), message)
	refused("by another key", must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{2})), info, message)
	if _, err := seal.ParsePublicKey(public.Bytes()[1:]); err == nil {
		t.Error("a short public key was accepted")
	}
}
