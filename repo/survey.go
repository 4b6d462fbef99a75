package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// surveySegments compares what segments say with the packs' directories.
func (p *repairer) surveySegments(ctx context.Context) error {
	segments, err := p.listSegments(ctx, func(string, error) {})
	if err != nil {
		return err
	}
	// The packs are listed after the segments that name them. In the other order, a
	// writer's pack could come between the listings, and lose its name with a segment that
	// is superseded because of another pack.
	if p.packs, err = p.listPacks(ctx, func(string, error) {}); err != nil {
		return err
	}
	n := int64(0)
	local, err := p.index()
	if err != nil {
		return err
	}
	for _, id := range slices.SortedFunc(maps.Keys(segments), index.SegmentID.Compare) {
		if superseded, err := local.Superseded(id); superseded || err != nil {
			if err != nil {
				return fmt.Errorf("read the local index: %w", err)
			}
			continue
		}
		s, err := p.readSegment(ctx, id)
		switch {
		case errors.Is(err, ErrDamage):
			p.segments[id] = err
		case errors.Is(err, backend.ErrNotExist), errors.Is(err, seal.ErrNoKey):
		case err != nil:
			return err
		default:
			if err := p.compare(ctx, s); err != nil {
				return err
			}
		}
		n++
		p.progress("index", n, int64(len(segments)))
	}
	return nil
}

// compare compares a segment with the directories of its packs.
func (p *repairer) compare(ctx context.Context, s *index.Segment) error {
	if s.Signer == p.config.Admin && len(s.Supersedes) > 0 {
		p.replaced[s.ID] = s.Supersedes
	}
	said := make(map[pack.ID][]pack.Entry, len(s.Packs))
	for e := range s.Entries() {
		id := s.Packs[e.Pack].ID
		said[id] = append(said[id], e.Entry)
	}
	files := make(map[pack.ID]index.Pack, len(s.Packs))
	var there []backend.Info
	for _, f := range s.Packs {
		ok, err := p.isThere(ctx, f)
		if err != nil {
			return err
		}
		if !ok {
			continue // nobody relies on it, and the segment tells what was in it
		}
		files[f.ID] = f
		there = append(there, p.packs[f.ID])
	}
	return p.eachDirectory(ctx, slices.Values(there), func(info backend.Info, entries []pack.Entry, err error) {
		f := files[packIDOf(info)]
		slices.SortFunc(said[f.ID], byOffset)
		switch {
		case errors.Is(err, seal.ErrNoKey):
			return
		case errors.Is(err, seal.ErrNewer):
			p.spared[f.ID] = true
		case p.condemned[f.ID] && err == nil:
			return // prune's affair
		case err != nil:
			b := p.spoil(f.ID, err)
			b.entries = append(b.entries, said[f.ID]...)
		case packKindOf(info.Name) != f.Kind || info.Size != f.Size || !slices.Equal(entries, said[f.ID]):
			p.segments[s.ID] = fmt.Errorf("it says of pack %s what the pack's directory does not", f.ID.Short())
		default:
			p.truly[f.ID] = append(p.truly[f.ID], s.ID)
			p.vouched[f.ID] = p.vouched[f.ID] || s.Signer == p.config.Admin
		}
		p.named[f.ID] = append(p.named[f.ID], s.ID)
	})
}

// isThere reports whether a pack that a segment names is stored. A listing may have
// left it out.
func (p *repairer) isThere(ctx context.Context, f index.Pack) (bool, error) {
	if _, ok := p.packs[f.ID]; ok {
		return true, nil
	}
	info, err := p.storage.Stat(ctx, packName(f.Kind, f.ID))
	if errors.Is(err, backend.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a pack: %w", err)
	}
	p.packs[f.ID] = info
	return true, nil
}

// spoil notes that a pack is damaged. If there is no room for it on the condemned list it is
// left alone, with all that is said of it, and what is returned serves nothing.
func (p *repairer) spoil(id pack.ID, err error) *badPack {
	b := p.bad[id]
	if b == nil {
		b = &badPack{err: err}
		if len(p.bad) >= min(cmp.Or(p.atOnce, condemnAtOnce), maxCondemned/40-len(p.condemned)) { // 33 bytes each, and leases
			if !p.spared[id] {
				p.later++
			}
			p.spared[id] = true
			return b
		}
		p.bad[id] = b
	}
	return b
}

