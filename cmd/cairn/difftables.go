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
	read map[snapshot.Key]*[2]*postgres.Record
}

// of returns what both snapshots have of a table; ok is false if the entry is none.
func (t *tableDiffs) of(ctx context.Context, key snapshot.Key) (before, after *postgres.Table, ok bool, err error) {
	db, hasParent := key.Parent()
	if !hasParent {
		return nil, nil, false, nil
	}
	if kind, ok := db.Parent(); !ok || string(kind) != postgres.Kind {
		return nil, nil, false, nil
	}
	records, known := t.read[db]
	if !known {
		records = new([2]*postgres.Record)
		for i, s := range []chosen{t.a, t.b} {
			d, err := stored.Open(ctx, t.repo, s.Body.Root, db)
			if err != nil && !errors.Is(err, stored.ErrNoDatabase) {
				return nil, nil, false, err
			}
			if err == nil {
				records[i] = d.Record
			}
		}
		if t.read == nil {
			t.read = make(map[snapshot.Key]*[2]*postgres.Record)
		}
		t.read[db] = records
	}
	if records[0] != nil {
		before = records[0].Table(key.Base())
	}
	if records[1] != nil {
		after = records[1].Table(key.Base())
	}
	return before, after, before != nil || after != nil, nil
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
