package capture

import (
	"context"
	"io"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
)

// Rows in the order of their primary key stand in the next snapshot where they stood in the
// last. In the order of the server's file they don't: a row that is updated moves to wherever there is
// room. But a table whose file is in another order than the key is costly to read by it: each row
// is elsewhere on the disk, or all must be sorted first.
const (
	// sorted is the least correlation between the order of the key and that of the file with which
	// a table is read by its key.
	sorted = 0.9
	// smallPages is the size, in pages of 8 KiB, up to which a table is read by its key whatever its
	// order: sorting it takes no time.
	smallPages = 2048
)

// key is the primary key of a table; without columns it has none.
type key struct {
	columns     []string        // quoted, in the encoding of the database
	names       []postgres.Name // in UTF-8
	correlation float64         // of the first column with the file, as ANALYZE found it; 0: unknown
}

// choose decides the order in which each table is read. One that was chosen once is kept, as long as
// the table has that key: in another order nothing would be found again.
func (r *run) choose(tables []*table) {
	before := make(map[string]postgres.Table)
	if rec := r.previous(); rec != nil {
		for _, t := range rec.Tables {
			before[t.File] = t
		}
	}
	for _, t := range tables {
		old, known := before[t.File]
		ordered := t.pages <= smallPages || math.Abs(t.key.correlation) >= sorted
		if known {
			ordered = len(old.Order) > 0
		}
		if ordered && len(t.key.columns) > 0 {
			t.order, t.Order = t.key.columns, t.key.names
		}
	}
}

// previous returns the record of the parent snapshot, nil if there is none that can be read.
func (r *run) previous() *postgres.Record {
	in, err := r.to.Previous(postgres.RecordFile)
	if err != nil {
		return nil
	}
	p, err := io.ReadAll(in)
	if err != nil {
		return nil
	}
	rec, err := postgres.ParseRecord(p)
	if err != nil {
		return nil
	}
	return rec
}

// keys looks up the primary keys: in pg_constraint, as columns that pg_index has besides (INCLUDE) may be of
// types that have no order.
func (r *run) keys(ctx context.Context, tables map[uint32]*table) error {
	rows, err := r.session.conn.Query(ctx, `
		SELECT p.conrelid, a.attname::text, `+r.session.utf8("a.attname")+`, s.correlation::float8
		FROM pg_catalog.pg_constraint p
		JOIN pg_catalog.pg_class c ON c.oid = p.conrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL pg_catalog.generate_subscripts(p.conkey, 1) AS k (at)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = p.conkey[k.at]
		LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
		WHERE p.contype = 'p' AND p.conrelid = ANY ($1)
		ORDER BY p.conrelid, k.at`, oidsOf(tables))
	if err != nil {
		return err
	}
	var oid uint32
	var raw string
	var name []byte
	var correlation *float64
	_, err = pgx.ForEachRow(rows, []any{&oid, &raw, &name, &correlation}, func() error {
		k := &tables[oid].key
		if len(k.columns) == 0 && correlation != nil {
			k.correlation = *correlation
		}
		k.columns, k.names = append(k.columns, archive.QuoteName(raw)), append(k.names, postgres.Name(name))
		return nil
	})
	return err
}

// conditions looks up which rows of the tables of extensions are the user's: only those are in a
// dump, as CREATE EXTENSION brings the others.
func (r *run) conditions(ctx context.Context, tables map[uint32]*table) error {
	rows, err := r.session.conn.Query(ctx, `
		SELECT e.extconfig[k.at], e.extcondition[k.at]
		FROM pg_catalog.pg_extension e CROSS JOIN LATERAL pg_catalog.generate_subscripts(e.extconfig, 1) AS k (at)`)
	if err != nil {
		return err
	}
	var oid uint32
	var condition string
	_, err = pgx.ForEachRow(rows, []any{&oid, &condition}, func() error {
		if t := tables[oid]; t != nil {
			t.condition = condition
		}
		return nil
	})
	return err
}
