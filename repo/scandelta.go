package repo

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// baseless is a delta that is as it was stored, and of which a base can't be had. What it
// is to make can't be known then; nothing is wrong with its own pack.
type baseless struct {
	Ref
	base chunk.ID
	err  error // why
}

// packScan is one reading of a pack's frames.
type packScan struct {
	*Repository
	key   *pack.Key
	good  goodFrame // may be nil
	found scanned
	buf   *buffers

	held     []heldDelta
	heldSize int64 // bytes of these and of their bases
}

// goodFrame takes the contents of a good frame, which are its to use until it returns,
// and the chunk that they make.
type goodFrame func(k *pack.Key, e pack.Entry, encoded, plaintext []byte) error

// heldDelta is a delta that waits for its bases. They are read for many deltas together, each
// once and in the order in which they are stored.
type heldDelta struct {
	entry   pack.Entry
	encoded []byte
}

var errNoWhole = errors.New("no pack is known to have it whole")

// maxHeld bounds what deltas take that wait, with their bases, unless one alone takes more.
const maxHeld = 8 << 20

// frame looks at a frame.
func (s *packScan) frame(ctx context.Context, e pack.Entry, frame []byte) error {
	if e.Encoding == pack.Delta {
		return s.hold(ctx, e, frame)
	}
	plain, err := s.openFrame(ctx, s.key, frame, e, s.buf)
	if err != nil {
		s.found.spoiled(e, err)
		return nil
	}
	return s.tell(e, s.buf.encoded, plain)
}

func (s *packScan) tell(e pack.Entry, encoded, plaintext []byte) error {
	if s.good == nil {
		return nil
	}
	return s.good(s.key, e, encoded, plaintext)
}

// hold authenticates a delta, and keeps it until its bases are there.
func (s *packScan) hold(ctx context.Context, e pack.Entry, frame []byte) error {
	encoded, err := s.key.Open(nil, frame, e)
	if err != nil {
		s.found.spoiled(e, err)
		return nil
	}
	size := int64(len(encoded))
	for _, id := range e.Bases.IDs() {
		places, err := s.places(nil, id)
		if err != nil {
			return err
		}
		raw := int64(0)
		for _, x := range places {
			if x.Entry.Encoding != pack.Delta {
				raw = max(raw, int64(x.Entry.Raw))
			}
		}
		if raw == 0 {
			// Prune deletes what nothing needs and leaves what is a delta of it where that
			// lies among other chunks. So there can be many: none is searched for.
			s.found.baseless = append(s.found.baseless, baseless{Ref{e.ID, e.Kind}, id, damaged("data chunk "+id.Short(), errNoWhole)})
			return nil
		}
		size += raw // once too often if several deltas have this base
	}
	if len(s.held) > 0 && s.heldSize+size > maxHeld {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	s.held = append(s.held, heldDelta{e, encoded})
	s.heldSize += size
	return nil
}

// flush looks at the deltas that wait.
func (s *packScan) flush(ctx context.Context) error {
	if len(s.held) == 0 {
		return nil
	}
	bases, err := s.readBases(ctx)
	if err != nil {
		return err
	}
	for _, h := range s.held {
		if err := s.decode(h, bases); err != nil {
			return err
		}
	}
	clear(s.held)
	s.held, s.heldSize = s.held[:0], 0
	return nil
}

// readBase is a base, or why it can't be had.
type readBase struct {
	plaintext []byte
	err       error
}

// readBases reads what the deltas that wait are differences to.
func (s *packScan) readBases(ctx context.Context) (map[Ref]readBase, error) {
	bases := make(map[Ref]readBase)
	var refs []Ref
	for _, h := range s.held {
		for _, id := range h.entry.Bases.IDs() {
			ref := Ref{id, h.entry.Kind}
			if _, ok := bases[ref]; !ok {
				bases[ref] = readBase{}
				refs = append(refs, ref)
			}
		}
	}
	var mu sync.Mutex
	err := s.Chunks(ctx, refs, func(i int, plaintext []byte, err error) error {
		mu.Lock()
		defer mu.Unlock()
		bases[refs[i]] = readBase{slices.Clone(plaintext), err}
		return nil
	})
	return bases, err
}

// decode makes the chunk of a delta, and looks whether it is the right one.
func (s *packScan) decode(h heldDelta, read map[Ref]readBase) error {
	e := h.entry
	var bases [][]byte
	for _, id := range e.Bases.IDs() {
		b := read[Ref{id, e.Kind}]
		if b.err != nil {
			s.found.baseless = append(s.found.baseless, baseless{Ref{e.ID, e.Kind}, id, b.err})
			return nil
		}
		bases = append(bases, b.plaintext)
	}
	plain, err := s.makeChunk(s.key, h.encoded, e, s.buf, bases...)
	if err != nil {
		s.found.spoiled(e, err)
		return nil
	}
	return s.tell(e, h.encoded, plain)
}
