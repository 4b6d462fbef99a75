package refreader

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// The other direction, for tests: an encoder of everything that the parsers accept. The fuzz targets
// hold it against them, and builder_test.go makes repositories with it.

type enc []byte

func (e *enc) put(parts ...[]byte) {
	for _, p := range parts {
		*e = append(*e, p...)
	}
}
func (e *enc) u8(v uint8)       { *e = append(*e, v) }
func (e *enc) u32(v uint32)     { *e = binary.LittleEndian.AppendUint32(*e, v) }
func (e *enc) u64(v uint64)     { *e = binary.LittleEndian.AppendUint64(*e, v) }
func (e *enc) i64(v int64)      { e.u64(uint64(v)) }
func (e *enc) id(v ID)          { *e = append(*e, v[:]...) }
func (e *enc) uvarint(v uint64) { *e = binary.AppendUvarint(*e, v) }
func (e *enc) svarint(v int64)  { *e = binary.AppendVarint(*e, v) }
func (e *enc) bytes(b []byte)   { e.uvarint(uint64(len(b))); e.put(b) }
func (e *enc) text(s string)    { e.bytes([]byte(s)) }
func (e *enc) ids(ids []ID) {
	for _, id := range ids {
		e.id(id)
	}
}

// padded returns the encoding with its padding.
func (e enc) padded() []byte {
	return append(e[:len(e):len(e)], make([]byte, padme(uint64(len(e)))-uint64(len(e)))...)
}

func encodeSegment(s segment) []byte {
	var e enc
	e.u32(uint32(len(s.supersedes)))
	e.ids(s.supersedes)
	position := make(map[packRef]uint32)
	e.u32(uint32(len(s.packs)))
	for i, p := range s.packs {
		position[p.packRef] = uint32(i)
		e.id(p.id)
		e.u8(p.kind)
		e.u64(p.size)
	}
	e.u32(uint32(len(s.bases)))
	for _, b := range s.bases {
		e.id(b[0])
		e.id(b[1])
	}
	e.u32(uint32(len(s.entries)))
	for _, l := range s.entries {
		e.id(l.id)
		e.u32(position[l.pack])
		e.u32(l.offset)
		e.u32(l.stored)
		e.u32(l.raw)
		base := uint32(math.MaxUint32)
		if l.encoding == encodingDelta {
			base = uint32(slices.Index(s.bases, l.bases))
		}
		e.u32(base)
		e.put([]byte{l.kind, l.encoding, 0, 0})
	}
	return e.padded()
}

func encodeDirectory(frames []frame) []byte {
	var e enc
	e.u32(uint32(len(frames)))
	for _, f := range frames {
		e.id(f.id)
		e.put([]byte{f.kind, f.encoding})
		e.u32(f.raw)
		e.u32(f.stored)
		if f.encoding == encodingDelta {
			e.id(f.bases[0])
			e.id(f.bases[1])
		}
	}
	return e.padded()
}

func encodeOpenPart(p OpenPart) []byte {
	var e enc
	e.i64(p.Time)
	e.u8(p.Flags)
	e.text(p.Host)
	e.id(p.Parent)
	e.uvarint(uint64(len(p.Links)))
	e.ids(p.Links)
	return e.padded()
}

func (e *enc) totals(t Totals) {
	for _, v := range []uint64{t.Files, t.Directories, t.Others, t.Bytes, t.New, t.Changed, t.Unmodified,
		t.Removed, t.Unreadable, t.NewBytes, t.NewBytesStored} {
		e.uvarint(v)
	}
}

func encodeClosedPart(p ClosedPart) []byte {
	var e enc
	e.id(p.Root)
	e.u8(p.RootLevel)
	e.text(p.Set)
	e.text(p.User)
	e.text(p.Program)
	e.i64(p.Start)
	e.i64(p.End)
	e.uvarint(uint64(len(p.Tags)))
	for _, tag := range p.Tags {
		e.text(tag)
	}
	e.totals(p.Totals)
	e.uvarint(uint64(len(p.Sources)))
	for _, s := range p.Sources {
		e.text(s.Kind)
		e.bytes(s.Name)
		if s.Incomplete {
			e.u8(1)
		} else {
			e.u8(0)
		}
		e.totals(s.Totals)
		e.uvarint(uint64(len(s.Attributes)))
		for _, key := range slices.Sorted(maps.Keys(s.Attributes)) {
			e.text(key)
			e.bytes(s.Attributes[key])
		}
	}
	return e.padded()
}

