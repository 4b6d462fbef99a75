package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Child is what a node knows of a node below it.
type Child struct {
	Key     Key // of its first entry
	ID      chunk.ID
	Entries uint64 // below it, at least 1
	Bytes   uint64 // of file contents below it, modulo 2^64: sparse files can be huge
}

// Inner is a node above the leaves. Like a Leaf, it can be decoded into again.
type Inner struct {
	Level    uint8 // at least 1; children are one level lower
	Children []Child

	keys keyReader
}

const minChild = 2 + chunk.IDSize + 2

// Append encodes the node. There must be children, in strictly ascending order
// of their keys.
func (n *Inner) Append(b []byte) ([]byte, error) {
	if n.Level == 0 || n.Level > MaxLevel {
		return nil, fmt.Errorf("inner node of level %d", n.Level)
	}
	if len(n.Children) == 0 {
		return nil, errors.New("inner node without children")
	}
	var x innerEncoder
	for _, c := range n.Children {
		if err := c.Key.Validate(); err != nil {
			return nil, fmt.Errorf("key %q: %w", c.Key, err)
		}
		if x.n > 0 && x.prev >= c.Key {
			return nil, fmt.Errorf("key %q: %w", c.Key, errOrder)
		}
		if err := x.add(c); err != nil {
			return nil, err
		}
	}
	if x.keyBytes > MaxNodeKeys || x.size() > MaxNode {
		return nil, fmt.Errorf("inner node of %d bytes with %d bytes of keys is too large", x.size(), x.keyBytes)
	}
	return x.appendTo(b, n.Level), nil
}

// Decode decodes a node of the given level. The slice of children is good until
// Decode is called again. An error wraps seal.ErrDamaged.
func (n *Inner) Decode(p []byte, level uint8) error {
	if err := n.decode(p, level); err != nil {
		n.Children = n.Children[:0]
		return fmt.Errorf("inner node is %w: %w", seal.ErrDamaged, err)
	}
	return nil
}

func (n *Inner) decode(p []byte, level uint8) error {
	if level == 0 {
		return errors.New("level 0")
	}
	d := decodeNode(p, level)
	count := d.Count(minChild)
	if d.Err() == nil && count == 0 {
		d.Fail("no children")
	}
	n.Level = level
	n.Children = slices.Grow(n.Children[:0], count)[:count]
	n.keys.reset()
	var sum totals
	for i := range n.Children {
		n.keys.read(d)
		c := &n.Children[i]
		*c = Child{ID: d.Array32(), Entries: d.Uvarint(), Bytes: d.Uvarint()}
		if d.Err() != nil {
			return d.Err()
		}
		if err := sum.add(*c); err != nil {
			d.Fail("%w", err)
		}
	}
	if err := d.Finish(); err != nil {
		return err
	}
	text, start := n.keys.text(), 0
	for i, end := range n.keys.ends {
		n.Children[i].Key = Key(text[start:end])
		start = end
	}
	return nil
}

// totals are the sums that a node's parent has of it.
type totals struct{ entries, bytes uint64 }

func (t *totals) add(c Child) error {
	if c.ID.IsZero() || c.Entries == 0 {
		return errors.New("child without ID or entries")
	}
	t.entries += c.Entries
	t.bytes += c.Bytes
	if t.entries < c.Entries {
		return errors.New("2^64 entries or more")
	}
	return nil
}

// innerEncoder encodes an inner node child by child.
type innerEncoder struct {
	children []byte
	n        uint64
	sum      totals
	keyBytes int
	first    Key
	prev     Key
}

func (x *innerEncoder) reset() { *x = innerEncoder{children: x.children[:0]} }

func (x *innerEncoder) size() int { return 1 + uvarintLen(x.n) + len(x.children) }

func (x *innerEncoder) add(c Child) error {
	if err := x.sum.add(c); err != nil {
		return fmt.Errorf("node %s at %q: %w", c.ID.Short(), c.Key.Path(), err)
	}
	shared := 0
	if x.n == 0 {
		x.first = c.Key
	} else {
		shared = commonPrefix(x.prev, c.Key)
	}
	x.children = appendKey(x.children, c.Key, shared)
	x.children = append(x.children, c.ID[:]...)
	x.children = binary.AppendUvarint(x.children, c.Entries)
	x.children = binary.AppendUvarint(x.children, c.Bytes)
	x.n++
	x.keyBytes += len(c.Key)
	x.prev = c.Key
	return nil
}

func (x *innerEncoder) appendTo(b []byte, level uint8) []byte {
	b = append(b, level)
	b = binary.AppendUvarint(b, x.n)
	return append(b, x.children...)
}

// keyReader reads the keys of a node one after the other into one buffer, so
// that all of them become one string.
type keyReader struct {
	buf    []byte
	ends   []int // of each key in buf
	start  int   // of the last key in buf
	shared int   // bytes that the last key shares with the one before
}

func (k *keyReader) reset() { k.buf, k.ends, k.start, k.shared = k.buf[:0], k.ends[:0], 0, 0 }

// last returns the key that was read last.
func (k *keyReader) last() []byte { return k.buf[k.start:] }

func (k *keyReader) text() string { return string(k.buf) }

// read reads a key and checks that it is valid, above the one before and
// encoded with the longest prefix. It returns the length of the key before.
func (k *keyReader) read(d *wire.Decoder) (prevLen int) {
	shared, rest := d.Uvarint(), d.Bytes()
	if d.Err() != nil {
		return 0
	}
	prev, first := k.last(), len(k.ends) == 0
	prevLen = len(prev)
	switch {
	case shared > uint64(prevLen):
		d.Fail("key shares %d bytes with one of %d", shared, prevLen)
	case first:
	case len(rest) == 0, shared < uint64(prevLen) && rest[0] < prev[shared]:
		d.Fail("key is %w", errOrder)
	case shared < uint64(prevLen) && rest[0] == prev[shared]:
		d.Fail("key does not share all it could with the one before")
	}
	if d.Err() == nil && len(k.buf)+int(shared)+len(rest) > MaxNodeKeys {
		d.Fail("%w", errKeysTooBig)
	}
	if d.Err() != nil {
		return 0
	}
	start := len(k.buf)
	k.buf = append(k.buf, prev[:shared]...)
	k.buf = append(k.buf, rest...)
	k.start, k.shared = start, int(shared)
	k.ends = append(k.ends, len(k.buf))
	if err := validateKey(k.last(), int(shared)); err != nil {
		d.Fail("key %q: %w", k.last(), err)
	}
	return prevLen
}
