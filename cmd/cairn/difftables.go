package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// tableDiffs says of tables that differ by how many rows and bytes. It reads what was recorded
// of a database when a table of it is met.
type tableDiffs struct {
	repo *repo.Repository
	a, b chosen
	read map[snapshot.Key]*[2]tablesByFile
}

// tablesByFile are the tables of a database by the names of their entries.
type tablesByFile map[string]*postgres.Table

// of returns what both snapshots have of a table; ok is false if the entry is none.
func (t *tableDiffs) of(ctx context.Context, key snapshot.Key) (before, after *postgres.Table, ok bool, err error) {
	db, hasParent := key.Parent()
	if !hasParent {
		return nil, nil, false, nil
	}
	if kind, ok := db.Parent(); !ok || string(kind) != postgres.Kind {
		return nil, nil, false, nil
	}
	tables, known := t.read[db]
	if !known {
		tables = new([2]tablesByFile)
		for i, s := range []chosen{t.a, t.b} {
			if tables[i], err = t.tables(ctx, s, db); err != nil {
				return nil, nil, false, err
			}
		}
		if t.read == nil {
			t.read = make(map[snapshot.Key]*[2]tablesByFile)
		}
		t.read[db] = tables
	}
	before, after = tables[0][key.Base()], tables[1][key.Base()]
	return before, after, before != nil || after != nil, nil
}

// tables returns the tables of a database, none if the snapshot does not have it.
func (t *tableDiffs) tables(ctx context.Context, s chosen, db snapshot.Key) (tablesByFile, error) {
	d, err := stored.Open(ctx, t.repo, s.Body.Root, db)
	if errors.Is(err, stored.ErrNoDatabase) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := make(tablesByFile, len(d.Record.Tables))
	for i := range d.Record.Tables {
		all[d.Record.Tables[i].File] = &d.Record.Tables[i]
	}
	return all, nil
}

// tableChange is what is shown of a table.
type tableChange struct {
	rowsBefore, rowsAfter, bytesBefore, bytesAfter int64
	sameRows, columns                              bool
}

func changeOf(before, after *postgres.Table) tableChange {
	var c tableChange
	if before != nil {
		c.rowsBefore, c.bytesBefore = before.Rows, before.Bytes
	}
	if after != nil {
		c.rowsAfter, c.bytesAfter = after.Rows, after.Bytes
	}
	if before != nil && after != nil {
		c.sameRows = before.Hash == after.Hash && before.Rows == after.Rows
		c.columns = !slices.Equal(before.Columns, after.Columns)
	}
	return c
}

// text is the end of a table's line.
func (c tableChange) text() string {
	s := fmt.Sprintf("  %s rows (%+d), %s (%s)", termui.Count(c.rowsAfter), c.rowsAfter-c.rowsBefore, termui.Size(c.bytesAfter), signedSize(c.bytesAfter-c.bytesBefore))
	switch {
	case c.columns:
		s += ", other columns"
	case c.sameRows:
		s += ", the same rows in another order"
	}
	return s
}

func signedSize(n int64) string {
	if n < 0 {
		return "-" + termui.Size(-n)
	}
	return "+" + termui.Size(n)
}

// fields are the same for programs.
func (c tableChange) fields(f map[string]any) {
	f["old_rows"], f["new_rows"], f["old_bytes"], f["new_bytes"] = c.rowsBefore, c.rowsAfter, c.bytesBefore, c.bytesAfter
	f["same_rows"], f["columns_changed"] = c.sameRows, c.columns
}
