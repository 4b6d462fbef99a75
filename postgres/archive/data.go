package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// CopyEnd is what pg_dump writes behind the rows of a table: the end of COPY's data,
// and two empty lines. Neither an Item's contents nor Item.Size have it.
const CopyEnd = "\\.\n\n\n"

// What a block begins with.
const (
	blockData  = 1
	blockBlobs = 3
)

// Item is one stream of data in an archive: that of a table, or a large object.
type Item struct {
	DumpID int32  // of the entry whose data it is, or among whose data
	OID    uint32 // of the large object; 0 for a table
	Size   int64  // bytes of contents; not known when reading, 0
}

// Data reads the blocks behind the table of contents of a custom archive.
//
// A Reader of archive/tar is used in the same way: Next goes to an item, Read
// reads its contents. Contents are as the archive has them, but without CopyEnd.
type Data struct {
	r       *bufio.Reader
	entries map[int32]*Entry // that have data and no block as yet
	err     error            // the end, or what went wrong; stays

	blobs int32 // dump ID of the block of large objects that we are in; 0 outside
	open  bool  // contents of an item are left
	frame int   // bytes left of the frame that we are in
	rows  *endCutter
}

// NewData goes on reading where ReadTOC stopped; pass it the same *bufio.Reader, which
// should have a buffer of some hundred kilobytes. t is not changed.
func NewData(r *bufio.Reader, t *TOC) *Data {
	d := &Data{r: r, entries: make(map[int32]*Entry)}
	for i := range t.Entries {
		if e := &t.Entries[i]; e.HasData {
			d.entries[e.DumpID] = e
		}
	}
	switch {
	case t.Format != Custom:
		d.err = errors.New("an archive of the directory format has its data in files")
	case t.Compression != 0:
		d.err = errors.New("the data of the archive are compressed; make it with pg_dump -Z0")
	}
	return d
}

// Next goes to the next item, over what is left of the one before. It returns io.EOF at
// the end of the archive, if each entry had its data; an archive that ends
// earlier is an io.ErrUnexpectedEOF.
func (d *Data) Next() (Item, error) {
	if _, err := io.Copy(io.Discard, d); err != nil {
		return Item{}, err
	}
	if d.err != nil {
		return Item{}, d.err
	}
	item, err := d.next()
	if err != nil {
		d.err = err
		return Item{}, err
	}
	d.open = true
	return item, nil
}

func (d *Data) next() (Item, error) {
	for {
		if d.blobs != 0 {
			oid, err := d.int()
			if err != nil {
				return Item{}, fmt.Errorf("large objects of entry %d: %w", d.blobs, err)
			}
			if oid != 0 {
				return Item{DumpID: d.blobs, OID: uint32(oid)}, nil
			}
			d.blobs = 0
		}
		e, err := d.block()
		if err != nil {
			return Item{}, err
		}
		if !e.Is(KindBlobs) {
			if e.Rows() {
				d.rows = &endCutter{from: d.frames}
			}
			return Item{DumpID: e.DumpID}, nil
		}
		d.blobs = e.DumpID
	}
}

// block reads what a block begins with.
func (d *Data) block() (*Entry, error) {
	kind, err := d.r.ReadByte()
	if err == io.EOF {
		return nil, d.end()
	}
	if err != nil {
		return nil, fmt.Errorf("data of the archive: %w", err)
	}
	if kind != blockData && kind != blockBlobs {
		return nil, fmt.Errorf("a block of data begins with %d: %w", kind, ErrCorrupt)
	}
	id, err := d.int()
	if err != nil {
		return nil, fmt.Errorf("a block of data: %w", err)
	}
	e := d.entries[id]
	if e == nil {
		return nil, fmt.Errorf("there is a block of data for entry %d, which has none or had it before: %w", id, ErrCorrupt)
	}
	if e.Is(KindBlobs) != (kind == blockBlobs) {
		return nil, fmt.Errorf("the block of entry %d, %q, begins with %d: %w", id, e.Desc.S, kind, ErrCorrupt)
	}
	delete(d.entries, id)
	return e, nil
}

