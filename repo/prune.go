package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/snapshot"
)

// PruneOptions say how far a prune goes.
type PruneOptions struct {
	// MaxUnused is how much of the packs that stay may be of no use to any
	// snapshot. Of packs of which only a part is needed, so many are written anew,
	// the emptiest first. 100 percent: none.
	MaxUnused Sample
	// MaxRepack bounds the bytes of packs that are written anew, if it isn't 0.
	MaxRepack int64
	// MaxVerify bounds the bytes of other writers' packs that are read, so that
	// the admin can sign that they are good, if it isn't 0.
	MaxVerify int64
	// Cold: read, write anew and delete packs in cold storage too.
	Cold bool
	// Wait until the runs have ended that may rely on what is to go. Otherwise the
	// next prune goes on from there.
	Wait bool
	// Patience is for how long, by the storage's clock, a run must have shown no sign
	// of life before it is fenced off. 0 means an hour, less than 0 none at all: runs that
	// are alive, too, have to begin again then.
	Patience time.Duration
	// Host is named in the lease.
	Host string
	// DryRun: find out what to do, and do nothing.
	DryRun bool
	// Progress is as in CheckOptions.
	Progress func(phase string, done, total int64)
}

const (
	// patience is 30 beats.
	patience = 30 * beatEvery
	// pollEvery is how often a prune that waits looks again.
	pollEvery = 5 * time.Second
)

// Amount is a number of packs.
type Amount struct {
	Packs int
	Bytes int64
}

func (a *Amount) add(size int64)  { a.Packs++; a.Bytes += size }
func (a *Amount) drop(size int64) { a.Packs--; a.Bytes -= size }

// PruneReport is what a prune found and did.
type PruneReport struct {
	Snapshots int       // that stay
	Stored    Amount    // before
	Live      int64     // bytes of Stored that snapshots need
	Dead      Amount    // packs that no snapshot needs
	Repacked  Amount    // packs that are written anew
	Rewritten Amount    // the packs that take their places; in a dry run about so many
	Verified  Amount    // packs of other writers that were found good, and signed for
	Damaged   []pack.ID // sorted
	Recent    Amount    // packs that are left alone since a run may be about to use them
	Cold      Amount    // packs that would go, but lie in cold storage
	Later     Amount    // packs that no snapshot needs, too many to condemn at once: the next prune does
	// Unused is how many bytes of the packs that stay no snapshot needs.
	Unused int64

	// Adopted are packs that an earlier prune, or a repair, had on its list, and that
	// were still there.
	Adopted Amount
	// Freed are the packs that were deleted, those of an earlier prune included.
	Freed Amount
	// Waiting are the runs for which the deleting waits, if it does.
	Waiting []WaitingRun
	Fenced  int // runs that were found dead
	// Manifests of forgotten snapshots, superseded index segments and ended leases that
	// were deleted.
	Manifests, Segments, Leases int
}

// Frees returns by how much the packs shrink, when all of what was condemned is deleted.
func (r *PruneReport) Frees() int64 {
	return r.Adopted.Bytes + r.Dead.Bytes + r.Repacked.Bytes - r.Rewritten.Bytes
}

// WaitingRun is a run that may rely on what is to be deleted.
type WaitingRun struct {
	Lease protocol.LeaseID
	Host  string // empty if it can't be read
	Begun time.Time
	Seen  time.Time // its last sign of life, by the storage's clock
}

// Prune frees what no snapshot needs. It works beside writers, readers and other
// prunes, on whatever machine, and can be killed at any point: the next goes on. The
// steps and why they are enough are in docs/protocol.md.
//
// It needs full access. It stops, with an error that matches ErrDamage, if anything
// that says what is needed is damaged, missing or from a newer version of this program,
// and then deletes nothing. What a report says is true after an error too.
func (r *Repository) Prune(ctx context.Context, o PruneOptions) (*PruneReport, error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	if o.Patience == 0 {
		o.Patience = patience
	}
	p := &pruner{Repository: r, opts: o, moved: newMover(r), adopted: make(map[pack.ID]bool), broken: make(map[pack.ID]bool)}
	err := p.run(ctx)
	p.report.Damaged = slices.SortedFunc(maps.Keys(p.broken), pack.ID.Compare)
	if errors.Is(err, backend.ErrConflict) {
		err = fmt.Errorf("%w: another prune works at the same time; when it is done, prune again", ErrFenced)
	}
	return &p.report, err
}

// pruner is one run of Prune.
type pruner struct {
	*Repository
	opts   PruneOptions
	report PruneReport

	lease *lease        // until the packs are condemned
	ahead time.Duration // of the storage's clock
	moved mover

	// What the last survey found, see survey and mark.
	set       *SnapshotSet
	condemned map[pack.ID]bool
	final     bool // the condemned packs go, and are no homes any more
	packs     map[pack.ID]*prunedPack
	broken    map[pack.ID]bool // by this or an earlier survey
	orphans   []orphan
	marks     marks
	deltas    bool // there are chunks that are stored as deltas
	chunks    int  // that eachChunk has come by, all calls together
	again     int  // how often it has looked again

	// planned are the packs that this run has condemned, and where they are counted;
	// all of them were dead when the snapshots were those of set.
	planned map[pack.ID]*Amount
	adopted map[pack.ID]bool // those that others have condemned
	own     []byte           // the list that this run has made, if it has
	// passed are the snapshots that were forgotten for good when it was chosen what goes:
	// this run made sure of their tombstones.
	passed map[snapshot.ID]*Snapshot
}

