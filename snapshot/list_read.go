package snapshot

import (
	"context"
	"fmt"
	"io"

	"github.com/cairn-backup/cairn/chunk"
)

// ListReader reads a list tree from any place on. It holds one node a level and
// is for one goroutine.
type ListReader struct {
	source NodeSource
	root   ListItem
	level  uint8
	size   uint64
	stack  []listFrame
	at     uint64 // of the next extent in the file
	begun  bool
}

type listFrame struct {
	node ListNode
	pos  int // of the next item
}

// NewListReader returns a reader of the list of a file of size bytes.
func NewListReader(ref ListRef, size uint64, source NodeSource) *ListReader {
	return &ListReader{source: source, root: ListItem{ref.Root, size}, level: ref.Level, size: size}
}

// Next returns the next extent, and io.EOF behind the last. Nodes that are not
// what is said of them above are an error that wraps seal.ErrDamaged.
func (l *ListReader) Next(ctx context.Context) (Extent, error) {
	if !l.begun {
		if _, err := l.Seek(ctx, 0); err != nil {
			return Extent{}, err
		}
	}
	for len(l.stack) > 0 {
		f := &l.stack[len(l.stack)-1]
		if f.pos == len(f.node.Items) {
			l.stack = l.stack[:len(l.stack)-1]
			continue
		}
		x := f.node.Items[f.pos]
		if f.node.Level == 0 {
			f.pos++
			l.at += x.Length
			return x.extent(), nil
		}
		level := f.node.Level - 1 // f moves when the stack grows
		if err := l.enter(ctx, x, level); err != nil {
			return Extent{}, err
		}
	}
	return Extent{}, io.EOF
}

// Seek moves to the extent that holds the byte at offset of the file, and
// returns where it begins. At the file's size and beyond, that is the end.
func (l *ListReader) Seek(ctx context.Context, offset uint64) (start uint64, err error) {
	l.stack, l.begun = l.stack[:0], false
	if offset >= l.size {
		l.at, l.begun = l.size, true
		return l.at, nil
	}
	l.at = 0
	x, level := l.root, l.level
	for {
		if err := l.enter(ctx, x, level); err != nil {
			return 0, err
		}
		// The node has as many bytes as x says, and offset is in x.
		f := &l.stack[len(l.stack)-1]
		for l.at+f.node.Items[f.pos].Length <= offset {
			l.at += f.node.Items[f.pos].Length
			f.pos++
		}
		if level == 0 {
			l.begun = true
			return l.at, nil
		}
		x = f.node.Items[f.pos]
		level--
	}
}

// enter reads the node of an item that is next in the stack's last frame.
func (l *ListReader) enter(ctx context.Context, x ListItem, level uint8) error {
	n := len(l.stack)
	l.stack = grow(l.stack)
	if err := loadList(ctx, l.source, &l.stack[n].node, x, level); err != nil {
		l.stack = l.stack[:n]
		return err
	}
	l.stack[n].pos = 0
	if n > 0 {
		l.stack[n-1].pos++
	}
	return nil
}

// loadList reads the node of an item into n.
func loadList(ctx context.Context, source NodeSource, n *ListNode, x ListItem, level uint8) error {
	p, err := source.Node(ctx, x.ID, chunk.List)
	if err != nil {
		return err
	}
	length, err := n.decode(p, level)
	if err != nil {
		return fmt.Errorf("node %s: %w", x.ID.Short(), err)
	}
	if length != x.Length {
		return damagedNode(x.ID, "a list of %d bytes where there should be %d", length, x.Length)
	}
	return nil
}

// grow makes a stack one longer. What earlier items allocated is there again.
func grow[T any](s []T) []T {
	if len(s) < cap(s) {
		return s[:len(s)+1]
	}
	var zero T
	return append(s, zero)
}

// Extents returns a function that returns the extents of a file one after
// another, wherever they are, and io.EOF behind the last.
func Extents(ctx context.Context, source NodeSource, e *Entry) func() (Extent, error) {
	if e.List != nil {
		l := NewListReader(*e.List, e.Size, source)
		return func() (Extent, error) { return l.Next(ctx) }
	}
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
