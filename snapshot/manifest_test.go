package snapshot_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// testRepository has fixed keys. HPKE draws its own randomness, so a sealed
// manifest is another one each time.
type testRepository struct {
	ring    *seal.Keyring
	keys    *seal.Keys
	private *seal.PrivateKey
	signing ed25519.PrivateKey
	header  seal.Header
}

func newRepository(t testing.TB) *testRepository {
	t.Helper()
	private, err := seal.NewPrivateKey([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	r := &testRepository{private: private, signing: ed25519.NewKeyFromSeed(make([]byte, 32))}
	id := seal.NewRepositoryID(r.signing.Public().(ed25519.PublicKey), private.Public())
	place := seal.Place{Epoch: 2, Domain: 1}
	r.ring = seal.NewKeyring(id)
	r.ring.Add(place, [32]byte{5})
	r.keys, _ = r.ring.Keys(place)
	r.header = seal.Header{Kind: seal.Manifest, Repository: id, Place: place}
	return r
}

func sampleOpen() snapshot.Open {
	return snapshot.Open{
		Time: time.Unix(1_700_000_000, 123), Flags: snapshot.TimeGiven | snapshot.Imported, Host: "höst",
		Parent: snapshot.ID{9}, Links: []snapshot.ID{{1}, {2}},
	}
}

func sampleBody() snapshot.Body {
	return snapshot.Body{
		Root: snapshot.Root{ID: chunk.ID{3}, Level: 2}, Set: "all", User: "root", Program: "cairn 1.0",
		Start: time.Unix(1_700_000_000, 0), End: time.Unix(1_700_000_100, 5), Tags: []string{"daily", "söme"},
		Totals: snapshot.Totals{Files: 1, Dirs: 2, Others: 3, Bytes: 1 << 60, New: 5, Changed: 6, Unmodified: 7, Removed: 8, Unreadable: 9, NewRaw: 10, NewStored: 11},
		Sources: []snapshot.Source{
			{Kind: "files", Name: []byte("/srv/\xff"), Totals: snapshot.Totals{Files: 1}},
			{Kind: "postgres", Name: []byte("db"), Status: snapshot.Failed, Attributes: map[string][]byte{"lsn": []byte("0/1"), "version": []byte("18.1")}},
		},
	}
}

func (r *testRepository) seal(t testing.TB, m snapshot.Manifest) []byte {
	t.Helper()
	object, err := m.Seal(rand.NewChaCha8([32]byte{}), r.keys, r.private.Public(), r.signing)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestManifestRoundTrip(t *testing.T) {
	r := newRepository(t)
	m := snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()}
	object := r.seal(t, m)
	s, err := snapshot.OpenManifest(object, r.ring)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Open, m.Open) || s.Header != m.Header || s.Signer != seal.SignerOf(r.signing) {
		t.Errorf("open part %+v of %+v by %s", s.Open, s.Header, s.Signer)
	}
	body, err := s.OpenBody(r.private)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*body, m.Body) {
		t.Errorf("body %+v, want %+v", *body, m.Body)
	}
	// The writer of a write-only key keeps this in its cache.
	if cached, err := snapshot.ParseBody(m.Body.Encode()); err != nil || !reflect.DeepEqual(*cached, m.Body) {
		t.Errorf("body from the cache: %+v, %v", cached, err)
	}
	if id, err := snapshot.ParseID(snapshot.IDOf(object).String()); err != nil || id != snapshot.IDOf(object) {
		t.Errorf("ID %s: %v", id, err)
	}
}

// Lists are sorted and text is made UTF-8, so that whatever a host is called,
// its manifests can be read.
func TestManifestIsMadeCanonical(t *testing.T) {
	r := newRepository(t)
	m := snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()}
	m.Open.Links = []snapshot.ID{{2}, {1}, {2}}
	m.Open.Host, m.Body.User, m.Body.Tags = "h\xff", "\xfe", []string{"b", "a\xff", "b"}
	s, err := snapshot.OpenManifest(r.seal(t, m), r.ring)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.OpenBody(r.private)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Open.Links, []snapshot.ID{{1}, {2}}) || s.Open.Host != "h\uFFFD" {
		t.Errorf("open part %+v", s.Open)
	}
	if body.User != "\uFFFD" || !slices.Equal(body.Tags, []string{"a\uFFFD", "b"}) {
		t.Errorf("user %q, tags %q", body.User, body.Tags)
	}
	if !slices.Equal(m.Open.Links, []snapshot.ID{{2}, {1}, {2}}) {
		t.Error("sealing changed the caller's links")
	}
}

func TestManifestRefusesToSeal(t *testing.T) {
	r := newRepository(t)
	for name, change := range map[string]func(*snapshot.Manifest){
		"kind":    func(m *snapshot.Manifest) { m.Header.Kind = seal.Tombstone },
		"flags":   func(m *snapshot.Manifest) { m.Open.Flags = 16 },
		"status":  func(m *snapshot.Manifest) { m.Body.Sources[0].Status = 2 },
		"level":   func(m *snapshot.Manifest) { m.Body.Root.Level = 255 },
		"no root": func(m *snapshot.Manifest) { m.Body.Root.ID = chunk.ID{} },
	} {
		m := snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()}
		change(&m)
		if _, err := m.Seal(rand.NewChaCha8([32]byte{}), r.keys, r.private.Public(), r.signing); err == nil {
			t.Errorf("wrong %s: sealed", name)
		}
	}
}

