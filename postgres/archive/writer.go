package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
)

// frameSize is how many bytes of contents Writer puts into a frame, but for the last of
// an item. With it fixed, the place of every block follows from the sizes before it.
const frameSize = 64 << 10

// Writer writes a custom archive, uncompressed, in one pass.
//
// After NewWriter comes for each item, in order, Next and then Write until its Size is
// reached; then Close. The archive is whole only if Close returned nil.
type Writer struct {
	w   *bufio.Writer
	err error // the first; stays

	items []Item // still to come
	plan  []block
	pos   int64 // bytes written

	open    bool
	item    Item
	left    int64 // bytes of contents, with the end, that the item lacks
	rowsEnd bool  // CopyEnd is to be added

	inFrame int // bytes that the frame we are in lacks
}

// block is a block to come: of which entry, where, with how many items.
type block struct {
	entry *Entry
	pos   int64
	items int
}

// NewWriter writes the header and table of contents of t to w, as those of an
// uncompressed custom archive. Items says what data follow, with their sizes: those of one
// entry behind one another, entries in the order of t, in which pg_restore reads from a
// pipe. Every entry with data has its item; only one of large objects may have none, or
// any number.
//
// Each entry gets the offset of its block, which pg_restore needs to read a file with
// many processes at once.
func NewWriter(w io.Writer, t *TOC, items []Item) (*Writer, error) {
	created := t.Created
	t = t.Canonical()
	t.Created = created
	plan, err := t.plan(items, int64(len(t.Append(nil))))
	if err != nil {
		return nil, err
	}
	aw := &Writer{w: bufio.NewWriterSize(w, 2*frameSize), items: slices.Clone(items), plan: plan}
	return aw, aw.write(t.Append(nil))
}

// CheckItems returns nil if items are the contents of an archive with this table of
// contents, in the order that NewWriter demands.
func (t *TOC) CheckItems(items []Item) error {
	_, err := t.Canonical().plan(items, 0)
	return err
}

// plan computes where blocks are and enters that into t, whose bytes are size.
func (t *TOC) plan(items []Item, size int64) (plan []block, err error) {
	pos := size
	for i := range t.Entries {
		e := &t.Entries[i]
		if !e.HasData {
			continue
		}
		e.Offset = Offset{State: OffsetKnown, Pos: uint64(pos)}
		b := block{entry: e, pos: pos}
		pos += 1 + 1 + intSize
		for len(items) > 0 && items[0].DumpID == e.DumpID {
			if err := e.takes(items[0], b.items); err != nil {
				return nil, err
			}
			pos += framed(items[0].Size + int64(len(e.End())))
			if e.Is(KindBlobs) {
				pos += 1 + intSize
			}
			b.items, items = b.items+1, items[1:]
		}
		if e.Is(KindBlobs) {
			pos += 1 + intSize
		} else if b.items == 0 {
			return nil, fmt.Errorf("entry %d, %s %q, has data in the table of contents, but none to write", e.DumpID, e.Desc.S, e.Tag.S)
		}
		plan = append(plan, b)
	}
	if len(items) > 0 {
		return nil, fmt.Errorf("data for entry %d, which has none in the table of contents or stands elsewhere in it", items[0].DumpID)
	}
	return plan, nil
}

// takes says whether an item can be the n-th, from 0, of the entry's data.
func (e *Entry) takes(item Item, n int) error {
	switch blobs := e.Is(KindBlobs); {
	case item.Size < 0:
		return fmt.Errorf("data of entry %d have %d bytes", e.DumpID, item.Size)
	case blobs && item.OID == 0:
		return fmt.Errorf("a large object of entry %d has the OID 0", e.DumpID)
	case !blobs && (item.OID != 0 || n > 0):
		return fmt.Errorf("entry %d, %s %q, takes the data of one table", e.DumpID, e.Desc.S, e.Tag.S)
	}
	return nil
}

// End is what follows the contents of the entry's data in an archive, and in their file
// in a directory: CopyEnd after rows, nothing after others.
func (e *Entry) End() string {
	if e.Rows() {
		return CopyEnd
	}
	return ""
}

