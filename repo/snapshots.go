package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// maxManifest bounds a manifest: it lists sources and links.
const maxManifest = 16 << 20

// Snapshot is a snapshot that is committed and not forgotten.
type Snapshot struct {
	ID     snapshot.ID
	Open   snapshot.Open // what every key can read
	Signer seal.Signer
	Place  seal.Place
	// Stored is when the storage got it, by the storage's own clock.
	Stored time.Time
	// Body is nil until LoadBody.
	Body *snapshot.Body

	object []byte // nil if it was known: see manifestOf
	body   []byte // the closed part, if it was known
}

// SnapshotSet is the state of the chain of manifests at one time.
type SnapshotSet struct {
	byID map[snapshot.ID]*Snapshot
	// Forgotten has the snapshots that tombstones name, with their links.
	Forgotten map[snapshot.ID][]snapshot.ID
	// Damage has what can't be read or is missing: manifests, tombstones,
	// links that lead nowhere, and snapshots that this machine saw before.
	Damage []error
	// hidden are manifests of epochs or domains that this key does not know.
	hidden map[snapshot.ID]bool
	// hiddenEnds are leases whose ends are of such: what they committed, if
	// anything, can be of any.
	hiddenEnds []string
	// empty are the leases whose ends are there and committed nothing.
	empty map[string]bool
	// Uncopied are committed snapshots whose manifest stands only in the
	// end of a lease, because their writer died in the last step.
	Uncopied []snapshot.ID
	// tombstones are the runs that forgot, in no particular order, and gone are
	// the snapshots of theirs whose manifests are still there.
	tombstones []*protocol.Tombstone
	gone       map[snapshot.ID]*Snapshot
}

// Get returns a snapshot.
func (s *SnapshotSet) Get(id snapshot.ID) (*Snapshot, bool) {
	info, ok := s.byID[id]
	return info, ok
}

// Len returns the number of snapshots.
func (s *SnapshotSet) Len() int { return len(s.byID) }

// Newest returns the snapshots, those of the greatest time first, ties by ID.
func (s *SnapshotSet) Newest() []*Snapshot {
	list := make([]*Snapshot, 0, len(s.byID))
	for _, info := range s.byID {
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b *Snapshot) int {
		return cmp.Or(b.Open.Time.Compare(a.Open.Time), b.ID.Compare(a.ID))
	})
	return list
}

// explains reports whether a snapshot is there, forgotten, or not for this key
// to see: it is not missing.
func (s *SnapshotSet) explains(id snapshot.ID) bool {
	_, ok := s.byID[id]
	_, forgotten := s.Forgotten[id]
	return ok || forgotten || s.hidden[id]
}

// isForgotten reports whether an error is of a manifest that nobody needs any
// more.
func (s *SnapshotSet) isForgotten(err error) bool {
	var d *DamageError
	if !errors.As(err, &d) {
		return false
	}
	id, err := snapshot.ParseID(strings.TrimPrefix(d.Object, snapshotsPrefix))
	_, forgotten := s.Forgotten[id]
	return err == nil && forgotten
}

// heads returns the snapshots that no other one and no tombstone links to, sorted.
func (s *SnapshotSet) heads() []snapshot.ID {
	linked := make(map[snapshot.ID]bool)
	for _, info := range s.byID {
		for _, l := range info.Open.Links {
			linked[l] = true
		}
	}
	var heads []snapshot.ID
	for id := range s.byID {
		if !linked[id] {
			heads = append(heads, id)
		}
	}
	// The links of a forgotten head go on to be covered: a snapshot that only
	// a forgotten one linked to would look like a head again, which is
	// harmless: it is linked to once more.
	slices.SortFunc(heads, snapshot.ID.Compare)
	return heads
}

// Snapshots reads the chain of manifests: manifests, tombstones, and leases
// that ended with a commit. What can't be read is in the set's Damage, not an
// error. What this key has verified before on this machine is not read again.
func (r *Repository) Snapshots(ctx context.Context) (*SnapshotSet, error) {
	return r.readSnapshots(ctx, r.loadKnown())
}

