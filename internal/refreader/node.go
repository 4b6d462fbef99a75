package refreader

import (
	"bytes"
	"math"
)

// Section 10: the bytes of nodes, those of the entry tree and those of list trees.

// A Type is what an entry is.
type Type uint8

// Types of entries.
const (
	File Type = 1 + iota
	Directory
	Symlink
	FIFO
	Socket
	CharDevice
	BlockDevice
)

// Flags of an entry.
const (
	flagHardLink = 1
	flagXattrs   = 2
	flagListTree = 4
	flagPartial  = 8
)

// An Entry is one file, directory or other thing of a snapshot.
type Entry struct {
	Key          string // components joined by NUL
	Type         Type
	Partial      bool   // contents are known to be partial
	Mode         uint32 // permission, setuid, setgid and sticky bits
	Owner        Owner
	MTime, CTime Timespec
	Inode        uint64
	HardLink     *uint64 // hard link group, nil if none
	Xattrs       []Xattr
	Target       []byte // of a symlink
	Device       uint64 // of a device, in Linux encoding

	Size        uint64
	ContentHash [16]byte // of a file that is not empty
	Extents     []Extent // of a file without a list tree
	List        *ListRef // of a file with one

	contentHashKey ID
}

// An Owner is a user and a group, whose names are empty if unknown.
type Owner struct {
	UID, GID    uint64
	User, Group string // bytes of any encoding
}

// A Timespec is a time in seconds since 1970 UTC, with nanoseconds from 0 to 999,999,999.
type Timespec struct {
	Sec  int64
	Nsec uint32
}

// An Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// A ListRef points to the root of a list tree.
type ListRef struct {
	Root  ID
	Level uint8
}

// An Extent is a run of a file's contents.
type Extent struct {
	Chunk  ID     // zero for a hole
	Part   bool   // not written as the whole chunk
	Offset uint64 // in the chunk; zero unless Part
	Length uint64 // bytes

	ChunkSize uint64 // length of the chunk's plaintext; zero for a hole
}

// A child is what an inner node says of a subtree.
type child struct {
	first   string // key of the first entry
	id      ID
	entries uint64
	bytes   uint64 // of file contents
}

// A node of the entry tree has entries at level 0, children above.
type node struct {
	level    uint8
	entries  []Entry
	children []child
}

type tableChunk struct {
	id  ID
	raw uint64
}

// A leafParser is a cursor with what an entry is coded against: the leaf's tables and the entry before.
type leafParser struct {
	*cursor
	owners     []Owner
	chunks     []tableChunk
	ownersUsed int // tables are in order of first use
	chunksUsed int

	key       []byte
	mtime     int64
	inode     uint64
	partChunk int // position of the chunk of the part before
	partEnd   uint64
}

// Limits of section 10.
const (
	maxLevel = 48
	maxNode  = 4 << 20
)

// parseNode parses a chunk of kind 2.
func parseNode(b []byte) (n node, err error) {
	c := newCursor(b)
	n.level = c.u8()
	c.require(n.level <= maxLevel && len(b) <= maxNode, "node of level %d with %d bytes", n.level, len(b))
	if n.level == 0 {
		n.entries = parseLeaf(c)
	} else {
		n.children = parseChildren(c)
	}
	return n, c.end()
}

func parseChildren(c *cursor) []child {
	p := leafParser{cursor: c}
	n := c.count(c.uvarint(), 1+1+32+1+1)
	c.require(n > 0, "inner node without children")
	children := make([]child, 0, n)
	var entries uint64
	for i := range n {
		x := child{first: p.nextKey(i == 0), id: c.id(), entries: c.uvarint(), bytes: c.uvarint()}
		entries += x.entries
		c.require(x.id != (ID{}) && x.entries > 0 && entries >= x.entries, "child %v with %d entries", x.id, x.entries)
		children = append(children, x)
	}
	return children
}