// framed is the number of bytes of an item with its frames.
func framed(size int64) int64 {
	frames := (size + frameSize - 1) / frameSize
	return size + (frames+1)*(1+intSize)
}

// Next ends the item before, whose contents must be complete, and begins the next one;
// item must be that which NewWriter was told.
func (w *Writer) Next(item Item) error {
	w.finish()
	if w.err == nil && (len(w.items) == 0 || w.items[0] != item) {
		w.err = fmt.Errorf("item %v is not the next of the archive", item)
	}
	if w.err != nil {
		return w.err
	}
	w.skip()
	b := &w.plan[0]
	if b.pos == w.pos {
		w.begin(b.entry)
	}
	if b.entry.Is(KindBlobs) {
		w.int(int32(item.OID))
	}
	b.items--
	end := b.entry.End()
	w.items, w.item, w.open = w.items[1:], item, true
	w.left, w.rowsEnd = item.Size+int64(len(end)), end != ""
	return w.err
}

// Write writes contents of the item. More than its Size is an error.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err == nil && !w.open {
		w.err = errors.New("data before the first item of an archive")
	}
	room := w.left
	if w.rowsEnd {
		room -= int64(len(CopyEnd))
	}
	if w.err == nil && int64(len(p)) > room {
		w.err = fmt.Errorf("data of entry %d (OID %d) have more than the %d bytes that were said", w.item.DumpID, w.item.OID, w.item.Size)
	}
	if w.err != nil {
		return 0, w.err
	}
	return w.contents(p)
}

// contents writes p in frames.
func (w *Writer) contents(p []byte) (n int, err error) {
	for n < len(p) {
		if w.inFrame == 0 {
			w.inFrame = int(min(w.left, frameSize))
			w.int(int32(w.inFrame))
		}
		k := min(len(p)-n, w.inFrame)
		if err := w.write(p[n : n+k]); err != nil {
			return n, err
		}
		n, w.inFrame, w.left = n+k, w.inFrame-k, w.left-int64(k)
	}
	return n, nil
}

// finish ends the item that is open.
func (w *Writer) finish() {
	if w.err != nil || !w.open {
		return
	}
	if w.rowsEnd && w.left == int64(len(CopyEnd)) {
		w.contents([]byte(CopyEnd))
	}
	if w.err == nil && w.left != 0 {
		w.err = fmt.Errorf("data of entry %d (OID %d) are incomplete, they should have %d bytes: %w", w.item.DumpID, w.item.OID, w.item.Size, io.ErrUnexpectedEOF)
	}
	w.int(0)
	w.open, w.rowsEnd = false, false
	w.endBlock()
}

// endBlock goes on to the next block if this one is complete.
func (w *Writer) endBlock() {
	b := &w.plan[0]
	if b.items > 0 {
		return
	}
	if b.entry.Is(KindBlobs) {
		w.int(0)
	}
	w.plan = w.plan[1:]
}

// skip writes the blocks without items that come first.
func (w *Writer) skip() {
	for len(w.plan) > 0 && w.plan[0].items == 0 && w.err == nil {
		w.begin(w.plan[0].entry)
		w.endBlock()
	}
}

func (w *Writer) begin(e *Entry) {
	if w.err == nil && w.pos != w.plan[0].pos {
		w.err = fmt.Errorf("the block of entry %d is at %d and not at %d, where the table of contents has it", e.DumpID, w.pos, w.plan[0].pos)
	}
	kind := byte(blockData)
	if e.Is(KindBlobs) {
		kind = blockBlobs
	}
	w.write([]byte{kind})
	w.int(e.DumpID)
}

// Close ends the archive. It does not close what is written to.
func (w *Writer) Close() error {
	w.finish()
	if w.err == nil && len(w.items) > 0 {
		w.err = fmt.Errorf("%d items of the archive are missing, the first of entry %d: %w", len(w.items), w.items[0].DumpID, io.ErrUnexpectedEOF)
	}
	w.skip()
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

func (w *Writer) int(v int32) { w.write(appendInt(nil, v)) }

func (w *Writer) write(p []byte) error {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(p)
		w.pos += int64(n)
	}
	return w.err
}
