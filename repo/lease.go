package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// beatEvery is how often a writer shows that it lives. Prune is patient with
// those that do; safety does not hang on it.
const beatEvery = 2 * time.Minute

// maxLease bounds an object of a lease: an end holds a manifest.
const maxLease = maxManifest + 1<<16

// lease is a writer's announcement that it may rely on what it sees.
type lease struct {
	repo *Repository
	id   protocol.LeaseID
	stop func()
	done sync.WaitGroup

	beating chan struct{} // held by who writes a beat; not a mutex, as others may give up waiting
	mu      sync.Mutex
	beats   int // written; only who holds beating changes it

	tried bool // to commit: the end may be created at any time from then on
}

// sealer returns what this key seals objects of the protocol with.
func (r *Repository) sealer() (protocol.Sealer, error) {
	place, err := r.writePlace()
	if err != nil {
		return protocol.Sealer{}, err
	}
	keys, err := r.writeKeys()
	return protocol.Sealer{Random: r.opts.Random, Repository: r.id, Place: place, Keys: keys, Key: r.signing}, err
}

// takeLease creates a lease and keeps it alive.
func (r *Repository) takeLease(ctx context.Context, host string) (*lease, error) {
	l := &lease{repo: r, beating: make(chan struct{}, 1)}
	if _, err := io.ReadFull(r.opts.Random, l.id[:]); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	s, err := r.sealer()
	if err != nil {
		return nil, err
	}
	begin := protocol.Begin{Lease: l.id, Time: r.opts.Now(), Host: host, Process: uint64(os.Getpid())}
	object, err := begin.Seal(s)
	if err != nil {
		return nil, err
	}
	if r.does(stepLease) {
		if err := backend.PutBytes(ctx, r.storage, leaseName(l.id, "begin"), object); err != nil {
			return nil, fmt.Errorf("take a lease: %w", err)
		}
	}
	bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = cancel
	l.done.Go(func() { l.keepAlive(bctx) })
	return l, nil
}

// keepAlive writes beats until the lease ends. A beat that can't be written is
// no reason to stop: at worst the writer is fenced, and notices at commit.
func (l *lease) keepAlive(ctx context.Context) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := l.beat(ctx); err != nil && ctx.Err() == nil {
				l.repo.opts.Observer.warn(fmt.Errorf("write a beat: %w", err))
			}
		}
	}
}

func (l *lease) beat(ctx context.Context) error {
	select {
	case l.beating <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.beating }()
	r := l.repo
	s, err := r.sealer()
	if err != nil {
		return err
	}
	for {
		n := l.beats + 1
		beat := protocol.Beat{Lease: l.id, Number: uint64(n), Time: r.opts.Now()}
		object, err := beat.Seal(s)
		if err != nil {
			return err
		}
		err = backend.PutBytes(ctx, r.storage, leaseName(l.id, "beat-"+strconv.Itoa(n)), object)
		if err == nil || errors.Is(err, backend.ErrExist) {
			l.mu.Lock()
			l.beats = n
			l.mu.Unlock()
		}
		// A number that is taken, by a beat whose answer was lost or by somebody
		// else, must not keep the writer from showing that it lives.
		if !errors.Is(err, backend.ErrExist) {
			return err
		}
	}
}

// end writes the one end of the lease. It returns ErrFenced if somebody else
// did before. After a lost answer it asks again, and compares what is there with
// what it meant to write.
func (l *lease) end(ctx context.Context, outcome protocol.Outcome, manifest []byte) error {
	l.stop()
	l.done.Wait()
	r := l.repo
	s, err := r.sealer()
	if err != nil {
		return err
	}
	end := protocol.End{Lease: l.id, Time: r.opts.Now(), Outcome: outcome, Manifest: manifest}
	object, err := end.Seal(s)
	if err != nil {
		return err
	}
	if outcome == protocol.Committed {
		if err := l.stillThere(ctx); err != nil {
			return err
		}
	}
	name := leaseName(l.id, "end")
	l.tried = l.tried || outcome == protocol.Committed
	err = backend.PutBytes(ctx, r.storage, name, object)
	if err != nil && !errors.Is(err, backend.ErrExist) {
		// Perhaps it was stored, and only the answer was lost. To see it there would
		// not do: until it is acknowledged it may vanish with the power. ErrExist
		// promises that it won't.
		if again := backend.PutBytes(ctx, r.storage, name, object); again == nil || errors.Is(again, backend.ErrExist) {
			err = again
		}
	}
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, backend.ErrExist):
		return fmt.Errorf("end the lease: %w", err)
	}
	there, err := readWhole(ctx, r.storage, name, maxLease)
	switch {
	case err == nil && string(there) == string(object), !r.does(stepFenceCheck):
		return nil
	case err == nil, errors.Is(err, ErrDamage), errors.Is(err, backend.ErrNotExist): // by another, or ended and cleaned up since
		return ErrFenced
	}
	return fmt.Errorf("read the end of the lease: %w", err)
}

