package copytext

import (
	"bytes"
	"fmt"
	"io"
)

// CSVWriter writes CSV; see CSV.
type CSVWriter struct {
	w       io.Writer
	columns int
	err     error

	row   []byte // of a row that comes in pieces, what there was of it
	field []byte // a column, decoded
	out   []byte // not written as yet
	rows  int64
}

// flushSize is how much is written at once.
const flushSize = 64 << 10

// CSV returns a writer that takes rows as COPY writes them, in pieces of any size, and writes
// to w what COPY (FORMAT csv, HEADER) would write of them, byte for byte: NULL is
// empty, the empty string is "", quotes are where they must be. The names of columns are those
// in the catalog.
//
// It keeps a row at a time. Close ends the last one, and does not close w.
func CSV(w io.Writer, columns []string) *CSVWriter {
	c := &CSVWriter{w: w, columns: len(columns)}
	for i, name := range columns {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendCSV(c.out, []byte(name), len(columns) == 1)
	}
	c.out = append(c.out, '\n')
	return c
}

// Write converts the rows that end in p. It fails with a [*RowError] at the first that is
// wrong, or with the error of w, and then always.
func (c *CSVWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && c.err == nil; {
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			c.row = append(c.row, rest...)
			break
		}
		row := rest[:n]
		if len(c.row) > 0 {
			c.row = append(c.row, row...)
			row = c.row
		}
		c.convert(row)
		rest, c.row = rest[n+1:], c.row[:0]
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// Close writes what is left.
func (c *CSVWriter) Close() error {
	if len(c.row) > 0 {
		c.fail(errNewline)
	}
	c.flush()
	return c.err
}

func (c *CSVWriter) convert(row []byte) {
	columns := bytes.Count(row, tab) + 1
	if c.columns == 0 && len(row) == 0 {
		columns = 0
	}
	switch {
	case columns != c.columns:
		c.fail(fmt.Errorf("it has %d columns, not %d", columns, c.columns))
		return
	case string(row) == end:
		c.fail(errEnd)
		return
	}
	for i := range columns {
		field, rest, _ := bytes.Cut(row, tab)
		row = rest
		if i > 0 {
			c.out = append(c.out, ',')
		}
		text, null, err := AppendField(c.field[:0], field)
		if err != nil {
			c.fail(err)
			return
		}
		if c.field = text; !null {
			c.out = appendCSV(c.out, text, columns == 1)
		}
	}
	c.out = append(c.out, '\n')
	c.rows++
	if len(c.out) >= flushSize {
		c.flush()
	}
}

// appendCSV appends a value that is not NULL. It is quoted if it would be read as
// another one otherwise: also where it alone on a line would be the end of COPY's data.
func appendCSV(b, text []byte, alone bool) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, "\",\n\r") && !(alone && string(text) == end) {
		return append(b, text...)
	}
	b = append(b, '"')
	for {
		before, after, found := bytes.Cut(text, quote)
		b = append(b, before...)
		if !found {
			return append(b, '"')
		}
		b, text = append(b, '"', '"'), after
	}
}

var quote = []byte{'"'}

func (c *CSVWriter) fail(err error) {
	if c.err == nil {
		c.err = &RowError{c.rows + 1, err}
	}
}

func (c *CSVWriter) flush() {
	if c.err == nil && len(c.out) > 0 {
		_, c.err = c.w.Write(c.out)
		c.out = c.out[:0]
	}
}
