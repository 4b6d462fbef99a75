package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// putBack sets an object whose name is its hash, whatever it is now.
func (p *repairer) putBack(ctx context.Context, name string, object []byte, limit int64) error {
	if p.opts.DryRun {
		return nil
	}
	old, err := readWhole(ctx, p.storage, name, limit)
	if errors.Is(err, backend.ErrNotExist) {
		return backend.PutBytes(ctx, p.storage, name, object)
	}
	if err != nil && !errors.Is(err, ErrDamage) {
		return err
	}
	return p.replaceObject(ctx, name, old, object)
}

// replaceObject sets an object that was found damaged. old is what was judged: if
// that is not what is stored, because it was read badly or somebody else has mended it,
// nothing changes. A nil old was longer than any such object.
func (p *repairer) replaceObject(ctx context.Context, name string, old, object []byte) error {
	if p.opts.DryRun {
		return nil
	}
	if old != nil {
		return swap(ctx, p.storage, name, old, object)
	}
	if err := p.storage.Delete(ctx, name); err != nil {
		return err
	}
	return backend.PutBytes(ctx, p.storage, name, object)
}

// mendCondemned replaces a condemned list that can't be read, as nobody can write
// before that. Which packs were condemned is forgotten: none is deleted, and a
// prune that meets the new list begins anew.
func (p *repairer) mendCondemned(ctx context.Context) error {
	_, old, err := p.loadCondemned(ctx)
	if !errors.Is(err, ErrDamage) {
		return err
	}
	// A generation that no list had, as that of the old one can't be known.
	list := protocol.Condemned{Generation: uint64(p.Repository.opts.Now().UnixNano()), Phase: protocol.Empty}
	p.fixed(condemnedName, "replaced by an empty list, as it could not be read (%s)", firstLine(err))
	return p.replaceObject(ctx, condemnedName, old, list.Sign(p.id, p.signing))
}

// mendSlots puts key slots back of which this machine has copies.
func (p *repairer) mendSlots(ctx context.Context) error {
	return p.badSlots(ctx, func(s config.Slot, _ error) error {
		object, ok := p.cache.Get(slotClass, s.ID)
		if !ok {
			return nil
		}
		if _, err := p.parseSlot(s, object); err != nil {
			return nil
		}
		name := slotsPrefix + s.ID.String()
		p.fixed(name, "put back, from this machine's cache")
		return p.putBack(ctx, name, object, maxSlot)
	})
}

// mendManifests puts manifests back that are in this machine's cache, or in the end of
// a lease.
func (p *repairer) mendManifests(ctx context.Context) error {
	mended := false
	mend := func(id snapshot.ID, object []byte, why string) error {
		name := snapshotsPrefix + id.String()
		p.fixed(name, "%s", why)
		mended = true
		return p.putBack(ctx, name, object, maxManifest)
	}
	for _, info := range p.set.Newest() {
		object, err := readWhole(ctx, p.storage, snapshotsPrefix+info.ID.String(), maxManifest)
		uncopied := slices.Contains(p.set.Uncopied, info.ID)
		switch {
		case err == nil && checkDigest(info.ID, object) == nil:
			continue
		case errors.Is(err, backend.ErrNotExist) && !uncopied:
			continue // forgotten and pruned meanwhile
		case err != nil && !errors.Is(err, ErrDamage) && !errors.Is(err, backend.ErrNotExist):
			return err
		}
		why := "put back, from this machine's cache"
		if uncopied {
			why = "copied to its place, from the lease that committed it"
		}
		if err := mend(info.ID, info.object, why); err != nil {
			return err
		}
	}
	for _, id := range p.lostManifests() {
		object, ok := p.cache.Get(manifestClass, id)
		if !ok || checkDigest(id, object) != nil {
			continue
		}
		if _, err := p.openManifest(id, object); err != nil {
			continue
		}
		if err := mend(id, object, "put back, from this machine's cache"); err != nil {
			return err
		}
	}
	if !mended || p.opts.DryRun {
		return nil
	}
	var err error
	p.set, err = p.Snapshots(ctx)
	return err
}