// surveyPacks reads the directories of the packs that no segment names.
func (p *repairer) surveyPacks(ctx context.Context) error {
	var unnamed []backend.Info
	for _, id := range slices.SortedFunc(maps.Keys(p.packs), pack.ID.Compare) {
		info := p.packs[id]
		if !p.condemned[id] && len(p.named[id]) == 0 {
			unnamed = append(unnamed, info)
		}
	}
	return p.eachDirectory(ctx, slices.Values(unnamed), func(info backend.Info, _ []pack.Entry, err error) {
		id := packIDOf(info)
		switch {
		case errors.Is(err, seal.ErrNoKey):
			delete(p.packs, id) // of an epoch that began after this repair: not its to judge
		case errors.Is(err, seal.ErrNewer):
			p.spared[id] = true
		case err != nil:
			p.spoil(id, err)
		}
	})
}

// readPacks reads the packs of the sample, and those under suspicion.
func (p *repairer) readPacks(ctx context.Context) error {
	var candidates, packs []backend.Info
	for _, id := range slices.SortedFunc(maps.Keys(p.packs), pack.ID.Compare) {
		info := p.packs[id]
		switch {
		case p.condemned[id] || p.bad[id] != nil:
		case p.suspects[id]:
			packs = append(packs, info)
		default:
			candidates = append(candidates, info)
		}
	}
	sample, err := p.verified.sample(candidates, p.opts.Read)
	if err != nil {
		return err
	}
	packs = append(packs, sample...)
	for n, info := range packs {
		p.progress("packs", int64(n), int64(len(packs)))
		if err := p.prove(ctx, info); err != nil {
			return err
		}
	}
	return nil
}

// prove reads a pack.
func (p *repairer) prove(ctx context.Context, info backend.Info) error {
	id := packIDOf(info)
	s, err := p.readPack(ctx, info)
	if err != nil {
		return err
	}
	if err := p.verified.note(info, s.err == nil); err != nil {
		return err
	}
	if s.err == nil && len(s.baseless) == 0 {
		p.proven[id] = true
		return nil
	}
	if s.err == nil {
		// Nothing is wrong with it. But nobody can tell what its deltas are, so the admin
		// does not come to vouch for it.
		p.spared[id] = p.spared[id] || !p.vouched[id]
		return nil
	}
	if errors.Is(s.err, seal.ErrNewer) {
		p.spared[id] = true
		return nil
	}
	p.spoil(id, s.err).entries = s.entries
	return nil
}

// resolve decides which segments to supersede and which packs to name anew.
func (p *repairer) resolve(ctx context.Context) error {
	for {
		for id, b := range p.bad {
			for _, s := range p.named[id] {
				if p.segments[s] == nil {
					p.segments[s] = fmt.Errorf("it names pack %s: %w", id.Short(), b.err)
				}
			}
		}
		found := false
		for _, id := range slices.SortedFunc(maps.Keys(p.packs), pack.ID.Compare) {
			info := p.packs[id]
			if p.condemned[id] || p.bad[id] != nil || p.spared[id] || p.isNamed(id) || p.vouched[id] || p.proven[id] {
				continue
			}
			trusted, err := p.onlyAdminWrites(ctx, id, info)
			if err != nil {
				return err
			}
			if trusted {
				p.vouched[id] = true
				continue
			}
			// A segment of the admin makes all writers rely on what it names. So
			// what others have written is read first, as they could have put junk under
			// a known ID.
			if err := p.prove(ctx, info); err != nil {
				return err
			}
			found = found || p.bad[id] != nil
		}
		if !found {
			break
		}
	}
	for id := range p.spared {
		for _, s := range p.named[id] {
			delete(p.segments, s) // what it says of this pack nobody here can say again
		}
	}
	return nil
}

// isNamed reports whether segments speak truly of a pack, and none of them is to be
// superseded. What one of those says of a pack is said anew, although others may say it
// too: another repair may be about to supersede these, relying on the first.
func (p *repairer) isNamed(id pack.ID) bool {
	return len(p.truly[id]) > 0 && !slices.ContainsFunc(p.truly[id], func(s index.SegmentID) bool { return p.segments[s] != nil })
}

// onlyAdminWrites reports whether nobody but holders of the admin's key could ever
// make the directory of a pack.
func (p *repairer) onlyAdminWrites(ctx context.Context, id pack.ID, info backend.Info) (bool, error) {
	k, err := p.packKey(ctx, id, packKindOf(info.Name))
	if errors.Is(err, ErrDamage) {
		return false, nil // reading it will tell
	}
	if err != nil {
		return false, err
	}
	for _, w := range p.config.Writers {
		if w.Domain == k.Header.Place.Domain {
			return false, nil
		}
	}
	return true, nil
}

func byOffset(a, b pack.Entry) int { return cmp.Compare(a.Offset, b.Offset) }
