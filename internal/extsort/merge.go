package extsort

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// reader reads a run.
type reader struct {
	*Sorter
	at, stop int64 // what is left of the run, in the file
	number   int   // of the run among those that are merged: older ones first
	sealed   []byte
	block    []byte
	rest     []byte // of the block
	record   Record
}

var errDamaged = errors.New("temporary file was changed by somebody else, or its disk fails")

// next moves to the next record; false at the end.
func (r *reader) next() (bool, error) {
	if len(r.rest) == 0 {
		if r.at == r.stop {
			return false, nil
		}
		if err := r.readBlock(); err != nil {
			return false, err
		}
	}
	key, n := binary.Uvarint(r.rest)
	value, m := binary.Uvarint(r.rest[n:])
	p := r.rest[n+m:]
	r.record = Record{p[:key:key], p[key:][:value:value]}
	r.rest = p[key+value:]
	return true, nil
}

func (r *reader) readBlock() error {
	var length [4]byte
	if _, err := r.file.ReadAt(length[:], r.at); err != nil {
		return fmt.Errorf("read temporary file: %w", err)
	}
	n := int(binary.LittleEndian.Uint32(length[:])) + r.aead.Overhead()
	if int64(n) > r.stop-r.at {
		return errDamaged
	}
	if cap(r.sealed) < n {
		r.sealed = make([]byte, n)
	}
	if _, err := r.file.ReadAt(r.sealed[:n], r.at+4); err != nil {
		return fmt.Errorf("read temporary file: %w", err)
	}
	var err error
	if r.block, err = r.aead.Open(r.block[:0], nonceAt(r.at), r.sealed[:n], nil); err != nil {
		return errDamaged
	}
	r.rest = r.block
	r.at += int64(4 + n)
	return nil
}

// queue is a heap of runs, the one with the least record at its top.
type queue []*reader

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	c := bytes.Compare(q[i].record.Key, q[j].record.Key)
	return c < 0 || c == 0 && q[i].number < q[j].number
}
func (q *queue) Push(x any) { *q = append(*q, x.(*reader)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// merge returns the records of several runs, older ones first, in order.
func (s *Sorter) merge(runs []run) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var q queue
		for i, r := range runs {
			in := &reader{Sorter: s, at: r.start, stop: r.end, number: i}
			ok, err := in.next()
			if err != nil {
				yield(Record{}, err)
				return
			}
			if ok {
				q = append(q, in)
			}
		}
		heap.Init(&q)
		for len(q) > 0 {
			if !yield(q[0].record, nil) {
				return
			}
			ok, err := q[0].next()
			switch {
			case err != nil:
				yield(Record{}, err)
				return
			case ok:
				heap.Fix(&q, 0)
			default:
				heap.Pop(&q)
			}
		}
	}
}
