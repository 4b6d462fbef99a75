package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// KnownPack is a pack that absorbed segments name, and who says so.
type KnownPack struct {
	Pack
	Signers []SignerAt
}

// SignerAt is a signer, and the epoch and domain of its segment.
type SignerAt struct {
	Signer seal.Signer
	Place  seal.Place
}

// Claim is the word of one segment on one pack.
type Claim struct {
	Pack
	SignerAt
	Segment SegmentID
}

func (c Claim) compare(o Claim) int {
	return cmp.Or(
		c.ID.Compare(o.ID), cmp.Compare(c.Kind, o.Kind), cmp.Compare(c.Size, o.Size),
		bytes.Compare(c.Signer[:], o.Signer[:]),
		cmp.Compare(c.Place.Epoch, o.Place.Epoch), cmp.Compare(c.Place.Domain, o.Place.Domain), c.Segment.Compare(o.Segment),
	)
}

// Packs yields the known packs, sorted by ID. Where segments contradict each other in
// the kind or the size of a pack, each version is yielded with its signers. An error
// ends the sequence.
//
// The index may change while the loop runs: packs that come or go may be seen or not.
func (l *Local) Packs() iter.Seq2[KnownPack, error] {
	return func(yield func(KnownPack, error) bool) {
		var k KnownPack
		for c, err := range l.Claims() {
			if err != nil {
				yield(KnownPack{}, err)
				return
			}
			if len(k.Signers) > 0 && c.Pack != k.Pack {
				if !yield(k, nil) {
					return
				}
				k = KnownPack{}
			}
			k.Pack = c.Pack
			if n := len(k.Signers); n == 0 || k.Signers[n-1] != c.SignerAt {
				k.Signers = append(k.Signers, c.SignerAt)
			}
		}
		if len(k.Signers) > 0 {
			yield(k, nil)
		}
	}
}

// Claims yields what Packs yields, segment by segment: sorted by pack, then by its kind
// and size, then by signer.
func (l *Local) Claims() iter.Seq2[Claim, error] {
	return func(yield func(Claim, error) bool) {
		w := packWalk{l: l}
		for !w.done {
			claims, err := w.read()
			if err != nil {
				yield(Claim{}, fmt.Errorf("list packs of local index: %w", err))
				return
			}
			slices.SortFunc(claims, Claim.compare)
			for _, c := range claims {
				if !yield(c, nil) {
					return
				}
			}
		}
	}
}

// packWalk reads the packs a part at a time, so that a slow loop over them does not
// keep the file from writers.
type packWalk struct {
	l     *Local
	start []byte // key to go on from
	done  bool
	began known  // when the walk began
	rows  uint64 // read so far
}

const packsPerRead = 512

// read returns the live claims on the next packs, all of each.
func (w *packWalk) read() (claims []Claim, err error) {
	err = w.l.view(func(r *reader) error {
		if w.start == nil {
			w.began = r.current.known()
		}
		rows := w.rows
		var last pack.ID
		next := []byte(nil)
		err := r.packs.each(w.start, func(k, _ []byte) (bool, error) {
			if len(k) != len(last)+4 {
				return false, fmt.Errorf("%w: pack's key of %d bytes", errDamaged, len(k))
			}
			id := pack.ID(k[:len(last)])
			if rows-w.rows >= packsPerRead && id != last {
				next = bytes.Clone(k)
				return false, nil
			}
			last = id
			rows++
			c, alive, err := r.claim(id, binary.BigEndian.Uint32(k[len(last):]))
			if alive {
				claims = append(claims, c)
			}
			return true, err
		})
		if err != nil {
			return err
		}
		if next == nil && w.began == r.current.known() && rows != r.current.sources {
			return fmt.Errorf("%w: %d of %d packs", errDamaged, rows, r.current.sources)
		}
		w.rows, w.start, w.done = rows, next, next == nil
		return nil
	})
	return claims, err
}

// claim returns what an ordinal stands for, and whether its segment is alive.
func (r *reader) claim(id pack.ID, ordinal uint32) (Claim, bool, error) {
	src, err := r.source(ordinal)
	if err != nil {
		return Claim{}, false, err
	}
	if src.pack.ID != id {
		return Claim{}, false, fmt.Errorf("%w: ordinal %d is of another pack", errDamaged, ordinal)
	}
	seg, err := r.segment(src.segment)
	if err != nil {
		return Claim{}, false, err
	}
	return Claim{src.pack, SignerAt{seg.signer, seg.place}, seg.id}, seg.alive, nil
}
