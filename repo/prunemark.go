package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// prunedPack is what a prune knows of a pack that is stored.
type prunedPack struct {
	id   pack.ID
	kind seal.Kind
	size int64

	// vouched: a segment of the admin names it. Then only what those say of it counts.
	vouched bool
	named   bool // by a segment, or read as an orphan
	recent  bool // stored after the oldest run began that still goes on
	cold    bool
	fixed   bool // can't be written anew: damaged, or with deltas whose bases can't be had
	damaged bool // found so by this run: nothing goes because of what it has
	assumed bool // to be good: a dry run verifies nothing

	// Bytes of frames: all, those that a snapshot needs from this pack, and of these
	// what no other pack could give.
	all, live, sole int64

	met int // number of the last chunk that eachChunk found in it
}

// isLive reports whether snapshots need the pack.
func (f *prunedPack) isLive() bool { return f.live > 0 }

// orphan is a chunk in a pack that no segment names.
type orphan struct {
	entry pack.Entry
	in    *prunedPack
}

// maxOrphans bounds the chunks of packs that no segment names: some 100 MB. What
// killed runs leave is far less.
const maxOrphans = 1 << 20

// maxAgain is how often a prune looks again.
const maxAgain = 2

// look finds out what is stored, and what the snapshots need of it. What seems to be lost
// may only have vanished from the local index, which other programs on this machine share:
// so it looks again, and with the index filled again, before it says so.
func (p *pruner) look(ctx context.Context, list *protocol.Condemned) error {
	for ; ; p.again++ {
		if err := p.survey(ctx, list); err != nil {
			return err
		}
		err := p.mark(ctx)
		if p.again == maxAgain || !errors.Is(err, errVanished) && !errors.Is(err, ErrDamage) {
			return err
		}
	}
}

// survey learns what is stored, in this order: a snapshot that it sees was committed before
// the packs are listed, so all that it needs is listed, and its segments are stored before
// they are listed.
func (p *pruner) survey(ctx context.Context, list *protocol.Condemned) (err error) {
	p.condemned = condemnedSet(list)
	p.final = list.Phase == protocol.Final
	if p.set, err = p.soundSnapshots(ctx); err != nil {
		return err
	}
	if err := p.listStored(ctx); err != nil {
		return err
	}
	var bad error
	err = p.loadIndex(ctx, func(name string, err error) {
		if bad == nil {
			bad = damaged(name, err)
		}
	})
	if err = errors.Join(err, bad); err != nil {
		return stopped(err)
	}
	return p.readNames(ctx)
}

// stopped says of an error that it is why prune stops.
func stopped(err error) error {
	if err == nil || !errors.Is(err, ErrDamage) {
		return err
	}
	return fmt.Errorf("prune stops, and deletes nothing: %w", err)
}

// soundSnapshots reads the chain of manifests, and the leases. Nothing may be wrong with
// it: what can't be read could be all that says that something is needed.
func (p *pruner) soundSnapshots(ctx context.Context) (*SnapshotSet, error) {
	set, err := p.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	if len(set.Damage) > 0 {
		return nil, stopped(fmt.Errorf("%w; run cairn repair, and if that can't mend it, cairn repair --forget-lost", set.Damage[0]))
	}
	for id := range set.hidden {
		return nil, fmt.Errorf("prune stops: snapshot %s is of an epoch that began after this run: prune again", id.Short())
	}
	for _, id := range set.hiddenEnds {
		// It may have brought back a snapshot of an epoch that this run knows.
		return nil, fmt.Errorf("prune stops: lease %.8s ended in an epoch that began after this run: prune again", id)
	}
	return set, p.holdTombstones(ctx, set)
}

// holdTombstones makes sure that the tombstones stay of what is not needed because of
// them. One that is merely seen, before the forget that puts it has its answer, could
// vanish with the power, and leave a snapshot without its packs.
func (p *pruner) holdTombstones(ctx context.Context, set *SnapshotSet) error {
	if p.opts.DryRun {
		return nil
	}
	return stopped(p.Repository.holdTombstones(ctx, slices.Collect(maps.Keys(set.gone))))
}

// listStored lists the packs, and notes which ones runs may be about to use. Those are left
// alone, so that a run does not have to store them again. That is a courtesy: what
// keeps them safe is that the condemned list waits.
func (p *pruner) listStored(ctx context.Context) error {
	leases, err := p.listLeases(ctx)
	if err != nil {
		return err
	}
	var since time.Time
	if err := p.verifyLeases(ctx, leases); err != nil {
		return err
	}
	for _, l := range inOrder(leases) {
		if l.ended || p.isOwn(l.id) || p.isSilent(l) || !since.IsZero() && !l.began.Before(since) {
			continue
		}
		if revoked, err := p.isRevoked(ctx, l); err != nil {
			return err
		} else if !revoked {
			since = l.began
		}
	}
	packs, err := p.listPacks(ctx, nil)
	if err != nil {
		return err
	}
	p.packs = make(map[pack.ID]*prunedPack, len(packs))
	p.report.Stored = Amount{}
	for id, info := range packs {
		p.packs[id] = &prunedPack{
			id: id, kind: packKindOf(info.Name), size: info.Size, cold: info.Cold,
			recent: !since.IsZero() && !info.Modified.Before(since),
		}
		p.report.Stored.add(info.Size)
	}
	return nil
}

