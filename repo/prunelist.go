package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// condemn announces the packs that this prune has planned to delete. old is the list
// that was there before it looked what is needed.
func (p *pruner) condemn(ctx context.Context, old []byte) error {
	list := &protocol.Condemned{Phase: protocol.Announced}
	for id := range p.planned {
		list.Packs = append(list.Packs, protocol.CondemnedPack{Kind: p.packs[id].kind, ID: id})
	}
	if !p.does(stepLeasesAfter) {
		if err := p.addLeases(ctx, list); err != nil {
			return err
		}
		list.Phase = protocol.Waiting
	}
	var err error
	p.own, err = p.swapCondemned(ctx, old, list)
	return err
}

// finish takes the condemned list, whosever it is, to its end: each turn of the loop is
// one step, after which any other prune can go on. It reports false if the list has to
// wait.
func (p *pruner) finish(ctx context.Context) (empty bool, err error) {
	for conflicts := 0; ; {
		list, old, err := p.loadCondemned(ctx)
		if err != nil {
			return false, stopped(err)
		}
		if list.Phase == protocol.Empty {
			return true, nil
		}
		next, err := p.advance(ctx, list, old)
		if err == nil && next == nil {
			return false, nil
		}
		if err == nil && !p.does(stepFinalSwap) {
			_, old, err = p.loadCondemned(ctx)
		}
		if err == nil {
			p.own, err = p.swapCondemned(ctx, old, next)
		}
		if err = p.unlessChanged(ctx, old, err); errors.Is(err, backend.ErrConflict) && conflicts < pruneTries {
			conflicts++ // somebody else has taken the step
			continue
		}
		if err != nil {
			return false, err
		}
	}
}

// advance does what a list waits for, and returns the one that comes next; nil if it waits on.
func (p *pruner) advance(ctx context.Context, list *protocol.Condemned, object []byte) (next *protocol.Condemned, err error) {
	if err := p.adopt(ctx, list); err != nil {
		return nil, err
	}
	next = &protocol.Condemned{Packs: list.Packs, Leases: list.Leases}
	switch list.Phase {
	case protocol.Announced:
		// Only now: a lease that is taken later is that of somebody who sees the list.
		next.Phase = protocol.Waiting
		return next, p.addLeases(ctx, next)
	case protocol.Waiting:
		if ended, err := p.await(ctx, list.Leases); !ended || err != nil {
			return nil, err
		}
		next.Phase = protocol.Waiting
		err := p.spare(ctx, next)
		next.Phase, next.Leases = protocol.Final, nil
		return next, err
	}
	if string(object) != string(p.own) {
		// It was made final by a prune that marked. But perhaps in another storage, of
		// which this one is a copy that was taken bit by bit: then something on the list
		// may be needed here. That prune may be at work as well, so nothing can be taken
		// from the list any more.
		if err := p.look(ctx, list); err != nil {
			return nil, err
		}
	}
	return &protocol.Condemned{Phase: protocol.Empty}, p.sweep(ctx, list, object)
}

// unlessChanged makes a conflict of an error of damage if the list was changed since it
// was read: what seems to be lost another prune may have moved, or deleted with the
// snapshots that needed it.
func (p *pruner) unlessChanged(ctx context.Context, old []byte, err error) error {
	if !errors.Is(err, ErrDamage) {
		return err
	}
	if _, now, nerr := p.loadCondemned(ctx); nerr == nil && string(now) != string(old) {
		return fmt.Errorf("%w (%v)", backend.ErrConflict, err)
	}
	return err
}

// adopt counts the packs of a list that is not this run's.
func (p *pruner) adopt(ctx context.Context, list *protocol.Condemned) error {
	isOther := func(c protocol.CondemnedPack) bool { return p.planned[c.ID] == nil && !p.adopted[c.ID] }
	if !slices.ContainsFunc(list.Packs, isOther) {
		return nil
	}
	stored, err := p.packSizes(ctx)
	if err != nil {
		return err
	}
	for _, c := range list.Packs {
		if size, ok := stored[c.ID]; ok && isOther(c) {
			p.adopted[c.ID] = true
			p.report.Adopted.add(size)
		}
	}
	return nil
}

