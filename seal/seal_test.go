package seal_test

import (
	"crypto/ed25519"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

// random gives the same bytes in each run.
func random(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func signingKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var (
	repositoryID = seal.RepositoryID{1, 2, 3}
	place        = seal.Place{Epoch: 2, Domain: 7}
)

// ring knows two places of the repository.
func ring() *seal.Keyring {
	r := seal.NewKeyring(repositoryID)
	r.Add(place, [32]byte{9})
	r.Add(seal.Place{Epoch: 3, Domain: 7}, [32]byte{10})
	return r
}

func TestKeyring(t *testing.T) {
	r := ring()
	if r.Len() != 2 {
		t.Errorf("%d places", r.Len())
	}
	if s, ok := r.Secret(place); !ok || s != [32]byte{9} {
		t.Errorf("secret %x, %v", s, ok)
	}
	if k, ok := r.Keys(place); !ok || *k != *seal.DeriveKeys([32]byte{9}) {
		t.Error("not the keys of the secret")
	}
	other := seal.Place{Epoch: 2, Domain: 8}
	if _, ok := r.Keys(other); ok {
		t.Error("keys of an unknown place")
	}
	if _, ok := r.Secret(other); ok {
		t.Error("the secret of an unknown place")
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	seen := make(map[[32]byte]bool)
	for _, secret := range [][32]byte{{}, {1}} {
		k := seal.DeriveKeys(secret)
		for _, key := range [][32]byte{k.ChunkData, k.ChunkNode, k.ChunkList, k.Chunker, k.Index, k.ContentHash, k.TreeCut, k.Cache,
			k.DirectoryKey([32]byte{}), k.DirectoryKey([32]byte{1})} {
			if seen[key] {
				t.Errorf("key %x serves two purposes", key)
			}
			seen[key] = true
		}
	}
}

// Neither public key can be replaced without another repository ID.
func TestRepositoryID(t *testing.T) {
	admin := signingKey(1).Public().(ed25519.PublicKey)
	public := must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{1})).Public()
	id := seal.NewRepositoryID(admin, public)
	if id != seal.NewRepositoryID(admin, public) || id.IsZero() {
		t.Error("the ID is not a function of the keys")
	}
	if id == seal.NewRepositoryID(signingKey(2).Public().(ed25519.PublicKey), public) {
		t.Error("another admin, the same ID")
	}
	if id == seal.NewRepositoryID(admin, must[*seal.PrivateKey](t)(seal.NewPrivateKey([32]byte{2})).Public()) {
		t.Error("another HPKE key, the same ID")
	}
}

func TestDigestText(t *testing.T) {
	d := seal.Sum[int]([]byte("x"))
	if got, err := seal.ParseDigest[int](d.String()); err != nil || got != d {
		t.Errorf("%v came back as %v, %v", d, got, err)
	}
	if d.Short() != d.String()[:8] {
		t.Errorf("short form %s of %s", d.Short(), d)
	}
	upper := []byte(d.String())
	for i, c := range upper {
		if c >= 'a' {
			upper[i] = c - 'a' + 'A'
			break
		}
	}
	for name, s := range map[string]string{
		"empty": "", "short": d.String()[1:], "long": d.String() + "0", "no digit": "g" + d.String()[1:], "upper case": string(upper),
	} {
		if _, err := seal.ParseDigest[int](s); err == nil {
			t.Errorf("%s: %q was accepted", name, s)
		}
	}
}
