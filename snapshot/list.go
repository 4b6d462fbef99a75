package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
)

// ListItem is what a node of a list tree holds: at level 0 a whole chunk or a hole,
// above a node of the level below.
type ListItem struct {
	ID     chunk.ID // zero for a hole
	Length uint64   // bytes of the file's contents, at least 1
}

// extent returns an item of level 0 as an extent.
func (x ListItem) extent() Extent {
	if x.ID.IsZero() {
		return Extent{Length: x.Length}
	}
	return Extent{Chunk: x.ID, ChunkSize: uint32(x.Length), Length: x.Length}
}

// ListNode is a node of a list tree, in which the chunks of a large file stand
// one after the other.
type ListNode struct {
	Level uint8
	Items []ListItem
}

const minListItem = chunk.IDSize + 1

var errLongList = errors.New("list of 2^63 bytes or more")

// length returns the sum of the items' lengths, or what is wrong with them.
func (n *ListNode) length() (sum uint64, err error) {
	for _, x := range n.Items {
		switch {
		case x.Length == 0:
			return 0, errors.New("item without length")
		case n.Level > 0 && x.ID.IsZero():
			return 0, errors.New("child without ID")
		case n.Level == 0 && !x.ID.IsZero() && x.Length > maxChunk:
			return 0, fmt.Errorf("chunk %s of %d bytes", x.ID.Short(), x.Length)
		case x.Length > math.MaxInt64-sum:
			return 0, errLongList
		}
		sum += x.Length
	}
	return sum, nil
}

// Append encodes the node, which must have items.
func (n *ListNode) Append(b []byte) ([]byte, error) {
	if n.Level > MaxLevel || len(n.Items) == 0 {
		return nil, fmt.Errorf("list node of level %d with %d items", n.Level, len(n.Items))
	}
	if _, err := n.length(); err != nil {
		return nil, err
	}
	start := len(b)
	b = append(b, n.Level)
	b = binary.AppendUvarint(b, uint64(len(n.Items)))
	for _, x := range n.Items {
		b = append(b, x.ID[:]...)
		b = binary.AppendUvarint(b, x.Length)
	}
	if size := len(b) - start; size > MaxNode {
		return nil, fmt.Errorf("list node of %d bytes: it is larger than %d", size, MaxNode)
	}
	return b, nil
}

// Decode decodes a node of the given level. The slice of items is good until
// Decode is called again. An error wraps seal.ErrDamaged.
func (n *ListNode) Decode(p []byte, level uint8) error {
	_, err := n.decode(p, level)
	return err
}

// decode is Decode, and returns the bytes of contents below the node.
func (n *ListNode) decode(p []byte, level uint8) (length uint64, err error) {
	d := decodeNode(p, level)
	count := d.Count(minListItem)
	if d.Err() == nil && count == 0 {
		d.Fail("no items")
	}
	n.Level = level
	n.Items = slices.Grow(n.Items[:0], count)[:count]
	for i := range n.Items {
		n.Items[i] = ListItem{ID: d.Array32(), Length: d.Uvarint()}
	}
	if err = d.Finish(); err == nil {
		length, err = n.length()
	}
	if err != nil {
		n.Items = n.Items[:0]
		return 0, fmt.Errorf("list node is %w: %w", seal.ErrDamaged, err)
	}
	return length, nil
}

// Where nodes of a list end: behind a chunk whose hash has so many zero bits,
// once there are so many items; at the maximum anyway.
const (
	minList  = 64
	maxList  = 2048
	listMask = 1<<8 - 1
)

// ListBuilder makes the list tree of a file. The same extents always make the
// same tree. It needs the memory of one node a level, and is for one goroutine.
type ListBuilder struct {
	sink   Sink
	cut    *cutter
	levels []*listLevel
	buf    []byte
	err    error // the first one, or that Finish was called
}

type listLevel struct {
	ListNode        // being filled
	total    uint64 // items so far, those in finished nodes too
	only     chunk.ID
}

// NewListBuilder returns a builder that stores nodes with sink. cutKey, the
// tree cut key of the repository, makes secret where nodes end.
func NewListBuilder(cutKey [32]byte, sink Sink) *ListBuilder {
	return &ListBuilder{sink: sink, cut: newCutter(cutKey)}
}

// Add adds an extent, which is a whole chunk or a hole. After an error the
// builder is of no use.
func (l *ListBuilder) Add(ctx context.Context, x Extent) error {
	if l.err != nil {
		return l.err
	}
	l.err = x.Validate()
	if l.err == nil && !x.IsHole() && !x.isWhole() {
		l.err = fmt.Errorf("part of chunk %s in a list", x.Chunk.Short())
	}
	if l.err == nil {
		l.err = l.add(ctx, 0, ListItem{x.Chunk, x.Length})
	}
	return l.err
}

func (l *ListBuilder) add(ctx context.Context, at int, x ListItem) error {
	if at == len(l.levels) {
		l.levels = append(l.levels, &listLevel{ListNode: ListNode{Level: uint8(at)}})
	}
	n := l.levels[at]
	if n.total++; n.total == 1 {
		n.only = x.ID
	}
	n.Items = append(n.Items, x)
	if len(n.Items) >= maxList || len(n.Items) >= minList && l.cut.hash(uint8(at), string(x.ID[:]))&listMask == 0 {
		return l.end(ctx, at)
	}
	return nil
}

func (l *ListBuilder) end(ctx context.Context, at int) (err error) {
	n := l.levels[at]
	length, err := n.length()
	if err != nil {
		return err
	}
	if l.buf, err = n.Append(l.buf[:0]); err != nil {
		return err
	}
	id, err := l.sink(ctx, l.buf)
	if err != nil {
		return err
	}
	n.Items = n.Items[:0]
	return l.add(ctx, at+1, ListItem{id, length})
}

// Finish stores the nodes that are not full and returns the root. There must
// have been extents. The builder is of no use afterwards.
func (l *ListBuilder) Finish(ctx context.Context) (ListRef, error) {
	if l.err != nil {
		return ListRef{}, l.err
	}
	ref, err := l.finish(ctx)
	l.err = errFinished
	return ref, err
}

func (l *ListBuilder) finish(ctx context.Context) (ListRef, error) {
	if len(l.levels) == 0 {
		return ListRef{}, errors.New("list without extents")
	}
	// As in Builder.finish. Level 0 holds extents: one of them is no root.
	for at := 0; ; at++ {
		n := l.levels[at]
		if at > 0 && n.total == 1 {
			return ListRef{Root: n.only, Level: uint8(at - 1)}, nil
		}
		if len(n.Items) == 0 {
			continue
		}
		if err := l.end(ctx, at); err != nil {
			return ListRef{}, err
		}
	}
}
