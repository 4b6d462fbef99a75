package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// surveySegments compares what segments say with the packs' directories.
func (p *repairer) surveySegments(ctx context.Context) error {
	n := int64(0)
	for info, err := range p.storage.List(ctx, indexPrefix) {
		if err != nil {
			return fmt.Errorf("list index segments: %w", err)
		}
		id, err := index.ParseSegmentID(strings.TrimPrefix(info.Name, indexPrefix))
		if err != nil {
			continue // of no name: no object of ours
		}
		if superseded, err := p.index().Superseded(id); superseded || err != nil {
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
		p.progress("index", n, 0)
	}
	return nil
}

// compare compares a segment with the directories of its packs.
func (p *repairer) compare(ctx context.Context, s *index.Segment) error {
	said := make([][]pack.Entry, len(s.Packs))
	for e := range s.Entries() {
		said[e.Pack] = append(said[e.Pack], e.Entry)
	}
	for i, f := range s.Packs {
		info, ok := p.packs[f.ID]
		if !ok || p.condemned[f.ID] {
			// Gone: nobody relies on it, and the segment tells what was in it. Or
			// going: prune's affair.
			continue
		}
		p.named[f.ID] = append(p.named[f.ID], s.ID)
		slices.SortFunc(said[i], byOffset)
		entries, err := p.readDirectory(ctx, info)
		switch {
		case errors.Is(err, ErrDamage):
			b := p.spoil(f.ID, err)
			b.entries = append(b.entries, said[i]...)
		case err != nil:
			return err
		case packKindOf(info.Name) != f.Kind || info.Size != f.Size || !slices.Equal(entries, said[i]):
			p.segments[s.ID] = fmt.Errorf("it says of pack %s what the pack's directory does not", f.ID.Short())
		default:
			p.truly[f.ID] = append(p.truly[f.ID], s.ID)
			p.vouched[f.ID] = p.vouched[f.ID] || s.Signer == p.config.Admin
		}
	}
	return nil
}

// spoil notes that a pack is damaged.
func (p *repairer) spoil(id pack.ID, err error) *badPack {
	b := p.bad[id]
	if b == nil {
		b = &badPack{err: err}
		p.bad[id] = b
	}
	return b
}

// surveyPacks reads the directories of the packs that no segment speaks truly of.
func (p *repairer) surveyPacks(ctx context.Context) error {
	for id, info := range p.packs {
		if p.condemned[id] || len(p.named[id]) > 0 {
			continue
		}
		if _, err := p.readDirectory(ctx, info); errors.Is(err, ErrDamage) {
			p.spoil(id, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// readPacks reads the packs of the sample, and those under suspicion.
func (p *repairer) readPacks(ctx context.Context) error {
	var candidates, packs []backend.Info
	for id, info := range p.packs {
		switch {
		case p.condemned[id] || p.bad[id] != nil:
		case p.suspects[id]:
			packs = append(packs, info)
		default:
			candidates = append(candidates, info)
		}
	}
	sample, err := p.sample(candidates, p.opts.Read)
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
	id, err := parsePackName(info.Name, info.Name[:len(dataPrefix)])
	if err != nil {
		return err
	}
	s, err := p.readPack(ctx, info)
	if err != nil {
		return err
	}
	if s.err == nil {
		p.proven[id] = true
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
		for id, info := range p.packs {
			if p.condemned[id] || p.bad[id] != nil || p.isNamed(id) || p.vouched[id] || p.proven[id] {
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
			return nil
		}
	}
}

// isNamed reports whether a segment that goes on to count speaks truly of a pack.
func (p *repairer) isNamed(id pack.ID) bool {
	return slices.ContainsFunc(p.truly[id], func(s index.SegmentID) bool { return p.segments[s] == nil })
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