// verifyLeases checks the begins and beats of all leases, many at once: a long run has
// hundreds.
func (p *pruner) verifyLeases(ctx context.Context, leases map[string]*leaseState) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(smallReads)
	for _, l := range inOrder(leases) {
		for _, name := range l.objects {
			g.Go(func() error {
				err := p.verifyLease(ctx, name)
				if errors.Is(err, backend.ErrNotExist) || errors.Is(err, seal.ErrNoKey) {
					return nil
				}
				return stopped(err)
			})
		}
	}
	return g.Wait()
}

// readNames notes which packs segments name, and reads the directories of the others.
func (p *pruner) readNames(ctx context.Context) error {
	local, err := p.index()
	if err != nil {
		return err
	}
	for k, err := range local.Packs() {
		if err != nil {
			return fmt.Errorf("read the local index: %w", err)
		}
		f := p.packs[k.ID]
		if f == nil || f.kind != k.Kind || f.size != k.Size {
			continue
		}
		f.named = true
		for _, by := range k.Signers {
			f.vouched = f.vouched || by.Signer == p.config.Admin
		}
	}
	var unnamed []backend.Info
	for id, f := range p.packs {
		// A condemned pack that no segment names has nothing that counts: it was damaged.
		if !f.named && !f.recent && !p.condemned[id] && (!f.cold || p.opts.Cold) {
			unnamed = append(unnamed, backend.Info{Name: packName(f.kind, id), Size: f.size})
		}
	}
	p.orphans = nil
	err = p.eachDirectory(ctx, slices.Values(unnamed), func(info backend.Info, entries []pack.Entry, err error) {
		f := p.packs[packIDOf(info)]
		if err != nil {
			if errors.Is(err, ErrDamage) {
				p.broken[f.id] = true
			}
			return // not its to judge
		}
		f.named = true
		for _, e := range entries {
			if len(p.orphans) <= maxOrphans {
				p.orphans = append(p.orphans, orphan{e, f})
			}
		}
	})
	if err != nil {
		return err
	}
	if len(p.orphans) > maxOrphans {
		return stopped(damaged(indexPrefix, fmt.Errorf("index segments are missing, as none names %d packs: run cairn repair first", len(unnamed))))
	}
	slices.SortFunc(p.orphans, func(a, b orphan) int { return compareChunks(a.entry.ID, b.entry.ID) })
	return nil
}

// mark finds out what the snapshots need, and from which packs.
func (p *pruner) mark(ctx context.Context) error {
	local, err := p.index()
	if err != nil {
		return err
	}
	stats, err := local.Stats()
	if err != nil {
		return fmt.Errorf("read the local index: %w", err)
	}
	p.marks = marks{prefixes: make([]uint64, 0, int(stats.Chunks)+len(p.orphans))} // growing it would take it twice
	deltas := false
	err = p.eachChunk(func(id chunk.ID, homes []home) error {
		p.marks.add(id)
		for _, h := range homes {
			deltas = deltas || h.entry.Encoding == pack.Delta
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.marks.ready()
	if err := p.markTrees(ctx); err != nil {
		return err
	}
	p.deltas = deltas && p.does(stepNeededFull)
	return p.settle()
}

// home is a place of a chunk that is stored.
type home struct {
	entry pack.Entry
	in    *prunedPack
}

func (h home) isWhole() bool { return h.entry.Encoding != pack.Delta }

// eachChunk calls fn for each chunk, in the order of their IDs, with the places that it has
// in stored packs, one a pack. What others than the admin say of a pack that the admin
// vouches for does not count.
func (p *pruner) eachChunk(fn func(id chunk.ID, homes []home) error) error {
	var (
		id       chunk.ID
		homes    []home
		bySource []*prunedPack
		orphans  = p.orphans
		nobody   = new(prunedPack) // whose word does not count
	)
	p.chunks++ // as the first one's ID may be that of no chunk
	flush := func() error {
		if len(homes) == 0 {
			return nil
		}
		err := fn(id, homes)
		homes = homes[:0]
		return err
	}
	add := func(e pack.Entry, in *prunedPack) error {
		if e.ID != id {
			if err := flush(); err != nil {
				return err
			}
			id = e.ID
			p.chunks++
		}
		if in.met != p.chunks {
			in.met = p.chunks
			homes = append(homes, home{e, in})
		}
		return nil
	}
	local, err := p.index()
	if err != nil {
		return err
	}
	for l, err := range local.Entries() {
		if err != nil {
			return err
		}
		for len(orphans) > 0 && bytes.Compare(orphans[0].entry.ID[:], l.Entry.ID[:]) <= 0 {
			if err := add(orphans[0].entry, orphans[0].in); err != nil {
				return err
			}
			orphans = orphans[1:]
		}
		for n := l.Source.Number; n >= len(bySource); {
			bySource = append(bySource, nil)
		}
		if bySource[l.Source.Number] == nil {
			bySource[l.Source.Number] = cmp.Or(p.counts(l.Source), nobody)
		}
		if in := bySource[l.Source.Number]; in != nobody {
			if err := add(l.Entry, in); err != nil {
				return err
			}
		}
	}
	for _, o := range orphans {
		if err := add(o.entry, o.in); err != nil {
			return err
		}
	}
	return flush()
}

// counts returns the pack of which a source's word counts, nil if it doesn't.
func (p *pruner) counts(s *index.Source) *prunedPack {
	f := p.packs[s.ID]
	if f == nil || f.kind != s.Kind || f.size != s.Size {
		return nil
	}
	if f.vouched && s.Signer != p.config.Admin && p.does(stepVouched) {
		return nil
	}
	if p.final && p.condemned[s.ID] {
		return nil // it goes, whoever needs it
	}
	return f
}