// addLeases adds the leases to the list that may be running.
func (p *pruner) addLeases(ctx context.Context, list *protocol.Condemned) error {
	if !p.does(stepListLeases) {
		return nil
	}
	leases, err := p.listLeases(ctx)
	if err != nil {
		return err
	}
	for _, l := range inOrder(leases) {
		// An end that is there too may vanish yet: await knows.
		id, err := protocol.ParseLeaseID(l.id)
		if err == nil && (l.begun || !l.ended) && !p.isOwn(l.id) {
			list.Leases = append(list.Leases, id)
		}
	}
	return nil
}

func (p *pruner) isOwn(lease string) bool { return p.lease != nil && p.lease.id.String() == lease }

// await waits until none of the leases can commit any more what it began before it
// could see the list. It reports false if some run on, and the prune is not to wait.
func (p *pruner) await(ctx context.Context, waited []protocol.LeaseID) (ended bool, err error) {
	for {
		leases, err := p.listLeases(ctx)
		if err != nil {
			return false, err
		}
		var running []*leaseState
		for _, id := range waited {
			// What left nothing has ended: the end is the last object to go.
			l := leases[id.String()]
			if l == nil || p.isOwn(l.id) {
				continue
			}
			if ended, err := p.hasEnded(ctx, l); err != nil {
				return false, err
			} else if !ended {
				running = append(running, l)
			}
		}
		p.report.Waiting = nil
		if len(running) == 0 {
			return true, nil
		}
		for _, l := range running {
			p.report.Waiting = append(p.report.Waiting, p.waitingRun(ctx, l))
		}
		if !p.opts.Wait {
			return false, nil
		}
		// Another prune may wait too, and must not wait for this one.
		if err := p.release(ctx); err != nil {
			return false, err
		}
		p.progress("running snapshots", 0, int64(len(running)))
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// hasEnded reports whether a lease has ended for good. One whose run shows no sign of life it
// ends itself: if the run lives, it notices when it commits.
func (p *pruner) hasEnded(ctx context.Context, l *leaseState) (bool, error) {
	if l.ended && !l.begun {
		return true, nil // whoever deleted the begin knew that the end stays
	}
	if !l.ended && !p.isSilent(l) {
		if revoked, err := p.isRevoked(ctx, l); !revoked || err != nil {
			return false, err
		}
	}
	// An end that is merely seen could vanish with the power, and then its place is free
	// for a commit. That another can't be put there promises that it won't.
	id, err := protocol.ParseLeaseID(l.id)
	if err != nil {
		return false, stopped(damaged(leasesPrefix+l.id, err))
	}
	s, err := p.sealer()
	if err != nil {
		return false, err
	}
	end := protocol.End{Lease: id, Time: p.Repository.opts.Now(), Outcome: protocol.Fenced}
	object, err := end.Seal(s)
	if err != nil {
		return false, err
	}
	name := leaseName(id, "end")
	err = backend.PutBytes(ctx, p.storage, name, object)
	if err != nil && !errors.Is(err, backend.ErrExist) {
		err = backend.PutBytes(ctx, p.storage, name, object) // perhaps only the answer was lost
	}
	if err != nil && !errors.Is(err, backend.ErrExist) {
		return false, fmt.Errorf("fence off a run that was last seen at %s: %w", l.modified.Format(time.DateTime), err)
	}
	if !l.ended {
		p.report.Fenced++
	}
	l.ended = true
	return true, nil
}

// isRevoked reports whether a run's key was taken back since it began. Whoever has stolen
// one could go on to show signs of life for ever.
func (p *pruner) isRevoked(ctx context.Context, l *leaseState) (bool, error) {
	object, err := readWhole(ctx, p.storage, leasesPrefix+l.id+"/begin", maxLease)
	if errors.Is(err, backend.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, stopped(fmt.Errorf("read lease: %w", err))
	}
	_, by, err := protocol.OpenBegin(object, p.ring)
	if errors.Is(err, seal.ErrNoKey) {
		return false, nil // of an epoch that began after this run
	}
	if err != nil {
		return false, stopped(damaged(leasesPrefix+l.id+"/begin", err))
	}
	now, ok := p.config.Current(by.Place.Domain)
	return ok && !p.config.MayWrite(by.Signer, now), nil
}

// waitingRun says who a lease is of.
func (p *pruner) waitingRun(ctx context.Context, l *leaseState) WaitingRun {
	w := WaitingRun{Seen: l.modified}
	w.Lease, _ = protocol.ParseLeaseID(l.id)
	object, err := readWhole(ctx, p.storage, leaseName(w.Lease, "begin"), maxLease)
	if err != nil {
		return w // for people only
	}
	if b, _, err := protocol.OpenBegin(object, p.ring); err == nil {
		w.Host, w.Begun = b.Host, b.Time
	}
	return w
}

// setClock learns how far the storage's clock is ahead of this machine's.
func (p *pruner) setClock(ctx context.Context) error {
	info, err := p.storage.Stat(ctx, leaseName(p.lease.id, "begin"))
	if errors.Is(err, backend.ErrNotExist) {
		return nil // fenced and cleaned up already, by whoever thinks so
	}
	if err != nil {
		return fmt.Errorf("read the storage's time: %w", err)
	}
	p.ahead = info.Modified.Sub(p.Repository.opts.Now())
	return nil
}

// now is the storage's time.
func (p *pruner) now() time.Time { return p.Repository.opts.Now().Add(p.ahead) }

// isSilent reports whether a run has shown no sign of life for too long.
func (p *pruner) isSilent(l *leaseState) bool {
	return p.opts.Patience < 0 || p.now().Sub(l.modified) > p.opts.Patience
}

// spare takes the packs from a list that must stay: somebody who did not see the list has
// come to need them.
func (p *pruner) spare(ctx context.Context, list *protocol.Condemned) error {
	if !p.does(stepRemark) {
		return nil
	}
	same, err := p.isUnchanged(ctx, list)
	if same || err != nil {
		return err
	}
	if err := p.look(ctx, list); err != nil {
		return err
	}
	list.Packs = slices.DeleteFunc(list.Packs, func(c protocol.CondemnedPack) bool {
		f := p.packs[c.ID]
		if f == nil || !f.isLive() {
			return false
		}
		p.uncount(f)
		return true
	})
	return nil
}

// uncount takes a pack that stays from those that go.
func (p *pruner) uncount(f *prunedPack) {
	if as := p.planned[f.id]; as != nil {
		as.drop(f.size)
	} else if p.adopted[f.id] {
		p.report.Adopted.drop(f.size)
	}
	delete(p.planned, f.id)
	delete(p.adopted, f.id)
}

// isUnchanged reports whether the snapshots are those for which this run has found
// all packs of the list dead. That spares marking again: the homes of what the snapshots
// need can't have gone since, as only what is on the list may.
func (p *pruner) isUnchanged(ctx context.Context, list *protocol.Condemned) (bool, error) {
	for _, c := range list.Packs {
		if p.planned[c.ID] == nil {
			return false, nil
		}
	}
	if p.set == nil {
		return false, nil
	}
	now, err := p.soundSnapshots(ctx)
	if err != nil {
		return false, err
	}
	// Fewer are no reason to mark again: what was dead stays so.
	for id := range now.byID {
		if _, ok := p.set.byID[id]; !ok {
			return false, nil
		}
	}
	return true, nil
}
