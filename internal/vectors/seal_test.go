package vectors

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
)

// random gives the same bytes in each run.
func random(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// seed32 returns 32 bytes n, n+1, n+2...
func seed32(n byte) (s [32]byte) {
	for i := range s {
		s[i] = n + byte(i)
	}
	return s
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var (
	adminSeed       = seed32(0x10)
	repositorySeed  = seed32(0x20)
	epochSecret     = seed32(0x30)
	place           = seal.Place{Epoch: 3, Domain: 1}
	adminKey        = ed25519.NewKeyFromSeed(adminSeed[:])
	plaintextSample = []byte("eleven bytes of plaintext")
)

func repositoryID(t *testing.T) seal.RepositoryID {
	key := must[*seal.PrivateKey](t)(seal.NewPrivateKey(repositorySeed))
	return seal.NewRepositoryID(adminKey.Public().(ed25519.PublicKey), key.Public())
}

func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func (r *reader) u32(name string) uint32 {
	r.Helper()
	p := r.bytes(name)
	if len(p) != 4 {
		r.Fatalf("field %s has %d bytes", name, len(p))
	}
	return binary.LittleEndian.Uint32(p)
}

// addRing adds what readRing reads: a keyring with one place.
func (v *vector) addRing(id seal.RepositoryID) {
	v.add("repository-id", id[:])
	v.add("epoch", u32(place.Epoch))
	v.add("domain", u32(place.Domain))
	v.add("epoch-secret", epochSecret[:])
}

func (r *reader) ring() *seal.Keyring {
	r.Helper()
	ring := seal.NewKeyring(r.array32("repository-id"))
	ring.Add(seal.Place{Epoch: r.u32("epoch"), Domain: r.u32("domain")}, r.array32("epoch-secret"))
	return ring
}

// Key derivation and chunk IDs.

func makeKeys(t *testing.T) map[string]*vector {
	v := &vector{comment: "The keys of an epoch secret, and a chunk's ID under them as each of the three kinds.\n", expect: "success"}
	k := seal.DeriveKeys(epochSecret)
	salt := seed32(0x40)
	directory := k.DirectoryKey(salt)
	v.add("epoch-secret", epochSecret[:])
	for _, f := range keyFields(k) {
		v.add(f.name, f.value)
	}
	v.add("salt", salt[:])
	v.add("directory-key", directory[:])
	v.add("plaintext", plaintextSample)
	for _, f := range chunkIDs(k, plaintextSample) {
		v.add(f.name, f.value)
	}
	return map[string]*vector{"derivation": v}
}

func keyFields(k *seal.Keys) []field {
	return []field{
		{"chunk-id-data", k.ChunkData[:]}, {"chunk-id-node", k.ChunkNode[:]}, {"chunk-id-list", k.ChunkList[:]}, {"chunker", k.Chunker[:]},
		{"index", k.Index[:]}, {"content-hash", k.ContentHash[:]}, {"tree-cut", k.TreeCut[:]}, {"local-cache", k.Cache[:]},
	}
}

func chunkIDs(k *seal.Keys, p []byte) (fields []field) {
	h := chunk.NewHasher(chunk.Keys{Data: k.ChunkData, Node: k.ChunkNode, List: k.ChunkList})
	for _, kind := range []chunk.Kind{chunk.Data, chunk.Node, chunk.List} {
		id := h.Sum(kind, p)
		fields = append(fields, field{"id-as-" + kind.String(), id[:]})
	}
	return fields
}

func checkKeys(r *reader) {
	k := seal.DeriveKeys(r.array32("epoch-secret"))
	directory := k.DirectoryKey(r.array32("salt"))
	r.equal("directory-key", directory[:])
	for _, f := range append(keyFields(k), chunkIDs(k, r.bytes("plaintext"))...) {
		r.equal(f.name, f.value)
	}
}

// Public keys and the repository's ID.

func makeRepository(t *testing.T) map[string]*vector {
	v := &vector{comment: "Seeds, the public keys that they give, and the ID of the repository with these.\n", expect: "success"}
	key := must[*seal.PrivateKey](t)(seal.NewPrivateKey(repositorySeed))
	id := repositoryID(t)
	v.add("admin-seed", adminSeed[:])
	v.add("admin-public", adminKey.Public().(ed25519.PublicKey))
	v.add("hpke-seed", repositorySeed[:])
	v.add("hpke-public", key.Public().Bytes())
	v.add("repository-id", id[:])
	return map[string]*vector{"id": v}
}

func checkRepository(r *reader) {
	admin := ed25519.NewKeyFromSeed(r.bytes("admin-seed")).Public().(ed25519.PublicKey)
	r.equal("admin-public", admin)
	key := must[*seal.PrivateKey](r.T)(seal.NewPrivateKey(r.array32("hpke-seed")))
	r.equal("hpke-public", key.Public().Bytes())
	id := seal.NewRepositoryID(admin, key.Public())
	r.equal("repository-id", id[:])
}

// Objects of one section and a signature.

func makeSections(t *testing.T) map[string]*vector {
	id := repositoryID(t)
	h := seal.Header{Kind: seal.Tombstone, Repository: id, Place: place}
	object := must[[]byte](t)(seal.SealObject(random(1), h, seal.DeriveKeys(epochSecret), adminKey, plaintextSample))
	good := &vector{comment: "An object of one section: header, section, signature. The plaintext is padded.\n", expect: "success"}
	good.addRing(id)
	good.add("kind", []byte{byte(h.Kind)})
	good.add("object", object)
	good.add("signer", adminKey.Public().(ed25519.PublicKey))
	good.add("plaintext", append(bytes.Clone(plaintextSample), make([]byte, seal.Padme(len(plaintextSample))-len(plaintextSample))...))

	again := func(p []byte) []byte { // sign what was changed
		return seal.AppendSignature(p[:len(p)-seal.SignatureSize], adminKey)
	}
	return map[string]*vector{
		"object": good,
		"flipped": good.changed("A bit of the ciphertext is flipped, and the object is signed again.\n", "damaged", "object",
			func(p []byte) []byte { return again(flip(90)(p)) }),
		"salt": good.changed("A bit of the salt is flipped, and the object is signed again.\n", "damaged", "object",
			func(p []byte) []byte { return again(flip(48)(p)) }),
		"kind": good.changed("It is a tombstone that is read as a manifest.\n", "damaged", "kind",
			func([]byte) []byte { return []byte{byte(seal.Manifest)} }),
		"newer": good.changed("Version 2.\n", "newer", "object",
			func(p []byte) []byte { p[7] = 2; return again(p) }),
		"foreign": good.changed("The header names another repository.\n", "foreign", "object",
			func(p []byte) []byte { return again(flip(8)(p)) }),
		"epoch": good.changed("The header names an epoch that is not known.\n", "no key", "object",
			func(p []byte) []byte { return again(flip(41)(p)) }),
		"short": good.changed("A header and a signature, no section.\n", "damaged", "object",
			func(p []byte) []byte { return seal.AppendSignature(p[:seal.HeaderSize], adminKey) }),
	}
}

func checkSection(r *reader) {
	o, err := seal.OpenObject(r.bytes("object"), seal.Kind(r.u8("kind")), r.ring())
	if r.failed(err) {
		return
	}
	r.equal("signer", o.Signer[:])
	r.equal("plaintext", o.Plaintext)
}

// Signatures.

func makeSignatures(t *testing.T) map[string]*vector {
	body := seal.Header{Kind: seal.Condemned, Repository: repositoryID(t), Place: place}.Append(nil)
	body = append(body, plaintextSample...)
	good := &vector{comment: "A signature at the end of an object. The body is not sealed here.\n", expect: "success"}
	good.add("signing-seed", adminSeed[:])
	good.add("body", body)
	good.add("object", seal.AppendSignature(bytes.Clone(body), adminKey))
	other := seed32(0x50)
	otherKey := ed25519.NewKeyFromSeed(other[:])
	return map[string]*vector{
		"object":  good,
		"body":    good.changed("A bit of the body is flipped.\n", "damaged", "object", flip(60)),
		"flipped": good.changed("A bit of the signature is flipped.\n", "damaged", "object", flip(-1)),
		"signer": good.changed("The signer's public key is replaced by another's.\n", "damaged", "object", func(p []byte) []byte {
			copy(p[len(p)-seal.SignatureSize:], otherKey.Public().(ed25519.PublicKey))
			return p
		}),
		"context": good.changed("The body itself is signed, without context and hash.\n", "damaged", "object", func(p []byte) []byte {
			copy(p[len(p)-ed25519.SignatureSize:], ed25519.Sign(adminKey, body))
			return p
		}),
	}
}

func checkSignature(r *reader) {
	key := ed25519.NewKeyFromSeed(r.bytes("signing-seed"))
	body, by, err := seal.VerifySignature(r.bytes("object"))
	if r.failed(err) {
		return
	}
	r.equal("body", body)
	if by != seal.SignerOf(key) {
		r.Errorf("signed by %s", by)
	}
	r.equal("object", seal.AppendSignature(bytes.Clone(body), key))
}

// Key slots.

func sampleBundle(access seal.Access) *seal.Bundle {
	b := &seal.Bundle{Access: access, Slot: seed32(0x60), Signing: adminSeed}
	if access == seal.Full {
		b.Repository = repositorySeed
	} else {
		b.Signing = seed32(0x70)
	}
	return b
}

// makeSlot makes a slot and the vector of opening it; secret is the name and
// text of what opens it.
func makeSlot(t *testing.T, comment string, lock seal.Locker, access seal.Access, name, secret string) *vector {
	b := sampleBundle(access)
	id := repositoryID(t)
	v := &vector{comment: comment, expect: "success"}
	v.add("slot", must[[]byte](t)(seal.SealSlot(random(2), id, lock, b, adminKey)))
	v.add(name, []byte(secret))
	v.add("repository-id", id[:])
	v.add("signer", adminKey.Public().(ed25519.PublicKey))
	v.add("access", []byte{byte(access)})
	v.add("slot-seed", b.Slot[:])
	v.add("signing-seed", b.Signing[:])
	v.add("repository-seed", b.Repository[:])
	return v
}

func makeSlots(t *testing.T) map[string]*vector {
	const text = "correct horse battery staple"
	cost := seal.Cost{Passes: 2, Memory: 64, Lanes: 2}
	passphrase := makeSlot(t, "A slot for a passphrase, with full access.\n", seal.Passphrase{Text: []byte(text), Cost: cost}, seal.Full, "passphrase-text", text)
	key := must[*seal.RecoveryKey](t)(seal.NewRecoveryKey(random(3)))
	recovery := makeSlot(t, "A slot for a recovery key, write-only.\n", key, seal.WriteOnly, "recovery-key-text", key.String())

	again := func(p []byte) []byte { // sign what was changed
		return seal.AppendSignature(p[:len(p)-seal.SignatureSize], adminKey)
	}
	const (
		kind       = seal.HeaderSize
		access     = kind + 1
		params     = access + 1
		commitment = params + seal.SaltSize // of a recovery key
	)
	return map[string]*vector{
		"passphrase": passphrase,
		"recovery":   recovery,
		"wrong-passphrase": passphrase.changed("Another passphrase.\n", "wrong secret", "passphrase-text",
			func(p []byte) []byte { return append(p, '.') }),
		"wrong-kind": recovery.changed("The slot is for another kind of secret.\n", "wrong secret", "slot",
			func([]byte) []byte { return passphrase.fields[0].value }),
		"unsigned": recovery.changed("A bit of the slot is flipped.\n", "damaged", "slot", flip(access)),
		"access": recovery.changed("The slot says full access outside, and is signed so.\n", "damaged", "slot",
			func(p []byte) []byte { p[access] = byte(seal.Full); return again(p) }),
		"commitment": recovery.changed("A bit of the commitment is flipped, and the slot is signed again.\n", "wrong secret", "slot",
			func(p []byte) []byte { return again(flip(commitment)(p)) }),
		"bundle": recovery.changed("A bit of the sealed bundle is flipped, and the slot is signed again.\n", "damaged", "slot",
			func(p []byte) []byte { return again(flip(commitment + 32)(p)) }),
		"costly": passphrase.changed("The slot asks for 65 passes of Argon2id.\n", "damaged", "slot",
			func(p []byte) []byte { p[params+seal.SaltSize] = 65; return again(p) }),
		"unknown-kind": recovery.changed("A slot of kind 4.\n", "damaged", "slot",
			func(p []byte) []byte { p[kind] = 4; return again(p) }),
	}
}

func makeRecipientSlots(t *testing.T) map[string]*vector {
	i := must[*seal.Identity](t)(seal.NewIdentity(random(4)))
	v := makeSlot(t, "A slot for a recipient, and the identity that opens it.\n", i.Recipient(), seal.WriteOnly, "identity-text", i.String())
	v.add("recipient-text", []byte(i.Recipient().String()))
	other := must[*seal.Identity](t)(seal.NewIdentity(random(5)))
	return map[string]*vector{
		"slot": v,
		"wrong": v.changed("The identity of another recipient.\n", "wrong secret", "identity-text",
			func([]byte) []byte { return []byte(other.String()) }),
	}
}

func (r *reader) secret() seal.Unlocker {
	for _, name := range []string{"recovery-key-text", "identity-text"} {
		if all := r.all(name); len(all) > 0 {
			u := must[seal.Unlocker](r.T)(seal.ParseSecretFile(string(all[0])))
			if s, ok := u.(interface{ String() string }); !ok || s.String() != string(all[0]) {
				r.Errorf("the secret is written as %v", u)
			}
			return u
		}
	}
	return seal.Passphrase{Text: r.bytes("passphrase-text")}
}

func checkSlot(r *reader) {
	s, err := seal.ParseSlot(r.bytes("slot"))
	if err != nil {
		r.failed(err)
		return
	}
	key := r.secret()
	b, err := s.Open(key)
	if r.failed(err) {
		return
	}
	r.equal("repository-id", s.Header.Repository[:])
	r.equal("signer", s.Signer[:])
	r.equal("access", []byte{byte(b.Access)})
	r.equal("slot-seed", b.Slot[:])
	r.equal("signing-seed", b.Signing[:])
	r.equal("repository-seed", b.Repository[:])
	if i, ok := key.(*seal.Identity); ok {
		r.equal("recipient-text", []byte(i.Recipient().String()))
		must[*seal.Recipient](r.T)(seal.ParseRecipient(r.text("recipient-text")))
	}
}
