package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// SegmentID names a segment: the BLAKE3 of its bytes.
type SegmentID = seal.Digest[segments]

type segments struct{}

// Pack is what a segment says of a pack as a whole.
type Pack struct {
	ID   pack.ID
	Kind seal.Kind // DataPack or MetaPack
	Size int64     // bytes
}

// Entry is what a segment says of a chunk.
type Entry struct {
	pack.Entry
	Pack int // position in Segment.Packs
}

// compare is the order of entries in a segment.
func (e Entry) compare(o Entry) int {
	if c := bytes.Compare(e.ID[:], o.ID[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(e.Pack, o.Pack), cmp.Compare(e.Offset, o.Offset))
}

// Segment is an index segment that was opened and found sound. It is not
// changed after Open and safe for concurrent use.
type Segment struct {
	ID     SegmentID
	Header seal.Header
	Signer seal.Signer
	// Supersedes are the segments that this one replaces, sorted. It is for the
	// caller to honour that from the admin only.
	Supersedes []SegmentID
	Packs      []Pack // sorted by ID

	bases   []byte // pack.BasesSize bytes each
	entries []byte // entrySize bytes each
}

// Sizes in a segment's plaintext, in bytes.
const (
	packSize  = 32 + 1 + 8
	entrySize = 56
	noBase    = 0xffffffff
)

// Open verifies the signature and the seal of a segment and parses it. Errors
// wrap those of seal: ErrDamaged, ErrForeign, ErrNewer, ErrNoKey.
//
// Open does not know who may sign segments: the caller must compare Signer with
// the repository's admin and list of writers (docs/format.md, section 3), and,
// if the object was read by its name, ID with that name.
func Open(object []byte, ring *seal.Keyring) (*Segment, error) {
	o, err := seal.OpenObject(object, seal.Segment, ring)
	if err != nil {
		return nil, err
	}
	s, err := parse(o.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("index segment is %w: %w", seal.ErrDamaged, err)
	}
	s.ID, s.Header, s.Signer = seal.Sum[segments](object), o.Header, o.Signer
	return s, nil
}

// Len returns the number of entries.
func (s *Segment) Len() int { return len(s.entries) / entrySize }

// Entries yields the entries, sorted by chunk ID, pack and offset.
func (s *Segment) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range s.Len() {
			if e, _, _ := s.decode(i); !yield(e) {
				return
			}
		}
	}
}

// entry returns entry i.
func (s *Segment) entry(i int) Entry {
	e, _, _ := s.decode(i)
	return e
}

// decode reads entry i. It also returns the position of the bases, and whether the
// bytes are in their only form.
//
//	chunk ID 32 | pack 4 | offset 4 | stored 4 | raw 4 | bases 4 | kind 1 | encoding 1 | zero 2
func (s *Segment) decode(i int) (e Entry, base uint32, canonical bool) {
	p := s.entries[i*entrySize : (i+1)*entrySize]
	e = Entry{
		Pack: int(binary.LittleEndian.Uint32(p[32:])),
		Entry: pack.Entry{
			ID:       chunk.ID(p[:32]),
			Offset:   binary.LittleEndian.Uint32(p[36:]),
			Stored:   binary.LittleEndian.Uint32(p[40:]),
			Raw:      binary.LittleEndian.Uint32(p[44:]),
			Kind:     chunk.Kind(p[52]),
			Encoding: pack.Encoding(p[53]),
		},
	}
	base = binary.LittleEndian.Uint32(p[48:])
	canonical = p[54] == 0 && p[55] == 0
	switch {
	case base == noBase:
	case uint64(base) < uint64(len(s.bases)/pack.BasesSize):
		e.Bases = pack.ParseBases(s.bases[base*pack.BasesSize:])
	default:
		canonical = false
	}
	return e, base, canonical
}

