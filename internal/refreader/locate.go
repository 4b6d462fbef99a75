package refreader

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Section 8: index segments, and the finding of chunks with them or without.

// A location is one of the places where a chunk is.
type location struct {
	pack packRef
	frame
}

type listedPack struct {
	packRef
	size uint64
}

type segment struct {
	supersedes []ID
	packs      []listedPack
	bases      [][2]ID
	entries    []location
}

// parseSegment parses the plaintext of a segment's section.
func parseSegment(plain []byte) (s segment, err error) {
	c := newCursor(plain)
	s.supersedes = c.ids(uint64(c.u32()))
	s.packs = make([]listedPack, c.count(uint64(c.u32()), 32+1+8))
	for i := range s.packs {
		p := &s.packs[i]
		p.id, p.kind, p.size = c.id(), c.u8(), c.u64()
		c.require(i == 0 || less(s.packs[i-1].id[:], p.id[:]), "packs are not in order")
		c.require(p.kind == kindData || p.kind == kindMeta, "pack of kind %q", p.kind)
		c.require(p.size >= packPreamble+packTrailer && p.size <= math.MaxUint32, "pack of %d bytes", p.size)
	}
	s.bases = make([][2]ID, c.count(uint64(c.u32()), 64))
	for i := range s.bases {
		s.bases[i] = [2]ID{c.id(), c.id()}
		c.require(i == 0 || less(pairKey(s.bases[i-1]), pairKey(s.bases[i])), "bases are not in order")
	}
	s.entries = make([]location, c.count(uint64(c.u32()), 56))
	var last []byte
	for i := range s.entries {
		id, pack := c.id(), c.u32()
		f := frame{id: id, offset: c.u32(), stored: c.u32(), raw: c.u32()}
		base := c.u32()
		f.kind, f.encoding = c.u8(), c.u8()
		c.require(isZero(c.fixed(2)), "bytes that must be zero are not")

		order := sortKey(id, pack, f.offset)
		c.require(i == 0 || less(last, order), "entries are not in order")
		last = order
		c.require(uint64(pack) < uint64(len(s.packs)), "no pack %d", pack)
		c.require((base == math.MaxUint32) == (f.encoding != encodingDelta), "base does not fit encoding %d", f.encoding)
		c.require(base == math.MaxUint32 || uint64(base) < uint64(len(s.bases)), "no base %d", base)
		if c.err != nil {
			break
		}
		p := s.packs[pack]
		if base != math.MaxUint32 {
			f.bases = s.bases[base]
		}
		c.err = f.check(p.kind)
		c.require(f.offset >= packPreamble && uint64(f.offset)+uint64(f.stored) <= p.size, "frame lies outside of its pack")
		s.entries[i] = location{p.packRef, f}
	}
	return s, c.endPadded()
}

// pairKey is two bases as bytes that compare in their order.
func pairKey(p [2]ID) []byte { return append(p[0][:len(p[0]):len(p[0])], p[1][:]...) }

// sortKey is (ID, pack, offset) as bytes that compare in that order.
func sortKey(id ID, pack, offset uint32) []byte {
	return append(id[:len(id):len(id)], byte(pack>>24), byte(pack>>16), byte(pack>>8), byte(pack),
		byte(offset>>24), byte(offset>>16), byte(offset>>8), byte(offset))
}

// locateBySegments fills r.homes from the index.
func (r *Repo) locateBySegments() error {
	names, err := r.list("index")
	if err != nil {
		return err
	}
	segments := make(map[ID]segment)
	superseded := make(map[ID]bool)
	for _, id := range names {
		o, err := r.load("index/"+id.String(), kindSegment)
		if err != nil {
			return err
		}
		s, err := openParse(r, o, parseSegment)
		if err == nil && len(s.supersedes) > 0 && o.signer != r.config.admin {
			err = errors.New("supersedes others without the admin key's signature")
		}
		if err != nil {
			return fmt.Errorf("index/%v: %w", id, err)
		}
		for _, old := range s.supersedes {
			superseded[old] = true
		}
		segments[id] = s
	}
	for id, s := range segments {
		if superseded[id] {
			continue
		}
		for _, p := range s.packs {
			// A segment is a hint: it may outlive its packs. Those that exist are as it says.
			if size, ok := r.listed[p.packRef]; ok && size != p.size {
				return fmt.Errorf("index/%v: %v has %d bytes, not %d", id, p.packRef, size, p.size)
			}
		}
		for _, l := range s.entries {
			if _, ok := r.listed[l.pack]; ok {
				r.addHome(l)
			}
		}
	}
	return nil
}

