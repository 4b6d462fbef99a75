package repo

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// knownManifests has what was in manifests that this key has verified on this machine:
// to verify a signature and open a closed part takes some 0.3 ms a snapshot, which
// is long with 10,000 of them. It is sealed under a key of this slot's signing key, as
// nobody else must be able to say what was verified. A nil one knows nothing.
type knownManifests struct {
	mu      sync.Mutex
	byID    map[snapshot.ID]*knownManifest
	changed bool
}

// knownManifest is what is kept of a manifest. Its parts are as in the manifest,
// but in plaintext.
type knownManifest struct {
	signer     seal.Signer
	place      seal.Place
	open, body []byte // body is nil if it was not opened
}

// knownFile has the known manifests.
const knownFile = "verified"

// Bounds of what is kept: a large part is opened again each time, and what a file
// can't hold too.
const (
	maxKnownPart = 4 << 10
	maxKnown     = 30 << 20
)

func (r *Repository) knownKey() (key [32]byte) {
	blake3.DeriveKey("cairn v1 verified manifests", r.signing.Seed(), key[:])
	return key
}

// loadKnown reads what is known, once.
func (r *Repository) loadKnown() *knownManifests {
	if k := r.known.Load(); k != nil {
		return k
	}
	k := &knownManifests{byID: make(map[snapshot.ID]*knownManifest)}
	if b, ok := r.cache.KeptSealed(knownFile, r.knownKey()); ok && k.parse(b) != nil {
		k = &knownManifests{byID: make(map[snapshot.ID]*knownManifest)}
	}
	if r.known.CompareAndSwap(nil, k) {
		return k
	}
	return r.known.Load()
}

func (k *knownManifests) parse(b []byte) error {
	d := wire.NewDecoder(b)
	for range d.Count(32 + 32 + 8 + 2) {
		id := snapshot.ID(d.Array32())
		m := &knownManifest{signer: seal.Signer(d.Array32()), place: seal.Place{Epoch: d.U32(), Domain: d.U32()}, open: d.Bytes(), body: d.Bytes()}
		if len(m.open) < 8 {
			d.Fail("an open part of %d bytes", len(m.open))
		}
		k.byID[id] = m
	}
	return d.Finish()
}

// saveKnown keeps what is known for the next run.
func (r *Repository) saveKnown() error {
	k := r.known.Load()
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.changed {
		return nil
	}
	return r.cache.KeepSealed(knownFile, r.knownKey(), k.encode())
}

// encode writes the newest first, as many as there is room for.
func (k *knownManifests) encode() []byte {
	ids := make([]snapshot.ID, 0, len(k.byID))
	for id := range k.byID {
		ids = append(ids, id)
	}
	// It begins with the time.
	when := func(id snapshot.ID) int64 { return int64(binary.LittleEndian.Uint64(k.byID[id].open)) }
	slices.SortFunc(ids, func(a, b snapshot.ID) int { return cmp.Or(cmp.Compare(when(b), when(a)), a.Compare(b)) })
	var b []byte
	n := 0
	for _, id := range ids {
		m := k.byID[id]
		if len(b)+len(m.open)+len(m.body) > maxKnown {
			break
		}
		b = append(append(b, id[:]...), m.signer[:]...)
		b = binary.LittleEndian.AppendUint32(b, m.place.Epoch)
		b = binary.LittleEndian.AppendUint32(b, m.place.Domain)
		b = wire.AppendBytes(wire.AppendBytes(b, m.open), m.body)
		n++
	}
	return append(binary.AppendUvarint(nil, uint64(n)), b...)
}

// get returns a snapshot that is known and that its signer may still make, else nil.
func (k *knownManifests) get(r *Repository, id snapshot.ID) *Snapshot {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	m := k.byID[id]
	k.mu.Unlock()
	if m == nil || !r.config.MayWrite(m.signer, m.place) {
		return nil
	}
	if _, ok := r.ring.Keys(m.place); !ok {
		return nil
	}
	open, err := snapshot.ParseOpen(m.open)
	if err != nil {
		return nil
	}
	s := &Snapshot{ID: id, Open: *open, Signer: m.signer, Place: m.place}
	if len(m.body) > 0 {
		s.body = m.body
	}
	return s
}

// add takes in a snapshot whose manifest was verified.
func (k *knownManifests) add(s *Snapshot) {
	if k == nil {
		return
	}
	open := s.Open.Encode()
	if len(open) > maxKnownPart {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.byID[s.ID] = &knownManifest{signer: s.Signer, place: s.Place, open: open}
	k.changed = true
}

// addBody takes in the closed part of a snapshot that is known.
func (k *knownManifests) addBody(s *Snapshot) {
	if k == nil {
		return
	}
	body := s.Body.Encode()
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.byID[s.ID]; m != nil && len(body) <= maxKnownPart && len(m.body) == 0 {
		m.body, k.changed = body, true
	}
}

// retain forgets what is not listed any more.
func (k *knownManifests) retain(listed map[snapshot.ID]bool) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.byID {
		if !listed[id] {
			delete(k.byID, id)
			k.changed = true
		}
	}
}
