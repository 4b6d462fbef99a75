package snapshot

import (
	"context"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Limits of the format. They bound what a reader of hostile nodes can be made
// to allocate.
const (
	// MaxKey is the largest size of a key in bytes.
	MaxKey = 64 << 10
	// MaxEntry bounds the parts of an entry whose size is not fixed; see
	// Entry.Validate.
	MaxEntry = 2 << 20
	// MaxNode is the largest size of a node in bytes.
	MaxNode = 4 << 20
	// MaxNodeKeys is the largest size of all keys in a node together, without
	// the sharing of prefixes. Without it, a few bytes an entry could repeat a
	// prefix of 64 KiB.
	MaxNodeKeys = 16 << 20
	// MaxLevel is the highest level of a node. Nodes have at least two children but
	// for the last one of a level, so no real tree comes near it.
	MaxLevel = 48
)

// How many items a leaf may have. Some bytes of a leaf make an item of dozens or
// hundreds in memory. A Builder ends a leaf at maxCut bytes, and only the last
// entry can be large, so that it stays below.
const (
	maxLeafEntries = 64 << 10
	maxLeafExtents = 128 << 10
	maxLeafXattrs  = 256 << 10
)

// maxChunk is the largest plaintext of a chunk (docs/format.md, section 6).
const maxChunk = 16 << 20

// MaxExtents is the largest number of extents that a writer should keep in a
// file's entry. Files with more of them should have a list tree, so that a
// change of the entry does not store all of them again, and leaves stay small.
// The format itself does not demand it.
const MaxExtents = 64

// Sink stores the plaintext of a node and returns its ID, which is a hash: a
// sink may return at once and store later. It must not keep the slice.
type Sink func(ctx context.Context, plaintext []byte) (chunk.ID, error)

// NodeSource finds nodes.
type NodeSource interface {
	// Node returns the plaintext of a chunk of kind chunk.Node or chunk.List,
	// having compared its hash with id. Nobody may change the bytes afterwards:
	// entries point into them. The source may return the same bytes again, as a
	// cache does.
	Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error)
}

// Root is where a tree begins.
type Root struct {
	ID    chunk.ID
	Level uint8 // of the root node; 0 if it is a leaf
}

// countMost takes the number of items, each of at least size bytes, of which a
// node may have some more.
func countMost(d *wire.Decoder, size, more int) int {
	n := d.Count(size)
	if n > more {
		d.Fail("%d items, %d more than a node may have", n, n-more)
		return 0
	}
	return n
}

// damagedNode says what is wrong with a node that is sound by itself.
func damagedNode(id chunk.ID, format string, args ...any) error {
	return fmt.Errorf("node %s is %w: %s", id.Short(), seal.ErrDamaged, fmt.Sprintf(format, args...))
}

// decodeNode begins to read a node that should be of the given level.
func decodeNode(p []byte, level uint8) *wire.Decoder {
	d := wire.NewDecoder(p)
	switch {
	case len(p) > MaxNode:
		d.Fail("node of %d bytes", len(p))
	case level > MaxLevel:
		d.Fail("level %d", level)
	}
	if got := d.U8(); got != level {
		d.Fail("level %d, not %d", got, level)
	}
	return d
}
