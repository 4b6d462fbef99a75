package snapshot

import (
	"encoding/binary"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Flags of an entry in a leaf.
const (
	flagLink    = 1
	flagXattrs  = 2
	flagList    = 4
	flagPartial = 8
)

type owner struct {
	uid, gid    uint32
	user, group string
}

type chunkRef struct {
	id   chunk.ID
	size uint32
}

// leafEncoder collects the entries of a leaf. Tables come first in a leaf but
// are known last, so entries are encoded into a buffer of their own.
type leafEncoder struct {
	entries  []byte
	count    int
	owners   []byte
	ownerOf  map[owner]int
	chunks   []byte
	chunkOf  map[chunkRef]int
	prev     Key
	sec      int64
	inode    uint64
	partOf   int    // table position of the last part
	partEnd  uint32 // its end
	lastUID  owner
	lastIdx  int
	lastRef  chunkRef
	lastRefI int
}

func (l *leafEncoder) reset() {
	if l.ownerOf == nil {
		l.ownerOf, l.chunkOf = make(map[owner]int), make(map[chunkRef]int)
	}
	clear(l.ownerOf)
	clear(l.chunkOf)
	*l = leafEncoder{
		entries: l.entries[:0], owners: l.owners[:0], chunks: l.chunks[:0], ownerOf: l.ownerOf, chunkOf: l.chunkOf,
		partOf: -1, lastIdx: -1, lastRefI: -1,
	}
}

func (l *leafEncoder) size() int { return 1 + len(l.owners) + len(l.chunks) + len(l.entries) }

func (l *leafEncoder) owner(e *Entry) int {
	o := owner{e.UID, e.GID, e.User, e.Group}
	if l.lastIdx >= 0 && o == l.lastUID {
		return l.lastIdx
	}
	i, ok := l.ownerOf[o]
	if !ok {
		i = len(l.ownerOf)
		l.ownerOf[o] = i
		l.owners = binary.AppendUvarint(l.owners, uint64(o.uid))
		l.owners = binary.AppendUvarint(l.owners, uint64(o.gid))
		l.owners = wire.AppendBytes(l.owners, o.user)
		l.owners = wire.AppendBytes(l.owners, o.group)
	}
	l.lastUID, l.lastIdx = o, i
	return i
}

func (l *leafEncoder) chunk(x Extent) int {
	r := chunkRef{x.Chunk, x.ChunkSize}
	if l.lastRefI >= 0 && r == l.lastRef {
		return l.lastRefI
	}
	i, ok := l.chunkOf[r]
	if !ok {
		i = len(l.chunkOf)
		l.chunkOf[r] = i
		l.chunks = append(l.chunks, r.id[:]...)
		l.chunks = binary.AppendUvarint(l.chunks, uint64(r.size))
	}
	l.lastRef, l.lastRefI = r, i
	return i
}

// commonPrefix returns the length of what a and b begin with.
func commonPrefix(a, b Key) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// add encodes an entry, which is valid and behind the one before.
func (l *leafEncoder) add(e *Entry) {
	b := l.entries
	n := commonPrefix(l.prev, e.Key)
	b = binary.AppendUvarint(b, uint64(n))
	b = wire.AppendBytes(b, e.Key[n:])
	var flags byte
	if e.HasLink {
		flags |= flagLink
	}
	if len(e.Xattrs) > 0 {
		flags |= flagXattrs
	}
	if e.List != nil {
		flags |= flagList
	}
	if e.Partial {
		flags |= flagPartial
	}
	b = append(b, byte(e.Type), flags)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(l.owner(e)))
	b = binary.AppendVarint(b, e.Mtime.Sec-l.sec)
	b = binary.AppendUvarint(b, uint64(e.Mtime.Nsec))
	b = binary.AppendVarint(b, e.Ctime.Sec-e.Mtime.Sec)
	b = binary.AppendVarint(b, int64(e.Ctime.Nsec)-int64(e.Mtime.Nsec))
	b = binary.AppendVarint(b, int64(e.Inode-l.inode))
	if e.HasLink {
		b = binary.LittleEndian.AppendUint64(b, e.Link)
	}
	if len(e.Xattrs) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, x := range e.Xattrs {
			b = wire.AppendBytes(b, x.Name)
			b = wire.AppendBytes(b, x.Value)
		}
	}
	switch e.Type {
	case File:
		b = l.contents(b, e)
	case Symlink:
		b = wire.AppendBytes(b, e.Target)
	case CharDevice, BlockDevice:
		b = binary.AppendUvarint(b, e.Device)
	}
	l.entries = b
	l.prev, l.sec, l.inode = e.Key, e.Mtime.Sec, e.Inode
	l.count++
}