// stillThere returns ErrFenced if the begin of a lease has gone, by a hand that took it
// for a stale lock or by a storage that lost it: a prune since then has not waited for
// this writer. What it can't see is a begin that goes while the end is being written.
func (l *lease) stillThere(ctx context.Context) error {
	if !l.repo.does(stepLease) {
		return nil
	}
	_, err := l.repo.storage.Stat(ctx, leaseName(l.id, "begin"))
	switch {
	case errors.Is(err, backend.ErrNotExist):
		return fmt.Errorf("%w: the begin of the lease is gone", ErrFenced)
	case err != nil:
		return fmt.Errorf("look whether the lease is still there: %w", err)
	}
	return nil
}

// abandon ends the lease of a writer that gave up.
func (l *lease) abandon(ctx context.Context) error {
	if l == nil {
		return nil
	}
	// If there is another end already it may be a commit whose answer was lost, and
	// then it holds the only copy of the manifest: it must stay.
	err := l.end(ctx, protocol.Abandoned, nil)
	if errors.Is(err, ErrFenced) {
		return nil
	}
	if err == nil {
		// A commit that failed may still be on its way. The end that is there now keeps
		// it out, so it stays for good: nobody waits for this lease any more, and what the
		// snapshot needs may be gone when the commit arrives.
		l.clean(ctx, l.tried && l.repo.does(stepKeepEnds))
	}
	return err
}

// clean deletes the lease's objects, the end last, unless that is to be kept: what
// has an end and no begin is finished. A key without the right to delete leaves them
// to prune.
func (l *lease) clean(ctx context.Context, keepEnd bool) {
	names := []string{leaseName(l.id, "begin")}
	for n := 1; n <= l.beats; n++ {
		names = append(names, leaseName(l.id, "beat-"+strconv.Itoa(n)))
	}
	if !keepEnd {
		names = append(names, leaseName(l.id, "end"))
	}
	for _, name := range names {
		if err := l.repo.storage.Delete(ctx, name); err != nil && !errors.Is(err, backend.ErrNotExist) {
			return
		}
	}
}

// leaseState is what is stored of one lease.
type leaseState struct {
	id       string
	begun    bool
	ended    bool
	began    time.Time // of the oldest object
	modified time.Time // of the newest object
	endedAt  time.Time // modified of the end
	objects  []string
}

// inOrder returns leases in the order of their IDs.
func inOrder(leases map[string]*leaseState) []*leaseState {
	list := slices.Collect(maps.Values(leases))
	slices.SortFunc(list, func(a, b *leaseState) int { return strings.Compare(a.id, b.id) })
	return list
}

// listLeases returns the leases that have any object.
func (r *Repository) listLeases(ctx context.Context) (map[string]*leaseState, error) {
	leases := make(map[string]*leaseState)
	for info, err := range r.storage.List(ctx, leasesPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list leases: %w", err)
		}
		id, object, ok := splitLeaseName(info.Name)
		if !ok {
			continue
		}
		s := leases[id]
		if s == nil {
			s = &leaseState{id: id}
			leases[id] = s
		}
		s.objects = append(s.objects, info.Name)
		s.begun = s.begun || object == "begin"
		if object == "end" {
			s.ended, s.endedAt = true, info.Modified
		}
		if s.began.IsZero() || info.Modified.Before(s.began) {
			s.began = info.Modified
		}
		if info.Modified.After(s.modified) {
			s.modified = info.Modified
		}
	}
	return leases, nil
}

// verifyLease checks a begin or a beat. Ends are checked with the snapshots, as
// they may hold one.
func (r *Repository) verifyLease(ctx context.Context, name string) error {
	lease, object, _ := splitLeaseName(name)
	if object == "end" {
		return nil
	}
	b, err := readWhole(ctx, r.storage, name, maxLease)
	if err != nil {
		return fmt.Errorf("read lease: %w", err)
	}
	var id protocol.LeaseID
	var by protocol.Origin
	says, kind := "begin", seal.LeaseBegin
	if object == says {
		begin, o, oerr := protocol.OpenBegin(b, r.ring)
		id, by, err = begin.Lease, o, oerr
	} else {
		beat, o, oerr := protocol.OpenBeat(b, r.ring)
		id, by, err = beat.Lease, o, oerr
		says, kind = "beat-"+strconv.FormatUint(beat.Number, 10), seal.LeaseBeat
	}
	if err != nil {
		return r.unopened(ctx, name, kind, b, err)
	}
	if id.String() != lease || says != object || !r.config.MayWrite(by.Signer, by.Place) {
		return damaged(name, errors.New("it is not of this lease by somebody who may write one"))
	}
	return nil
}
