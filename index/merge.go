package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// stream yields records in order. next reports false at the end.
type stream interface {
	next(*record) (bool, error)
}

// merger merges streams whose records differ. It is a heap of their heads.
type merger struct {
	heads []head
	heap  []int32 // positions of heads
}

type head struct {
	record
	prefix uint64 // of the key: what most comparisons need
	from   stream
}

// advance reads the next record.
func (h *head) advance() (bool, error) {
	ok, err := h.from.next(&h.record)
	h.prefix = prefixOf(h.key[:])
	return ok, err
}

func (h *head) less(o *head) bool {
	if h.prefix != o.prefix {
		return h.prefix < o.prefix
	}
	return h.key.less(&o.key)
}

func newMerger[S stream](streams []S) (*merger, error) {
	m := &merger{heads: make([]head, len(streams))}
	for i, s := range streams {
		h := &m.heads[i]
		h.from = s
		ok, err := h.advance()
		if err != nil {
			return nil, err
		}
		if ok {
			m.heap = append(m.heap, int32(i))
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sift(i)
	}
	return m, nil
}

// peek returns the lowest record, or nil at the end.
func (m *merger) peek() *record {
	if len(m.heap) == 0 {
		return nil
	}
	return &m.heads[m.heap[0]].record
}

// pop moves on to the next record.
func (m *merger) pop() error {
	h := &m.heads[m.heap[0]]
	before := h.key
	ok, err := h.advance()
	if err != nil {
		return err
	}
	if !ok {
		last := len(m.heap) - 1
		m.heap[0] = m.heap[last]
		m.heap = m.heap[:last]
	} else if !before.less(&h.key) {
		return fmt.Errorf("%w: records are not sorted", errDamaged)
	}
	m.sift(0)
	return nil
}

func (m *merger) sift(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.heap); c++ {
			if m.heads[m.heap[c]].less(&m.heads[m.heap[least]]) {
				least = c
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// runStream reads what is left of a run, verifying all of it.
type runStream struct {
	cursor *bolt.Cursor
	number uint32
	to     recordKey // the bound of the run
	block  block
	at     int

	read     uint64    // records returned
	head     recordKey // of the last one
	done     bool
	consumed [][]byte // keys of the blocks that were read to their end
}

// openRun returns the stream of a run from its lower bound on.
func (t *tables) openRun(u *run) (*runStream, error) { return t.openRunAt(u, &u.from) }

// openRunAt returns the stream of what a run has from start on, or from its lower
// bound if that is above.
func (t *tables) openRunAt(u *run, start *recordKey) (*runStream, error) {
	if start.less(&u.from) {
		start = &u.from
	}
	r := &reader{tables: t, cursor: t.blocks.Cursor()}
	b, err := r.seek(u.number, start)
	if err != nil {
		return nil, err
	}
	at, err := b.find(start)
	if err != nil {
		return nil, err
	}
	if *start == u.from && !bytes.Equal(b.keyAt(at), u.from[:]) {
		return nil, fmt.Errorf("%w: a run does not begin where it should", errDamaged)
	}
	s := &runStream{cursor: r.cursor, number: u.number, to: u.to, block: b, at: at}
	return s, s.verify()
}

func (s *runStream) verify() error {
	for g := range groups(s.block.records) {
		if err := s.block.verify(g); err != nil {
			return err
		}
	}
	return nil
}

func (s *runStream) next(rec *record) (bool, error) {
	k := (*recordKey)(s.block.keyAt(s.at))
	if s.at == s.block.records {
		s.consumed = append(s.consumed, bytes.Clone(s.block.key))
	}
	if !k.less(&s.to) {
		s.done = true
		return false, nil
	}
	if s.at == s.block.records {
		b, err := (&reader{cursor: s.cursor}).next(s.number, k)
		if err != nil {
			return false, err
		}
		s.block, s.at = b, 0
		if err := s.verify(); err != nil {
			return false, err
		}
	}
	s.block.read(s.at, rec)
	s.at++
	s.read++
	s.head = rec.key
	return true, nil
}

// mergeSome merges up to work records of what is due, in this transaction. It returns how
// many it moved: less than that if there is nothing left to do.
func (t *tables) mergeSome(st *state, work int) (moved int, err error) {
	for moved < work {
		if inputs := st.due(); len(inputs) > 0 {
			st.beginMerge(inputs)
		}
		out, inputs, found := st.merging()
		if !found {
			break
		}
		n, err := t.merge(st, out, inputs, work-moved)
		if err != nil {
			return moved, err
		}
		moved += n
	}
	return moved, nil
}

// Merge merges what has piled up while much was absorbed: whoever has absorbed tens of
// thousands of chunks calls it then. It takes the time of absorbing them again at most, and
// nobody has to wait for it for longer than for an Absorb. Without it all answers are right and
// look-ups slow, until many an Absorb of little has merged a part of it.
func (l *Local) Merge(ctx context.Context) error {
	err := l.change(ctx, func(s *session) (more bool, err error) {
		if did, err := s.clean(); did || err != nil {
			return true, err
		}
		if _, _, merging := s.current.merging(); !merging && len(s.current.due()) == 0 {
			return false, nil
		}
		return true, s.mergeStep()
	})
	if err != nil {
		return fmt.Errorf("merge runs of local index: %w", err)
	}
	return nil
}

// mergeStep merges in a transaction of its own.
func (s *session) mergeStep() error {
	return s.update(func(t *tables) error {
		_, err := t.mergeSome(s.current, stepRecords)
		return err
	})
}

// clean removes some of what a killed process left behind, and reports whether there was
// anything. Whoever was building the run did not end its session properly, or it would not be
// there: nobody else can be here.
func (s *session) clean() (bool, error) {
	n, found := s.current.building()
	if !found {
		return false, nil
	}
	return true, s.update(func(t *tables) error { return t.removeRun(s.current, n) })
}

// removeRun deletes blocks of a run that was not completed, and the run when none is left.
func (t *tables) removeRun(st *state, n uint32) error {
	prefix := number(n)
	var keys [][]byte
	c := t.blocks.Cursor()
	k, _ := c.Seek(prefix)
	for ; bytes.HasPrefix(k, prefix) && len(keys) < 1000; k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	if !bytes.HasPrefix(k, prefix) {
		if err := t.deleteParts(n, 0, st.run(n).lastPart()+1); err != nil {
			return err
		}
		st.drop(n)
	}
	return t.deleteBlocks(keys)
}

func (t *tables) deleteBlocks(keys [][]byte) error {
	for _, k := range keys {
		if err := t.blocks.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// merge moves the next range of some n records from the inputs to the output, and returns how
// many there were. Each record is in one of them before and after, so that a merge can stop
// after any step.
func (t *tables) merge(st *state, output uint32, inputs []uint32, n int) (moved int, err error) {
	streams := make([]*runStream, len(inputs))
	for i, n := range inputs {
		s, err := t.openRun(st.run(n))
		if err != nil {
			return 0, err
		}
		streams[i] = s
	}
	dead, err := t.loadDead(st)
	if err != nil {
		return 0, err
	}
	if moved, err = t.moveRecords(st.run(output), streams, dead, n); err != nil {
		return 0, err
	}
	left := len(inputs)
	for i, n := range inputs {
		s, u := streams[i], st.run(n)
		first, end := u.firstPart(), u.lastPart()+1
		if !s.done {
			u.from = s.head
			u.records -= s.read - 1 // the head was read but not moved
			end = u.firstPart()
		} else {
			st.drop(n)
			left--
		}
		if err := errors.Join(t.deleteBlocks(s.consumed), t.deleteParts(n, first, end)); err != nil {
			return 0, err
		}
	}
	if out := st.run(output); left == 0 {
		out.role = settled
		if out.records == 0 {
			st.drop(output)
		}
	}
	return moved, t.settleDead(st, dead)
}

// moveRecords writes the next live records of the streams to out, some limit at most, and
// counts the dead ones that it leaves out. It returns how many both are.
func (t *tables) moveRecords(out *run, streams []*runStream, dead *deadSegments, limit int) (n int, err error) {
	m, err := newMerger(streams)
	if err != nil {
		return 0, err
	}
	w, err := t.append(out)
	if err != nil {
		return 0, err
	}
	// The last block of out says that a record with the key out.to follows. It does,
	// even if it has died since.
	promised := out.records > 0
	for ; m.peek() != nil; n++ {
		rec := m.peek()
		if promised && rec.key != out.to {
			return n, fmt.Errorf("%w: a merge does not go on where it stopped", errDamaged)
		}
		seg := dead.find(rec.key.ordinal())
		if n >= limit && (seg == nil || n >= 4*limit) {
			break
		}
		if seg != nil && !promised {
			seg.dropped++
		} else if err := w.add(rec); err != nil {
			return n, err
		}
		promised = false
		if err := m.pop(); err != nil {
			return n, err
		}
	}
	return n, w.finish(m.peek())
}

// deadSegments are those whose records are to be dropped, by their ordinals.
type deadSegments struct {
	list []deadSegment // in the order of ordinals
}

type deadSegment struct {
	number  uint32
	info    segmentInfo
	dropped uint64
}

func (t *tables) loadDead(st *state) (*deadSegments, error) {
	d := &deadSegments{}
	if st.dead == 0 {
		return d, nil
	}
	err := t.eachSegment(func(n uint32, info segmentInfo) error {
		if !info.alive {
			d.list = append(d.list, deadSegment{number: n, info: info})
		}
		return nil
	})
	slices.SortFunc(d.list, func(a, b deadSegment) int { return cmp.Compare(a.info.ordinal, b.info.ordinal) })
	return d, err
}

// find returns the dead segment that an ordinal belongs to, or nil.
func (d *deadSegments) find(ordinal uint32) *deadSegment {
	if len(d.list) == 0 {
		return nil
	}
	i, ok := slices.BinarySearchFunc(d.list, ordinal, func(s deadSegment, o uint32) int { return cmp.Compare(s.info.ordinal, o) })
	if !ok {
		i--
	}
	if i < 0 || ordinal-d.list[i].info.ordinal >= d.list[i].info.packs {
		return nil
	}
	return &d.list[i]
}

// settleDead counts the dropped records off, and removes segments that have none left.
func (t *tables) settleDead(st *state, d *deadSegments) error {
	for _, s := range d.list {
		if s.dropped == 0 {
			continue
		}
		if s.dropped > s.info.records || s.dropped > st.dead {
			return fmt.Errorf("%w: segment has more records than it had", errDamaged)
		}
		s.info.records -= s.dropped
		st.dead -= s.dropped
		if err := t.putOrRemove(st, s.number, s.info); err != nil {
			return err
		}
	}
	return nil
}
