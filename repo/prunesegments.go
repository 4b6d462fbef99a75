package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
)

// Index segments of at most smallSegment packs are joined when there are more than
// maxSmall of them: each snapshot publishes one, and each machine reads all.
const (
	smallSegment = 8
	maxSmall     = 64
)

// segmentClaims is what a segment says of packs.
type segmentClaims struct {
	id      index.SegmentID
	stays   int  // how many packs that it names stay
	dead    bool // names a pack that goes, or has gone
	foreign bool // names a pack that stays and that the admin does not vouch for
}

// supersede publishes segments that say the same as those that name dead packs, but for
// these.
func (p *pruner) supersede(ctx context.Context, stored map[pack.ID]int64, going map[pack.ID]bool) error {
	claims, err := p.segmentClaims(ctx, stored, going)
	if err != nil {
		return err
	}
	listed, err := p.listSegments(ctx, nil)
	if err != nil {
		return err
	}
	var replace []*segmentClaims
	small, err := p.claimless(claims, listed)
	if err != nil {
		return err
	}
	for _, s := range claims {
		switch {
		case s.foreign:
			// Its signer relies on what it says, and nobody else should.
		case s.dead:
			replace = append(replace, s)
		case s.stays <= smallSegment:
			small = append(small, s)
		}
	}
	if len(small) > maxSmall {
		replace = append(replace, small...)
	}
	if len(replace) == 0 {
		return nil
	}
	slices.SortFunc(replace, func(a, b *segmentClaims) int { return a.id.Compare(b.id) })
	writers := newSegments(p.Repository)
	for n, s := range replace {
		p.progress("index segments", int64(n), int64(len(replace)))
		if err := p.replaceSegment(ctx, s, staying{stored, going}, listed, writers); err != nil {
			return err
		}
	}
	return writers.flush(ctx)
}

// segmentClaims gathers what each segment says.
func (p *pruner) segmentClaims(ctx context.Context, stored map[pack.ID]int64, going map[pack.ID]bool) (map[index.SegmentID]*segmentClaims, error) {
	bySegment := make(map[index.SegmentID]*segmentClaims)
	var of []index.Claim // of one pack
	flush := func() error {
		if len(of) == 0 {
			return nil
		}
		if err := p.lookAgain(ctx, of[0].Pack, stored); err != nil {
			return err
		}
		vouched := slices.ContainsFunc(of, func(c index.Claim) bool { return c.Signer == p.config.Admin && c.Size == stored[c.ID] })
		for _, c := range of {
			s := bySegment[c.Segment]
			if s == nil {
				s = &segmentClaims{id: c.Segment}
				bySegment[c.Segment] = s
			}
			if going[c.ID] || stored[c.ID] != c.Size {
				s.dead = true
				continue
			}
			s.stays++
			s.foreign = s.foreign || !vouched
		}
		of = of[:0]
		return nil
	}
	local, err := p.index()
	if err != nil {
		return nil, err
	}
	for c, err := range local.Claims() {
		if err != nil {
			return nil, err
		}
		if len(of) > 0 && of[0].ID != c.ID {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		of = append(of, c)
	}
	return bySegment, flush()
}

// claimless returns the segments that count and name no pack: all that they do is supersede
// others, which are gone, mostly.
func (p *pruner) claimless(claims map[index.SegmentID]*segmentClaims, listed map[index.SegmentID]bool) (some []*segmentClaims, err error) {
	local, err := p.index()
	if err != nil {
		return nil, err
	}
	for id := range listed {
		if claims[id] != nil {
			continue
		}
		has, err := local.Has(id)
		superseded := false
		if err == nil {
			superseded, err = local.Superseded(id)
		}
		if err != nil {
			return nil, fmt.Errorf("read the local index: %w", err)
		}
		if has && !superseded {
			some = append(some, &segmentClaims{id: id})
		}
	}
	return some, nil
}

// lookAgain looks for a pack that was not listed: it may have come since.
func (p *pruner) lookAgain(ctx context.Context, f index.Pack, stored map[pack.ID]int64) error {
	if _, ok := stored[f.ID]; ok {
		return nil
	}
	info, err := p.storage.Stat(ctx, packName(f.Kind, f.ID))
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a pack: %w", err)
	}
	stored[f.ID] = info.Size
	return nil
}

// staying tells the packs that stay: those that are stored, and are not to go.
type staying struct {
	stored map[pack.ID]int64
	going  map[pack.ID]bool
}

// replaceSegment makes the segment to come say what this one says truly, and supersede it.
// What that is it takes from the segment: the local index may have changed since.
func (p *pruner) replaceSegment(ctx context.Context, s *segmentClaims, of staying, listed map[index.SegmentID]bool, writers segmentWriters) error {
	segment, err := p.readSegment(ctx, s.id)
	if errors.Is(err, backend.ErrNotExist) {
		return nil // superseded meanwhile
	}
	if err != nil {
		return stopped(err)
	}
	gone := []index.SegmentID{s.id}
	w := writers.of(segment.Header.Place)
	if segment.Signer == p.config.Admin {
		if err := p.sayAgain(ctx, segment, of, w); err != nil {
			return err
		}
		// Others' claims to supersede don't count, and must not come to.
		for _, was := range segment.Supersedes {
			if listed[was] {
				gone = append(gone, was) // or else it would count again
			}
		}
	} else if s.stays == 0 && !s.dead && len(segment.Packs) > 0 {
		return nil // nothing was known of it
	} // what others said, the admin has said too
	// Last, when all that is still true is said here or in segments that are stored.
	return w.add(ctx, nil, gone...)
}

// sayAgain adds what a segment says of the packs that stay: of not many more chunks at once
// than a segment gets.
func (p *pruner) sayAgain(ctx context.Context, s *index.Segment, of staying, w *segmentWriter) error {
	entries := make([]int, len(s.Packs))
	for e := range s.Entries() {
		entries[e.Pack]++
	}
	for next := 0; next < len(s.Packs); {
		at := make(map[int]int) // position in the segment -> in packs
		var packs []pack.Finished
		for n := 0; next < len(s.Packs) && n < segmentEntries; next++ {
			f := s.Packs[next]
			if err := p.lookAgain(ctx, f, of.stored); err != nil {
				return err
			}
			if !of.going[f.ID] && of.stored[f.ID] == f.Size {
				at[next] = len(packs)
				packs = append(packs, pack.Finished{ID: f.ID, Kind: f.Kind, Size: f.Size, Entries: make([]pack.Entry, 0, entries[next])})
				n += entries[next]
			}
		}
		for e := range s.Entries() {
			if i, ok := at[e.Pack]; ok {
				packs[i].Entries = append(packs[i].Entries, e.Entry)
			}
		}
		for _, f := range packs {
			slices.SortFunc(f.Entries, byOffset)
		}
		if err := w.add(ctx, packs); err != nil {
			return err
		}
	}
	return nil
}
