package capture

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/copytext"
)

// table is a table whose rows are to be read.
type table struct {
	postgres.Table
	relation  string   // in SQL, in the encoding of the database
	raw       []string // the columns of the archive's COPY, likewise
	columns   []string // the same in quotes
	condition string   // WHERE ..., of an extension's table whose own rows are not wanted
	order     []string // columns as in SQL; empty: as they come
	key       key
	pages     int64 // of the table's file, of 8 KiB
	size      int64 // in bytes, with what stands outside of rows
}

// tables reads the rows of all tables of the archive.
func (r *run) tables(ctx context.Context, toc *archive.TOC) error {
	all, err := r.list(ctx, toc)
	if err != nil {
		return err
	}
	r.choose(all)
	// The largest ones first, or the last to be read would be read alone.
	queue := slices.Clone(all)
	slices.SortStableFunc(queue, func(a, b *table) int { return cmp.Compare(b.size, a.size) })
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(r.o.Parallel, len(queue)) {
		g.Go(func() error {
			conn, err := r.join(ctx)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for {
				i := int(next.Add(1)) - 1
				if i >= len(queue) {
					return nil
				}
				if err := r.table(ctx, conn, queue[i]); err != nil {
					return fmt.Errorf("table %s: %w", queue[i].File, err)
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, t := range all {
		r.record.Tables = append(r.record.Tables, t.Table)
	}
	return nil
}

// join opens a further connection that sees what the session sees.
func (r *run) join(ctx context.Context) (*pgx.Conn, error) {
	conn, err := r.open(ctx, r.target.ConfigLike(r.name, r.session.conn))
	if err != nil {
		return nil, err
	}
	_, err = conn.PgConn().Exec(ctx, beginRead+"; SET TRANSACTION SNAPSHOT '"+r.session.snapshot+"'").ReadAll()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("share the snapshot %s: %w", r.session.snapshot, err), conn.Close(ctx))
	}
	return conn, nil
}

// sql returns the statement that reads the table.
func (t *table) sql() string {
	columns := strings.Join(t.columns, ", ")
	switch {
	case len(columns) == 0 && t.condition == "":
		return "COPY " + t.relation + " TO STDOUT" // an empty list is not allowed
	case t.condition == "" && len(t.order) == 0:
		return "COPY " + t.relation + " (" + columns + ") TO STDOUT"
	}
	q := "SELECT " + columns + " FROM ONLY " + t.relation + " " + t.condition
	if len(t.order) > 0 {
		q += " ORDER BY " + strings.Join(t.order, ", ")
	}
	return "COPY (" + q + ") TO STDOUT"
}

// copyBuffer is how much of a table is handed on at once, in bytes: COPY comes row by row.
const copyBuffer = 256 << 10

// table delivers the rows of a table, and records what they came to.
func (r *run) table(ctx context.Context, conn *pgx.Conn, t *table) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of COPY, if the rows can't be stored
	scan := copytext.NewScanner(len(t.columns))
	out, in := io.Pipe()
	var sum copytext.Sum
	copied := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(io.MultiWriter(scan, in), copyBuffer)
		_, err := conn.PgConn().CopyTo(ctx, w, t.sql())
		if errors.Is(err, io.ErrUnexpectedEOF) { // which can be all that is heard of it
			err = fmt.Errorf("the server ended the connection: %w", err)
		}
		if err == nil {
			err = w.Flush()
		}
		if err == nil {
			sum, err = scan.Close()
		}
		in.CloseWithError(err) // nil: the end
		copied <- err
	}()
	size, err := r.stream(t.File, out)
	if err != nil {
		cancel()
	}
	out.CloseWithError(errors.New("nobody reads on"))
	if copyErr := <-copied; err == nil {
		err = copyErr
	}
	if err != nil {
		return err
	}
	if int64(size) != sum.Bytes {
		return fmt.Errorf("%d bytes were stored, and %d were read", size, sum.Bytes)
	}
	t.Rows, t.Bytes, t.Hash = sum.Rows, sum.Bytes, sum.Hash
	return nil
}

// list returns the tables of the archive with what is known of them.
func (r *run) list(ctx context.Context, toc *archive.TOC) ([]*table, error) {
	var all []*table
	byOID := make(map[uint32]*table)
	for i := range toc.Entries {
		e := &toc.Entries[i]
		switch {
		case !e.HasData || e.Is(archive.KindBlobs):
			continue
		case !e.Rows():
			return nil, fmt.Errorf("the archive has data of the kind %q (%s), which cairn does not know how to read", e.Desc.S, e.Tag.S)
		}
		c, err := archive.ParseCopy(e.Copy.S)
		if err != nil {
			return nil, err
		}
		t := &table{relation: e.Relation()}
		t.OID, t.DumpID, t.raw = e.OID, int(e.DumpID), c.Columns
		for _, name := range c.Columns {
			t.columns = append(t.columns, archive.QuoteName(name))
		}
		all = append(all, t)
		byOID[e.OID] = t
	}
	if err := r.names(ctx, byOID); err != nil {
		return nil, fmt.Errorf("look up the tables: %w", err)
	}
	if err := r.conditions(ctx, byOID); err != nil {
		return nil, fmt.Errorf("look up the tables of extensions: %w", err)
	}
	if err := r.keys(ctx, byOID); err != nil {
		return nil, fmt.Errorf("look up primary keys: %w", err)
	}
	for _, t := range all {
		if t.File == "" {
			return nil, fmt.Errorf("table %s is in the archive but not in the catalog", t.relation)
		}
	}
	return all, nil
}

// names gives tables their names in UTF-8, and their columns, in the order of the archive.
func (r *run) names(ctx context.Context, tables map[uint32]*table) error {
	utf8 := r.session.utf8
	rows, err := r.session.conn.Query(ctx, `
		SELECT c.oid, `+utf8("n.nspname")+`, `+utf8("c.relname")+`, pg_catalog.pg_relation_size(c.oid) / 8192, pg_catalog.pg_table_size(c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = ANY ($1)`, oidsOf(tables))
	if err != nil {
		return err
	}
	var oid uint32
	var schema, name []byte
	var pages, size int64
	_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &pages, &size}, func() error {
		t := tables[oid]
		t.Schema, t.Name, t.pages, t.size = postgres.Name(schema), postgres.Name(name), pages, size
		t.File = postgres.TableFile(string(schema), string(name))
		return nil
	})
	if err != nil {
		return err
	}
	return r.columnNames(ctx, tables)
}

// columnNames gives the columns of the archive, which it has in the encoding of the database,
// their names in UTF-8.
func (r *run) columnNames(ctx context.Context, tables map[uint32]*table) error {
	rows, err := r.session.conn.Query(ctx, `
		SELECT a.attrelid, a.attname::text, `+r.session.utf8("a.attname")+`
		FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped`, oidsOf(tables))
	if err != nil {
		return err
	}
	type column struct {
		table uint32
		name  string
	}
	names := make(map[column]postgres.Name)
	var c column
	var name []byte
	if _, err := pgx.ForEachRow(rows, []any{&c.table, &c.name, &name}, func() error {
		names[c] = postgres.Name(name)
		return nil
	}); err != nil {
		return err
	}
	for oid, t := range tables {
		for _, raw := range t.raw {
			name, ok := names[column{oid, raw}]
			if !ok {
				return fmt.Errorf("table %s has no column %q", t.File, raw)
			}
			t.Columns = append(t.Columns, name)
		}
	}
	return nil
}

func oidsOf(tables map[uint32]*table) []uint32 {
	return slices.Sorted(maps.Keys(tables))
}