// parse reads the padded plaintext of a segment.
func parse(p []byte) (*Segment, error) {
	d := wire.NewDecoder(p)
	s := &Segment{}
	for range d.Count32(32) {
		id := SegmentID(d.Array32())
		if n := len(s.Supersedes); n > 0 && s.Supersedes[n-1].Compare(id) >= 0 {
			d.Fail("superseded segments are not sorted")
		}
		s.Supersedes = append(s.Supersedes, id)
	}
	for range d.Count32(packSize) {
		f := Pack{ID: d.Array32(), Kind: seal.Kind(d.U8())}
		size := d.U64()
		if n := len(s.Packs); n > 0 && s.Packs[n-1].ID.Compare(f.ID) >= 0 {
			d.Fail("packs are not sorted")
		}
		if size > pack.MaxSize {
			d.Fail("pack %s of %d bytes", f.ID.Short(), size)
		}
		f.Size = int64(size)
		if err := f.validate(); d.Err() == nil && err != nil {
			d.Fail("%v", err)
		}
		s.Packs = append(s.Packs, f)
	}
	s.bases = d.Fixed(pack.BasesSize * d.Count32(pack.BasesSize))
	for i := pack.BasesSize; i < len(s.bases); i += pack.BasesSize {
		if bytes.Compare(s.bases[i-pack.BasesSize:i], s.bases[i:i+pack.BasesSize]) >= 0 {
			d.Fail("bases are not sorted")
		}
	}
	s.entries = d.Fixed(entrySize * d.Count32(entrySize))
	if err := d.FinishPadded(len(p), seal.Padme); err != nil {
		return nil, err
	}
	return s, s.validate()
}

// validate checks the entries one by one and against what they point at.
func (s *Segment) validate() error {
	packUsed := make([]bool, len(s.Packs))
	baseUsed := make([]bool, len(s.bases)/pack.BasesSize)
	var last Entry
	for i := range s.Len() {
		e, base, canonical := s.decode(i)
		if !canonical || e.Pack < 0 || e.Pack >= len(s.Packs) {
			return fmt.Errorf("%w: entry %d", wire.ErrMalformed, i)
		}
		if i > 0 && last.compare(e) >= 0 {
			return fmt.Errorf("%w: entries are not sorted", wire.ErrMalformed)
		}
		if err := s.Packs[e.Pack].holds(e.Entry); err != nil {
			return fmt.Errorf("%w: %w", wire.ErrMalformed, err)
		}
		packUsed[e.Pack] = true
		if base != noBase {
			baseUsed[base] = true
		}
		last = e
	}
	// The encoder writes only what entries point at; anything else would be a
	// second encoding of the same segment.
	for _, used := range [][]bool{packUsed, baseUsed} {
		for i, ok := range used {
			if !ok {
				return fmt.Errorf("%w: no entry refers to pack or bases %d", wire.ErrMalformed, i)
			}
		}
	}
	return nil
}

// validate reports why a pack cannot be like this.
func (f Pack) validate() error {
	if f.Kind != seal.DataPack && f.Kind != seal.MetaPack {
		return fmt.Errorf("pack %s: %s is no kind of pack", f.ID.Short(), f.Kind)
	}
	if f.Size < pack.PrefixSize+pack.FooterSize || f.Size > pack.MaxSize {
		return fmt.Errorf("pack %s of %d bytes", f.ID.Short(), f.Size)
	}
	return nil
}

// holds reports why the entry cannot be in the pack.
func (f Pack) holds(e pack.Entry) error {
	if err := e.Validate(f.Kind); err != nil {
		return fmt.Errorf("pack %s: %w", f.ID.Short(), err)
	}
	if int64(e.Offset)+int64(e.Stored) > f.Size-pack.FooterSize {
		return fmt.Errorf("pack %s: chunk %s ends behind the pack", f.ID.Short(), e.ID.Short())
	}
	return nil
}

// ParseSegmentID reads what SegmentID.String wrote.
func ParseSegmentID(s string) (SegmentID, error) { return seal.ParseDigest[segments](s) }