func (p *pruner) progress(phase string, done, total int64) {
	if p.opts.Progress != nil {
		p.opts.Progress(phase, done, total)
	}
}

// pruneTries is how often a prune begins anew when others have changed the list, or the
// local index.
const pruneTries = 3

func (p *pruner) run(ctx context.Context) (err error) {
	if p.opts.DryRun {
		return p.predict(ctx)
	}
	defer func() { err = errors.Join(err, p.moved.abort(), p.release(ctx)) }()
	for try := 1; ; try++ {
		if err := p.begin(ctx); err != nil {
			return err
		}
		if empty, err := p.finish(ctx); err != nil {
			return err
		} else if !empty {
			return p.clean(ctx, false)
		}
		err := p.round(ctx)
		if err == nil {
			break
		}
		p.planned = nil
		if !errors.Is(err, backend.ErrConflict) && !(errors.Is(err, errVanished) && p.again < maxAgain) || try == pruneTries {
			return err
		}
	}
	empty, err := p.finish(ctx)
	if err != nil {
		return err
	}
	return p.clean(ctx, empty)
}

// begin takes a lease. It keeps other prunes from taking new packs for leftovers, and
// shows the storage's time. Nothing is safe because of it.
func (p *pruner) begin(ctx context.Context) (err error) {
	if p.lease != nil {
		return nil
	}
	if p.lease, err = p.takeLease(ctx, p.opts.Host); err != nil {
		return err
	}
	return p.setClock(ctx)
}

// release ends the lease.
func (p *pruner) release(ctx context.Context) error {
	l := p.lease
	p.lease = nil
	return l.abandon(context.WithoutCancel(ctx))
}

// predict does what a prune does, up to the first change.
func (p *pruner) predict(ctx context.Context) error {
	list, _, err := p.loadCondemned(ctx)
	if err != nil {
		return stopped(err)
	}
	if err := p.look(ctx, list); err != nil {
		return err
	}
	for id, f := range p.packs {
		if p.condemned[id] && !f.isLive() {
			p.report.Adopted.add(f.size)
		}
	}
	for _, f := range p.unverified() {
		f.assumed = true
		p.report.Verified.add(f.size)
	}
	if err := p.settle(); err != nil {
		return err
	}
	gone, again := p.plan()
	p.count(gone, again)
	for _, id := range again {
		p.report.Rewritten.Bytes += packSizeOf(p.packs[id])
	}
	return nil
}

// round finds what can go, saves what is needed of it, and condemns it. The error matches
// backend.ErrConflict if somebody else has changed the list since it began.
func (p *pruner) round(ctx context.Context) error {
	list, object, err := p.loadCondemned(ctx)
	if err != nil {
		return stopped(err)
	}
	if list.Phase != protocol.Empty {
		return fmt.Errorf("condemn packs: %w", backend.ErrConflict)
	}
	if err := p.begin(ctx); err != nil { // if the lease ended while it waited for the list before
		return err
	}
	if err := p.choose(ctx, list); err != nil {
		return p.unlessChanged(ctx, object, err)
	}
	// The list would wait for this lease, and other prunes with it.
	if err := p.release(ctx); err != nil || len(p.planned) == 0 {
		return err
	}
	return p.condemn(ctx, object)
}

// choose finds what can go, and saves what is needed of it.
func (p *pruner) choose(ctx context.Context, list *protocol.Condemned) error {
	if err := p.look(ctx, list); err != nil {
		return err
	}
	p.passed = p.set.gone
	if err := p.verify(ctx); err != nil {
		return err
	}
	gone, again, err := p.save(ctx)
	if err != nil {
		return err
	}
	p.count(gone, again)
	p.planned = make(map[pack.ID]*Amount, len(gone)+len(again))
	for _, id := range gone {
		p.planned[id] = &p.report.Dead
	}
	for _, id := range again {
		p.planned[id] = &p.report.Repacked
	}
	return nil
}

// save plans what goes, and copies what is needed of it. If a pack proves to be damaged
// that should have kept what others have too, it plans again.
func (p *pruner) save(ctx context.Context) (gone, again []pack.ID, err error) {
	for {
		gone, again = p.plan()
		done, err := p.repack(ctx, gone, again)
		if err != nil || len(done) == len(again) {
			return gone, done, err
		}
		if err := p.settle(); err != nil {
			return nil, nil, err
		}
	}
}

// count reports what goes.
func (p *pruner) count(gone, again []pack.ID) {
	p.report.Dead, p.report.Repacked = Amount{}, Amount{}
	for _, id := range gone {
		p.report.Dead.add(p.packs[id].size)
	}
	for _, id := range again {
		p.report.Repacked.add(p.packs[id].size)
		p.report.Unused -= p.packs[id].all - p.packs[id].live
	}
}
