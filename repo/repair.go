package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
)

// RepairOptions say how far a repair goes.
type RepairOptions struct {
	// Read says how much of the packs to read and authenticate, beside their
	// directories. Only reading finds a damaged frame.
	Read Sample
	// ForgetLost gives up what can't be had again of the chain: snapshots
	// whose manifests are lost get a tombstone, tombstones and ends of leases that
	// nobody can read go away.
	ForgetLost bool
	// Host is named in the lease.
	Host string
	// DryRun: find out what to do, and do nothing.
	DryRun bool
	// Progress is as in CheckOptions.
	Progress func(phase string, done, total int64)
}

// Fix is one thing that a repair did, or in a dry run would do.
type Fix struct {
	Object string // name in the storage
	What   string
}

// RepairReport is what a repair came to.
type RepairReport struct {
	Fixes []Fix
	// Left is what a check, without reading, found afterwards: what is lost.
	Left *Report
}

// Repair makes the index whole again from the packs' directories, saves what is
// good in damaged packs and condemns these, and puts back what this machine's
// cache has copies of. It deletes no pack and nothing that anybody can read. What is lost
// stays in the report of each check until a snapshot that meets the same
// contents has stored them again, which Repair makes sure that it does.
//
// It needs full access, and works beside writers. After an error the report has
// what was done before; running it again goes on from there.
func (r *Repository) Repair(ctx context.Context, o RepairOptions) (*RepairReport, error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	p := &repairer{
		Repository: r, opts: o,
		segments: make(map[index.SegmentID]error), replaced: make(map[index.SegmentID][]index.SegmentID),
		truly: make(map[pack.ID][]index.SegmentID), named: make(map[pack.ID][]index.SegmentID),
		vouched: make(map[pack.ID]bool), proven: make(map[pack.ID]bool),
		bad: make(map[pack.ID]*badPack), spared: make(map[pack.ID]bool), suspects: make(map[pack.ID]bool),
		verified: r.openVerified(),
	}
	p.saved = newRescue(p)
	err := errors.Join(p.run(ctx), p.verified.save())
	report := &RepairReport{Fixes: p.fixes}
	if err != nil {
		return report, err
	}
	report.Left, err = r.Check(ctx, CheckOptions{Progress: o.Progress})
	return report, err
}

// repairer is one run of Repair.
type repairer struct {
	*Repository
	opts  RepairOptions
	fixes []Fix

	set       *SnapshotSet
	packs     map[pack.ID]backend.Info
	condemned map[pack.ID]bool

	segments map[index.SegmentID]error             // that must no longer count, and why
	replaced map[index.SegmentID][]index.SegmentID // what a segment supersedes
	named    map[pack.ID][]index.SegmentID         // by pack: who names it
	truly    map[pack.ID][]index.SegmentID         // and says what the pack's directory says
	vouched  map[pack.ID]bool                      // the admin is among them
	proven   map[pack.ID]bool                      // read to its end, and good
	bad      map[pack.ID]*badPack
	spared   map[pack.ID]bool // left alone: by a newer version of this program, or one too many
	later    int              // damaged packs too many
	suspects map[pack.ID]bool // to be read, as a chunk could not be
	saved    *rescue
	encoder  *pack.Encoder // nil before it is needed
	verified *verified
}

// badPack is a pack to condemn.
type badPack struct {
	err     error
	entries []pack.Entry // of its directory, or as segments say
}

func (p *repairer) fixed(object, format string, args ...any) {
	p.fixes = append(p.fixes, Fix{object, fmt.Sprintf(format, args...)})
}

func (p *repairer) progress(phase string, done, total int64) {
	if p.opts.Progress != nil {
		p.opts.Progress(phase, done, total)
	}
}