func encodeListNode(n listNode) []byte {
	var e enc
	e.u8(n.level)
	e.uvarint(uint64(len(n.items)))
	for _, x := range n.items {
		e.id(x.Chunk)
		e.uvarint(x.Length)
	}
	return e
}

func encodeNode(n node) []byte {
	var e enc
	e.u8(n.level)
	if n.level > 0 {
		e.uvarint(uint64(len(n.children)))
		var last string
		for _, c := range n.children {
			e.key(&last, c.first)
			e.id(c.id)
			e.uvarint(c.entries)
			e.uvarint(c.bytes)
		}
		return e
	}
	l := leafEncoder{partChunk: -1}
	for _, entry := range n.entries {
		l.entry(entry)
	}
	e.uvarint(uint64(len(l.owners)))
	for _, o := range l.owners {
		e.uvarint(o.UID)
		e.uvarint(o.GID)
		e.text(o.User)
		e.text(o.Group)
	}
	e.uvarint(uint64(len(l.chunks)))
	for _, c := range l.chunks {
		e.id(c.id)
		e.uvarint(c.raw)
	}
	e.uvarint(uint64(len(n.entries)))
	e.put(l.enc)
	return e
}

func (e *enc) key(last *string, key string) {
	n := commonPrefix([]byte(*last), []byte(key))
	e.uvarint(uint64(n))
	e.text(key[n:])
	*last = key
}

// leafEncoder writes entries and collects the tables that stand before them.
type leafEncoder struct {
	enc
	owners    []Owner
	chunks    []tableChunk
	key       string
	mtime     int64
	inode     uint64
	partChunk int
	partEnd   uint64
}

// tablePosition returns the position of v in the table, to which it adds v if it is new.
func tablePosition[T comparable](table *[]T, v T) int {
	if i := slices.Index(*table, v); i >= 0 {
		return i
	}
	*table = append(*table, v)
	return len(*table) - 1
}

func (l *leafEncoder) entry(e Entry) {
	l.enc.key(&l.key, e.Key)
	l.u8(uint8(e.Type))
	var flags uint8
	if e.HardLink != nil {
		flags |= flagHardLink
	}
	if e.Xattrs != nil {
		flags |= flagXattrs
	}
	if e.List != nil {
		flags |= flagListTree
	}
	if e.Partial {
		flags |= flagPartial
	}
	l.u8(flags)
	l.uvarint(uint64(e.Mode))
	l.uvarint(uint64(tablePosition(&l.owners, e.Owner)))
	l.svarint(e.MTime.Sec - l.mtime)
	l.mtime = e.MTime.Sec
	l.uvarint(uint64(e.MTime.Nsec))
	l.svarint(e.CTime.Sec - e.MTime.Sec)
	l.svarint(int64(e.CTime.Nsec) - int64(e.MTime.Nsec))
	l.svarint(int64(e.Inode - l.inode))
	l.inode = e.Inode
	if e.HardLink != nil {
		l.u64(*e.HardLink)
	}
	if e.Xattrs != nil {
		l.uvarint(uint64(len(e.Xattrs)))
		for _, x := range e.Xattrs {
			l.text(x.Name)
			l.bytes(x.Value)
		}
	}
	switch e.Type {
	case File:
		l.file(e)
	case Symlink:
		l.bytes(e.Target)
	case CharDevice, BlockDevice:
		l.uvarint(e.Device)
	}
}

func (l *leafEncoder) file(e Entry) {
	l.uvarint(e.Size)
	if e.Size == 0 {
		return
	}
	l.put(e.ContentHash[:])
	if e.List != nil {
		l.id(e.List.Root)
		l.u8(e.List.Level)
		return
	}
	l.uvarint(uint64(len(e.Extents)))
	for i, x := range e.Extents {
		if x.ChunkSize == 0 {
			l.uvarint(0)
			l.uvarint(x.Length)
			continue
		}
		p := tablePosition(&l.chunks, tableChunk{x.Chunk, x.ChunkSize})
		if !x.Part {
			l.uvarint(uint64(2*p) + 2)
			continue
		}
		l.uvarint(uint64(2*p) + 1)
		offset := int64(x.Offset)
		if l.partChunk == p {
			offset -= int64(l.partEnd)
		}
		l.svarint(offset)
		if i < len(e.Extents)-1 {
			l.uvarint(x.Length)
		}
		l.partChunk, l.partEnd = p, x.Offset+x.Length
	}
}