// locateByDirectories fills r.homes from the packs alone, as after the loss of all segments.
func (r *Repo) locateByDirectories() error {
	for ref := range r.listed {
		p, err := r.pack(ref)
		if err != nil {
			return err
		}
		for _, f := range p.frames {
			r.addHome(location{ref, f})
		}
	}
	return nil
}

// addHome records a place of a chunk unless prune has condemned the pack for good. A pack that only
// waits for its sentence may hold the only copy of a chunk that came alive again: it comes last.
func (r *Repo) addHome(l location) {
	homes := r.homes[l.id]
	switch {
	case r.condemned.packs[l.pack] && r.condemned.phase == phaseFinal:
		return
	case r.condemned.packs[l.pack]:
		homes = append(homes, l)
	default:
		homes = append([]location{l}, homes...)
	}
	r.homes[l.id] = homes
}

// chunk returns the plaintext of a chunk. Where it has several homes a good one suffices: a writer
// whose key was stolen can publish junk under a known ID, which must not hide the honest copy.
func (r *Repo) chunk(id ID, kind uint8) ([]byte, error) {
	if r.recent.id == id && r.recent.kind == kind {
		return r.recent.plain, nil
	}
	if len(r.homes[id]) == 0 {
		return nil, fmt.Errorf("chunk %v is in no pack", id)
	}
	var errs []error
	for _, l := range r.homes[id] {
		plain, err := r.readHome(l, kind)
		if err != nil {
			errs = append(errs, fmt.Errorf("chunk %v in %v: %w", id, l.pack, err))
			continue
		}
		r.recent.id, r.recent.kind, r.recent.plain = id, kind, plain
		return plain, nil
	}
	return nil, errors.Join(errs...)
}

func (r *Repo) readHome(l location, kind uint8) ([]byte, error) {
	if l.kind != kind {
		return nil, fmt.Errorf("is of kind %d, not %d", l.kind, kind)
	}
	p, err := r.pack(l.pack)
	if err != nil {
		return nil, err
	}
	return p.read(l.frame, r.whole)
}

// whole returns a data chunk from a home that is no delta, as deltas want their bases.
func (r *Repo) whole(id ID) ([]byte, error) {
	errs := []error{fmt.Errorf("chunk %v cannot be had whole", id)}
	for _, l := range r.homes[id] {
		if l.encoding == encodingDelta {
			continue
		}
		plain, err := r.readHome(l, chunkData)
		if err == nil {
			return plain, nil
		}
		errs = append(errs, fmt.Errorf("in %v: %w", l.pack, err))
	}
	return nil, errors.Join(errs...)
}

// Check reads every frame of every pack, and compares every location with the directory of its pack.
// It is stricter than reading: one bad copy of a chunk fails it, even if there are good ones. A delta of
// which a base is nowhere is not one: prune deletes what nothing needs.
func (r *Repo) Check() error {
	for ref := range r.listed {
		p, err := r.pack(ref)
		if err != nil {
			return err
		}
		for _, f := range p.frames {
			if !r.hasBases(f) {
				continue
			}
			if _, err := p.read(f, r.whole); err != nil {
				return fmt.Errorf("%v: chunk %v: %w", ref, f.id, err)
			}
		}
	}
	for id, homes := range r.homes {
		for _, l := range homes {
			p, err := r.pack(l.pack)
			if err != nil {
				return err
			}
			if p.at[l.offset] != l.frame {
				return fmt.Errorf("index and directory of %v disagree about chunk %v", l.pack, id)
			}
		}
	}
	return nil
}

// hasBases reports whether some pack has each base of a frame whole.
func (r *Repo) hasBases(f frame) bool {
	for _, id := range f.bases {
		if id != (ID{}) && !slices.ContainsFunc(r.homes[id], func(l location) bool { return l.encoding != encodingDelta }) {
			return false
		}
	}
	return true
}

// openParse opens the section that is all of o's body and parses its plaintext.
func openParse[T any](r *Repo, o signed, parse func([]byte) (T, error)) (T, error) {
	plain, err := r.openSection(o.realm, o.raw, o.body)
	if err != nil {
		var none T
		return none, err
	}
	return parse(plain)
}
