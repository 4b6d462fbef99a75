package snapshot

import (
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Leaf is a node of level 0: a run of entries in the order of their keys. A
// leaf can be decoded into again and again, which saves allocations. It is not safe for
// concurrent use.
type Leaf struct {
	Entries []Entry

	// What the entries point to. It is theirs: copies of entries outlive the
	// next Decode.
	extents []Extent
	xattrs  []Xattr

	// Tables, kept for the next Decode.
	owners  []owner
	chunks  []leafChunk
	keys    keyReader
	names   map[string]string // makes one string of equal names
	seenIDs map[chunk.ID]struct{}
	seenOwn map[owner]struct{}
}

type leafChunk struct {
	id   chunk.ID
	size uint32
}

// Smallest encodings, which bound counts by the bytes that are left.
const (
	minOwner = 4
	minChunk = chunk.IDSize + 1
	minEntry = 11
	minXattr = 3
)

// Append encodes the leaf. Entries must be valid, in strictly ascending order
// of their keys, and follow the directories that they are in, unless those belong before
// the leaf's first entry.
func (l *Leaf) Append(b []byte) ([]byte, error) {
	var (
		x   leafEncoder
		seq sequence
	)
	for i := range l.Entries {
		e := &l.Entries[i]
		shared, err := seq.next(e, true)
		if err != nil {
			return nil, err
		}
		if err := x.add(e, shared); err != nil {
			return nil, err
		}
	}
	if x.keyBytes > MaxNodeKeys {
		return nil, errKeysTooBig
	}
	if x.n > maxLeafEntries || x.extents > maxLeafExtents || x.xattrs > maxLeafXattrs {
		return nil, fmt.Errorf("leaf of %d entries with %d extents and %d extended attributes is too large", x.n, x.extents, x.xattrs)
	}
	if n := x.size(); n > MaxNode {
		return nil, fmt.Errorf("leaf of %d bytes: it is larger than %d", n, MaxNode)
	}
	return x.appendTo(b), nil
}

// Decode decodes a leaf. Entries share memory with p, which must not change any
// more. The slice is good until Decode is called again; copies of entries are
// good for ever. An error wraps seal.ErrDamaged.
func (l *Leaf) Decode(p []byte) error {
	if err := l.decode(p); err != nil {
		l.Entries = l.Entries[:0]
		return fmt.Errorf("leaf is %w: %w", seal.ErrDamaged, err)
	}
	return nil
}

func (l *Leaf) decode(p []byte) error {
	d := decodeNode(p, 0)
	l.decodeOwners(d)
	l.decodeChunks(d)
	n := countMost(d, minEntry, maxLeafEntries)
	// Most entries are files of one extent, in a bundle with others.
	l.extents, l.xattrs = nil, nil
	if len(l.chunks) > 0 {
		l.extents = make([]Extent, 0, max(n, len(l.chunks)))
	}
	l.Entries = slices.Grow(l.Entries[:0], n)[:n]
	l.keys.reset()
	c := leafDecoder{d: d, leaf: l}
	for i := range l.Entries {
		c.entry(&l.Entries[i])
		if d.Err() != nil {
			return d.Err()
		}
	}
	if d.Err() == nil && (c.owners != len(l.owners) || c.chunks != len(l.chunks)) {
		d.Fail("owners or chunks that no entry has")
	}
	if err := d.Finish(); err != nil {
		return err
	}
	text, start := l.keys.text(), 0
	for i := range l.Entries {
		end := l.keys.ends[i]
		l.Entries[i].Key = Key(text[start:end])
		start = end
	}
	return nil
}

func (l *Leaf) decodeOwners(d *wire.Decoder) {
	clear(l.names)
	if l.names == nil {
		l.names = make(map[string]string)
		l.seenOwn = make(map[owner]struct{})
		l.seenIDs = make(map[chunk.ID]struct{})
	}
	n := d.Count(minOwner)
	l.owners = l.owners[:0]
	clear(l.seenOwn)
	for range n {
		o := owner{uint32(d.UvarintMax(1<<32 - 1)), uint32(d.UvarintMax(1<<32 - 1)), l.name(d), l.name(d)}
		if d.Err() != nil {
			return
		}
		if _, twice := l.seenOwn[o]; twice {
			d.Fail("owner %d:%d is there twice", o.uid, o.gid)
			return
		}
		l.seenOwn[o] = struct{}{}
		l.owners = append(l.owners, o)
	}
}

func (l *Leaf) decodeChunks(d *wire.Decoder) {
	n := d.Count(minChunk)
	l.chunks = l.chunks[:0]
	clear(l.seenIDs)
	for range n {
		c := leafChunk{id: d.Array32(), size: uint32(d.UvarintMax(maxChunk))}
		if d.Err() != nil {
			return
		}
		if _, twice := l.seenIDs[c.id]; twice || c.id.IsZero() {
			d.Fail("chunk %s is there twice or is none", c.id.Short())
			return
		}
		l.seenIDs[c.id] = struct{}{}
		l.chunks = append(l.chunks, c)
	}
}

// name reads a string of which there are likely to be many equal ones.
func (l *Leaf) name(d *wire.Decoder) string {
	p := d.Bytes()
	if s, ok := l.names[string(p)]; ok {
		return s
	}
	s := string(p)
	l.names[s] = s
	return s
}

// leafDecoder is the state between entries.
type leafDecoder struct {
	d              *wire.Decoder
	leaf           *Leaf
	owners, chunks int // of the tables, that were used
	isDir          bool
	sec            int64
	inode          uint64
	part           partState
}

func (c *leafDecoder) entry(e *Entry) {
	d := c.d
	prevLen := c.leaf.keys.read(d)
	*e = Entry{Type: Type(d.U8())}
	flags := d.U8()
	if flags&^(flagLink|flagXattrs|flagList|flagPartial) != 0 {
		d.Fail("unknown flags %#x", flags)
	}
	if k := &c.leaf.keys; d.Err() == nil && len(k.ends) > 1 && !hasParent(k.last(), prevLen, k.shared, c.isDir) {
		d.Fail("%w", errNoParent)
	}
	c.isDir = e.Type == Directory
	e.Mode = uint32(d.UvarintMax(0o7777))
	if at := c.position(&c.owners, d.Uvarint(), len(c.leaf.owners)); d.Err() == nil {
		o := &c.leaf.owners[at]
		e.UID, e.GID, e.User, e.Group = o.uid, o.gid, o.user, o.group
	}
	e.Mtime = Time{c.sec + d.Svarint(), uint32(d.UvarintMax(maxNsec))}
	e.Ctime.Sec = e.Mtime.Sec + d.Svarint()
	// No sum of a valid time and any number wraps around into the valid range:
	// the first is less than 2^30.
	nsec := int64(e.Mtime.Nsec) + d.Svarint()
	if nsec < 0 || nsec > maxNsec {
		d.Fail("ctime of %d nanoseconds", nsec)
	}
	e.Ctime.Nsec = uint32(nsec)
	e.Inode = c.inode + uint64(d.Svarint())
	c.sec, c.inode = e.Mtime.Sec, e.Inode
	if flags&flagLink != 0 {
		e.HasLink, e.Link = true, d.U64()
	}
	if flags&flagXattrs != 0 {
		e.Xattrs = c.xattrs()
	}
	e.Partial = flags&flagPartial != 0
	c.byType(e, flags)
	if d.Err() != nil {
		return
	}
	if err := e.validate(); err != nil {
		d.Fail("%w", err)
	}
}

// byType reads what only entries of some types have.
func (c *leafDecoder) byType(e *Entry, flags byte) {
	if flags&flagList != 0 && e.Type != File {
		c.d.Fail("%s with contents", e.Type)
	}
	switch e.Type {
	case File:
		c.file(e, flags&flagList != 0)
	case Symlink:
		e.Target = c.d.Bytes()
	case CharDevice, BlockDevice:
		e.Device = c.d.Uvarint()
	}
}

// position checks a position in a table that is in the order of first use.
func (c *leafDecoder) position(used *int, at uint64, size int) uint64 {
	if at > uint64(*used) || at >= uint64(size) {
		c.d.Fail("position %d in a table of which %d of %d were used", at, *used, size)
		return 0
	}
	if at == uint64(*used) {
		*used++
	}
	return at
}

func (c *leafDecoder) xattrs() []Xattr {
	d, l := c.d, c.leaf
	n, start := countMost(d, minXattr, maxLeafXattrs-len(l.xattrs)), len(l.xattrs)
	if d.Err() == nil && n == 0 {
		d.Fail("no extended attributes where some should be")
	}
	for range n {
		l.xattrs = append(l.xattrs, Xattr{Name: l.name(d), Value: d.Bytes()})
		if d.Err() != nil {
			return nil
		}
	}
	return l.xattrs[start:len(l.xattrs):len(l.xattrs)]
}

func (c *leafDecoder) file(e *Entry, list bool) {
	d, l := c.d, c.leaf
	if e.Size = d.Uvarint(); e.Size == 0 {
		if list {
			d.Fail("empty file with contents")
		}
		return
	}
	copy(e.Hash[:], d.Fixed(len(e.Hash)))
	if list {
		e.List = &ListRef{Root: d.Array32(), Level: d.U8()}
		return
	}
	n, start := countMost(d, 1, maxLeafExtents-len(l.extents)), len(l.extents)
	var sum uint64
	for i := range n {
		x := c.extent(e.Size-sum, i == n-1)
		if d.Err() != nil {
			return
		}
		// Lengths were checked against what was left.
		sum += x.Length
		l.extents = append(l.extents, x)
	}
	e.Extents = l.extents[start:len(l.extents):len(l.extents)]
}

// extent reads an extent of a file of which some bytes are left.
func (c *leafDecoder) extent(left uint64, last bool) (x Extent) {
	d := c.d
	v := d.Uvarint()
	if v == 0 {
		x.Length = d.UvarintMax(left)
		return x
	}
	at := c.position(&c.chunks, (v-1)/2, len(c.leaf.chunks))
	if d.Err() != nil {
		return x
	}
	ch := c.leaf.chunks[at]
	x.Chunk, x.ChunkSize = ch.id, ch.size
	if (v-1)&1 != 0 {
		if x.Length = uint64(ch.size); x.Length > left {
			d.Fail("extents are longer than the file")
		}
		return x
	}
	offset := int64(c.part.base(at)) + d.Svarint()
	if offset < 0 || offset >= int64(ch.size) {
		d.Fail("extent at %d of chunk %s", offset, ch.id.Short())
		return x
	}
	x.Offset, x.Length = uint32(offset), left
	if !last {
		x.Length = d.UvarintMax(left)
	}
	if x.Length > uint64(ch.size)-uint64(offset) {
		d.Fail("extent reaches beyond chunk %s", ch.id.Short())
		return x
	}
	if x.isWhole() {
		d.Fail("whole chunk as a part")
	}
	c.part = partState{at, x.Offset + uint32(x.Length)}
	return x
}