func (l *leafEncoder) contents(b []byte, e *Entry) []byte {
	b = binary.AppendUvarint(b, e.Size)
	if e.Size == 0 {
		return b
	}
	b = append(b, e.Hash[:]...)
	if e.List != nil {
		b = append(b, e.List.Root[:]...)
		return append(b, e.List.Level)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Extents)))
	for i, x := range e.Extents {
		last := i == len(e.Extents)-1
		switch {
		case x.IsHole():
			b = append(b, 0)
			b = binary.AppendUvarint(b, x.Length)
		case x.isWhole():
			b = binary.AppendUvarint(b, uint64(2*l.chunk(x)+2))
		default:
			c := l.chunk(x)
			b = binary.AppendUvarint(b, uint64(2*c+1))
			if c != l.partOf {
				l.partEnd = 0
			}
			b = binary.AppendVarint(b, int64(x.Offset)-int64(l.partEnd))
			if !last {
				b = binary.AppendUvarint(b, x.Length)
			}
			l.partOf, l.partEnd = c, x.Offset+uint32(x.Length)
		}
	}
	return b
}

// appendTo appends the leaf.
func (l *leafEncoder) appendTo(b []byte) []byte {
	b = append(b, 0)
	b = binary.AppendUvarint(b, uint64(len(l.ownerOf)))
	b = append(b, l.owners...)
	b = binary.AppendUvarint(b, uint64(len(l.chunkOf)))
	b = append(b, l.chunks...)
	b = binary.AppendUvarint(b, uint64(l.count))
	return append(b, l.entries...)
}

// leafDecoder reads leaves.
type leafDecoder struct {
	d          *wire.Decoder
	owners     []owner
	chunks     []chunkRef
	ownersUsed int
	chunksUsed int
	key        []byte
	prev       Entry
	partOf     int
	partEnd    uint32
}

// decodeLeaf appends the entries of a leaf to entries.
func decodeLeaf(p []byte, entries []Entry) ([]Entry, error) {
	l := leafDecoder{d: wire.NewDecoder(p), partOf: -1}
	if level := l.d.U8(); level != 0 {
		l.d.Fail("level %d of a leaf", level)
	}
	l.tables()
	n := l.d.Count(12)
	for i := range n {
		entries = append(entries, Entry{})
		l.entry(&entries[len(entries)-1], i == 0)
		if l.d.Err() != nil {
			break
		}
	}
	if l.ownersUsed != len(l.owners) || l.chunksUsed != len(l.chunks) {
		l.d.Fail("a table has items that no entry uses")
	}
	if err := l.d.Finish(); err != nil {
		return nil, fmt.Errorf("leaf is %w: %w", seal.ErrDamaged, err)
	}
	return entries, nil
}

func (l *leafDecoder) tables() {
	d := l.d
	seenOwners := make(map[owner]bool)
	for range d.Count(4) {
		o := owner{uint32(d.UvarintMax(1<<32 - 1)), uint32(d.UvarintMax(1<<32 - 1)), d.Text(), d.Text()}
		if seenOwners[o] {
			d.Fail("an owner twice")
		}
		seenOwners[o] = true
		l.owners = append(l.owners, o)
	}
	seenChunks := make(map[chunkRef]bool)
	for range d.Count(33) {
		r := chunkRef{d.Array32(), uint32(d.UvarintMax(1<<32 - 1))}
		if seenChunks[r] || r.id.IsZero() || r.size == 0 {
			d.Fail("a chunk twice, or without ID or size")
		}
		seenChunks[r] = true
		l.chunks = append(l.chunks, r)
	}
}

// use returns a position in a table whose items appear in order of first use.
func (l *leafDecoder) use(i uint64, used *int, size int) int {
	if i >= uint64(size) || i > uint64(*used) {
		l.d.Fail("item %d of a table of %d, of which %d were used", i, size, *used)
		return 0
	}
	if int(i) == *used {
		*used++
	}
	return int(i)
}

