package snapshot

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/wire"
	"github.com/cairn-backup/cairn/seal"
)

// Where nodes of a list end: behind a chunk whose hash has so many zero bits,
// once there are so many extents; at the maximum anyway.
const (
	minList  = 64
	maxList  = 2048
	listMask = 1<<8 - 1
)

// item is what a node of a list holds: an extent, or a node below.
type item struct {
	id     chunk.ID
	length uint64
}

// appendList appends a node of a list.
func appendList(b []byte, level uint8, items []item) []byte {
	b = append(b, level)
	b = binary.AppendUvarint(b, uint64(len(items)))
	for _, x := range items {
		b = append(b, x.id[:]...)
		b = binary.AppendUvarint(b, x.length)
	}
	return b
}

// decodeList reads a node of a list.
func decodeList(p []byte) (level uint8, items []item, err error) {
	d := wire.NewDecoder(p)
	level = d.U8()
	if level > maxLevel {
		d.Fail("level %d of a list", level)
	}
	n := d.Count(33)
	if n == 0 {
		d.Fail("a list node without items")
	}
	var sum uint64
	for range n {
		x := item{id: d.Array32(), length: d.Uvarint()}
		switch sum += x.length; {
		case d.Err() != nil:
		case x.length == 0, sum < x.length:
			d.Fail("length %d", x.length)
		case level > 0 && x.id.IsZero():
			d.Fail("a child without ID")
		case level == 0 && !x.id.IsZero() && x.length > 1<<32-1:
			d.Fail("a chunk of %d bytes", x.length)
		}
		items = append(items, x)
	}
	if err := d.Finish(); err != nil {
		return 0, nil, fmt.Errorf("list node is %w: %w", seal.ErrDamaged, err)
	}
	return level, items, nil
}

// ListBuilder makes the list tree of a file with very many chunks. Its memory
// is that of one node a level. Not for concurrent use.
type ListBuilder struct {
	sink   Sink
	cut    *blake3.Hasher
	levels [][]item
	buf    []byte
}

// NewListBuilder returns a builder that stores nodes with sink.
func NewListBuilder(cutKey [32]byte, sink Sink) *ListBuilder {
	h, err := blake3.NewKeyed(cutKey[:])
	if err != nil {
		panic("internal error: " + err.Error()) // the key size is fixed
	}
	return &ListBuilder{sink: sink, cut: h}
}

// Add adds an extent, which is a hole or a whole chunk.
func (l *ListBuilder) Add(ctx context.Context, x Extent) error {
	if err := x.validate(); err != nil {
		return err
	}
	if !x.IsHole() && !x.isWhole() {
		return fmt.Errorf("a list has whole chunks only")
	}
	return l.add(ctx, 0, item{x.Chunk, x.Length})
}

func (l *ListBuilder) add(ctx context.Context, at int, x item) error {
	if at == len(l.levels) {
		l.levels = append(l.levels, nil)
	}
	l.levels[at] = append(l.levels[at], x)
	n := len(l.levels[at])
	if n >= maxList || n >= minList && l.ends(x.id) {
		return l.end(ctx, at)
	}
	return nil
}

func (l *ListBuilder) ends(id chunk.ID) bool {
	l.cut.Reset()
	l.cut.Write(id[:])
	var sum [32]byte
	l.cut.Sum(sum[:0])
	return binary.LittleEndian.Uint64(sum[:])&listMask == 0
}

func (l *ListBuilder) end(ctx context.Context, at int) error {
	l.buf = appendList(l.buf[:0], uint8(at), l.levels[at])
	id, err := l.sink(ctx, l.buf)
	if err != nil {
		return err
	}
	var length uint64
	for _, x := range l.levels[at] {
		length += x.length
	}
	l.levels[at] = l.levels[at][:0]
	return l.add(ctx, at+1, item{id, length})
}

// Finish stores what is not stored yet and returns the root.
func (l *ListBuilder) Finish(ctx context.Context) (ListRef, error) {
	for at := 0; at < len(l.levels); at++ {
		top := at == len(l.levels)-1
		if top && at > 0 && len(l.levels[at]) == 1 {
			return ListRef{Root: l.levels[at][0].id, Level: uint8(at - 1)}, nil
		}
		if len(l.levels[at]) > 0 {
			if err := l.end(ctx, at); err != nil {
				return ListRef{}, err
			}
		}
	}
	return ListRef{}, fmt.Errorf("a list without extents")
}

// Extents returns a function that returns the extents of a file one after
// another, and io.EOF behind the last.
func Extents(ctx context.Context, src NodeSource, e *Entry) func() (Extent, error) {
	if e.List == nil {
		rest := e.Extents
		return func() (Extent, error) {
			if len(rest) == 0 {
				return Extent{}, io.EOF
			}
			x := rest[0]
			rest = rest[1:]
			return x, nil
		}
	}
	l := &listReader{src: src, left: e.Size, stack: []listFrame{{level: int(e.List.Level) + 1, items: []item{{e.List.Root, e.Size}}}}}
	return func() (Extent, error) { return l.next(ctx) }
}

// listReader walks a list tree.
type listReader struct {
	src   NodeSource
	left  uint64
	stack []listFrame
}

type listFrame struct {
	level int
	items []item
}

func (l *listReader) next(ctx context.Context) (Extent, error) {
	for len(l.stack) > 0 {
		f := &l.stack[len(l.stack)-1]
		if len(f.items) == 0 {
			l.stack = l.stack[:len(l.stack)-1]
			continue
		}
		x := f.items[0]
		f.items = f.items[1:]
		if f.level > 0 {
			if err := l.enter(ctx, x, f.level-1); err != nil {
				return Extent{}, err
			}
			continue
		}
		if x.length > l.left {
			return Extent{}, damagedf("a list is longer than its file")
		}
		l.left -= x.length
		if x.id.IsZero() {
			return Extent{Length: x.length}, nil
		}
		return Extent{Chunk: x.id, ChunkSize: uint32(x.length), Length: x.length}, nil
	}
	if l.left > 0 {
		return Extent{}, damagedf("a list is shorter than its file")
	}
	return Extent{}, io.EOF
}

func (l *listReader) enter(ctx context.Context, x item, level int) error {
	p, err := l.src.Node(ctx, x.id, chunk.List)
	if err != nil {
		return err
	}
	got, items, err := decodeList(p)
	if err != nil {
		return err
	}
	var sum uint64
	for _, i := range items {
		sum += i.length
	}
	if int(got) != level || sum != x.length {
		return damagedf("list node %s is not what the one above says", x.id.Short())
	}
	l.stack = append(l.stack, listFrame{level: level, items: items})
	return nil
}