// readSnapshots is Snapshots with what is known, nil to verify all manifests.
func (r *Repository) readSnapshots(ctx context.Context, known *knownManifests) (*SnapshotSet, error) {
	set := &SnapshotSet{
		byID: make(map[snapshot.ID]*Snapshot), hidden: make(map[snapshot.ID]bool), Forgotten: make(map[snapshot.ID][]snapshot.ID),
		gone: make(map[snapshot.ID]*Snapshot), empty: make(map[string]bool),
	}
	// Leases come first: a writer puts its manifest after the end of its lease,
	// and takes the lease away only after that. In the other order a snapshot
	// could slip through between the two listings.
	if !r.does(stepLeasesFirst) {
		if err := r.readManifests(ctx, set, known); err != nil {
			return nil, err
		}
	}
	leases, err := r.listLeases(ctx)
	if err != nil {
		return nil, err
	}
	committed, err := r.committedLeases(ctx, leases, set)
	if err != nil {
		return nil, err
	}
	if r.does(stepLeasesFirst) {
		if err := r.readManifests(ctx, set, known); err != nil {
			return nil, err
		}
	}
	if err := r.readTombstones(ctx, set); err != nil {
		return nil, err
	}
	for id, info := range committed {
		there, ok := set.byID[id]
		switch {
		case !ok:
			set.byID[id] = info
			set.Uncopied = append(set.Uncopied, id)
		case info.Stored.Before(there.Stored):
			there.Stored = info.Stored
		}
	}
	slices.SortFunc(set.Uncopied, snapshot.ID.Compare)
	for id := range set.Forgotten {
		if s, ok := set.byID[id]; ok {
			set.gone[id] = s
			delete(set.byID, id)
		}
	}
	set.Damage = slices.DeleteFunc(set.Damage, set.isForgotten)
	set.Uncopied = slices.DeleteFunc(set.Uncopied, func(id snapshot.ID) bool { _, ok := set.byID[id]; return !ok })
	r.checkChain(set)
	return set, r.tolerate(r.rememberHeads(set))
}

func (r *Repository) readManifests(ctx context.Context, set *SnapshotSet, known *knownManifests) error {
	listed := make(map[snapshot.ID]bool)
	for info, err := range r.storage.List(ctx, snapshotsPrefix) {
		if err != nil {
			return fmt.Errorf("list snapshots: %w", err)
		}
		id, err := snapshot.ParseID(strings.TrimPrefix(info.Name, snapshotsPrefix))
		if err != nil {
			set.Damage = append(set.Damage, damaged(info.Name, err))
			continue
		}
		listed[id] = true
		if s := known.get(r, id); s != nil {
			s.Stored = info.Modified
			set.byID[id] = s
			continue
		}
		object, err := r.cached(ctx, manifestClass, info.Name, id, maxManifest)
		if errors.Is(err, backend.ErrNotExist) {
			continue // forgotten and pruned since the listing
		}
		if err == nil {
			set.byID[id], err = r.openManifest(id, object)
			if errors.Is(err, seal.ErrNoKey) {
				err = cmp.Or(r.isOurs(ctx, info.Name, seal.Manifest, object), err)
			}
		}
		if err == nil {
			set.byID[id].Stored = info.Modified
			known.add(set.byID[id])
		}
		if err != nil {
			delete(set.byID, id)
			switch {
			case errors.Is(err, seal.ErrNoKey):
				set.hidden[id] = true
			case errors.Is(err, ErrDamage):
				set.Damage = append(set.Damage, err)
			default:
				return err
			}
		}
	}
	known.retain(listed)
	return nil
}

// manifestOf returns the whole manifest of a snapshot.
func (r *Repository) manifestOf(ctx context.Context, s *Snapshot) ([]byte, error) {
	if s.object != nil {
		return s.object, nil
	}
	object, err := r.cached(ctx, manifestClass, snapshotsPrefix+s.ID.String(), s.ID, maxManifest)
	if err == nil {
		s.object = object
	}
	return object, err
}

// manifestClass is the class of the cache that holds manifests and tombstones.
const manifestClass = "manifests"

// cached reads an immutable object through this machine's cache.
func (r *Repository) cached(ctx context.Context, class, name string, id [32]byte, limit int64) ([]byte, error) {
	digest := seal.Digest[any](id)
	if object, ok := r.cache.Get(class, id); ok && checkDigest(digest, object) == nil {
		return object, nil
	}
	object, err := readWhole(ctx, r.storage, name, limit)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if err := checkDigest(digest, object); err != nil {
		return nil, damaged(name, err)
	}
	r.cache.Put(class, id, object)
	return object, nil
}

// openManifest opens the open part of a manifest and checks who signed it.
func (r *Repository) openManifest(id snapshot.ID, object []byte) (*Snapshot, error) {
	name := snapshotsPrefix + id.String()
	m, err := snapshot.OpenManifest(object, r.ring)
	if err != nil {
		if errors.Is(err, seal.ErrNoKey) {
			return nil, err
		}
		return nil, damaged(name, err)
	}
	if !r.config.MayWrite(m.Signer, m.Header.Place) {
		return nil, damaged(name, fmt.Errorf("signed by %s, who may not write in %s", m.Signer.Short(), m.Header.Place))
	}
	if m.Open.Flags&snapshot.Restored != 0 && m.Signer != r.config.Admin {
		return nil, damaged(name, fmt.Errorf("signed by %s, but only the admin brings snapshots back", m.Signer.Short()))
	}
	return &Snapshot{ID: id, Open: m.Open, Signer: m.Signer, Place: m.Header.Place, object: object}, nil
}

// bodyClass is the class of the cache that holds the closed parts of own
// manifests, for keys that can't open them.
const bodyClass = "bodies"

