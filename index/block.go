package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// recordKey is the sort key of a record, as bytes that compare right: chunk ID,
// ordinal, offset. It is unique in the whole file.
type recordKey [keySize]byte

const keySize = 32 + 4 + 4

// endKey is above every record's key: no frame can start at its offset.
var endKey = func() (k recordKey) {
	for i := range k {
		k[i] = 0xff
	}
	return k
}()

func newKey(id chunk.ID, ordinal, offset uint32) (k recordKey) {
	copy(k[:], id[:])
	binary.BigEndian.PutUint32(k[32:], ordinal)
	binary.BigEndian.PutUint32(k[36:], offset)
	return k
}

func (k *recordKey) less(o *recordKey) bool { return bytes.Compare(k[:], o[:]) < 0 }
func (k *recordKey) ordinal() uint32        { return binary.BigEndian.Uint32(k[32:]) }

// record is an entry in a run.
type record struct {
	key         recordKey
	stored, raw uint32
	kind        chunk.Kind
	encoding    pack.Encoding
	bases       pack.Bases
}

func (r *record) entry() pack.Entry {
	return pack.Entry{
		ID: chunk.ID(r.key[:32]), Bases: r.bases, Offset: binary.BigEndian.Uint32(r.key[36:]),
		Stored: r.stored, Raw: r.raw, Kind: r.kind, Encoding: r.encoding,
	}
}

// A block is a value of the blocks bucket; its key is the run's number and the
// key of its first record.
//
//	record 52... | key of the next block's first record 40 | bases 64... | sum 8... | records 2 | bases 2
//
// A record is: key 40 | stored 4 | raw 4 | kind 1 | encoding 1 | bases 2, the position of both.
//
// Records are checked in groups, as the checksum of 64 KiB would be most of the
// cost of a look-up. A group's sum also covers the key of the record that
// follows the group, so that one group proves that there is nothing between two
// of its keys.
const (
	recordSize   = keySize + 4 + 4 + 1 + 1 + 2
	groupRecords = 16
	blockKeySize = 4 + keySize
	blockTail    = 2 + 2
	// maxBlock leaves room for bbolt's own bytes, so that two blocks fill 32 pages.
	maxBlock    = 64<<10 - 128
	noBlockBase = 0xffff
)

func groups(records int) int { return (records + groupRecords - 1) / groupRecords }

func blockSize(records, bases int) int {
	return records*recordSize + keySize + pack.BasesSize*bases + sumSize*groups(records) + blockTail
}

func blockKey(run uint32, k *recordKey) (b [blockKeySize]byte) {
	binary.BigEndian.PutUint32(b[:], run)
	copy(b[4:], k[:])
	return b
}

// block reads a block in place. Its slices are those of the database and live
// as long as the transaction.
type block struct {
	key, value     []byte
	records, bases int
	first, next    uint64 // prefixes of its first key and of the next block's
}

func openBlock(key, value []byte) (block, error) {
	b := block{key: key, value: value}
	if len(key) != blockKeySize || len(value) < blockSize(1, 0) {
		return b, fmt.Errorf("%w: block of %d bytes", errDamaged, len(value))
	}
	b.records = int(binary.LittleEndian.Uint16(value[len(value)-4:]))
	b.bases = int(binary.LittleEndian.Uint16(value[len(value)-2:]))
	if b.records == 0 || len(value) != blockSize(b.records, b.bases) || !bytes.Equal(key[4:], value[:keySize]) {
		return b, fmt.Errorf("%w: block of %d bytes with %d records", errDamaged, len(value), b.records)
	}
	b.first, b.next = prefixOf(value), prefixOf(b.keyAt(b.records))
	return b, nil
}

// keyAt returns the key of record i, and for i = records that of the next
// block's first.
func (b block) keyAt(i int) []byte { return b.value[i*recordSize : i*recordSize+keySize] }

func (b block) base(i int) []byte {
	at := b.records*recordSize + keySize + pack.BasesSize*i
	return b.value[at : at+pack.BasesSize]
}

func (b block) groupEnd(g int) int { return min((g+1)*groupRecords, b.records) }

// sumGroup computes the checksum of a group: over the block's key, the group's
// number, its records, the key that follows, and the bases that it refers to.
func (b block) sumGroup(g int) (sum, error) {
	h := summer{uint32(g), uint32(g)}
	h.add(b.key)
	end := b.groupEnd(g)
	h.add(b.value[g*groupRecords*recordSize : end*recordSize+keySize])
	for i := g * groupRecords; i < end; i++ {
		base := int(binary.LittleEndian.Uint16(b.value[i*recordSize+50:]))
		if base == noBlockBase {
			continue
		}
		if base >= b.bases {
			return sum{}, fmt.Errorf("%w: block has no base %d", errDamaged, base)
		}
		h.add(b.base(base))
	}
	return h.sum(), nil
}

func (b block) sumAt(g int) []byte {
	at := b.records*recordSize + keySize + pack.BasesSize*b.bases + sumSize*g
	return b.value[at : at+sumSize]
}

func (b block) verify(g int) error {
	s, err := b.sumGroup(g)
	if err != nil {
		return err
	}
	if !bytes.Equal(s[:], b.sumAt(g)) {
		return fmt.Errorf("%w: checksum of a block does not fit", errDamaged)
	}
	return nil
}