func TestManifestDamage(t *testing.T) {
	r := newRepository(t)
	object := r.seal(t, snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()})
	open := func(object []byte, ring *seal.Keyring) error {
		s, err := snapshot.OpenManifest(object, ring)
		if err == nil {
			_, err = s.OpenBody(r.private)
		}
		return err
	}
	if err := open(object, r.ring); err != nil {
		t.Fatal(err)
	}
	for i := range object {
		p := bytes.Clone(object)
		p[i] ^= 0x20
		if err := open(p, r.ring); err == nil {
			t.Errorf("byte %d changed: no error", i)
		}
		if err := open(object[:i], r.ring); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
	// A signer who may write manifests can't make a reader go wrong either.
	resign := func(change func(unsigned []byte) []byte) error {
		return open(seal.AppendSignature(change(bytes.Clone(object[:len(object)-seal.SignatureSize])), r.signing), r.ring)
	}
	for i := 0; i < len(object)-seal.SignatureSize; i += 3 {
		if err := resign(func(p []byte) []byte { p[i] ^= 1; return p }); err == nil {
			t.Errorf("byte %d changed by the signer: no error", i)
		}
	}
	length := binary.LittleEndian.Uint32(object[seal.HeaderSize:])
	for name, change := range map[string]func([]byte) []byte{
		"no closed part":       func(p []byte) []byte { return p[:seal.HeaderSize+4+length] },
		"half a closed part":   func(p []byte) []byte { return p[:seal.HeaderSize+4+length+600] },
		"a longer closed part": func(p []byte) []byte { return append(p, 0) },
		"no section":           func(p []byte) []byte { return p[:seal.HeaderSize] },
		"a huge section": func(p []byte) []byte {
			binary.LittleEndian.PutUint32(p[seal.HeaderSize:], length|1<<31)
			return p
		},
		"another section": func(p []byte) []byte {
			section, err := seal.SealSection(nil, rand.NewChaCha8([32]byte{1}), r.keys, p[:seal.HeaderSize], (&snapshot.Open{}).Encode())
			if err != nil {
				t.Fatal(err)
			}
			out := binary.LittleEndian.AppendUint32(p[:seal.HeaderSize:seal.HeaderSize], uint32(len(section)))
			return append(append(out, section...), p[seal.HeaderSize+4+length:]...)
		},
	} {
		if err := resign(change); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open(object, seal.NewKeyring(seal.RepositoryID{1})); !errors.Is(err, seal.ErrForeign) {
		t.Errorf("another repository: %v", err)
	}
	if err := open(object, seal.NewKeyring(r.ring.Repository)); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the key: %v", err)
	}
}

// Whoever has the keys of a place, but not the repository's own, reads the open
// part and nothing else.
func TestManifestParts(t *testing.T) {
	r := newRepository(t)
	object := r.seal(t, snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()})
	s, err := snapshot.OpenManifest(object, r.ring)
	if err != nil || !reflect.DeepEqual(s.Open, sampleOpen()) {
		t.Fatalf("open part %+v, %v", s, err)
	}
	other, err := seal.NewPrivateKey([32]byte{8})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := s.OpenBody(other); !errors.Is(err, seal.ErrDamaged) || body != nil {
		t.Errorf("closed part with another key: %+v, %v", body, err)
	}
	for _, secret := range []string{"höst", "all", "/srv/", "daily", "cairn 1.0"} {
		if bytes.Contains(object, []byte(secret)) {
			t.Errorf("%q stands in the object", secret)
		}
	}
}

// The parts of one manifest are of no use in another one.
func TestManifestPartsAreBound(t *testing.T) {
	r := newRepository(t)
	parts := func(object []byte) (section, body []byte) {
		rest := object[seal.HeaderSize+4 : len(object)-seal.SignatureSize]
		n := binary.LittleEndian.Uint32(object[seal.HeaderSize:])
		return rest[:n], rest[n:]
	}
	a := r.seal(t, snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()})
	m := snapshot.Manifest{Header: r.header, Open: sampleOpen(), Body: sampleBody()}
	m.Open.Flags, m.Body.Set = snapshot.Incomplete, "some"
	b := r.seal(t, m)
	section, _ := parts(a)
	_, body := parts(b)
	mixed := binary.LittleEndian.AppendUint32(bytes.Clone(a[:seal.HeaderSize]), uint32(len(section)))
	mixed = seal.AppendSignature(append(append(mixed, section...), body...), r.signing)
	s, err := snapshot.OpenManifest(mixed, r.ring)
	if err != nil {
		t.Fatal(err) // the open part by itself is sound
	}
	if got, err := s.OpenBody(r.private); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("another manifest's closed part: %+v, %v", got, err)
	}
}
