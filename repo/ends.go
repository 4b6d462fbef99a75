package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// readEnd reads the end of a lease, and says who signed it.
func (r *Repository) readEnd(ctx context.Context, lease string) (*protocol.End, seal.Signer, error) {
	name := leasesPrefix + lease + "/end"
	object, err := readWhole(ctx, r.storage, name, maxLease)
	if err != nil {
		return nil, seal.Signer{}, fmt.Errorf("read end of lease: %w", err)
	}
	return r.openEnd(ctx, lease, object)
}

// openEnd opens the end of a lease, and says who signed it.
func (r *Repository) openEnd(ctx context.Context, lease string, object []byte) (*protocol.End, seal.Signer, error) {
	name := leasesPrefix + lease + "/end"
	end, by, err := protocol.OpenEnd(object, r.ring)
	switch {
	case errors.Is(err, seal.ErrNoKey):
		return nil, seal.Signer{}, cmp.Or(r.isOurs(ctx, name, seal.LeaseEnd, object), err)
	case err != nil:
		return nil, seal.Signer{}, damaged(name, err)
	case end.Lease.String() != lease || !r.config.MayWrite(by.Signer, by.Place):
		return nil, seal.Signer{}, damaged(name, errors.New("it is not an end of this lease by somebody who may write one"))
	}
	return end, by.Signer, nil
}

// isOwnEnd reports, as damage, that an end is by another key than the begin of the
// lease. A begin that can't be had says nothing: it may be cleaned up by now, and
// what is wrong with one is found elsewhere.
func (r *Repository) isOwnEnd(ctx context.Context, lease string, by seal.Signer) error {
	object, err := backend.ReadAll(ctx, r.storage, leasesPrefix+lease+"/begin", maxLease)
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read begin of lease: %w", err)
	}
	if _, begun, err := protocol.OpenBegin(object, r.ring); err == nil && begun.Signer != by {
		return damaged(leasesPrefix+lease+"/end", fmt.Errorf("signed by %s, but the lease is that of %s", by.Short(), begun.Signer.Short()))
	}
	return nil
}

// committedLeases returns the snapshots in the ends of leases. It reads many at once:
// those that fence a dead run off stay for good.
func (r *Repository) committedLeases(ctx context.Context, leases map[string]*leaseState, set *SnapshotSet) (map[snapshot.ID]*Snapshot, error) {
	found := make(map[snapshot.ID]*Snapshot)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(smallReads)
	for _, l := range inOrder(leases) {
		if !l.ended {
			continue
		}
		g.Go(func() error {
			info, err := r.committedLease(ctx, l)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, backend.ErrNotExist):
				// Cleaned up: then its manifest is in the listing that follows.
			case errors.Is(err, seal.ErrNoKey):
				set.hiddenEnds = append(set.hiddenEnds, l.id)
			case errors.Is(err, ErrDamage):
				set.Damage = append(set.Damage, err)
			case err != nil:
				return err
			case info != nil:
				found[info.ID] = info
			default:
				set.empty[l.id] = true
			}
			return nil
		})
	}
	return found, g.Wait()
}

// committedLease returns the snapshot that a lease ended with, nil if it ended
// without one. Only the lease's own writer, who is that of the manifest too, or the
// admin can end it.
func (r *Repository) committedLease(ctx context.Context, l *leaseState) (*Snapshot, error) {
	end, by, err := r.readEnd(ctx, l.id)
	if err != nil {
		return nil, err
	}
	return r.committedBy(ctx, l, end, by)
}

// committedBy is committedLease for an end that was read.
func (r *Repository) committedBy(ctx context.Context, l *leaseState, end *protocol.End, by seal.Signer) (*Snapshot, error) {
	lease := l.id
	if l.begun && by != r.config.Admin {
		if err := r.isOwnEnd(ctx, lease, by); err != nil {
			return nil, err
		}
	}
	if end.Outcome != protocol.Committed {
		return nil, nil
	}
	info, err := r.openManifest(snapshot.IDOf(end.Manifest), end.Manifest)
	if errors.Is(err, seal.ErrNoKey) {
		err = damaged(leasesPrefix+lease+"/end", fmt.Errorf("the manifest in it: %v", err)) // not of the end's place
	}
	if err != nil {
		return nil, err
	}
	if by != info.Signer && by != r.config.Admin {
		return nil, damaged(leasesPrefix+lease+"/end", fmt.Errorf("signed by %s, but the manifest in it by %s", by.Short(), info.Signer.Short()))
	}
	info.Stored = l.endedAt
	return info, nil
}
