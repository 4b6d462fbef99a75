package main

import (
	"errors"
	"io"
	"slices"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/reload"
	"github.com/cairn-backup/cairn/postgres/stored"
)

// dumpUsage refuses what no archive can be, and options that would be passed over.
func dumpUsage(c *cli.Context) error {
	format := c.String("dump-format")
	switch {
	case !slices.Contains([]string{"custom", "directory", "sql"}, format):
		return usagef("--dump-format %q: want custom, directory or sql", format)
	case format == "directory" && c.String("dump") == "-":
		return usagef("--dump-format directory: a directory can't go to the standard output")
	case !c.IsSet("dump") || format == "sql":
		return nil
	}
	for _, name := range []string{"no-owner", "no-privileges"} {
		if c.IsSet(name) {
			return usagef("--%s is for --to and --dump-format sql; an archive has everything, and pg_restore takes --%[1]s", name)
		}
	}
	return nil
}

// dumpDatabase writes an archive.
func (p *program) dumpDatabase(c *cli.Context, s chosen, d *stored.Database) error {
	name, format := c.String("dump"), c.String("dump-format")
	if name == "-" {
		if p.json != nil {
			return usagef("--json and --dump - both write to the standard output; give the archive a file")
		}
		if f := asFile(p.Stdout); f != nil && term.IsTerminal(int(f.Fd())) && format != "sql" {
			return usagef("an archive is nothing to read on a terminal; give --dump FILE, or send the standard output elsewhere")
		}
	}
	items, err := d.Items(c.Context)
	if err != nil {
		return err
	}
	db := &reload.Database{TOC: d.TOC, Items: items, Open: d.Open}
	want, err := wanted(c, d)
	if err != nil {
		return err
	}
	if want != nil {
		var left []*archive.Entry
		db, left = db.Select(want)
		p.leftOut(left)
	}
	p.interrupted = "interrupted; the archive is not complete"
	switch format {
	case "custom":
		err = p.dumpTo(c, name, func(w io.Writer) error { return db.Custom(c.Context, w) })
	case "sql":
		err = p.dumpTo(c, name, func(w io.Writer) error { return p.dumpSQL(c, d, db, w) })
	case "directory":
		err = db.Directory(c.Context, name)
	}
	if err != nil {
		return err
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"id": s.ID.String(), "format": format, "tables": tablesOf(db.Items)})
	}
	if name != "-" {
		p.printf("wrote database %s of snapshot %s to %s\n", termui.Quote(string(d.Record.Database.Name)), s.ID.Short(), termui.Quote(name))
	}
	return nil
}

// tablesOf returns how many of the items are those of tables.
func tablesOf(items []archive.Item) (n int) {
	for _, item := range items {
		if item.OID == 0 {
			n++
		}
	}
	return n
}

// dumpTo writes to a file that appears when it is whole, or to the standard output.
func (p *program) dumpTo(c *cli.Context, name string, write func(io.Writer) error) error {
	w, finish, err := p.tarOutput(c, name)
	if err != nil {
		return err
	}
	err = write(w)
	return errors.Join(err, finish(err))
}

// dumpSQL has pg_restore make SQL of the archive.
func (p *program) dumpSQL(c *cli.Context, d *stored.Database, db *reload.Database, w io.Writer) error {
	programs, err := connect.Find(c.Context, c.String("pg-bin"), connect.Version(d.Record.Server.VersionNumber))
	if err != nil {
		return err
	}
	var args []string
	for _, name := range []string{"no-owner", "no-privileges"} {
		if c.Bool(name) {
			args = append(args, "--"+name)
		}
	}
	return db.SQL(c.Context, programs.Restore, args, w)
}