// LoadBody opens the closed part of a snapshot's manifest. A write-only key
// can do that only for what it wrote itself on this machine; else the error
// is ErrWriteOnly.
func (r *Repository) LoadBody(ctx context.Context, s *Snapshot) error {
	if s.Body != nil {
		return nil
	}
	if s.body != nil {
		if body, err := snapshot.ParseBody(s.body); err == nil {
			s.Body = body
			return nil
		}
	}
	if err := r.openBody(ctx, s); err != nil {
		return err
	}
	r.known.Load().addBody(s)
	return nil
}

// openBody opens the closed part of a manifest.
func (r *Repository) openBody(ctx context.Context, s *Snapshot) error {
	name := snapshotsPrefix + s.ID.String()
	if r.private == nil {
		p, ok := r.cache.Get(bodyClass, s.ID)
		if !ok {
			return fmt.Errorf("snapshot %s: %w", s.ID.Short(), ErrWriteOnly)
		}
		body, err := snapshot.ParseBody(p)
		if err != nil {
			return fmt.Errorf("cached body of snapshot %s: %w", s.ID.Short(), err)
		}
		s.Body = body
		return nil
	}
	object, err := r.manifestOf(ctx, s)
	if errors.Is(err, backend.ErrNotExist) {
		return damaged(name, err)
	}
	if err != nil {
		return err
	}
	m, err := snapshot.OpenManifest(object, r.ring)
	if err != nil {
		return damaged(name, err)
	}
	body, err := m.OpenBody(r.private)
	if err != nil {
		return damaged(name, err)
	}
	s.Body = body
	return nil
}

func (r *Repository) readTombstones(ctx context.Context, set *SnapshotSet) error {
	for info, err := range r.storage.List(ctx, tombstonesPrefix) {
		if err != nil {
			return fmt.Errorf("list tombstones: %w", err)
		}
		id, err := protocol.ParseTombstoneID(strings.TrimPrefix(info.Name, tombstonesPrefix))
		if err != nil {
			set.Damage = append(set.Damage, damaged(info.Name, err))
			continue
		}
		object, err := r.cached(ctx, manifestClass, info.Name, id, maxCondemned)
		if err == nil {
			err = r.applyTombstone(set, info.Name, object)
		}
		if errors.Is(err, ErrDamage) {
			set.Damage = append(set.Damage, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// openTombstone opens a tombstone and checks who signed it.
func (r *Repository) openTombstone(object []byte) (*protocol.Tombstone, error) {
	t, by, err := protocol.OpenTombstone(object, r.id)
	if err == nil && by != r.config.Admin {
		err = fmt.Errorf("signed by %s, not by the admin", by.Short())
	}
	return t, err
}

func (r *Repository) applyTombstone(set *SnapshotSet, name string, object []byte) error {
	t, err := r.openTombstone(object)
	if err != nil {
		return damaged(name, err)
	}
	set.tombstones = append(set.tombstones, t)
	for _, f := range t.Forgotten {
		set.Forgotten[f.ID] = f.Links
	}
	return nil
}

// checkChain notes links that lead nowhere, and heads that this machine saw
// and that are gone: the storage lost them, hides them, or was set back.
func (r *Repository) checkChain(set *SnapshotSet) {
	missing := make(map[snapshot.ID]string)
	note := func(links []snapshot.ID, by string) {
		for _, id := range links {
			if !set.explains(id) {
				missing[id] = by
			}
		}
	}
	for id, info := range set.byID {
		note(info.Open.Links, "snapshot "+id.Short()+" links to it")
	}
	for _, links := range set.Forgotten {
		note(links, "a forgotten snapshot linked to it")
	}
	for _, line := range r.cache.Lines(headsFile) {
		if id, err := snapshot.ParseID(line); err == nil && !set.explains(id) {
			missing[id] = "this machine saw it"
		}
	}
	said := make(map[string]bool) // a hostile manifest can have very many links
	for _, err := range set.Damage {
		var d *DamageError
		if errors.As(err, &d) {
			said[d.Object] = true
		}
	}
	for id, by := range missing {
		if name := snapshotsPrefix + id.String(); !said[name] {
			set.Damage = append(set.Damage, damaged(name, fmt.Errorf("the snapshot is missing: %s", by)))
		}
	}
}

// headsFile has the heads that this machine saw last.
const headsFile = "heads"

// rememberHeads keeps the heads. Heads that vanished stay remembered, so that
// the loss is reported each time until a tombstone explains it.
func (r *Repository) rememberHeads(set *SnapshotSet) error {
	var lines []string
	for _, id := range set.heads() {
		lines = append(lines, id.String())
	}
	for _, line := range r.cache.Lines(headsFile) {
		id, err := snapshot.ParseID(line)
		if err != nil {
			continue
		}
		if !set.explains(id) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if slices.Equal(lines, r.cache.Lines(headsFile)) {
		return nil
	}
	return r.cache.SetLines(headsFile, lines)
}