// end is the error at the end of the archive.
func (d *Data) end() error {
	if len(d.entries) == 0 {
		return io.EOF
	}
	var first *Entry
	for _, e := range d.entries {
		if first == nil || e.DumpID < first.DumpID {
			first = e
		}
	}
	return fmt.Errorf("the archive ends before the data of %d entries, among them %d, %s %q: %w",
		len(d.entries), first.DumpID, first.Desc.S, first.Tag.S, io.ErrUnexpectedEOF)
}

// Read reads contents of the item that Next went to, and returns io.EOF at their end.
func (d *Data) Read(p []byte) (int, error) {
	if !d.open || len(p) == 0 {
		return 0, d.readErr()
	}
	n, err := d.read(p)
	switch err {
	case nil:
		return n, nil
	case io.EOF:
		d.open, d.rows = false, nil
		return n, io.EOF
	}
	d.open, d.rows, d.err = false, nil, err
	return n, err
}

// readErr is what Read returns where there are no contents.
func (d *Data) readErr() error {
	switch {
	case d.open:
		return nil
	case d.err != nil && d.err != io.EOF:
		return d.err
	}
	return io.EOF
}

func (d *Data) read(p []byte) (int, error) {
	if d.rows != nil {
		return d.rows.read(p)
	}
	return d.frames(p)
}

// frames reads contents out of as many frames as p has room for.
func (d *Data) frames(p []byte) (n int, err error) {
	for n < len(p) {
		if d.frame == 0 {
			size, err := d.int()
			if err != nil {
				return n, fmt.Errorf("data of an entry: %w", err)
			}
			if size < 0 {
				return n, fmt.Errorf("data of an entry: a frame has %d bytes: %w", size, ErrCorrupt)
			}
			if size == 0 {
				return n, io.EOF
			}
			d.frame = int(size)
		}
		k, err := d.r.Read(p[n:min(len(p), n+d.frame)])
		n, d.frame = n+k, d.frame-k
		if err != nil {
			return n, fmt.Errorf("data of an entry: %w", noEOF(err))
		}
	}
	return n, nil
}

// int is that of a decoder, fast: pg_dump frames each row.
func (d *Data) int() (int32, error) {
	p, err := d.r.Peek(1 + intSize)
	if err != nil {
		return 0, noEOF(err)
	}
	v, ok := decodeInt([1 + intSize]byte(p))
	if !ok {
		return 0, fmt.Errorf("an integer is % x: %w", p, ErrCorrupt)
	}
	d.r.Discard(1 + intSize)
	return v, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// endCutter takes CopyEnd off the end of a stream. It holds back as many bytes as that
// has until it knows what follows.
type endCutter struct {
	from  func([]byte) (int, error) // fills what it gets, or returns an error
	held  [len(CopyEnd)]byte
	n     int                    // how many are held; all of them after the first read
	small [2 * len(CopyEnd)]byte // for reads that what is held can't be shifted through
	ends  bool
}

func (c *endCutter) read(p []byte) (int, error) {
	for !c.ends {
		buf := p
		if len(p) <= len(c.held) {
			buf = c.small[:c.n+len(p)]
		}
		k := copy(buf, c.held[:c.n])
		got, err := c.from(buf[k:])
		all := buf[:k+got]
		n := max(0, len(all)-len(c.held))
		c.n = copy(c.held[:], all[n:])
		if len(p) <= len(c.held) {
			copy(p, all[:n])
		}
		if err == io.EOF {
			c.ends = true
			if string(c.held[:c.n]) != CopyEnd {
				err = fmt.Errorf("rows of a table end with %q and not with %q: %w", c.held[:c.n], CopyEnd, io.ErrUnexpectedEOF)
			}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}
