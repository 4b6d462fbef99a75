package repo

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

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
		if err := p.putTombstone(ctx, t.Sign(p.id, p.signing)); err != nil {
			return err
		}
	}
	p.set, err = p.readSnapshots(ctx, nil)
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
	if p.set, err = p.readSnapshots(ctx, nil); err != nil {
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
