package index

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/cairn-backup/cairn/seal"
)

// table is a bucket of small values. A checksum follows each value, over the
// table's letter, the key and the value, so that neither can be taken for another.
type table struct {
	bucket *bolt.Bucket
	cursor *bolt.Cursor // for get
	letter byte
}

func (t table) sum(key, value []byte) sum {
	h := summer{uint32(t.letter), uint32(len(key))}
	h.add(key)
	h.add(value)
	return h.sum()
}

// get returns the value of a key, or nil.
func (t table) get(key []byte) ([]byte, error) {
	k, v := t.cursor.Seek(key) // Bucket.Get would make a cursor each time
	if !bytes.Equal(k, key) {
		return nil, nil
	}
	return t.open(k, v)
}

func (t table) open(key, v []byte) ([]byte, error) {
	n := len(v) - sumSize
	if n < 0 {
		return nil, fmt.Errorf("%w: value of %d bytes in table %c", errDamaged, len(v), t.letter)
	}
	if s := t.sum(key, v[:n]); !bytes.Equal(s[:], v[n:]) {
		return nil, fmt.Errorf("%w: checksum of a value in table %c does not fit", errDamaged, t.letter)
	}
	return v[:n:n], nil
}

// put stores a value, which it may append to, until the commit.
func (t table) put(key, value []byte) error {
	s := t.sum(key, value)
	return t.bucket.Put(key, append(value, s[:]...))
}

// each calls fn for the keys from start on, until it returns false or an error.
func (t table) each(start []byte, fn func(key, value []byte) (bool, error)) error {
	c := t.bucket.Cursor()
	var last []byte
	for k, v := c.Seek(start); k != nil; k, v = c.Next() {
		value, err := t.open(k, v)
		if err != nil {
			return err
		}
		if last != nil && bytes.Compare(last, k) >= 0 {
			return fmt.Errorf("%w: table %c is not sorted", errDamaged, t.letter)
		}
		if more, err := fn(k, value); !more || err != nil {
			return err
		}
		last = k
	}
	return nil
}

// tables are the buckets of the file in one transaction.
type tables struct {
	state, sources, segments, names, packs, supersedes table

	blocks, filters *bolt.Bucket
}

var bucketNames = []string{"state", "sources", "segments", "names", "packs", "supersedes", "blocks", "filters"}

// openTables finds the buckets, and if create is set makes those that lack.
func openTables(tx *bolt.Tx, create bool) (*tables, error) {
	buckets := make([]*bolt.Bucket, len(bucketNames))
	for i, n := range bucketNames {
		if create {
			if _, err := tx.CreateBucketIfNotExists([]byte(n)); err != nil {
				return nil, err
			}
		}
		if buckets[i] = tx.Bucket([]byte(n)); buckets[i] == nil {
			return nil, fmt.Errorf("%w: no %s in it", errDamaged, n)
		}
	}
	t := &tables{blocks: buckets[6], filters: buckets[7]}
	for i, at := range []*table{&t.state, &t.sources, &t.segments, &t.names, &t.packs, &t.supersedes} {
		*at = table{bucket: buckets[i], cursor: buckets[i].Cursor(), letter: bucketNames[i][0] + byte(i)}
	}
	// What is written in order wastes nothing with full pages.
	for _, b := range []*bolt.Bucket{t.blocks, t.filters, t.sources.bucket, t.segments.bucket} {
		b.FillPercent = 1
	}
	return t, nil
}

var stateKey = []byte("state")

func (t *tables) loadState(id seal.RepositoryID) (*state, error) {
	v, err := t.state.get(stateKey)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, fmt.Errorf("%w: no state in it", errDamaged)
	}
	return parseState(v, id)
}

// source returns what an ordinal stands for. There is one for each ordinal that
// a record has, dead or alive.
func (t *tables) source(ordinal uint32) (source, error) {
	v, err := t.sources.get(number(ordinal))
	if err != nil {
		return source{}, err
	}
	if v == nil {
		return source{}, fmt.Errorf("%w: no pack of ordinal %d", errDamaged, ordinal)
	}
	return parseSource(v)
}

func (t *tables) segment(n uint32) (segmentInfo, error) {
	v, err := t.segments.get(number(n))
	if err != nil {
		return segmentInfo{}, err
	}
	if v == nil {
		return segmentInfo{}, fmt.Errorf("%w: no segment of number %d", errDamaged, n)
	}
	return parseSegmentInfo(v)
}

// name returns what is known of a segment ID, and whether anything is.
func (t *tables) name(id SegmentID) (name, bool, error) {
	v, err := t.names.get(id[:])
	if v == nil || err != nil {
		return name{}, false, err
	}
	n, err := parseName(v)
	return n, true, err
}

// number is the key of an ordinal or a segment.
func number(n uint32) []byte { return binary.BigEndian.AppendUint32(make([]byte, 0, 4+sumSize), n) }
