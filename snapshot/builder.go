package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
)

// Where nodes end. At the minimum size and beyond, a node ends behind a key
// whose hash has so many zero bits; at the maximum it ends anyway. Leaves come
// to some 20 KiB. They also end at a maximum of keys, far from MaxNodeKeys.
const (
	minLeaf     = 8 << 10
	minInner    = 4 << 10
	maxCut      = 64 << 10
	maxCutKeys  = 1 << 20
	leafMask    = 1<<8 - 1
	innerMask   = 1<<6 - 1
	minChildren = 2 // so that each level has fewer nodes than the one below
)

// cutter hashes keys to find out where nodes end. Without its key, nobody can
// tell or choose these places.
type cutter struct {
	hasher *blake3.Hasher
	buf    []byte
	sum    [32]byte
}

func newCutter(key [32]byte) *cutter {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("internal error: " + err.Error()) // the key size is fixed
	}
	return &cutter{hasher: h}
}

// hash returns the first eight bytes of the keyed hash of a level and an item.
func (c *cutter) hash(level uint8, item string) uint64 {
	c.buf = append(append(c.buf[:0], level), item...)
	c.hasher.Reset()
	c.hasher.Write(c.buf)
	return binary.LittleEndian.Uint64(c.hasher.Sum(c.sum[:0]))
}

// Builder makes a tree of entries that come in ascending order of their keys,
// each after the directory that it is in. The same entries always make the
// same tree. It needs the memory of one node a level, and is for one goroutine.
type Builder struct {
	sink   Sink
	cut    *cutter
	seq    sequence
	leaf   leafEncoder
	levels []*level // levels[i] collects the children of a node of level i+1
	buf    []byte
	err    error // the first one, or that Finish was called
}

type level struct {
	innerEncoder
	total uint64   // children so far, those in finished nodes too
	only  chunk.ID // the first child
}

// NewBuilder returns a builder that stores nodes with sink. cutKey, the tree cut
// key of the repository, makes secret where nodes end.
func NewBuilder(cutKey [32]byte, sink Sink) *Builder {
	return &Builder{sink: sink, cut: newCutter(cutKey)}
}

var errFinished = errors.New("tree is finished")

// Add adds an entry. It does not keep it. After an error the builder is of no
// use.
func (b *Builder) Add(ctx context.Context, e *Entry) error {
	if b.err == nil {
		b.err = b.add(ctx, e)
	}
	return b.err
}

func (b *Builder) add(ctx context.Context, e *Entry) error {
	shared, err := b.seq.next(e, false)
	if err != nil {
		return err
	}
	if b.leaf.n == 0 {
		shared = 0
	}
	if err := b.leaf.add(e, shared); err != nil {
		return err
	}
	size := b.leaf.size()
	if size >= maxCut || b.leaf.keyBytes >= maxCutKeys || size >= minLeaf && b.cut.hash(0, string(e.Key))&leafMask == 0 {
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
	c := Child{Key: b.leaf.first, ID: id, Entries: b.leaf.n, Bytes: b.leaf.contents}
	b.leaf.reset()
	return b.addChild(ctx, 0, c)
}

// addChild adds a finished node to the one above it.
func (b *Builder) addChild(ctx context.Context, at int, c Child) error {
	if at == len(b.levels) {
		b.levels = append(b.levels, new(level))
	}
	l := b.levels[at]
	if l.total++; l.total == 1 {
		l.only = c.ID
	}
	if c.Entries == 0 {
		return nil // the leaf of an empty tree, which has nothing above it
	}
	if err := l.add(c); err != nil {
		return err
	}
	size := l.size()
	if l.n >= minChildren && (size >= maxCut || l.keyBytes >= maxCutKeys ||
		size >= minInner && b.cut.hash(uint8(at+1), string(c.Key))&innerMask == 0) {
		return b.endInner(ctx, at)
	}
	return nil
}

func (b *Builder) endInner(ctx context.Context, at int) error {
	if at+1 > MaxLevel {
		return fmt.Errorf("tree of more than %d levels", MaxLevel)
	}
	l := b.levels[at]
	b.buf = l.appendTo(b.buf[:0], uint8(at+1))
	id, err := b.sink(ctx, b.buf)
	if err != nil {
		return err
	}
	c := Child{Key: l.first, ID: id, Entries: l.sum.entries, Bytes: l.sum.bytes}
	l.reset()
	return b.addChild(ctx, at+1, c)
}

// Finish stores the nodes that are not full and returns the root. A tree
// without entries is an empty leaf. The builder is of no use afterwards.
func (b *Builder) Finish(ctx context.Context) (Root, error) {
	if b.err != nil {
		return Root{}, b.err
	}
	root, err := b.finish(ctx)
	b.err = errFinished
	return root, err
}

func (b *Builder) finish(ctx context.Context) (Root, error) {
	if b.leaf.n > 0 || len(b.levels) == 0 {
		if err := b.endLeaf(ctx); err != nil {
			return Root{}, err
		}
	}
	// The root is the only node of the lowest level that has but one. Nodes of
	// two children or more make each level shorter than the one below.
	for at := 0; ; at++ {
		l := b.levels[at]
		if l.total == 1 {
			return Root{ID: l.only, Level: uint8(at)}, nil
		}
		if l.n == 0 {
			continue
		}
		if err := b.endInner(ctx, at); err != nil {
			return Root{}, err
		}
	}
}
