package corpus

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// BlockSize is the unit in which an Image is written, in bytes.
const BlockSize = 4096

// Image is the disk of a virtual machine: extents of blocks in a sparse file, as a file system
// lays out files of all sizes, with tables of metadata between them. Some of the files are
// text, some do not compress, some are copies of others.
//
// From one version to the next one block in 200 is overwritten where it is, in runs of 1 to 8
// blocks anywhere on the disk, and files of as many blocks are written to free space.
type Image struct {
	Size    int64 // of the disk, in bytes; a multiple of BlockSize
	Data    int64 // about how much of it the first version uses
	Version int   // from 1
}

// extent is a run of blocks in which the contents of one file or table stand.
type extent struct {
	first, blocks int64
	kind          extentKind
	seed          uint64
}

type extentKind uint8

const (
	textExtent extentKind = iota
	randomExtent
	tableExtent
)

// rewritten is one in how many blocks a version overwrites, and adds.
const rewritten = 200

// WriteBlocks writes the blocks that are in use, in no particular order and some of them more
// than once. The rest of the disk is zero.
func (m Image) WriteBlocks(w io.WriterAt) error {
	buf := make([]byte, 0, maxExtent*BlockSize)
	for _, e := range m.extents() {
		buf = e.contents(buf[:0])
		if _, err := w.WriteAt(buf, e.first*BlockSize); err != nil {
			return err
		}
	}
	return nil
}

const maxExtent = 1024 // blocks

// extents are what was written, in the order of time.
func (m Image) extents() []extent {
	if m.Data > m.Size || m.Size%BlockSize != 0 || m.Version < 1 {
		panic(fmt.Sprintf("corpus: impossible image %+v", m))
	}
	r := rand.New(rand.NewPCG(4, 1))
	blocks := m.Data / BlockSize
	// Gaps are as long, on average, as to spread the data over the disk.
	gap := float64(m.Size-m.Data) / float64(m.Data)
	var all []extent
	var next int64
	for used := int64(0); used < blocks; {
		e := extent{first: next, blocks: min(size(r), blocks-used), seed: r.Uint64()}
		switch n := r.IntN(100); {
		case n < 45:
			e.kind = textExtent
		case n < 75:
			e.kind = randomExtent
		case n < 85:
			e.kind, e.blocks = tableExtent, min(64, blocks-used)
		case len(all) > 0: // a copy
			c := all[r.IntN(len(all))]
			e.blocks, e.kind, e.seed = min(c.blocks, blocks-used), c.kind, c.seed
		}
		all = append(all, e)
		used += e.blocks
		next += e.blocks + int64(gap*float64(e.blocks)*2*r.Float64())
		next = min(next, m.Size/BlockSize-(blocks-used)) // what is left must fit
	}
	for version := 2; version <= m.Version; version++ {
		all = append(all, m.changes(all, blocks, version)...)
	}
	return all
}

// changes are the writes that lead to a version.
func (m Image) changes(all []extent, blocks int64, version int) []extent {
	r := rand.New(rand.NewPCG(4, uint64(version)))
	var changes []extent
	for left := max(1, blocks/rewritten); left > 0; {
		in := all[r.IntN(len(all))]
		at := r.Int64N(in.blocks)
		n := min(1+r.Int64N(8), in.blocks-at, left)
		changes = append(changes, extent{in.first + at, n, in.kind, r.Uint64()})
		left -= n
	}
	// Behind the last file, where the disk has free space, if it has.
	next := all[0].first
	for _, e := range all {
		next = max(next, e.first+e.blocks)
	}
	for left := min(blocks/rewritten, m.Size/BlockSize-next); left > 0; {
		e := extent{next, min(size(r), left), extentKind(r.IntN(2)), r.Uint64()}
		changes = append(changes, e)
		next += e.blocks
		left -= e.blocks
	}
	return changes
}

// size is how many blocks a file has: few have many.
func size(r *rand.Rand) int64 { return 1 + r.Int64N(1<<r.IntN(11)) }

// contents appends the contents of the extent to b.
func (e extent) contents(b []byte) []byte {
	n := int(e.blocks) * BlockSize
	p := b[:n]
	switch e.kind {
	case textExtent:
		FillText(p, e.seed)
	case randomExtent:
		FillRandom(p, e.seed)
	case tableExtent:
		fillTable(p, e.seed)
	}
	return p
}

// fillTable fills p with records of 256 bytes that look like inodes: most of each is
// zero, or like that of its neighbour.
func fillTable(p []byte, seed uint64) {
	clear(p)
	r := rand.New(rand.NewPCG(5, seed))
	at := uint32(dumpBegin.Unix())
	for i := 0; i+256 <= len(p); i += 256 {
		if r.IntN(4) == 0 {
			continue // a free one
		}
		at += r.Uint32N(100)
		put := func(off int, v uint32) {
			p[i+off], p[i+off+1], p[i+off+2], p[i+off+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
		}
		put(0, 0x000081a4) // mode
		put(4, r.Uint32N(1<<20))
		put(8, at)
		put(12, at)
		put(16, at)
		put(40, 0xf30a) // the header of an extent tree
		put(60, r.Uint32())
		put(128, r.Uint32())
	}
}
