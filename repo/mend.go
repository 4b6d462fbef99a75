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
	p.set, err = p.readSnapshots(ctx, nil)
	return err
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
	for _, l := range inOrder(leases) {
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
			if newer, err := p.isNewerLease(ctx, l); err != nil {
				return err
			} else if newer {
				break // what its other objects mean is not for this version to say
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
	case p.isNewer(old, seal.LeaseEnd):
		return nil
	}
	object, err := p.fencedEnd(id)
	if err != nil {
		return err
	}
	p.fixed(name, "given up: a snapshot that it may have committed is lost, unless it is listed")
	return p.replaceObject(ctx, name, old, object)
}

// isNewerLease reports whether a newer version has written an object of a lease.
func (p *repairer) isNewerLease(ctx context.Context, l *leaseState) (bool, error) {
	for _, name := range l.objects {
		object, err := readWhole(ctx, p.storage, name, maxLease)
		switch {
		case errors.Is(err, backend.ErrNotExist), errors.Is(err, ErrDamage):
			continue
		case err != nil:
			return false, fmt.Errorf("read lease: %w", err)
		}
		for _, kind := range []seal.Kind{seal.LeaseBegin, seal.LeaseBeat, seal.LeaseEnd} {
			if p.isNewer(object, kind) {
				return true, nil
			}
		}
	}
	return false, nil
}

// isNewer reports whether somebody who may write to the repository has made an object with
// a newer version of this program.
func (r *Repository) isNewer(object []byte, kind seal.Kind) bool {
	by, ok := newerBy(object, kind)
	return ok && (by == r.config.Admin || slices.ContainsFunc(r.config.Writers, func(w config.Writer) bool { return w.Signer == by }))
}

// newerBy returns who has signed an object of a newer version. One that nobody has signed as
// it is has a damaged version.
func newerBy(object []byte, kind seal.Kind) (by seal.Signer, ok bool) {
	if _, err := seal.ParseHeader(object, kind); !errors.Is(err, seal.ErrNewer) {
		return seal.Signer{}, false
	}
	_, by, err := seal.VerifySignature(object)
	return by, err == nil
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
