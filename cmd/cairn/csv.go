package main

import (
	"context"
	"errors"
	"io"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/postgres/copytext"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// csv returns what turns the rows of a table into CSV.
func (s chosen) csv(ctx context.Context, r *repo.Repository, key snapshot.Key, out io.Writer) (io.WriteCloser, error) {
	db, ok := key.Parent()
	if !ok {
		return nil, usagef("--csv is for tables of databases: SNAPSHOT:postgres/DB/SCHEMA.TABLE")
	}
	d, err := stored.Open(ctx, r, s.Body.Root, db)
	if errors.Is(err, stored.ErrNoDatabase) {
		return nil, usagef("--csv is for tables of databases: %v", err)
	}
	if err != nil {
		return nil, err
	}
	t := d.Record.Table(key.Base())
	if t == nil {
		return nil, usagef("--csv: %s is no table", termui.Quote(key.Path()))
	}
	var columns []string
	for _, c := range t.Columns {
		columns = append(columns, string(c))
	}
	return copytext.CSV(out, columns), nil
}
