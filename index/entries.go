package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// Source is a pack, and who says what is in it.
type Source struct {
	Pack
	SignerAt
	// Number tells the sources of one loop apart: 0, 1, 2 and so on.
	Number int
}

// Located is a place of a chunk. In one loop, equal sources are the same pointer.
type Located struct {
	Entry  pack.Entry
	Source *Source
}

// Place returns the same as a look-up does.
func (l *Located) Place() Place {
	s := l.Source
	return Place{Pack: s.ID, PackKind: s.Kind, PackSize: s.Size, Entry: l.Entry, Signer: s.Signer, SignerPlace: s.SignerAt.Place}
}

// Entries yields all places of all chunks, sorted by chunk ID, those of one chunk as
// Lookup returns them: millions a second, in memory that grows with the number of packs
// only. An error ends the sequence; after ErrLost the caller absorbs what is missing and
// begins again.
//
// The index may change while the loop runs. What it has all the time is yielded once;
// places that come or go may be seen or not.
func (l *Local) Entries() iter.Seq2[Located, error] { return l.entries(entriesPerRead) }

func (l *Local) entries(perRead int) iter.Seq2[Located, error] {
	return func(yield func(Located, error) bool) {
		w := entryWalk{l: l, perRead: perRead, sources: make(map[uint32]*Source)}
		for !w.done {
			if err := w.read(); err != nil {
				yield(Located{}, fmt.Errorf("read local index: %w", err))
				return
			}
			for i := range w.batch {
				if !yield(w.batch[i], nil) {
					return
				}
			}
		}
	}
}

// entryWalk reads the records a part at a time, so that a slow loop over them does
// not keep the file from writers. Merges in between move records from run to run, but
// their keys stay as they are, so a key is all that it takes to go on.
type entryWalk struct {
	l       *Local
	perRead int
	start   recordKey // the first of the chunk to go on with
	done    bool
	batch   []Located

	sources map[uint32]*Source // by ordinal; nil if the segment is dead
	count   int                // of different sources
}

// entriesPerRead bounds what is read at a time: some 10 ms, and 3 MB. All of a chunk
// is read at once.
const entriesPerRead = 32_000

// read reads the next batch.
func (w *entryWalk) read() error {
	var next recordKey
	var done bool
	err := w.l.view(func(r *reader) (err error) {
		w.batch = w.batch[:0]
		next, done, err = w.readFrom(r)
		return err
	})
	if err != nil {
		return err
	}
	w.start, w.done = next, done
	return nil
}

func (w *entryWalk) readFrom(r *reader) (next recordKey, done bool, err error) {
	var streams []*runStream
	for i := range r.current.runs {
		u := &r.current.runs[i]
		if u.role == building || u.records == 0 || !w.start.less(&u.to) {
			continue
		}
		s, err := r.openRunAt(u, &w.start)
		if err != nil {
			return next, false, err
		}
		streams = append(streams, s)
	}
	m, err := newMerger(streams)
	if err != nil {
		return next, false, err
	}
	var id chunk.ID
	first := 0 // in the batch, of the chunk
	for n := 0; ; n++ {
		rec := m.peek()
		if rec == nil || n == 0 || !bytes.Equal(rec.key[:32], id[:]) {
			w.settle(first)
			first = len(w.batch)
			if rec == nil {
				return next, true, nil
			}
			id = chunk.ID(rec.key[:32])
			if n >= w.perRead {
				return newKey(id, 0, 0), false, nil
			}
		}
		src, err := w.source(r, rec.key.ordinal())
		if err != nil {
			return next, false, err
		}
		if src != nil {
			w.batch = append(w.batch, Located{Entry: rec.entry(), Source: src})
		}
		if err := m.pop(); err != nil {
			return next, false, err
		}
	}
}

// settle puts the places of one chunk, which are the last of the batch, in order. Two
// segments of one signer may name the same pack.
func (w *entryWalk) settle(first int) {
	places := w.batch[first:]
	if len(places) < 2 {
		return
	}
	slices.SortFunc(places, func(a, b Located) int {
		p, q := a.Place(), b.Place()
		return p.compare(&q)
	})
	w.batch = w.batch[:first+len(slices.Compact(places))]
}

// source returns what an ordinal stands for, nil if its segment is dead.
func (w *entryWalk) source(r *reader, ordinal uint32) (*Source, error) {
	if s, ok := w.sources[ordinal]; ok {
		return s, nil
	}
	src, err := r.source(ordinal)
	if err != nil {
		return nil, err
	}
	seg, err := r.segment(src.segment)
	if err != nil {
		return nil, err
	}
	if !seg.alive {
		w.sources[ordinal] = nil
		return nil, nil
	}
	by := SignerAt{seg.signer, seg.place}
	s, err := w.same(r, src.pack, by)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = &Source{Pack: src.pack, SignerAt: by, Number: w.count}
		w.count++
	}
	w.sources[ordinal] = s
	return s, nil
}

// same returns the source that another ordinal of the pack already stands for, if that
// says the same.
func (w *entryWalk) same(r *reader, f Pack, by SignerAt) (found *Source, err error) {
	err = r.packs.each(f.ID[:], func(k, _ []byte) (bool, error) {
		if len(k) != len(f.ID)+4 || !bytes.HasPrefix(k, f.ID[:]) {
			return false, nil
		}
		s := w.sources[binary.BigEndian.Uint32(k[len(f.ID):])]
		if s != nil && s.Pack == f && s.SignerAt == by {
			found = s
		}
		return found == nil, nil
	})
	return found, err
}
