// Package extsort sorts more records than memory holds. What does not fit goes to
// a temporary file, in sorted runs that are merged when the records are read.
//
// The file has no name, so that it vanishes with the process, and is sealed with a key
// that only this process ever has: records can be the names and attributes of files
// that somebody wants to have encrypted.
package extsort

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"

	"github.com/cairn-backup/cairn/seal"
)

// Record is what is sorted. Its memory is good until the next one is asked for.
type Record struct{ Key, Value []byte }

// Sizes of what stays in memory.
const (
	memory    = 8 << 20  // records that are not in a run yet
	blockSize = 64 << 10 // one block of each run that is merged
	fanIn     = 64       // runs that are merged at once
)

// Sorter sorts records by the bytes of their keys; those with equal keys keep the order
// in which they came. First come all calls of Add, then those of All. It is for one
// goroutine at a time. Its zero value is ready for use.
type Sorter struct {
	arena []byte // keys and values of the records that are not in a run yet
	refs  []ref
	count int
	limit int // of arena; 0: memory

	file   *os.File
	aead   cipher.AEAD
	end    int64   // of the file
	levels [][]run // each level's runs are merged from fanIn of the level below
}

// ref is a record in the arena.
type ref struct{ key, value, end uint32 }

// run is a part of the file with sorted records.
type run struct{ start, end int64 }

// Len returns the number of records.
func (s *Sorter) Len() int { return s.count }

// Add adds a record. It keeps neither key nor value.
func (s *Sorter) Add(key, value []byte) error {
	if s.limit == 0 {
		s.limit = memory
	}
	if len(s.arena) > 0 && len(s.arena)+len(key)+len(value) > s.limit {
		if err := s.spill(); err != nil {
			return err
		}
	}
	r := ref{key: uint32(len(s.arena))}
	s.arena = append(s.arena, key...)
	r.value = uint32(len(s.arena))
	s.arena = append(s.arena, value...)
	r.end = uint32(len(s.arena))
	s.refs = append(s.refs, r)
	s.count++
	return nil
}

// Close frees what the sorter has on disk and in memory.
func (s *Sorter) Close() error {
	f := s.file
	*s = Sorter{}
	if f == nil {
		return nil
	}
	return f.Close()
}

func (s *Sorter) sort() {
	slices.SortStableFunc(s.refs, func(a, b ref) int {
		return bytes.Compare(s.arena[a.key:a.value], s.arena[b.key:b.value])
	})
}

// inMemory returns the records of the arena, sorted.
func (s *Sorter) inMemory() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s.sort()
		for _, r := range s.refs {
			if !yield(Record{s.arena[r.key:r.value], s.arena[r.value:r.end]}, nil) {
				return
			}
		}
	}
}

// All returns the records in order. It ends with an error if there is one.
func (s *Sorter) All() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		all := s.inMemory()
		if s.file != nil {
			// The records in memory came last, so they are the last run.
			if err := s.spill(); err != nil {
				yield(Record{}, err)
				return
			}
			// Runs of higher levels are older.
			var runs []run
			for _, level := range slices.Backward(s.levels) {
				runs = append(runs, level...)
			}
			all = s.merge(runs)
		}
		for r, err := range all {
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// spill makes a run of the records in memory.
func (s *Sorter) spill() error {
	if len(s.refs) == 0 {
		return nil
	}
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	r, err := s.write(s.inMemory())
	if err != nil {
		return err
	}
	s.arena, s.refs = s.arena[:0], s.refs[:0]
	for level := 0; ; level++ {
		if level == len(s.levels) {
			s.levels = append(s.levels, nil)
		}
		s.levels[level] = append(s.levels[level], r)
		if len(s.levels[level]) < fanIn {
			return nil
		}
		if r, err = s.write(s.merge(s.levels[level])); err != nil {
			return err
		}
		s.levels[level] = nil
	}
}

// create makes the file.
func (s *Sorter) create() error {
	f, err := os.CreateTemp("", "cairn-sort-")
	if err != nil {
		return fmt.Errorf("make temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(fmt.Errorf("unlink temporary file: %w", err), f.Close())
	}
	var key [32]byte
	rand.Read(key[:])
	s.file, s.aead = f, seal.NewAEAD(key)
	return nil
}

// write appends sorted records to the file.
func (s *Sorter) write(records iter.Seq2[Record, error]) (run, error) {
	r := run{start: s.end}
	var block, sealed []byte
	flush := func() (err error) {
		sealed, err = s.writeBlock(sealed, block)
		block = block[:0]
		return err
	}
	for rec, err := range records {
		if err != nil {
			return r, err
		}
		block = binary.AppendUvarint(block, uint64(len(rec.Key)))
		block = binary.AppendUvarint(block, uint64(len(rec.Value)))
		block = append(append(block, rec.Key...), rec.Value...)
		if len(block) >= blockSize {
			if err := flush(); err != nil {
				return r, err
			}
		}
	}
	if len(block) > 0 {
		if err := flush(); err != nil {
			return r, err
		}
	}
	r.end = s.end
	return r, nil
}

// writeBlock seals a block and appends it to the file, with its length before it. Its
// nonce is its offset, which is never the same again.
func (s *Sorter) writeBlock(buf, block []byte) ([]byte, error) {
	buf = binary.LittleEndian.AppendUint32(buf[:0], uint32(len(block)))
	buf = s.aead.Seal(buf, nonceAt(s.end), block, nil)
	n, err := s.file.WriteAt(buf, s.end)
	if err != nil {
		return buf, fmt.Errorf("write temporary file: %w", err)
	}
	s.end += int64(n)
	return buf, nil
}

func nonceAt(offset int64) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, 4, 12), uint64(offset))
}