func (l *leafDecoder) entry(e *Entry, first bool) {
	d := l.d
	shared := d.UvarintMax(uint64(len(l.key)))
	rest := d.Bytes()
	if d.Err() != nil {
		return
	}
	switch {
	case first && shared != 0:
		d.Fail("the first key shares a prefix")
	case !first && int(shared) == len(l.key) && len(rest) == 0,
		!first && int(shared) < len(l.key) && (len(rest) == 0 || rest[0] <= l.key[shared]):
		// It also says that the shared prefix is the longest one.
		d.Fail("keys do not ascend")
	}
	l.key = append(l.key[:shared], rest...)
	e.Key = Key(l.key)
	e.Type = Type(d.U8())
	flags := d.U8()
	if flags > flagLink|flagXattrs|flagList|flagPartial {
		d.Fail("unknown flags %x", flags)
	}
	e.Mode = uint32(d.UvarintMax(0o7777))
	if i := l.use(d.Uvarint(), &l.ownersUsed, len(l.owners)); d.Err() == nil {
		o := l.owners[i]
		e.UID, e.GID, e.User, e.Group = o.uid, o.gid, o.user, o.group
	}
	e.Mtime.Sec = d.Svarint() + l.prev.Mtime.Sec
	e.Mtime.Nsec = uint32(d.UvarintMax(1e9 - 1))
	e.Ctime.Sec = d.Svarint() + e.Mtime.Sec
	if n := d.Svarint() + int64(e.Mtime.Nsec); n < 0 || n >= 1e9 {
		d.Fail("nanoseconds %d", n)
	} else {
		e.Ctime.Nsec = uint32(n)
	}
	e.Inode = uint64(d.Svarint()) + l.prev.Inode
	if flags&flagLink != 0 {
		e.HasLink, e.Link = true, d.U64()
	}
	if flags&flagXattrs != 0 {
		l.xattrs(e)
	}
	switch e.Type {
	case File:
		l.contents(e, flags)
	case Symlink:
		e.Target = append([]byte(nil), d.Bytes()...)
	case CharDevice, BlockDevice:
		e.Device = d.Uvarint()
	}
	if e.Type != File && flags&(flagList|flagPartial) != 0 {
		d.Fail("flags %x of a %s", flags, e.Type)
	}
	if d.Err() == nil {
		if err := e.Validate(); err != nil {
			d.Fail("%v", err)
		}
	}
	l.prev.Mtime.Sec, l.prev.Inode = e.Mtime.Sec, e.Inode
}

func (l *leafDecoder) xattrs(e *Entry) {
	d := l.d
	n := d.Count(2)
	if n == 0 {
		d.Fail("xattrs are announced, but there are none")
	}
	for range n {
		e.Xattrs = append(e.Xattrs, Xattr{Name: d.Text(), Value: append([]byte(nil), d.Bytes()...)})
	}
}

func (l *leafDecoder) contents(e *Entry, flags byte) {
	d := l.d
	e.Partial = flags&flagPartial != 0
	if e.Size = d.Uvarint(); e.Size == 0 {
		if flags&flagList != 0 {
			d.Fail("an empty file with a list")
		}
		return
	}
	copy(e.Hash[:], d.Fixed(16))
	if flags&flagList != 0 {
		e.List = &ListRef{Root: d.Array32(), Level: d.U8()}
		return
	}
	n := d.Count(1)
	left := e.Size
	if n > 0 {
		e.Extents = make([]Extent, 0, min(n, 4*MaxExtents))
	}
	for i := range n {
		x := l.extent(left, i == n-1)
		if d.Err() == nil && x.Length > left {
			d.Fail("extents are longer than the file")
		}
		if d.Err() != nil {
			return
		}
		left -= x.Length
		e.Extents = append(e.Extents, x)
	}
}

func (l *leafDecoder) extent(left uint64, last bool) (x Extent) {
	d := l.d
	v := d.Uvarint()
	if v == 0 {
		x.Length = d.Uvarint()
		return x
	}
	c := l.use((v-1)/2, &l.chunksUsed, len(l.chunks))
	if d.Err() != nil {
		return x
	}
	x.Chunk, x.ChunkSize = l.chunks[c].id, l.chunks[c].size
	if (v-1)%2 == 1 {
		x.Length = uint64(x.ChunkSize)
		return x
	}
	if c != l.partOf {
		l.partEnd = 0
	}
	offset := d.Svarint() + int64(l.partEnd)
	if last {
		x.Length = left
	} else {
		x.Length = d.Uvarint()
	}
	if offset < 0 || offset > int64(x.ChunkSize) || x.Length > uint64(x.ChunkSize)-uint64(offset) || x.Length == 0 || (offset == 0 && x.Length == uint64(x.ChunkSize)) {
		d.Fail("part of %d bytes at %d of a chunk of %d", x.Length, offset, x.ChunkSize)
		return x
	}
	x.Offset = uint32(offset)
	l.partOf, l.partEnd = c, x.Offset+uint32(x.Length)
	return x
}
