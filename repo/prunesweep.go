package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// sweep deletes the packs of a final list, which nobody needs. The index lets go of them
// first, so that nobody looks for them. All of it may have been done before, by a prune
// that was killed.
func (p *pruner) sweep(ctx context.Context, list *protocol.Condemned, object []byte) error {
	if err := p.loadIndex(ctx, nil); err != nil {
		return err
	}
	// Listed after the segments: what they name is there.
	stored, err := p.packSizes(ctx)
	if err != nil {
		return err
	}
	if err := p.supersede(ctx, stored, condemnedSet(list)); err != nil {
		return err
	}
	done := int64(0)
	for some := range slices.Chunk(list.Packs, sweepBatch) {
		// A repair may have put another list in the place of one that it could not read.
		// What tells lists apart is at their beginning: the rest can be many megabytes.
		if is := p.pruneState(ctx); !bytes.HasPrefix(object, is[:]) {
			return cmp.Or(ctx.Err(), error(backend.ErrConflict))
		}
		if err := p.deletePacks(ctx, some, stored); err != nil {
			return err
		}
		done += int64(len(some))
		p.progress("packs deleted", done, int64(len(list.Packs)))
	}
	return nil
}

// sweepBatch is how many packs are deleted between two looks at the list.
const sweepBatch = 512

func (p *pruner) deletePacks(ctx context.Context, packs []protocol.CondemnedPack, stored map[pack.ID]int64) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(smallReads)
	for _, c := range packs {
		g.Go(func() error {
			err := p.storage.Delete(gctx, packName(c.Kind, c.ID))
			if errors.Is(err, backend.ErrNotExist) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("delete a pack that nothing needs; the next prune goes on: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			p.report.Freed.add(stored[c.ID])
			return nil
		})
	}
	return g.Wait()
}

// clean deletes what has served its purpose. passed says that what was forgotten when this
// run looked is gone, so that nothing can bring it back any more.
func (p *pruner) clean(ctx context.Context, passed bool) error {
	if err := p.cleanLeases(ctx); err != nil {
		return err
	}
	listed, err := p.listSegments(ctx, nil)
	if err != nil {
		return err
	}
	local, err := p.index()
	if err != nil {
		return err
	}
	for _, id := range slices.SortedFunc(maps.Keys(listed), index.SegmentID.Compare) {
		superseded, err := local.Superseded(id)
		if err != nil {
			return fmt.Errorf("read the local index: %w", err)
		}
		if superseded {
			if err := p.remove(ctx, indexPrefix+id.String(), &p.report.Segments); err != nil {
				return err
			}
		}
	}
	if !passed {
		return nil
	}
	for info, err := range p.storage.List(ctx, snapshotsPrefix) {
		if err != nil {
			return fmt.Errorf("list snapshots: %w", err)
		}
		id, err := snapshot.ParseID(strings.TrimPrefix(info.Name, snapshotsPrefix))
		if _, forgotten := p.passed[id]; err != nil || !forgotten {
			continue
		}
		if err := p.remove(ctx, info.Name, &p.report.Manifests); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) remove(ctx context.Context, name string, count *int) error {
	err := p.storage.Delete(ctx, name)
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	*count++
	return nil
}

// cleanLeases fences off the runs that are dead, and deletes what is left of those that have
// ended: but not the ends that keep a run that was thought dead from committing.
func (p *pruner) cleanLeases(ctx context.Context) error {
	set, err := p.soundSnapshots(ctx)
	if err != nil {
		return err
	}
	leases, err := p.listLeases(ctx)
	if err != nil {
		return err
	}
	for _, l := range inOrder(leases) {
		if p.isOwn(l.id) || set.empty[l.id] && len(l.objects) == 1 && p.does(stepKeepEnds) {
			continue // nothing is left but an end that has to stay
		}
		ended, err := p.hasEnded(ctx, l)
		if err == nil && ended {
			err = p.cleanLease(ctx, l, set)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) cleanLease(ctx context.Context, l *leaseState, set *SnapshotSet) error {
	info, err := p.committedLease(ctx, l)
	if errors.Is(err, backend.ErrNotExist) || errors.Is(err, seal.ErrNoKey) {
		return nil // cleaned up, or not yet known to this run
	}
	if err != nil {
		return stopped(err)
	}
	if info != nil {
		if set.gone[info.ID] == nil { // not forgotten, or it is not known whether that stays
			if err := p.copyManifest(ctx, info.ID, info.object); err != nil {
				p.Repository.opts.Observer.warn(fmt.Errorf("copy the manifest of snapshot %s: %w", info.ID.Short(), err))
				return nil // as long as it is the only copy, it stays
			}
		}
	}
	n := 0
	slices.Sort(l.objects)
	for _, name := range slices.Backward(l.objects) { // begin, then the beats
		if _, object, _ := splitLeaseName(name); object == "end" {
			continue
		}
		if err := p.remove(ctx, name, &n); err != nil {
			return err
		}
	}
	if info != nil || !p.does(stepKeepEnds) {
		if err := p.remove(ctx, leasesPrefix+l.id+"/end", &n); err != nil {
			return err
		}
	}
	if n > 0 {
		p.report.Leases++
	}
	return nil
}