// read decodes record i, whose group was verified.
func (b block) read(i int, r *record) {
	p := b.value[i*recordSize : (i+1)*recordSize]
	copy(r.key[:], p)
	r.stored = binary.LittleEndian.Uint32(p[40:])
	r.raw = binary.LittleEndian.Uint32(p[44:])
	r.kind, r.encoding = chunk.Kind(p[48]), pack.Encoding(p[49])
	r.bases = pack.Bases{}
	if base := int(binary.LittleEndian.Uint16(p[50:])); base != noBlockBase {
		r.bases = pack.ParseBases(b.base(base))
	}
}

// find returns the first record that is not below k, which may be one behind the
// block. The block must begin at or below k. The group that proves the answer is
// verified: that of the record before it or at it.
func (b block) find(k *recordKey) (int, error) {
	above := b.above(k)
	if above == 0 {
		return 0, fmt.Errorf("%w: block begins above the key", errDamaged)
	}
	at := above - 1
	if err := b.verify(at / groupRecords); err != nil {
		return 0, err
	}
	// The keys that the search went by are verified only now. If those here are
	// not around k, others misled it.
	c := bytes.Compare(b.keyAt(at), k[:])
	if c > 0 || bytes.Compare(b.keyAt(above), k[:]) <= 0 {
		return 0, fmt.Errorf("%w: block ends below the key", errDamaged)
	}
	if c == 0 {
		return at, nil
	}
	return above, nil
}

// above returns the position of the first record above k. Chunk IDs are even, so it is
// guessed, and again from the key at the guess, and looked for around there: some five keys,
// most of which lie together, instead of eleven all over the block.
func (b block) above(k *recordKey) int {
	prefix := prefixOf(k[:])
	isAbove := func(i int) bool {
		if p := prefixOf(b.keyAt(i)); p != prefix {
			return p > prefix
		}
		return bytes.Compare(b.keyAt(i), k[:]) > 0
	}
	guess := b.guess(0, b.first, prefix)
	guess = b.guess(guess, prefixOf(b.keyAt(guess)), prefix)
	low, high := guess, guess // low is not above, high is
	const stride = 2
	if isAbove(guess) {
		for step := stride; ; step *= 2 {
			if low = high - step; low < 0 || !isAbove(low) {
				break
			}
			high = low
		}
	} else {
		for step := stride; ; step *= 2 {
			if high = low + step; high >= b.records || isAbove(high) {
				break
			}
			low = high
		}
	}
	low, high = max(low, -1)+1, min(high, b.records)
	return low + sort.Search(high-low, func(i int) bool { return isAbove(low + i) })
}

// guess returns where a prefix should be, if that of record i is p.
func (b block) guess(i int, p, prefix uint64) int {
	if b.next <= b.first {
		return i
	}
	away := (float64(prefix) - float64(p)) / float64(b.next-b.first) * float64(b.records)
	return int(min(max(float64(i)+away, 0), float64(b.records-1)))
}

// prefixOf returns the first bytes of a key, which compare as it does where they differ.
func prefixOf(k []byte) uint64 { return binary.BigEndian.Uint64(k) }

// blockWriter cuts a sorted stream of records into blocks.
type blockWriter struct {
	run     uint32
	records []byte
	bases   []byte
	count   int
}

// add appends a record. put stores the block that becomes full by it.
func (w *blockWriter) add(r *record, put func(key, value []byte) error) error {
	extra := 0
	if r.encoding == pack.Delta {
		extra = 1
	}
	if blockSize(w.count+1, len(w.bases)/pack.BasesSize+extra) > maxBlock {
		if err := w.flush(&r.key, put); err != nil {
			return err
		}
	}
	base := uint16(noBlockBase)
	if extra == 1 {
		base = uint16(len(w.bases) / pack.BasesSize)
		w.bases = r.bases.Append(w.bases)
	}
	w.records = append(w.records, r.key[:]...)
	w.records = binary.LittleEndian.AppendUint32(w.records, r.stored)
	w.records = binary.LittleEndian.AppendUint32(w.records, r.raw)
	w.records = append(w.records, byte(r.kind), byte(r.encoding))
	w.records = binary.LittleEndian.AppendUint16(w.records, base)
	w.count++
	return nil
}

// flush stores what is there as a block. next is the key of the record that
// comes next in the run, or endKey.
func (w *blockWriter) flush(next *recordKey, put func(key, value []byte) error) error {
	if w.count == 0 {
		return nil
	}
	// bbolt keeps the value until the commit, so it cannot share a buffer.
	v := make([]byte, 0, blockSize(w.count, len(w.bases)/pack.BasesSize))
	v = append(v, w.records...)
	v = append(v, next[:]...)
	v = append(v, w.bases...)
	sums := len(v)
	v = append(v, make([]byte, sumSize*groups(w.count))...)
	v = binary.LittleEndian.AppendUint16(v, uint16(w.count))
	v = binary.LittleEndian.AppendUint16(v, uint16(len(w.bases)/pack.BasesSize))
	key := blockKey(w.run, (*recordKey)(w.records))
	b := block{key: key[:], value: v, records: w.count, bases: len(w.bases) / pack.BasesSize}
	for g := range groups(w.count) {
		s, err := b.sumGroup(g)
		if err != nil {
			return err
		}
		copy(v[sums+sumSize*g:], s[:])
	}
	w.records, w.bases, w.count = w.records[:0], w.bases[:0], 0
	return put(key[:], v)
}
