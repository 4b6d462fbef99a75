package index

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Place is where a chunk is, according to a signer. It is good only if that pack
// exists, and the signer may say so.
type Place struct {
	Pack        pack.ID
	PackKind    seal.Kind
	PackSize    int64 // bytes that the pack must have
	Entry       pack.Entry
	Signer      seal.Signer
	SignerPlace seal.Place // the epoch and domain of the segment
}

// compare orders places by pack, offset and signer, and then all the rest, as
// two signers, or a lying one, may say different things of one frame.
func (p *Place) compare(o *Place) int {
	return cmp.Or(
		p.Pack.Compare(o.Pack),
		cmp.Compare(p.Entry.Offset, o.Entry.Offset),
		bytes.Compare(p.Signer[:], o.Signer[:]),
		cmp.Compare(p.SignerPlace.Epoch, o.SignerPlace.Epoch),
		cmp.Compare(p.SignerPlace.Domain, o.SignerPlace.Domain),
		cmp.Compare(p.PackKind, o.PackKind),
		cmp.Compare(p.PackSize, o.PackSize),
		cmp.Compare(p.Entry.Kind, o.Entry.Kind),
		cmp.Compare(p.Entry.Encoding, o.Entry.Encoding),
		cmp.Compare(p.Entry.Stored, o.Entry.Stored),
		cmp.Compare(p.Entry.Raw, o.Entry.Raw),
		p.Entry.Bases.Compare(&o.Entry.Bases),
	)
}

// Lookup returns all places of a chunk, ordered by pack, offset and signer. None
// means that no absorbed segment has the chunk.
func (l *Local) Lookup(id chunk.ID) ([]Place, error) { return l.AppendPlaces(nil, id) }

// AppendPlaces is Lookup that appends to dst. It returns dst as it was if there is
// an error.
func (l *Local) AppendPlaces(dst []Place, id chunk.ID) ([]Place, error) {
	found := dst
	err := l.view(func(r *reader) (err error) {
		found, err = r.appendPlaces(dst, id)
		return err
	})
	if err != nil {
		return dst, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	return found, nil
}

func (r *reader) appendPlaces(dst []Place, id chunk.ID) ([]Place, error) {
	start := len(dst)
	if err := r.readLines(&id); err != nil {
		return nil, err
	}
	for i, line := range r.lines {
		if line == nil {
			continue
		}
		no, err := absent(&r.current.runs[i], &id, line)
		if err == nil && !no {
			dst, err = r.appendRun(dst, i, id)
		}
		if err != nil {
			return nil, err
		}
	}
	places := dst[start:]
	if len(places) < 2 {
		return dst, nil
	}
	slices.SortFunc(places, func(a, b Place) int { return a.compare(&b) })
	// Two segments of one signer may name the same pack.
	return dst[:start+len(slices.Compact(places))], nil
}

// readLines finds the lines of the filters that speak of a chunk, nil for runs that can't have it.
// It touches all of them before any is looked at, so that memory is waited for once.
func (r *reader) readLines(id *chunk.ID) error {
	r.lines = r.lines[:0]
	for i := range r.current.runs {
		u := &r.current.runs[i]
		var line []byte
		if u.mayHold(id) {
			var err error
			if line, err = r.filters[i].line(r.tables, u, id); err != nil {
				return err
			}
			r.touched ^= line[0]
		}
		r.lines = append(r.lines, line)
	}
	return nil
}

// mayHold reports whether a chunk lies within a run's bounds.
func (u *run) mayHold(id *chunk.ID) bool {
	first := newKey(*id, 0, 0)
	return u.role != building && u.records > 0 && bytes.Compare(u.from[:32], id[:]) <= 0 && first.less(&u.to)
}

// appendRun appends the places that run i of the state has for a chunk.
func (r *reader) appendRun(dst []Place, i int, id chunk.ID) ([]Place, error) {
	u := &r.current.runs[i]
	first := newKey(id, 0, 0)
	if first.less(&u.from) {
		first = u.from
	}
	b, err := r.blockOf(i, &first)
	if err != nil {
		return dst, err
	}
	at, err := b.find(&first)
	if err != nil {
		return dst, err
	}
	var rec record
	for {
		// find and verify have proven the key at that position, also where it is the first of the
		// next group or of the next block.
		k := (*recordKey)(b.keyAt(at))
		if !bytes.Equal(k[:32], id[:]) || !k.less(&u.to) {
			return dst, nil
		}
		if at == b.records {
			if b, err = r.blockAt(u.number, k); err != nil {
				return dst, err
			}
			at = 0
		}
		if at%groupRecords == 0 {
			if err := b.verify(at / groupRecords); err != nil {
				return dst, err
			}
		}
		b.read(at, &rec)
		if dst, err = r.appendPlace(dst, &rec); err != nil {
			return dst, err
		}
		at++
	}
}

// appendPlace appends what a record says, unless its segment is dead.
func (r *reader) appendPlace(dst []Place, rec *record) ([]Place, error) {
	p, by, err := r.resolve(rec.key.ordinal())
	if err != nil || by == nil {
		return dst, err
	}
	return append(dst, Place{
		Pack: p.ID, PackKind: p.Kind, PackSize: p.Size, Entry: rec.entry(), Signer: by.Signer, SignerPlace: by.Place,
	}), nil
}

// seek returns the last block of a run that begins at or below k.
func (r *reader) seek(run uint32, k *recordKey) (block, error) {
	want := blockKey(run, k)
	key, value := r.cursor.Seek(want[:])
	if !bytes.Equal(key, want[:]) {
		if key == nil {
			key, value = r.cursor.Last()
		} else {
			key, value = r.cursor.Prev()
		}
	}
	if len(key) != blockKeySize || !bytes.Equal(key[:4], want[:4]) {
		return block{}, fmt.Errorf("%w: a block is missing", errDamaged)
	}
	return openBlock(key, value)
}

// next returns the block behind that of the cursor, which must begin with k.
func (r *reader) next(run uint32, k *recordKey) (block, error) {
	want := blockKey(run, k)
	key, value := r.cursor.Next()
	if !bytes.Equal(key, want[:]) {
		return block{}, fmt.Errorf("%w: a block is missing", errDamaged)
	}
	return openBlock(key, value)
}
