// Package verify checks captured databases without a server: that what is stored is
// what was read, by the meaning of the bytes. That the bytes are those that were stored is known
// from their hashes; this finds what was stored wrong, and what a later version reads wrong.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/copytext"
	"github.com/cairn-backup/cairn/postgres/stored"
)

// Checker checks databases, one after the other. It remembers what it read: the same contents
// are read once, in however many snapshots they are.
type Checker struct {
	// Problem gets what is wrong. path is that of the entry below the database, or empty.
	Problem func(d *stored.Database, path string, err error)

	Counts Counts
	seen   map[contents]scanned
}

// Counts say what was checked.
type Counts struct {
	Databases, Tables, Blobs int
	Rows, Bytes              int64 // read
}

// contents are those of a table, and how many columns they are to have.
type contents struct {
	hash    [16]byte
	columns int
}

// scanned is what reading contents came to.
type scanned struct {
	copytext.Sum
	err error
}

// ErrSemantic: contents that are whole do not mean what was recorded of them.
var ErrSemantic = errors.New("is not what was recorded when it was captured")

// Check checks a database. The error is that of ctx; what is wrong, or can't be read, goes to Problem.
func (c *Checker) Check(ctx context.Context, d *stored.Database) error {
	if c.seen == nil {
		c.seen = make(map[contents]scanned)
	}
	c.Counts.Databases++
	k := check{Checker: c, db: d, tables: make(map[int]*postgres.Table)}
	k.contents()
	if err := k.rows(ctx); err != nil {
		return err
	}
	return k.blobs(ctx)
}

// check is the check of one database.
type check struct {
	*Checker
	db     *stored.Database
	tables map[int]*postgres.Table // by dump ID
}

func (c *check) problem(path string, err error) { c.Problem(c.db, path, err) }

// contents compares the table of contents with the record.
func (c *check) contents() {
	rec := c.db.Record
	for i := range rec.Tables {
		c.tables[rec.Tables[i].DumpID] = &rec.Tables[i]
	}
	blobs := make(map[int]bool)
	for _, g := range rec.Blobs {
		blobs[g.DumpID] = true
	}
	found := make(map[int]bool)
	for i := range c.db.TOC.Entries {
		e := &c.db.TOC.Entries[i]
		if !e.HasData {
			continue
		}
		id := int(e.DumpID)
		found[id] = true
		t := c.tables[id]
		switch {
		case e.Is(archive.KindBlobs) && !blobs[id]:
			c.problem(postgres.TOCFile, fmt.Errorf("large objects of entry %d: %w", id, ErrSemantic))
		case e.Is(archive.KindBlobs):
		case t == nil:
			c.problem(postgres.TOCFile, fmt.Errorf("entry %d, %s %q, has no rows: %w", id, e.Desc.S, e.Tag.S, ErrSemantic))
		default:
			c.columns(t, e)
		}
	}
	for id, t := range c.tables {
		if !found[id] {
			c.problem(t.File, fmt.Errorf("it stands nowhere in the table of contents (entry %d): %w", id, ErrSemantic))
		}
	}
}

// columns compares what COPY will be told with what was recorded.
func (c *check) columns(t *postgres.Table, e *archive.Entry) {
	s, err := archive.ParseCopy(e.Copy.S)
	if err == nil && len(s.Columns) != len(t.Columns) {
		err = fmt.Errorf("%d columns in the table of contents, %d recorded: %w", len(s.Columns), len(t.Columns), ErrSemantic)
	}
	if err != nil {
		c.problem(t.File, err)
	}
}

// rows reads all tables.
func (c *check) rows(ctx context.Context) error {
	for i := range c.db.Record.Tables {
		t := &c.db.Record.Tables[i]
		if err := c.table(ctx, t); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.problem(t.File, err)
		}
	}
	return nil
}

func (c *check) table(ctx context.Context, t *postgres.Table) error {
	e, err := c.db.Entry(ctx, t.File)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its rows are missing: %w", ErrSemantic)
	}
	if err != nil {
		return err
	}
	if int64(e.Size) != t.Bytes {
		return fmt.Errorf("%d bytes, and %d were recorded: %w", e.Size, t.Bytes, ErrSemantic)
	}
	at := contents{e.Hash, len(t.Columns)}
	got, ok := c.seen[at]
	if !ok {
		got = c.scan(ctx, t)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.seen[at] = got
	}
	switch {
	case got.err != nil:
		return got.err
	case got.Rows != t.Rows:
		return fmt.Errorf("%d rows, and %d were recorded: %w", got.Rows, t.Rows, ErrSemantic)
	case got.Hash != t.Hash:
		return fmt.Errorf("its rows have another hash than was recorded: %w", ErrSemantic)
	}
	c.Counts.Tables++
	return nil
}

// scan reads the rows of a table.
func (c *check) scan(ctx context.Context, t *postgres.Table) scanned {
	in, _, err := c.db.File(ctx, t.File)
	if err != nil {
		return scanned{err: err}
	}
	s := copytext.NewScanner(len(t.Columns))
	if _, err := io.CopyBuffer(struct{ io.Writer }{s}, in, make([]byte, 256<<10)); err != nil {
		return scanned{err: err}
	}
	sum, err := s.Close()
	c.Counts.Rows += sum.Rows
	c.Counts.Bytes += sum.Bytes
	return scanned{sum, err}
}

// blobs counts the large objects.
func (c *check) blobs(ctx context.Context) error {
	var got postgres.Totals
	for b, err := range c.db.Blobs(ctx) {
		if err != nil {
			c.problem(postgres.BlobsDir, err)
			return ctx.Err()
		}
		got.Rows++
		got.Bytes += int64(b.Size)
	}
	c.Counts.Blobs += int(got.Rows)
	if want := c.db.Record.BlobTotals; got != want {
		c.problem(postgres.BlobsDir, fmt.Errorf("%d large objects of %d bytes, and %d of %d were recorded: %w", got.Rows, got.Bytes, want.Rows, want.Bytes, ErrSemantic))
	}
	return nil
}

// Loss is a drop in the number of rows from one snapshot to the next.
type Loss struct {
	File          string // of the table; empty: all tables together
	Before, After int64  // rows
}

// Losses returns where more than the given share, from 0 to 1, of the rows is gone. A table that is gone
// as a whole is one too.
func Losses(before, after *postgres.Record, share float64) []Loss {
	var all []Loss
	var sum Loss
	now := make(map[string]int64)
	for _, t := range after.Tables {
		now[t.File] = t.Rows
		sum.After += t.Rows
	}
	for _, t := range before.Tables {
		sum.Before += t.Rows
		if l := (Loss{t.File, t.Rows, now[t.File]}); l.isMore(share) {
			all = append(all, l)
		}
	}
	if sum.isMore(share) {
		all = append(all, sum)
	}
	return all
}

// isMore reports whether more than a share is gone.
func (l Loss) isMore(share float64) bool {
	return l.After < l.Before && float64(l.Before-l.After) > share*float64(l.Before)
}
