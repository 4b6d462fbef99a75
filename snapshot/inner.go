package snapshot

import (
	"encoding/binary"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// maxLevel bounds the height of a tree. With two children a node, it would
// hold more than 2^48 leaves.
const maxLevel = 48

// child is an inner node's word on a node below.
type child struct {
	first   Key // its first key
	id      chunk.ID
	entries uint64 // entries below
	bytes   uint64 // bytes of files below
}

// appendInner appends an inner node.
func appendInner(b []byte, level uint8, children []child) []byte {
	b = append(b, level)
	b = binary.AppendUvarint(b, uint64(len(children)))
	var prev Key
	for _, c := range children {
		n := commonPrefix(prev, c.first)
		b = binary.AppendUvarint(b, uint64(n))
		b = wire.AppendBytes(b, c.first[n:])
		b = append(b, c.id[:]...)
		b = binary.AppendUvarint(b, c.entries)
		b = binary.AppendUvarint(b, c.bytes)
		prev = c.first
	}
	return b
}

// decodeInner reads an inner node.
func decodeInner(p []byte) (level uint8, children []child, err error) {
	d := wire.NewDecoder(p)
	level = d.U8()
	if level == 0 || level > maxLevel {
		d.Fail("level %d of an inner node", level)
	}
	n := d.Count(36)
	if n == 0 {
		d.Fail("an inner node without children")
	}
	var key []byte
	for i := range n {
		shared := d.UvarintMax(uint64(len(key)))
		rest := d.Bytes()
		if d.Err() != nil {
			break
		}
		switch {
		case i == 0 && shared != 0:
			d.Fail("the first key shares a prefix")
		case i > 0 && int(shared) == len(key) && len(rest) == 0,
			i > 0 && int(shared) < len(key) && (len(rest) == 0 || rest[0] <= key[shared]):
			d.Fail("keys do not ascend")
		}
		key = append(key[:shared], rest...)
		c := child{first: Key(key), id: d.Array32(), entries: d.Uvarint(), bytes: d.Uvarint()}
		if err := c.first.Validate(); err != nil {
			d.Fail("%v", err)
		}
		if c.entries == 0 {
			d.Fail("a child without entries")
		}
		children = append(children, c)
	}
	if err := d.Finish(); err != nil {
		return 0, nil, fmt.Errorf("inner node is %w: %w", seal.ErrDamaged, err)
	}
	return level, children, nil
}
