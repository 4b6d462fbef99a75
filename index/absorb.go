package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/seal"
)

// Absorb makes the local index know what the segments say. Those that it has
// absorbed already, or that are superseded, are passed over. The caller has
// checked that each signer may sign segments; a segment of admin supersedes those
// that it names, others' claims to supersede are ignored.
//
// A superseded segment counts as absorbed while the one that supersedes it is: its
// places vanish, and what it itself superseded is no longer superseded by it.
//
// A segment is absorbed whole or not at all, whatever happens; after an error, absorbing
// again is harmless. The segments must not change during the call. Who absorbs thousands
// of chunks at once calls Merge when all are absorbed.
func (l *Local) Absorb(ctx context.Context, admin seal.Signer, segments ...*Segment) error {
	if known, err := l.hasAll(segments); known || err != nil {
		return err // without shutting anybody out
	}
	todo := slices.Clone(segments)
	// Those that supersede go first, as that saves absorbing the others.
	slices.SortStableFunc(todo, func(a, b *Segment) int {
		return rank(a, admin) - rank(b, admin)
	})
	err := l.change(ctx, func(s *session) (bool, error) {
		if did, err := s.clean(); did || err != nil {
			return true, err
		}
		// Absorbing one can bring back another that it superseded in turn, so
		// look through all of them until none is missing.
		batch, err := s.missing(todo)
		if len(batch) == 0 || err != nil {
			return false, err
		}
		return true, s.absorb(batch, admin)
	})
	if err != nil {
		return fmt.Errorf("absorb index segments: %w", err)
	}
	return nil
}

