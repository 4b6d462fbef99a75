package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
)

// Sink stores the plaintext of a node and returns its ID. It must not keep
// the slice.
type Sink func(ctx context.Context, plaintext []byte) (chunk.ID, error)

// Root is the root node of a tree.
type Root struct {
	ID    chunk.ID
	Level uint8 // 0: the root is a leaf
}

// Where nodes end. Beyond the minimum a node ends behind a key whose hash has
// so many zero bits; at the maximum it ends anyway. Leaves come to some 25 KB.
const (
	minLeaf   = 8 << 10
	minInner  = 4 << 10
	maxNode   = 64 << 10
	leafMask  = 1<<8 - 1
	innerMask = 1<<6 - 1
)

// Builder makes a tree of entries that are added in ascending order of their
// keys. Its memory is that of one node a level. The same entries always make the same tree.
// Not for concurrent use.
type Builder struct {
	sink   Sink
	cut    *blake3.Hasher
	leaf   leafEncoder
	first  Key
	last   Key
	any    bool
	bytes  uint64
	levels []*level
	buf    []byte
}

// level collects the children of the node that is being made at one level
// above the leaves.
type level struct {
	children []child
	size     int
}

// NewBuilder returns a builder that stores nodes with sink. cutKey makes
// secret where nodes end.
func NewBuilder(cutKey [32]byte, sink Sink) *Builder {
	h, err := blake3.NewKeyed(cutKey[:])
	if err != nil {
		panic("internal error: " + err.Error()) // the key size is fixed
	}
	b := &Builder{sink: sink, cut: h}
	b.leaf.reset()
	return b
}

// hash returns the first eight bytes of the keyed hash of a level and a key.
func (b *Builder) hash(level uint8, key Key) uint64 {
	b.cut.Reset()
	b.cut.Write([]byte{level})
	b.cut.WriteString(string(key))
	var sum [32]byte
	b.cut.Sum(sum[:0])
	return binary.LittleEndian.Uint64(sum[:])
}

// Add adds an entry. It does not keep it.
func (b *Builder) Add(ctx context.Context, e *Entry) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if b.any && e.Key <= b.last {
		return fmt.Errorf("entry %q does not come after %q", e.Key.Path(), b.last.Path())
	}
	if b.leaf.count == 0 {
		b.first = e.Key
	}
	b.leaf.add(e)
	b.last, b.any = e.Key, true
	b.bytes += e.Size
	size := b.leaf.size()
	if size >= maxNode || size >= minLeaf && b.hash(0, e.Key)&leafMask == 0 {
		return b.endLeaf(ctx)
	}
	return nil
}

func (b *Builder) endLeaf(ctx context.Context) error {
	b.buf = b.leaf.appendTo(b.buf[:0])
	id, err := b.sink(ctx, b.buf)
	if err != nil {
		return err
	}
	c := child{first: b.first, id: id, entries: uint64(b.leaf.count), bytes: b.bytes}
	b.leaf.reset()
	b.bytes = 0
	return b.addChild(ctx, 1, c)
}

// addChild adds a finished node to the one above it.
func (b *Builder) addChild(ctx context.Context, at int, c child) error {
	if at > len(b.levels) {
		b.levels = append(b.levels, new(level))
	}
	l := b.levels[at-1]
	l.children = append(l.children, c)
	l.size += 48 + len(c.first)
	if len(l.children) > 1 && (l.size >= maxNode || l.size >= minInner && b.hash(uint8(at), c.first)&innerMask == 0) {
		return b.endInner(ctx, at)
	}
	return nil
}

func (b *Builder) endInner(ctx context.Context, at int) error {
	if at > maxLevel {
		return errors.New("the tree is too high")
	}
	l := b.levels[at-1]
	b.buf = appendInner(b.buf[:0], uint8(at), l.children)
	id, err := b.sink(ctx, b.buf)
	if err != nil {
		return err
	}
	c := child{first: l.children[0].first, id: id}
	for _, x := range l.children {
		c.entries += x.entries
		c.bytes += x.bytes
	}
	l.children, l.size = l.children[:0], 0
	return b.addChild(ctx, at+1, c)
}

// Finish stores what is not stored yet and returns the root. The builder is of
// no use then.
func (b *Builder) Finish(ctx context.Context) (Root, error) {
	if b.leaf.count > 0 || !b.any {
		if !b.any {
			id, err := b.sink(ctx, b.leaf.appendTo(nil))
			return Root{ID: id}, err
		}
		if err := b.endLeaf(ctx); err != nil {
			return Root{}, err
		}
	}
	for at := 1; at <= len(b.levels); at++ {
		l := b.levels[at-1]
		top := at == len(b.levels)
		if top && len(l.children) == 1 {
			return Root{ID: l.children[0].id, Level: uint8(at - 1)}, nil
		}
		if len(l.children) > 0 {
			if err := b.endInner(ctx, at); err != nil {
				return Root{}, err
			}
		}
	}
	return Root{}, errors.New("internal error: a tree without a root")
}