func parseLeaf(c *cursor) []Entry {
	p := leafParser{cursor: c, partChunk: -1}
	seenOwners := make(map[Owner]bool)
	for range c.count(c.uvarint(), 4) {
		o := Owner{c.uvarint(), c.uvarint(), string(c.bytes()), string(c.bytes())}
		c.require(!seenOwners[o], "owner is in the table twice")
		seenOwners[o] = true
		p.owners = append(p.owners, o)
	}
	seenChunks := make(map[ID]bool)
	for range c.count(c.uvarint(), 33) {
		t := tableChunk{c.id(), c.uvarint()}
		c.require(!seenChunks[t.id], "chunk is in the table twice")
		c.require(t.raw >= 1 && t.raw <= maxChunk, "chunk of %d bytes", t.raw)
		seenChunks[t.id] = true
		p.chunks = append(p.chunks, t)
	}
	var entries []Entry
	for i := range c.count(c.uvarint(), 11) {
		entries = append(entries, p.entry(i == 0))
	}
	c.require(p.ownersUsed == len(p.owners), "owners that no entry has")
	c.require(p.chunksUsed == len(p.chunks), "chunks that no entry has")
	return entries
}

// nextKey reads a key that is coded against the one before.
func (p *leafParser) nextKey(first bool) string {
	shared := p.uvarint()
	rest := p.bytes()
	if shared > uint64(len(p.key)) {
		p.fail("prefix of %d bytes of a key of %d", shared, len(p.key))
		return ""
	}
	key := append(bytes.Clone(p.key[:shared]), rest...)
	p.require(first || less(p.key, key), "keys are not in order")
	p.require(commonPrefix(p.key, key) == int(shared), "prefix is not the longest")
	p.require(validKey(key), "bad key %q", key)
	p.key = key
	return string(key)
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// validKey checks the components of a key; only the first may be empty.
func validKey(key []byte) bool {
	for i, comp := range bytes.Split(key, []byte{0}) {
		if len(comp) > 255 || len(comp) == 0 && i > 0 || bytes.IndexByte(comp, '/') >= 0 {
			return false
		}
		if s := string(comp); s == "." || s == ".." {
			return false
		}
	}
	return true
}

// tableIndex checks a position in a table that is in order of first use.
func (p *leafParser) tableIndex(v uint64, used *int, size int) (int, bool) {
	if v >= uint64(size) || v > uint64(*used) {
		p.fail("position %d of a table, of %d with %d used", v, size, *used)
		return 0, false
	}
	if v == uint64(*used) {
		*used++
	}
	return int(v), true
}

func (p *leafParser) entry(first bool) (e Entry) {
	e.Key = p.nextKey(first)
	e.Type = Type(p.u8())
	p.require(e.Type >= File && e.Type <= BlockDevice, "unknown type %d", e.Type)
	flags := p.u8()
	p.require(flags&^(flagHardLink|flagXattrs|flagListTree|flagPartial) == 0, "unknown flags %#x", flags)
	p.require(e.Type == File || flags&(flagListTree|flagPartial) == 0, "flags %#x are for files", flags)
	e.Partial = flags&flagPartial != 0
	mode := p.uvarint()
	p.require(mode&^0o7777 == 0, "mode %#o", mode)
	e.Mode = uint32(mode & 0o7777)
	if i, ok := p.tableIndex(p.uvarint(), &p.ownersUsed, len(p.owners)); ok {
		e.Owner = p.owners[i]
	}
	p.times(&e)
	p.inode += uint64(p.svarint())
	e.Inode = p.inode
	if flags&flagHardLink != 0 {
		group := p.u64()
		e.HardLink = &group
	}
	if flags&flagXattrs != 0 {
		e.Xattrs = p.xattrs()
	}
	switch e.Type {
	case File:
		p.file(&e, flags&flagListTree != 0)
	case Symlink:
		e.Target = bytes.Clone(p.bytes())
	case CharDevice, BlockDevice:
		e.Device = p.uvarint()
	}
	return e
}

// times reads mtime and ctime. Differences of seconds wrap around like int64.
func (p *leafParser) times(e *Entry) {
	p.mtime += p.svarint()
	nsec := p.uvarint()
	p.require(nsec < 1e9, "%d nanoseconds", nsec)
	e.MTime = Timespec{p.mtime, uint32(nsec)}
	sec := p.mtime + p.svarint()
	cnsec := int64(e.MTime.Nsec) + p.svarint()
	p.require(cnsec >= 0 && cnsec < 1e9, "%d nanoseconds", cnsec)
	e.CTime = Timespec{sec, uint32(cnsec)}
}

func (p *leafParser) xattrs() (out []Xattr) {
	n := p.count(p.uvarint(), 2)
	p.require(n > 0, "flag for xattrs without any")
	for i := range n {
		x := Xattr{string(p.bytes()), bytes.Clone(p.bytes())}
		p.require(i == 0 || out[i-1].Name < x.Name, "xattrs are not in order")
		out = append(out, x)
	}
	return out
}

func (p *leafParser) file(e *Entry, list bool) {
	e.Size = p.uvarint()
	p.require(e.Size <= math.MaxInt64, "file of %d bytes", e.Size)
	if e.Size == 0 {
		p.require(!list, "list tree of an empty file")
		return
	}
	e.ContentHash = [16]byte(p.fixed(16))
	if list {
		e.List = &ListRef{p.id(), p.u8()}
		return
	}
	n := p.count(p.uvarint(), 1)
	p.require(n > 0, "file without extents")
	left := e.Size
	for i := range n {
		x := p.extent(left, i == n-1)
		p.require(x.Length >= 1 && x.Length <= left, "extent of %d bytes where %d are left", x.Length, left)
		if p.err != nil {
			return
		}
		left -= x.Length
		e.Extents = append(e.Extents, x)
	}
	p.require(left == 0, "extents leave %d bytes of the file", left)
}

// extent reads an extent; left bytes of the file remain for it and those after it.
func (p *leafParser) extent(left uint64, last bool) Extent {
	v := p.uvarint()
	if v == 0 {
		return Extent{Length: p.uvarint()}
	}
	i, ok := p.tableIndex((v-1)/2, &p.chunksUsed, len(p.chunks))
	if !ok {
		return Extent{}
	}
	chunk := p.chunks[i]
	if (v-1)%2 == 1 {
		return Extent{Chunk: chunk.id, Length: chunk.raw, ChunkSize: chunk.raw}
	}
	offset := p.svarint()
	if p.partChunk == i {
		offset += int64(p.partEnd)
	}
	length := left
	if !last {
		length = p.uvarint()
	}
	if offset < 0 || length > chunk.raw || uint64(offset) > chunk.raw-length {
		p.fail("part of %d bytes at %d of a chunk of %d", length, offset, chunk.raw)
		return Extent{}
	}
	p.partChunk, p.partEnd = i, uint64(offset)+length
	return Extent{Chunk: chunk.id, Part: true, Offset: uint64(offset), Length: length, ChunkSize: chunk.raw}
}

// A listNode is a chunk of kind 3. Its items are extents at level 0, and above it children, of which an
// item gives the ID and the bytes of contents below.
type listNode struct {
	level uint8
	items []Extent
}

func parseListNode(b []byte) (n listNode, err error) {
	c := newCursor(b)
	n.level = c.u8()
	c.require(n.level <= maxLevel && len(b) <= maxNode, "list node of level %d with %d bytes", n.level, len(b))
	n.items = make([]Extent, c.count(c.uvarint(), 32+1))
	c.require(len(n.items) > 0, "list node without items")
	var sum uint64
	for i := range n.items {
		x := Extent{Chunk: c.id(), Length: c.uvarint()}
		c.require(x.Length >= 1 && x.Length <= math.MaxInt64, "%d bytes", x.Length)
		c.require(n.level == 0 || x.Chunk != (ID{}), "child without an ID")
		sum += x.Length // of two numbers below 2^63: it can't wrap around
		c.require(sum <= math.MaxInt64, "a list of 2^63 bytes or more")
		if n.level == 0 && x.Chunk != (ID{}) {
			c.require(x.Length <= maxChunk, "chunk of %d bytes", x.Length)
			x.ChunkSize = x.Length
		}
		n.items[i] = x
	}
	return n, c.end()
}
