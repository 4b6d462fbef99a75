package index

import (
	"bytes"
	"cmp"
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
	heads []*head
}

type head struct {
	record
	from stream
}

func newMerger[S stream](streams []S) (*merger, error) {
	m := &merger{}
	for _, s := range streams {
		h := &head{from: s}
		ok, err := s.next(&h.record)
		if err != nil {
			return nil, err
		}
		if ok {
			m.heads = append(m.heads, h)
		}
	}
	for i := len(m.heads)/2 - 1; i >= 0; i-- {
		m.sift(i)
	}
	return m, nil
}

// peek returns the lowest record, or nil at the end.
func (m *merger) peek() *record {
	if len(m.heads) == 0 {
		return nil
	}
	return &m.heads[0].record
}

// pop moves on to the next record.
func (m *merger) pop() error {
	h := m.heads[0]
	before := h.key
	ok, err := h.from.next(&h.record)
	if err != nil {
		return err
	}
	if !ok {
		last := len(m.heads) - 1
		m.heads[0] = m.heads[last]
		m.heads = m.heads[:last]
	} else if !before.less(&h.key) {
		return fmt.Errorf("%w: records are not sorted", errDamaged)
	}
	m.sift(0)
	return nil
}

func (m *merger) sift(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.heads); c++ {
			if m.heads[c].key.less(&m.heads[least].key) {
				least = c
			}
		}
		if least == i {
			return
		}
		m.heads[i], m.heads[least] = m.heads[least], m.heads[i]
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

// maxRuns is how many runs there may be besides those of a merge under way: a
// look-up of a chunk that is not there reads a block in each.
const maxRuns = 8

// toMerge chooses runs to merge, or none. A run must be at least twice as large as all
// smaller ones together, so that there are few and each record is moved only some
// log2 n times; and a merge of everything takes the dead records out once they are
// more than a quarter.
func (st *state) toMerge() []uint32 {
	runs := slices.Clone(st.runs)
	slices.SortFunc(runs, func(a, b run) int {
		return cmp.Or(cmp.Compare(b.records, a.records), cmp.Compare(a.number, b.number))
	})
	first := len(runs)
	if st.dead*4 > st.records() {
		first = 0
	} else {
		smaller := uint64(0)
		for i, r := range slices.Backward(runs) {
			if smaller > 0 && r.records < 2*smaller {
				first = i
			}
			smaller += r.records
		}
	}
	if len(runs) > maxRuns {
		first = min(first, maxRuns-1)
	}
	var chosen []uint32
	for _, r := range runs[first:] {
		chosen = append(chosen, r.number)
	}
	return chosen
}

// tidy does one step of what is due: removing what a killed process left behind, going on
// with a merge, or beginning one. It reports whether there was anything to do.
func (s *session) tidy() (bool, error) {
	if left := s.current.having(building); len(left) > 0 {
		// Whoever built it did not end its session properly: nobody else can be here.
		return true, s.update(func(t *tables) error { return t.removeRun(s.current, left[0]) })
	}
	if inputs := s.current.having(input); len(inputs) > 0 {
		return true, s.update(func(t *tables) error { return t.merge(s.current, inputs) })
	}
	inputs := s.current.toMerge()
	if len(inputs) == 0 {
		return false, nil
	}
	return true, s.update(func(t *tables) error {
		s.current.begin(output)
		for _, n := range inputs {
			s.current.run(n).role = input
		}
		return t.merge(s.current, inputs)
	})
}

// removeRun deletes blocks of a run, and the run when none is left.
func (t *tables) removeRun(st *state, n uint32) error {
	prefix := number(n)
	var keys [][]byte
	c := t.blocks.Cursor()
	k, _ := c.Seek(prefix)
	for ; bytes.HasPrefix(k, prefix) && len(keys) < 1000; k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	if !bytes.HasPrefix(k, prefix) {
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

// merge moves the next range of records from the inputs to the output. Each record
// is in one of them before and after, so that a merge can stop after any step.
func (t *tables) merge(st *state, inputs []uint32) error {
	streams := make([]*runStream, len(inputs))
	for i, n := range inputs {
		s, err := t.openRun(st.run(n))
		if err != nil {
			return err
		}
		streams[i] = s
	}
	dead, err := t.loadDead(st)
	if err != nil {
		return err
	}
	out := st.run(st.having(output)[0])
	if err := t.moveRecords(out, streams, dead); err != nil {
		return err
	}
	outNumber := out.number // out moves when runs are dropped
	for i, n := range inputs {
		s := streams[i]
		if err := t.deleteBlocks(s.consumed); err != nil {
			return err
		}
		if s.done {
			st.drop(n)
			continue
		}
		u := st.run(n)
		u.from = s.head
		u.records -= s.read - 1 // the head was read but not moved
	}
	if out = st.run(outNumber); len(st.having(input)) == 0 {
		out.role = settled
		if out.records == 0 {
			st.drop(outNumber)
		}
	}
	return t.settleDead(st, dead)
}

// moveRecords writes the next live records of the streams to out, and counts the
// dead ones that it leaves out.
func (t *tables) moveRecords(out *run, streams []*runStream, dead *deadSegments) error {
	m, err := newMerger(streams)
	if err != nil {
		return err
	}
	w := blockWriter{run: out.number}
	// The last block of out says that a record with the key out.to follows. It does,
	// even if it has died since.
	promised := out.records > 0
	for n := 0; m.peek() != nil; n++ {
		rec := m.peek()
		if promised && rec.key != out.to {
			return fmt.Errorf("%w: a merge does not go on where it stopped", errDamaged)
		}
		seg := dead.find(rec.key.ordinal())
		if n >= stepRecords && (seg == nil || n >= 4*stepRecords) {
			break
		}
		if seg != nil && !promised {
			seg.dropped++
		} else {
			if out.records == 0 {
				out.from = rec.key
			}
			if err := w.add(rec, t.blocks.Put); err != nil {
				return err
			}
			out.records++
		}
		promised = false
		if err := m.pop(); err != nil {
			return err
		}
	}
	out.to = endKey
	if rec := m.peek(); rec != nil {
		out.to = rec.key
	}
	return w.flush(&out.to, t.blocks.Put)
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
