package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// directory remembers where blocks and sources lie in the mapped file, for all readers of one
// handle. bbolt finds a value by some thirty keys in as many cache lines, and a directory by one
// or two, which is what a look-up's time goes by. It is filled by what look-ups come across,
// and holds no contents: what it leads to is verified each time, as what bbolt leads to.
//
// Its memory is some 0.3 bytes a chunk, when all of the file was asked for.
type directory struct {
	blocks  [][]atomic.Pointer[block] // of the runs, by slot
	sources []atomic.Pointer[sourceGroup]
}

const (
	// slotRecords is for how many records a run has a slot: half a block.
	slotRecords = maxBlock / recordSize / 2
	groupOf     = 64      // ordinals whose sources are remembered together
	maxGroups   = 1 << 16 // that are remembered: 32 MiB
)

// sourceValue is a value of the sources bucket with its checksum.
type sourceValue [sourceSize + sumSize]byte

type sourceGroup struct {
	number uint32 // the first ordinal / groupOf
	values [groupOf]*sourceValue
}

func newDirectory(st *state) *directory {
	d := &directory{
		blocks:  make([][]atomic.Pointer[block], len(st.runs)),
		sources: make([]atomic.Pointer[sourceGroup], min(st.nextOrdinal/groupOf+1, maxGroups)),
	}
	for i, u := range st.runs {
		d.blocks[i] = make([]atomic.Pointer[block], u.records/slotRecords+1)
	}
	return d
}

// slotOf returns the slot of a key's prefix. A slot has the block in which it begins.
func slotOf(prefix uint64, slots int) int {
	hi, _ := bits.Mul64(prefix, uint64(slots))
	return int(hi)
}

// block returns the block of run i that a key is in, or nil if that is not known.
func (d *directory) block(i int, k *recordKey) *block {
	slots, p := d.blocks[i], prefixOf(k[:])
	at := slotOf(p, len(slots))
	for end := min(at+2, len(slots)); at < end; at++ { // another can begin within the slot
		if b := slots[at].Load(); b != nil && b.first < p && p < b.next {
			return b
		}
	}
	return nil
}

// found remembers a block of run i.
func (d *directory) found(i int, b block) {
	slots := d.blocks[i]
	first := slotOf(b.first, len(slots))
	slots[first].CompareAndSwap(nil, &b) // in which the one before it begins, if there is one
	for at := first + 1; at <= slotOf(b.next, len(slots)); at++ {
		slots[at].Store(&b)
	}
}

// blockOf returns the block of run i of the state that k is in.
func (r *reader) blockOf(i int, k *recordKey) (block, error) {
	if b := r.directory.block(i, k); b != nil {
		return *b, nil
	}
	b, err := r.seek(r.current.runs[i].number, k)
	if err == nil {
		r.directory.found(i, b)
	}
	return b, err
}

// blockAt returns the block of a run that begins with k.
func (r *reader) blockAt(run uint32, k *recordKey) (block, error) {
	want := blockKey(run, k)
	key, value := r.cursor.Seek(want[:])
	if !bytes.Equal(key, want[:]) {
		return block{}, fmt.Errorf("%w: a block is missing", errDamaged)
	}
	return openBlock(key, value)
}

// knownSource is tables.source by way of the directory.
func (r *reader) knownSource(ordinal uint32) (source, error) {
	n := ordinal / groupOf
	slot := &r.directory.sources[n%uint32(len(r.directory.sources))]
	g := slot.Load()
	if g == nil || g.number != n {
		g = r.readGroup(n)
		slot.Store(g)
	}
	v := g.values[ordinal%groupOf]
	if v == nil {
		return r.source(ordinal) // says what is wrong
	}
	p, err := r.sources.open(number(ordinal), v[:])
	if err != nil {
		return source{}, err
	}
	return parseSource(p)
}

// readGroup finds the sources of a group. It verifies nothing.
func (r *reader) readGroup(n uint32) *sourceGroup {
	g := &sourceGroup{number: n}
	for k, v := r.sources.cursor.Seek(number(n * groupOf)); len(k) == 4; k, v = r.sources.cursor.Next() {
		o := binary.BigEndian.Uint32(k)
		if o/groupOf != n {
			break
		}
		if len(v) == len(sourceValue{}) {
			g.values[o%groupOf] = (*sourceValue)(v)
		}
	}
	return g
}
