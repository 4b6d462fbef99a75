package reload

import (
	"context"
	"fmt"
	"io"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// Database is a captured database. Nothing here changes it; what is called on one
// calls Open and Progress from several goroutines at once where that is said.
type Database struct {
	TOC *archive.TOC

	// Items are all contents, with their sizes: those of one entry behind one another,
	// entries in the order of TOC. An entry of a table has one.
	Items []archive.Item

	// Open opens contents: rows without archive.CopyEnd, or a large object. What it
	// returns gives Item.Size bytes, or an error: also for other reasons, if it knows
	// that contents are not what they were. Close is called if there is one.
	Open func(context.Context, archive.Item) (io.Reader, error)

	// Progress, if not nil, hears of contents on their way: n bytes more of an item.
	Progress func(item archive.Item, n int)
}

// Select returns the part of the database that archive.TOC.Select finds, and what that left
// out.
func (d *Database) Select(want func(*archive.Entry) bool) (*Database, []*archive.Entry) {
	sel := d.TOC.Select(want)
	part := *d
	part.TOC, part.Items = d.TOC.Only(sel.Entries), nil
	keep := make(map[int32]bool)
	for i := range part.TOC.Entries {
		keep[part.TOC.Entries[i].DumpID] = true
	}
	for _, item := range d.Items {
		if keep[item.DumpID] {
			part.Items = append(part.Items, item)
		}
	}
	return &part, sel.LeftOut
}

// Custom writes the database to w as an archive that pg_restore reads, from a pipe or as a
// file, there also with -j. If it fails, what was written is no archive.
func (d *Database) Custom(ctx context.Context, w io.Writer) error {
	aw, err := archive.NewWriter(w, d.TOC, d.Items)
	if err != nil {
		return err
	}
	for _, item := range d.Items {
		if err := aw.Next(item); err != nil {
			return err
		}
		if err := d.copy(ctx, aw, item); err != nil {
			return err
		}
	}
	return aw.Close()
}

// copy writes contents to w. That they have their size is part of it.
func (d *Database) copy(ctx context.Context, w io.Writer, item archive.Item) (err error) {
	r, err := d.Open(ctx, item)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name(item), err)
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	n, err := io.CopyBuffer(onlyWriter{&counter{ctx, w, d.Progress, item}}, onlyReader{r}, make([]byte, bufferSize))
	if err != nil {
		return fmt.Errorf("%s: %w", d.name(item), err)
	}
	if n != item.Size {
		return fmt.Errorf("%s: %d bytes, not %d: %w", d.name(item), n, item.Size, io.ErrUnexpectedEOF)
	}
	return nil
}

const bufferSize = 256 << 10

// onlyReader and onlyWriter hide methods with which io.Copy would not use its buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// counter tells of what is written, and ends with its context.
type counter struct {
	ctx      context.Context
	w        io.Writer
	progress func(archive.Item, int)
	item     archive.Item
}

func (c *counter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	if c.progress != nil {
		c.progress(c.item, n)
	}
	return n, err
}

// name is what people call contents.
func (d *Database) name(item archive.Item) string {
	if item.OID != 0 {
		return fmt.Sprintf("large object %d", item.OID)
	}
	if e := d.TOC.Entry(item.DumpID); e != nil {
		return "table " + e.Relation()
	}
	return fmt.Sprintf("entry %d", item.DumpID)
}