func (l *Local) hasAll(segments []*Segment) (bool, error) {
	for _, s := range segments {
		if ok, err := l.Has(s.ID); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func rank(s *Segment, admin seal.Signer) int {
	if s.Signer == admin && len(s.Supersedes) > 0 {
		return 0
	}
	return 1
}

// missing returns the next segments to absorb: as many as fit into one transaction, or
// one that does not.
func (s *session) missing(segments []*Segment) (batch []*Segment, err error) {
	records := 0
	seen := make(map[SegmentID]bool)
	err = s.view(func(t *tables) error {
		for _, seg := range segments {
			_, found, err := t.name(seg.ID)
			if err != nil {
				return err
			}
			if found || seen[seg.ID] {
				continue
			}
			records += seg.Len()
			if len(batch) > 0 && records > stepRecords {
				return nil
			}
			batch = append(batch, seg)
			seen[seg.ID] = true
		}
		return nil
	})
	return batch, err
}

// segmentStream yields the records of a segment that is being absorbed.
type segmentStream struct {
	segment *Segment
	at      int
	ordinal uint32 // of its first pack
}

func (s *segmentStream) next(r *record) (bool, error) {
	if s.at == s.segment.Len() {
		return false, nil
	}
	e := s.segment.entry(s.at)
	s.at++
	*r = record{
		key: newKey(e.ID, s.ordinal+uint32(e.Pack), e.Offset), stored: e.Stored, raw: e.Raw,
		kind: e.Kind, encoding: e.Encoding, bases: e.Bases,
	}
	return true, nil
}

// absorb writes the segments as one run. The transaction that completes the run
// also writes all that is known of the segments.
func (s *session) absorb(segments []*Segment, admin seal.Signer) error {
	ordinal := s.current.nextOrdinal
	streams := make([]*segmentStream, len(segments))
	for i, seg := range segments {
		streams[i] = &segmentStream{segment: seg, ordinal: ordinal}
		if uint64(ordinal)+uint64(len(seg.Packs)) > math.MaxUint32 || s.current.nextSegment == math.MaxUint32 {
			return fmt.Errorf("%w: its numbers are used up", errDamaged) // a new file begins at 0
		}
		ordinal += uint32(len(seg.Packs))
	}
	m, err := newMerger(streams)
	if err != nil {
		return err
	}
	number, total := s.current.nextRun, 0
	for _, seg := range segments {
		total += seg.Len()
	}
	for begun, done := false, false; !done; begun = true {
		err := s.update(func(t *tables) (err error) {
			if !begun {
				s.current.begin(building, uint64(total))
			}
			var n int
			u := s.current.run(number)
			if n, err = t.appendRecords(u, m); err != nil {
				return err
			}
			if done = m.peek() == nil; !done {
				_, err = t.mergeSome(s.current, s.current.mergeWork(n))
				return err
			}
			u.role = settled
			if u.records == 0 {
				s.current.drop(number)
			}
			for _, st := range streams {
				if err := t.record(s.current, st, admin); err != nil {
					return err
				}
			}
			s.current.nextOrdinal = ordinal
			_, err = t.mergeSome(s.current, s.current.mergeWork(n))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// appendRecords writes as many records as a transaction may, and returns how many.
func (t *tables) appendRecords(u *run, m *merger) (n int, err error) {
	w, err := t.append(u)
	if err != nil {
		return 0, err
	}
	for ; n < stepRecords && m.peek() != nil; n++ {
		if err := w.add(m.peek()); err != nil {
			return n, err
		}
		if err := m.pop(); err != nil {
			return n, err
		}
	}
	return n, w.finish(m.peek())
}

// record writes down what is known of a segment whose records were written.
func (t *tables) record(st *state, s *segmentStream, admin seal.Signer) error {
	seg, n := s.segment, st.nextSegment
	st.nextSegment++
	for i, p := range seg.Packs {
		at := number(s.ordinal + uint32(i))
		if err := t.sources.put(at, source{pack: p, segment: n}.encode()); err != nil {
			return err
		}
		if err := t.packs.put(append(p.ID[:], at...), nil); err != nil {
			return err
		}
	}
	st.sources += uint64(len(seg.Packs))
	info := segmentInfo{
		id: seg.ID, signer: seg.Signer, place: seg.Header.Place,
		ordinal: s.ordinal, packs: uint32(len(seg.Packs)), records: uint64(seg.Len()), alive: true,
	}
	if err := t.segments.put(number(n), info.encode()); err != nil {
		return err
	}
	st.segments++
	err := t.rename(st, seg.ID, func(nm *name) { nm.absorbed, nm.number = true, n })
	if err != nil {
		return err
	}
	// A batch can hold a segment and one that supersedes it, in any order.
	if nm, _, err := t.name(seg.ID); err != nil {
		return err
	} else if nm.superseders > 0 {
		return t.kill(st, n)
	}
	if seg.Signer != admin {
		return nil
	}
	for _, id := range seg.Supersedes {
		if err := t.supersede(st, n, id); err != nil {
			return err
		}
	}
	return nil
}

// supersede notes that segment n, which is alive, supersedes id.
func (t *tables) supersede(st *state, n uint32, id SegmentID) error {
	if err := t.supersedes.put(append(number(n), id[:]...), nil); err != nil {
		return err
	}
	var victim name
	if err := t.rename(st, id, func(nm *name) { nm.superseders++; victim = *nm }); err != nil {
		return err
	}
	if !victim.absorbed {
		return nil
	}
	return t.kill(st, victim.number)
}

// rename changes what is known of a segment ID, and removes it if that is nothing.
func (t *tables) rename(st *state, id SegmentID, change func(*name)) error {
	nm, found, err := t.name(id)
	if err != nil {
		return err
	}
	change(&nm)
	if !found {
		st.names++
	}
	if !nm.absorbed && nm.superseders == 0 {
		st.names--
		return t.names.bucket.Delete(id[:])
	}
	return t.names.put(id[:], nm.encode())
}

// kill makes the places of a segment vanish, and its claims to supersede.
func (t *tables) kill(st *state, n uint32) error {
	info, err := t.segment(n)
	if err != nil {
		return err
	}
	info.alive = false
	st.dead += info.records
	err = t.rename(st, info.id, func(nm *name) {
		if nm.number == n {
			nm.absorbed, nm.number = false, 0
		}
	})
	if err != nil {
		return err
	}
	var keys [][]byte
	prefix := number(n)
	err = t.supersedes.each(prefix, func(k, _ []byte) (bool, error) {
		if !bytes.HasPrefix(k, prefix) {
			return false, nil
		}
		keys = append(keys, bytes.Clone(k))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		err := t.rename(st, SegmentID(k[4:]), func(nm *name) { nm.superseders-- })
		if err := errors.Join(err, t.supersedes.bucket.Delete(k)); err != nil {
			return err
		}
	}
	return t.putOrRemove(st, n, info)
}

// putOrRemove stores what is known of a dead segment, or removes it with its packs when
// no record refers to it any more.
func (t *tables) putOrRemove(st *state, n uint32, info segmentInfo) error {
	if info.records > 0 {
		return t.segments.put(number(n), info.encode())
	}
	for o := info.ordinal; o-info.ordinal < info.packs; o++ {
		src, err := t.source(o)
		if err != nil {
			return err
		}
		if err := t.packs.bucket.Delete(append(src.pack.ID[:], number(o)...)); err != nil {
			return err
		}
		if err := t.sources.bucket.Delete(number(o)); err != nil {
			return err
		}
	}
	st.sources -= uint64(info.packs)
	st.segments--
	return t.segments.bucket.Delete(number(n))
}

// eachSegment calls fn for all segments that have a record, dead or alive.
func (t *tables) eachSegment(fn func(n uint32, info segmentInfo) error) error {
	return t.segments.each(nil, func(k, v []byte) (bool, error) {
		info, err := parseSegmentInfo(v)
		if err != nil {
			return false, err
		}
		return true, fn(binary.BigEndian.Uint32(k), info)
	})
}

// pause lets others have the file.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(10 * time.Millisecond):
		return nil
	}
}
