package index

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Retain forgets the absorbed segments for which keep is false, as they are no longer
// in the repository: their places vanish, and what they superseded is to be absorbed
// again if it is still there. So a caller that has listed the segments calls Retain
// first, and then absorbs those that Absorbed lacks.
func (l *Local) Retain(ctx context.Context, keep func(SegmentID) bool) error {
	drop, err := l.dropped(keep)
	if err != nil {
		return fmt.Errorf("drop index segments: %w", err)
	}
	if len(drop) == 0 {
		return nil
	}
	tooDead := false // at some time: then go on until the merge of everything is done
	err = l.change(ctx, func(s *session) (bool, error) {
		if len(drop) > 0 {
			some := drop[:min(len(drop), segmentsPerStep)]
			drop = drop[len(some):]
			return true, s.drop(some)
		}
		if did, err := s.clean(); did || err != nil {
			return true, err
		}
		tooDead = tooDead || s.current.tooDead()
		if _, _, merging := s.current.merging(); !tooDead || !merging && !s.current.tooDead() {
			return false, nil
		}
		return true, s.mergeStep()
	})
	if err != nil {
		return fmt.Errorf("drop index segments: %w", err)
	}
	return nil
}

// segmentsPerStep bounds how many segments are killed in one transaction.
const segmentsPerStep = 256

type numbered struct {
	number uint32
	id     SegmentID
}

// dropped returns the live segments that are not to be kept.
func (l *Local) dropped(keep func(SegmentID) bool) ([]numbered, error) {
	var live []numbered
	err := l.view(func(r *reader) error {
		live = live[:0]
		return r.eachSegment(func(n uint32, info segmentInfo) error {
			if info.alive {
				live = append(live, numbered{n, info.id})
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	drop := live[:0]
	for _, s := range live {
		if !keep(s.id) { // not under guard: its panics are its own
			drop = append(drop, s)
		}
	}
	return drop, nil
}

// drop kills segments, unless they have died since they were looked up.
func (s *session) drop(segments []numbered) error {
	return s.update(func(t *tables) error {
		for _, seg := range segments {
			v, err := t.segments.get(number(seg.number))
			if err != nil {
				return err
			}
			if v == nil {
				continue
			}
			info, err := parseSegmentInfo(v)
			if err != nil {
				return err
			}
			if info.id != seg.id || !info.alive {
				continue
			}
			if err := t.kill(s.current, seg.number); err != nil {
				return err
			}
		}
		return nil
	})
}

// view runs fn on the tables as they are.
func (s *session) view(fn func(*tables) error) error {
	err := guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			t, err := openTables(tx, false)
			if err != nil {
				return err
			}
			return fn(t)
		})
	})
	if errors.Is(err, errDamaged) {
		s.broken = true
	}
	return err
}

// verifyNames reads what is known of all segment IDs and all segments, so that none that
// is there can be missed, and calls fn, unless it is nil, for those that count as absorbed.
func (t *tables) verifyNames(st *state, fn func(SegmentID)) error {
	names := uint64(0)
	err := t.names.each(nil, func(k, v []byte) (bool, error) {
		names++
		if len(k) != len(SegmentID{}) {
			return false, fmt.Errorf("%w: name of %d bytes", errDamaged, len(k))
		}
		if fn != nil {
			fn(SegmentID(k))
		}
		_, err := parseName(v)
		return true, err
	})
	if err != nil {
		return err
	}
	segments := uint64(0)
	err = t.eachSegment(func(uint32, segmentInfo) error {
		segments++
		return nil
	})
	if err != nil {
		return err
	}
	if names != st.names || segments != st.segments {
		return fmt.Errorf("%w: %d of %d names, %d of %d segments", errDamaged, names, st.names, segments, st.segments)
	}
	return nil
}
