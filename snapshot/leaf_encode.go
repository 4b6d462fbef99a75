package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
)

// Flags of an entry.
const (
	flagLink    = 1
	flagXattrs  = 2
	flagList    = 4
	flagPartial = 8
)

// owner is an entry's owner as it stands in a leaf's table.
type owner struct {
	uid, gid    uint32
	user, group string
}

// leafEncoder encodes a leaf entry by entry and knows at any time how large it
// is. Its zero value is ready for use.
type leafEncoder struct {
	owners, chunks, entries []byte // encoded
	ownerAt                 map[owner]uint64
	chunkAt                 map[chunk.ID]tableChunk

	n        uint64 // entries
	contents uint64 // bytes of file contents, modulo 2^64
	keyBytes int
	extents  int
	xattrs   int
	first    Key

	prevSec   int64
	prevInode uint64
	part      partState
}

type tableChunk struct {
	at   uint64
	size uint32
}

// partState is where the last extent ended that was a part of a chunk. The next
// small file of a bundle usually goes on there.
type partState struct {
	chunk uint64 // position in the table
	end   uint32 // 0 before the first part
}

// base is what the offset of a part of a chunk is relative to.
func (s partState) base(chunk uint64) uint32 {
	if s.chunk == chunk {
		return s.end
	}
	return 0
}

func (x *leafEncoder) reset() {
	clear(x.ownerAt)
	clear(x.chunkAt)
	*x = leafEncoder{
		owners: x.owners[:0], chunks: x.chunks[:0], entries: x.entries[:0],
		ownerAt: x.ownerAt, chunkAt: x.chunkAt,
	}
}

// size returns the number of bytes that appendTo will append.
func (x *leafEncoder) size() int {
	return 1 + uvarintLen(uint64(len(x.ownerAt))) + len(x.owners) +
		uvarintLen(uint64(len(x.chunkAt))) + len(x.chunks) +
		uvarintLen(x.n) + len(x.entries)
}

func (x *leafEncoder) appendTo(b []byte) []byte {
	b = append(b, 0)
	b = binary.AppendUvarint(b, uint64(len(x.ownerAt)))
	b = append(b, x.owners...)
	b = binary.AppendUvarint(b, uint64(len(x.chunkAt)))
	b = append(b, x.chunks...)
	b = binary.AppendUvarint(b, x.n)
	return append(b, x.entries...)
}

// add encodes an entry that shares some bytes of its key with the one before in the leaf.
func (x *leafEncoder) add(e *Entry, shared int) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if x.n == 0 {
		x.first = e.Key
	}
	b := appendKey(x.entries, e.Key, shared)
	b = append(b, byte(e.Type), e.flags())
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, x.owner(owner{e.UID, e.GID, e.User, e.Group}))
	b = binary.AppendVarint(b, e.Mtime.Sec-x.prevSec)
	b = binary.AppendUvarint(b, uint64(e.Mtime.Nsec))
	b = binary.AppendVarint(b, e.Ctime.Sec-e.Mtime.Sec)
	b = binary.AppendVarint(b, int64(e.Ctime.Nsec)-int64(e.Mtime.Nsec))
	b = binary.AppendVarint(b, int64(e.Inode-x.prevInode))
	if e.HasLink {
		b = binary.LittleEndian.AppendUint64(b, e.Link)
	}
	if len(e.Xattrs) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, a := range e.Xattrs {
			b = wire.AppendBytes(b, a.Name)
			b = wire.AppendBytes(b, a.Value)
		}
	}
	var err error
	switch e.Type {
	case File:
		if b, err = x.appendContents(b, e); err != nil {
			return fmt.Errorf("%q: %w", e.Key.Path(), err)
		}
	case Symlink:
		b = wire.AppendBytes(b, e.Target)
	case CharDevice, BlockDevice:
		b = binary.AppendUvarint(b, e.Device)
	}
	x.entries = b
	x.n++
	x.contents += e.Size
	x.keyBytes += len(e.Key)
	x.extents += len(e.Extents)
	x.xattrs += len(e.Xattrs)
	x.prevSec, x.prevInode = e.Mtime.Sec, e.Inode
	return nil
}

func (e *Entry) flags() (f byte) {
	if e.HasLink {
		f |= flagLink
	}
	if len(e.Xattrs) > 0 {
		f |= flagXattrs
	}
	if e.List != nil {
		f |= flagList
	}
	if e.Partial {
		f |= flagPartial
	}
	return f
}

// owner returns the position of o in the table, to which it adds it if needed.
func (x *leafEncoder) owner(o owner) uint64 {
	if at, ok := x.ownerAt[o]; ok {
		return at
	}
	if x.ownerAt == nil {
		x.ownerAt = make(map[owner]uint64)
	}
	at := uint64(len(x.ownerAt))
	x.ownerAt[o] = at
	x.owners = binary.AppendUvarint(x.owners, uint64(o.uid))
	x.owners = binary.AppendUvarint(x.owners, uint64(o.gid))
	x.owners = wire.AppendBytes(x.owners, o.user)
	x.owners = wire.AppendBytes(x.owners, o.group)
	return at
}

var errTwoSizes = errors.New("a chunk with two sizes")

// chunk returns the position of the extent's chunk in the table, to which it
// adds it if needed.
func (x *leafEncoder) chunk(e Extent) (uint64, error) {
	if c, ok := x.chunkAt[e.Chunk]; ok {
		if c.size != e.ChunkSize {
			return 0, errTwoSizes
		}
		return c.at, nil
	}
	if x.chunkAt == nil {
		x.chunkAt = make(map[chunk.ID]tableChunk)
	}
	at := uint64(len(x.chunkAt))
	x.chunkAt[e.Chunk] = tableChunk{at, e.ChunkSize}
	x.chunks = append(x.chunks, e.Chunk[:]...)
	x.chunks = binary.AppendUvarint(x.chunks, uint64(e.ChunkSize))
	return at, nil
}

func (x *leafEncoder) appendContents(b []byte, e *Entry) ([]byte, error) {
	b = binary.AppendUvarint(b, e.Size)
	if e.Size == 0 {
		return b, nil
	}
	b = append(b, e.Hash[:]...)
	if e.List != nil {
		b = append(b, e.List.Root[:]...)
		return append(b, e.List.Level), nil
	}
	b = binary.AppendUvarint(b, uint64(len(e.Extents)))
	for i, ext := range e.Extents {
		if ext.IsHole() {
			b = append(b, 0)
			b = binary.AppendUvarint(b, ext.Length)
			continue
		}
		at, err := x.chunk(ext)
		if err != nil {
			return nil, err
		}
		if ext.isWhole() {
			b = binary.AppendUvarint(b, 1+2*at+1)
			continue
		}
		b = binary.AppendUvarint(b, 1+2*at)
		b = binary.AppendVarint(b, int64(ext.Offset)-int64(x.part.base(at)))
		if i < len(e.Extents)-1 {
			b = binary.AppendUvarint(b, ext.Length)
		}
		x.part = partState{at, ext.Offset + uint32(ext.Length)}
	}
	return b, nil
}

// appendKey appends a key that begins with shared bytes of the one before.
func appendKey(b []byte, k Key, shared int) []byte {
	b = binary.AppendUvarint(b, uint64(shared))
	return wire.AppendBytes(b, k[shared:])
}

// uvarintLen returns the number of bytes of v as a uvarint.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