// run does the work, in an order in which each step may be the last: what takes the place
// of something is there before that goes.
func (p *repairer) run(ctx context.Context) (err error) {
	if err := p.mendCondemned(ctx); err != nil {
		return err
	}
	if !p.opts.DryRun {
		// New packs stand in no segment for a while: the lease keeps prune from
		// taking them for leftovers.
		l, err := p.takeLease(ctx, p.opts.Host)
		if err != nil {
			return err
		}
		p.saved.lease = l.id.String()
		defer func() { err = errors.Join(err, l.abandon(context.WithoutCancel(ctx))) }()
	}
	defer func() { err = errors.Join(err, p.saved.abort()) }()
	for _, step := range []func(context.Context) error{
		p.learn, p.mendSlots, p.mendManifests, p.mendTombstones, p.forgetLost,
		p.surveySegments, p.surveyPacks, p.walkTrees, p.readPacks, p.resolve,
		p.rescueChunks, p.publish, p.condemn, p.mendLeases,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// learn reads what a writer reads, in the same order and for the same reason, but for
// the packs: surveySegments lists them later.
func (p *repairer) learn(ctx context.Context) (err error) {
	p.condemned, err = p.readCondemned(ctx)
	if err != nil && !(p.opts.DryRun && errors.Is(err, ErrDamage)) {
		return err
	}
	p.orphans.Store(nil)
	if err := p.loadIndex(ctx, func(string, error) {}); err != nil {
		return err
	}
	p.set, err = p.readSnapshots(ctx, nil)
	return err
}

// isHoused reports whether a chunk is in a sound pack that writers rely on; if that has a
// delta, then its bases too.
func (p *repairer) isHoused(ref Ref) (bool, error) {
	places, err := p.lookup(nil, ref.ID)
	if err != nil {
		return false, err
	}
	for _, x := range places {
		ok := p.isHome(ref, x)
		for _, id := range x.Entry.Bases.IDs() {
			if ok {
				if ok, err = p.isHousedWhole(Ref{id, ref.Kind}); err != nil {
					return false, err
				}
			}
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// isHousedWhole is isHoused for a chunk that others are differences to.
func (p *repairer) isHousedWhole(ref Ref) (bool, error) {
	places, err := p.lookup(nil, ref.ID)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(places, func(x index.Place) bool { return x.Entry.Encoding != pack.Delta && p.isHome(ref, x) }), nil
}

// isHome reports whether a place of a chunk is in a sound pack that writers rely on.
func (p *repairer) isHome(ref Ref, x index.Place) bool {
	return x.Entry.Kind == ref.Kind && p.bad[x.Pack] == nil && !p.spared[x.Pack] && !p.condemned[x.Pack] &&
		len(p.truly[x.Pack]) > 0 && (p.vouched[x.Pack] || p.proven[x.Pack])
}

// rescueChunks copies what is good in damaged packs.
func (p *repairer) rescueChunks(ctx context.Context) error {
	for _, id := range slices.SortedFunc(maps.Keys(p.bad), pack.ID.Compare) {
		b := p.bad[id]
		slices.SortFunc(b.entries, byOffset)
		b.entries = slices.Compact(b.entries)
		saved := 0
		s, err := p.scan(ctx, p.packs[id], b.entries, func(k *pack.Key, e pack.Entry, encoded, plaintext []byte) error {
			saved++
			if housed, err := p.isHoused(Ref{e.ID, e.Kind}); housed || err != nil {
				return err
			}
			return p.saved.keep(ctx, k.Header.Place, e, encoded, plaintext)
		})
		if err != nil {
			return err
		}
		lost, err := p.trulyLost(s.bad)
		if err != nil {
			return err
		}
		hung, why, err := p.hungOn(s.baseless)
		if err != nil {
			return err
		}
		p.fixed(p.packs[id].Name, "condemned, as it is damaged (%v): %d of its chunks are saved, %d lost%s", firstLine(b.err), saved, lost+hung, why)
	}
	return nil
}

// trulyLost counts the chunks that are nowhere else.
func (p *repairer) trulyLost(bad []Ref) (n int, err error) {
	for _, ref := range bad {
		housed, err := p.isHoused(ref)
		if err != nil {
			return n, err
		}
		if !housed && !p.saved.isSaved(ref.ID) {
			n++
		}
	}
	return n, nil
}

// hungOn counts the deltas that are lost with their bases, and names these.
func (p *repairer) hungOn(of []baseless) (n int, why string, err error) {
	lost, names := make(map[chunk.ID]bool), []string(nil)
	for _, b := range of {
		one, err := p.trulyLost([]Ref{b.Ref})
		if err != nil {
			return n, "", err
		}
		n += one
		if one > 0 && !lost[b.base] {
			lost[b.base] = true
			names = append(names, b.base.Short())
		}
	}
	if n == 0 {
		return 0, "", nil
	}
	more := ""
	if len(names) > maxNamed {
		names, more = names[:maxNamed], " and others"
	}
	return n, fmt.Sprintf(", %d of these as they are differences to chunk %s%s, lost before", n, strings.Join(names, ", "), more), nil
}

func firstLine(err error) string {
	var d *DamageError
	if errors.As(err, &d) {
		err = d.Err
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
