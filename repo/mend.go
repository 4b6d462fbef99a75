package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// replaceObject sets an object that is missing or damaged, whatever it is now.
func (p *repairer) replaceObject(ctx context.Context, name string, object []byte, limit int64) error {
	if p.opts.DryRun {
		return nil
	}
	old, err := readWhole(ctx, p.storage, name, limit)
	switch {
	case err == nil:
		return swap(ctx, p.storage, name, old, object)
	case errors.Is(err, ErrDamage): // longer than anything that could be swapped
		if err := p.storage.Delete(ctx, name); err != nil {
			return err
		}
	case !errors.Is(err, backend.ErrNotExist):
		return err
	}
	return backend.PutBytes(ctx, p.storage, name, object)
}

// mendCondemned replaces a condemned list that can't be read, as nobody can write
// before that. Which packs were condemned is forgotten: none is deleted, and a
// prune that meets the new list begins anew.
func (p *repairer) mendCondemned(ctx context.Context) error {
	_, err := p.readCondemned(ctx)
	if !errors.Is(err, ErrDamage) {
		return err
	}
	// A generation that no list had, as that of the old one can't be known.
	list := protocol.Condemned{Generation: uint64(p.Repository.opts.Now().UnixNano()), Phase: protocol.Empty}
	p.fixed(condemnedName, "replaced by an empty list, as it could not be read (%s)", firstLine(err))
	return p.replaceObject(ctx, condemnedName, list.Sign(p.id, p.signing), maxCondemned)
}

// mendSlots puts key slots back of which this machine has copies.
func (p *repairer) mendSlots(ctx context.Context) error {
	for _, s := range p.config.Slots {
		_, err := p.loadSlot(ctx, s)
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrDamage) {
			return err
		}
		object, ok := p.cache.Get(slotClass, s.ID)
		if !ok {
			continue
		}
		if _, err := p.parseSlot(s, object); err != nil {
			continue
		}
		name := slotsPrefix + s.ID.String()
		p.fixed(name, "put back, from this machine's cache")
		if err := p.replaceObject(ctx, name, object, maxSlot); err != nil {
			return err
		}
	}
	return nil
}

// mendManifests puts manifests back that are in this machine's cache, or in the end of
// a lease.
func (p *repairer) mendManifests(ctx context.Context) error {
	mended := false
	mend := func(id snapshot.ID, object []byte, why string) error {
		name := snapshotsPrefix + id.String()
		p.fixed(name, "%s", why)
		mended = true
		return p.replaceObject(ctx, name, object, maxManifest)
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
		return p.replaceObject(ctx, name, object, maxCondemned)
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
		object, err := readWhole(ctx, r.storage, info.Name, maxCondemned)
		switch {
		case errors.Is(err, backend.ErrNotExist):
			continue
		case err == nil:
			if _, err := r.openTombstone(object); err == nil && checkDigest(id, object) == nil {
				continue
			}
		case !errors.Is(err, ErrDamage):
			return fmt.Errorf("read tombstone: %w", err)
		}
		if err := fn(info.Name, id); err != nil {
			return err
		}
	}
	return nil
}

// forgetLost gives up what can't be had again of the chain.
func (p *repairer) forgetLost(ctx context.Context) error {
	if !p.opts.ForgetLost {
		return nil
	}
	t := protocol.Tombstone{Time: p.Repository.opts.Now()}
	for _, id := range p.lostManifests() {
		if p.opts.DryRun && p.cache.Has(manifestClass, id) {
			continue // would have been put back
		}
		// What it linked to is not known. At worst that looks like a head again,
		// and is linked to once more.
		t.Forgotten = append(t.Forgotten, protocol.Forgotten{ID: id})
		p.fixed(snapshotsPrefix+id.String(), "given up: a tombstone says from now on that the snapshot is gone")
	}
	err := p.badTombstones(ctx, func(name string, _ protocol.TombstoneID) error {
		p.fixed(name, "removed, as nobody can read it; what it had forgotten comes back if its manifest is still there")
		return p.remove(ctx, name)
	})
	if err != nil || p.opts.DryRun {
		return err
	}
	if len(t.Forgotten) > 0 {
		object := t.Sign(p.id, p.signing)
		name := tombstonesPrefix + seal.Sum[any](object).String()
		if err := backend.PutBytes(ctx, p.storage, name, object); err != nil && !errors.Is(err, backend.ErrExist) {
			return fmt.Errorf("store tombstone: %w", err)
		}
	}
	p.set, err = p.Snapshots(ctx)
	return err
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
			if err := p.fence(ctx, l, id); err != nil {
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
	if _, err := p.committedLease(ctx, l); !errors.Is(err, ErrDamage) {
		return nil
	}
	object, err := p.fencedEnd(id)
	if err != nil {
		return err
	}
	p.fixed(leaseName(id, "end"), "given up: a snapshot that it may have committed is lost, unless it is listed")
	return p.replaceObject(ctx, leaseName(id, "end"), object, maxLease)
}

func (p *repairer) fencedEnd(id protocol.LeaseID) ([]byte, error) {
	s, err := p.sealer()
	if err != nil {
		return nil, err
	}
	end := protocol.End{Lease: id, Time: p.Repository.opts.Now(), Outcome: protocol.Fenced}
	return end.Seal(s)
}

// fence ends a lease unless it has ended.
func (p *repairer) fence(ctx context.Context, l *leaseState, id protocol.LeaseID) error {
	if l.ended || p.opts.DryRun {
		return nil
	}
	object, err := p.fencedEnd(id)
	if err != nil {
		return err
	}
	if err := backend.PutBytes(ctx, p.storage, leaseName(id, "end"), object); err != nil && !errors.Is(err, backend.ErrExist) {
		return fmt.Errorf("end a lease: %w", err)
	}
	l.ended = true
	return nil
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
	old, err := readWhole(ctx, p.storage, condemnedName, maxCondemned)
	c := new(protocol.Condemned)
	switch {
	case errors.Is(err, backend.ErrNotExist):
		old = nil
	case err != nil:
		return fmt.Errorf("read condemned list: %w", err)
	default:
		var by seal.Signer
		if c, by, err = protocol.OpenCondemned(old, p.id); err != nil {
			return damaged(condemnedName, err)
		}
		if by != p.config.Admin {
			return damaged(condemnedName, fmt.Errorf("signed by %s, not by the admin", by.Short()))
		}
	}
	if err := change(c); err != nil {
		return err
	}
	c.Generation++
	if err := swap(ctx, p.storage, condemnedName, old, c.Sign(p.id, p.signing)); err != nil {
		if errors.Is(err, backend.ErrConflict) {
			return fmt.Errorf("%w: somebody else changed the condemned list at the same time", ErrFenced)
		}
		return fmt.Errorf("store condemned list: %w", err)
	}
	return nil
}
