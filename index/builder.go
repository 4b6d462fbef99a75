package index

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Builder collects what a new segment shall say. Not for concurrent use.
type Builder struct {
	supersedes map[SegmentID]bool
	positions  map[pack.ID]int
	packs      []Pack  // in the order of AddPack
	entries    []Entry // Pack is the position in packs
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder {
	return &Builder{supersedes: make(map[SegmentID]bool), positions: make(map[pack.ID]int)}
}

// AddPack adds a pack and all its entries, and keeps no reference to them. A pack
// that is there already, has no entries, or has impossible ones, is an error and
// changes nothing.
func (b *Builder) AddPack(f pack.Finished) error {
	p := Pack{ID: f.ID, Kind: f.Kind, Size: f.Size}
	if err := p.validate(); err != nil {
		return err
	}
	if _, ok := b.positions[f.ID]; ok {
		return fmt.Errorf("pack %s is in the segment already", f.ID.Short())
	}
	if len(f.Entries) == 0 {
		return fmt.Errorf("pack %s has no chunks", f.ID.Short())
	}
	for i, e := range f.Entries {
		if err := p.holds(e); err != nil {
			return err
		}
		if i > 0 && e.Offset <= f.Entries[i-1].Offset {
			return fmt.Errorf("pack %s: chunk %s is out of order", f.ID.Short(), e.ID.Short())
		}
	}
	at := len(b.packs)
	b.positions[f.ID] = at
	b.packs = append(b.packs, p)
	for _, e := range f.Entries {
		b.entries = append(b.entries, Entry{Entry: e, Pack: at})
	}
	return nil
}

// Supersede makes the segment replace another one. Readers honour it only if the
// admin signs.
func (b *Builder) Supersede(id SegmentID) { b.supersedes[id] = true }

// Len returns the number of entries so far.
func (b *Builder) Len() int { return len(b.entries) }

// Encode returns the sealed and signed segment and its ID. h.Kind is
// seal.Segment and keys are those of h.Place. The same packs and the same bytes
// of random give the same object, in whatever order the packs were added. The
// builder can be used further.
func (b *Builder) Encode(random io.Reader, h seal.Header, keys *seal.Keys, key ed25519.PrivateKey) ([]byte, SegmentID, error) {
	if h.Kind != seal.Segment {
		return nil, SegmentID{}, fmt.Errorf("%s is no index segment", h.Kind)
	}
	object, err := seal.SealObject(random, h, keys, key, b.appendPlaintext(nil))
	if err != nil {
		return nil, SegmentID{}, fmt.Errorf("seal index segment: %w", err)
	}
	return object, seal.Sum[segments](object), nil
}

// appendPlaintext appends the encoding of docs/format.md, section 8, without
// padding.
func (b *Builder) appendPlaintext(p []byte) []byte {
	supersedes := make([]SegmentID, 0, len(b.supersedes))
	for id := range b.supersedes {
		supersedes = append(supersedes, id)
	}
	slices.SortFunc(supersedes, SegmentID.Compare)
	packs, entries := b.sorted()
	bases := sortedBases(entries)
	p = slices.Grow(p, 16+32*len(supersedes)+packSize*len(packs)+pack.BasesSize*len(bases)+entrySize*len(entries))

	p = binary.LittleEndian.AppendUint32(p, uint32(len(supersedes)))
	for _, id := range supersedes {
		p = append(p, id[:]...)
	}
	p = binary.LittleEndian.AppendUint32(p, uint32(len(packs)))
	for _, f := range packs {
		p = append(p, f.ID[:]...)
		p = append(p, byte(f.Kind))
		p = binary.LittleEndian.AppendUint64(p, uint64(f.Size))
	}
	p = binary.LittleEndian.AppendUint32(p, uint32(len(bases)))
	for _, b := range bases {
		p = b.Append(p)
	}
	p = binary.LittleEndian.AppendUint32(p, uint32(len(entries)))
	for _, e := range entries {
		p = appendEntry(p, e, bases)
	}
	return p
}

func appendEntry(p []byte, e Entry, bases []pack.Bases) []byte {
	base := uint32(noBase)
	if e.Encoding == pack.Delta {
		i, _ := slices.BinarySearchFunc(bases, e.Bases, compareBases)
		base = uint32(i)
	}
	p = append(p, e.ID[:]...)
	p = binary.LittleEndian.AppendUint32(p, uint32(e.Pack))
	p = binary.LittleEndian.AppendUint32(p, e.Offset)
	p = binary.LittleEndian.AppendUint32(p, e.Stored)
	p = binary.LittleEndian.AppendUint32(p, e.Raw)
	p = binary.LittleEndian.AppendUint32(p, base)
	return append(p, byte(e.Kind), byte(e.Encoding), 0, 0)
}

// sorted returns the packs and the entries in the order of the encoding.
func (b *Builder) sorted() ([]Pack, []Entry) {
	packs := slices.Clone(b.packs)
	slices.SortFunc(packs, func(x, y Pack) int { return x.ID.Compare(y.ID) })
	position := make([]int, len(packs)) // by position in b.packs
	for i, f := range packs {
		position[b.positions[f.ID]] = i
	}
	entries := slices.Clone(b.entries)
	for i := range entries {
		entries[i].Pack = position[entries[i].Pack]
	}
	slices.SortFunc(entries, Entry.compare)
	return packs, entries
}

// sortedBases returns each pair of bases once.
func sortedBases(entries []Entry) []pack.Bases {
	var bases []pack.Bases
	for _, e := range entries {
		if e.Encoding == pack.Delta {
			bases = append(bases, e.Bases)
		}
	}
	slices.SortFunc(bases, compareBases)
	return slices.Compact(bases)
}

func compareBases(a, b pack.Bases) int { return a.Compare(&b) }