// lostManifests are the snapshots that are damaged or missing.
func (p *repairer) lostManifests() (ids []snapshot.ID) {
	for _, err := range p.set.Damage {
		var d *DamageError
		if !errors.As(err, &d) {
			continue
		}
		if hex, ok := strings.CutPrefix(d.Object, snapshotsPrefix); ok {
			if id, err := snapshot.ParseID(hex); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// mendTombstones puts tombstones back that are in this machine's cache.
func (p *repairer) mendTombstones(ctx context.Context) error {
	return p.badTombstones(ctx, func(name string, id protocol.TombstoneID) error {
		object, ok := p.cache.Get(manifestClass, id)
		if !ok || checkDigest(id, object) != nil {
			return nil
		}
		p.fixed(name, "put back, from this machine's cache")
		return p.putBack(ctx, name, object, maxCondemned)
	})
}

// badTombstones calls fn for the tombstones that the storage has damaged.
func (r *Repository) badTombstones(ctx context.Context, fn func(name string, id protocol.TombstoneID) error) error {
	for info, err := range r.storage.List(ctx, tombstonesPrefix) {
		if err != nil {
			return fmt.Errorf("list tombstones: %w", err)
		}
		id, err := protocol.ParseTombstoneID(strings.TrimPrefix(info.Name, tombstonesPrefix))
		if err != nil {
			continue
		}
		if bad, err := r.isBadTombstone(ctx, info.Name, id); err != nil {
			return err
		} else if !bad {
			continue
		}
		if err := fn(info.Name, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repository) isBadTombstone(ctx context.Context, name string, id protocol.TombstoneID) (bool, error) {
	object, err := readWhole(ctx, r.storage, name, maxCondemned)
	switch {
	case errors.Is(err, backend.ErrNotExist):
		return false, nil
	case errors.Is(err, ErrDamage):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("read tombstone: %w", err)
	}
	_, err = r.openTombstone(object)
	return err != nil || checkDigest(id, object) != nil, nil
}

// forgetLost gives up what can't be had again of the chain. That is for ever, so what
// was found lost must be so twice.
func (p *repairer) forgetLost(ctx context.Context) error {
	if !p.opts.ForgetLost {
		return nil
	}
	lost, err := p.lostForGood(ctx)
	if err != nil {
		return err
	}
	for _, id := range lost {
		p.fixed(snapshotsPrefix+id.String(), "given up: a tombstone says from now on that the snapshot is gone")
	}
	err = p.badTombstones(ctx, func(name string, id protocol.TombstoneID) error {
		if bad, err := p.isBadTombstone(ctx, name, id); err != nil || !bad {
			return err
		}
		p.fixed(name, "removed, as nobody can read it; what it had forgotten comes back if its manifest is still there")
		return p.remove(ctx, name)
	})
	if err != nil || p.opts.DryRun {
		return err
	}
	for some := range slices.Chunk(lost, tombstoneSize) {
		t := protocol.Tombstone{Time: p.Repository.opts.Now()}
		for _, id := range some {
			// What it linked to is not known. At worst that looks like a head again,
			// and is linked to once more.
			t.Forgotten = append(t.Forgotten, protocol.Forgotten{ID: id})
		}
		object := t.Sign(p.id, p.signing)
		if err := create(ctx, p.storage, tombstonesPrefix+seal.Sum[any](object).String(), object); err != nil {
			return fmt.Errorf("store tombstone: %w", err)
		}
	}
	p.set, err = p.Snapshots(ctx)
	return err
}

// tombstoneSize is how many snapshots a tombstone gives up: hostile manifests can have
// very many links to what never was, and a tombstone has its own bounds.
const tombstoneSize = 1 << 16

// lostForGood returns the snapshots that are damaged or missing now as well. A run that
// ended between two listings leaves a manifest that is in neither, but that others
// may link to; and what is not listed may be there all the same.
func (p *repairer) lostForGood(ctx context.Context) (lost []snapshot.ID, err error) {
	before := p.lostManifests()
	if p.set, err = p.Snapshots(ctx); err != nil {
		return nil, err
	}
	for _, id := range p.lostManifests() {
		if !slices.Contains(before, id) {
			continue
		}
		if p.opts.DryRun && p.cache.Has(manifestClass, id) {
			continue // would have been put back
		}
		is, err := p.isLost(ctx, id)
		if err != nil {
			return nil, err
		}
		if is {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// isLost reports whether the storage has no good manifest of a snapshot, listed or not.
func (p *repairer) isLost(ctx context.Context, id snapshot.ID) (bool, error) {
	name := snapshotsPrefix + id.String()
	object, err := readWhole(ctx, p.storage, name, maxManifest)
	if err == nil {
		if err = checkDigest(id, object); err != nil {
			return true, nil
		}
		_, err = p.openManifest(id, object)
	}
	if errors.Is(err, seal.ErrNoKey) {
		err = p.isOurs(ctx, name, seal.Manifest, object)
	}
	if errors.Is(err, ErrDamage) || errors.Is(err, backend.ErrNotExist) {
		return true, nil
	}
	return false, err
}

func (p *repairer) remove(ctx context.Context, name string) error {
	if p.opts.DryRun {
		return nil
	}
	if err := p.storage.Delete(ctx, name); err != nil && !errors.Is(err, backend.ErrNotExist) {
		return err
	}
	return nil
}

// mendLeases ends leases of which objects are damaged. A writer that still runs finds
// itself fenced and takes a new lease, which costs it nothing.
func (p *repairer) mendLeases(ctx context.Context) error {
	leases, err := p.listLeases(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		id, err := protocol.ParseLeaseID(l.id)
		if err != nil || l.id == p.saved.lease {
			continue
		}
		if err := p.mendEnd(ctx, l, id); err != nil {
			return err
		}
		for _, name := range l.objects {
			if err := p.verifyLease(ctx, name); !errors.Is(err, ErrDamage) {
				if err != nil && !errors.Is(err, backend.ErrNotExist) && !errors.Is(err, seal.ErrNoKey) {
					return err
				}
				continue
			}
			if err := p.settle(ctx, l, id); err != nil {
				return err
			}
			p.fixed(name, "removed, and its lease ended; a writer that still runs takes a new one")
			if err := p.remove(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// mendEnd replaces the end of a lease that nobody can read, if it was said to
// give up what that may have committed.
func (p *repairer) mendEnd(ctx context.Context, l *leaseState, id protocol.LeaseID) error {
	if !l.ended || !p.opts.ForgetLost {
		return nil
	}
	name := leaseName(id, "end")
	old, err := readWhole(ctx, p.storage, name, maxLease)
	if err == nil {
		var end *protocol.End
		var by seal.Signer
		if end, by, err = p.openEnd(ctx, l.id, old); err == nil {
			_, err = p.committedBy(ctx, l, end, by)
		}
	}
	switch {
	case err == nil, errors.Is(err, backend.ErrNotExist), errors.Is(err, seal.ErrNoKey):
		return nil
	case !errors.Is(err, ErrDamage):
		return fmt.Errorf("read end of lease: %w", err)
	}
	object, err := p.fencedEnd(id)
	if err != nil {
		return err
	}
	p.fixed(name, "given up: a snapshot that it may have committed is lost, unless it is listed")
	return p.replaceObject(ctx, name, old, object)
}

func (p *repairer) fencedEnd(id protocol.LeaseID) ([]byte, error) {
	s, err := p.sealer()
	if err != nil {
		return nil, err
	}
	end := protocol.End{Lease: id, Time: p.Repository.opts.Now(), Outcome: protocol.Fenced}
	return end.Seal(s)
}

// settle ends a lease unless it has ended. If it has with a commit, the manifest is
// copied to its place: a lease without its begin counts as finished.
func (p *repairer) settle(ctx context.Context, l *leaseState, id protocol.LeaseID) error {
	if p.opts.DryRun {
		return nil
	}
	object, err := p.fencedEnd(id)
	if err != nil {
		return err
	}
	err = backend.PutBytes(ctx, p.storage, leaseName(id, "end"), object)
	if err == nil {
		l.ended = true
		return nil
	}
	if !errors.Is(err, backend.ErrExist) {
		return fmt.Errorf("end a lease: %w", err)
	}
	info, err := p.committedLease(ctx, l)
	switch {
	case errors.Is(err, backend.ErrNotExist), errors.Is(err, ErrDamage), errors.Is(err, seal.ErrNoKey):
		return nil // finished, found before, or not for this key to see
	case err != nil:
		return err
	case info == nil:
		return nil
	}
	if _, forgotten := p.set.Forgotten[info.ID]; forgotten {
		return nil
	}
	return p.copyManifest(ctx, info.ID, info.object)
}

// condemn puts the damaged packs on the list of those that no writer relies on.
// What they had is said by no segment any more, so prune will find them dead.
func (p *repairer) condemn(ctx context.Context) error {
	if len(p.bad) == 0 || p.opts.DryRun {
		return nil
	}
	err := p.changeCondemned(ctx, func(c *protocol.Condemned) error {
		if c.Phase == protocol.Final {
			return fmt.Errorf("%w: a prune is deleting packs; when it is done, repair again", ErrFenced)
		}
		c.Phase = protocol.Waiting
		for id := range p.bad {
			c.Packs = append(c.Packs, protocol.CondemnedPack{Kind: packKindOf(p.packs[id].Name), ID: id})
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Whoever began before that may not have seen the list.
	leases, err := p.listLeases(ctx)
	if err != nil {
		return err
	}
	return p.changeCondemned(ctx, func(c *protocol.Condemned) error {
		for _, l := range leases {
			id, err := protocol.ParseLeaseID(l.id)
			if err == nil && l.begun && !l.ended && l.id != p.saved.lease && c.Phase == protocol.Waiting {
				c.Leases = append(c.Leases, id)
			}
		}
		return nil
	})
}

// changeCondemned swaps the condemned list for one of the next generation.
func (p *repairer) changeCondemned(ctx context.Context, change func(*protocol.Condemned) error) error {
	for try := 1; ; try++ {
		c, old, err := p.loadCondemned(ctx)
		if err != nil {
			return err
		}
		if err := change(c); err != nil {
			return err
		}
		c.Generation++
		err = swap(ctx, p.storage, condemnedName, old, c.Sign(p.id, p.signing))
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, backend.ErrConflict):
			return fmt.Errorf("store condemned list: %w", err)
		case try == commitTries:
			return fmt.Errorf("%w: somebody else changes the condemned list at the same time", ErrFenced)
		}
	}
}
