package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/rebuild"
	"github.com/cairn-backup/cairn/postgres/reload"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// restoreDatabaseFlags are those of restore for databases.
func restoreDatabaseFlags() []cli.Flag {
	const category = "PostgreSQL"
	return []cli.Flag{
		&cli.StringFlag{Category: category, Name: "to", Usage: "restore a database into the server and database of `URL`, postgres://HOST/DB, which must be empty"},
		&cli.StringFlag{Category: category, Name: "dump", Usage: "write a database as an archive of pg_dump to `FILE` (- is the standard output)"},
		&cli.StringFlag{Category: category, Name: "dump-format", Value: "custom", Usage: "`FORMAT` of --dump: custom (-Fc), directory (-Fd) or sql"},
		&cli.StringFlag{Category: category, Name: "component", Usage: "which of several databases: `postgres/DB`"},
		&cli.BoolFlag{Category: category, Name: "create", Usage: "make the database first"},
		&cli.BoolFlag{Category: category, Name: "clean", Usage: "drop first what the database has of what is restored"},
		&cli.BoolFlag{Category: category, Name: "globals", Usage: "restore roles and tablespaces that the server lacks"},
		&cli.BoolFlag{Category: category, Name: "no-owner", Usage: "leave what is restored to who restores"},
		&cli.BoolFlag{Category: category, Name: "no-privileges", Usage: "leave out GRANT and REVOKE"},
		&cli.BoolFlag{Category: category, Name: "no-tablespaces", Usage: "put everything into the default tablespace"},
		&cli.BoolFlag{Category: category, Name: "no-analyze", Usage: "collect no statistics"},
		&cli.StringSliceFlag{Category: category, Name: "pg-schema", Usage: "restore only schemas that fit `PATTERN` (* and ? stand for any characters), with what they need"},
		&cli.StringSliceFlag{Category: category, Name: "pg-table", Usage: "restore only tables that fit `PATTERN`, TABLE or SCHEMA.TABLE, with what they need"},
		&cli.IntFlag{Category: category, Name: "jobs", Aliases: []string{"j"}, Value: 1, Usage: "restore by `N` processes at once"},
		pgBinFlag(),
	}
}

// isDatabaseRestore reports whether a restore is one of a database as such, and not of its files.
func isDatabaseRestore(c *cli.Context) bool { return c.IsSet("to") || c.IsSet("dump") }

// databaseUsage refuses options that do not go together.
func databaseUsage(c *cli.Context) error {
	if !isDatabaseRestore(c) {
		for _, f := range restoreDatabaseFlags() {
			if name := f.Names()[0]; c.IsSet(name) {
				return usagef("--%s is for databases: give --to URL or --dump FILE too", name)
			}
		}
		return nil
	}
	if c.IsSet("to") && c.IsSet("dump") {
		return usagef("--to and --dump: a database goes into a server or into a file")
	}
	for _, name := range []string{"target", "tar", "include", "exclude", "overwrite", "delete", "in-place", "verify", "allow-damaged"} {
		if c.IsSet(name) {
			return usagef("--%s is for files; a database is restored with --to or --dump alone", name)
		}
	}
	only := []string{"create", "clean", "globals", "no-analyze", "no-tablespaces", "jobs", "dry-run"}
	if c.IsSet("to") {
		only = []string{"dump-format"}
	}
	for _, name := range only {
		if c.IsSet(name) {
			return usagef("--%s does not go with %s", name, map[bool]string{true: "--to", false: "--dump"}[c.IsSet("to")])
		}
	}
	if err := dumpUsage(c); err != nil {
		return err
	}
	scheme, _, hasScheme := strings.Cut(c.String("to"), "://")
	switch {
	case hasScheme && hasPassword(c.String("to")):
		return usagef("the URL of --to contains a password, which the process list and the shell's history would show; remove it, and %s", betterWay(scheme))
	case c.IsSet("to") && (!hasScheme || scheme != "postgres" && scheme != "postgresql"):
		return usagef("--to %s: want postgres://HOST/DB", c.String("to"))
	case c.Bool("create") && c.Bool("clean"):
		return usagef("--create and --clean: a database that is made has nothing to be dropped")
	case c.Int("jobs") < 1 || c.Int("jobs") > 64:
		return usagef("--jobs %d: want 1 to 64", c.Int("jobs"))
	}
	return nil
}

// restoreDatabase restores a database of a snapshot into a server or a file.
func (p *program) restoreDatabase(c *cli.Context, arg string) error {
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := p.choose(c, r, arg, true)
	if err != nil {
		return err
	}
	key, err := databaseKey(c.Context, r, s, c.String("component"))
	if err != nil {
		return err
	}
	d, err := stored.Open(c.Context, r, s.Body.Root, key)
	if err != nil {
		return err
	}
	if c.IsSet("to") {
		return p.rebuildDatabase(c, s, d)
	}
	return p.dumpDatabase(c, s, d)
}

// databaseKey finds which database is meant: the one that the path names, or --component, or the only one.
func databaseKey(ctx context.Context, r *repo.Repository, s chosen, component string) (snapshot.Key, error) {
	name := s.path
	if name == "" {
		name = component
	} else if component != "" && component != name {
		return "", usagef("--component %s, and the path is %s", component, termui.Quote(name))
	}
	if name != "" {
		key, err := snapshot.KeyOf(strings.TrimSuffix(name, "/"))
		if err != nil {
			return "", usagef("%v", err)
		}
		return key, nil
	}
	var found []snapshot.Key
	for key, err := range stored.All(ctx, r, s.Body.Root) {
		if err != nil {
			return "", err
		}
		found = append(found, key)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) == 0 {
		return "", fmt.Errorf("snapshot %s has no database", s.ID.Short())
	}
	var names []string
	for _, k := range found {
		names = append(names, k.Path())
	}
	return "", usagef("which database? give --component; there are %s", strings.Join(names, ", "))
}

// rebuildDatabase restores into a server.
func (p *program) rebuildDatabase(c *cli.Context, s chosen, d *stored.Database) error {
	o, err := p.rebuildOptions(c, d)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return p.databasePlan(c, d, o)
	}
	if o.Clean {
		if err := p.confirm(c, fmt.Sprintf("This drops in database %s what it has of what is restored.", termui.Quote(o.Name))); err != nil {
			return err
		}
	}
	var bytes, tables atomic.Int64
	var step atomic.Value
	step.Store("connect")
	o.Observer = rebuild.Observer{
		Step:     func(what string) { step.Store(what) },
		Progress: func(n int64) { bytes.Add(n) },
		Loaded:   func(items []archive.Item) { tables.Add(p.loaded(d, items)) },
		Warning:  func(err error) { p.warn("%v", err) },
	}
	stop, err := p.show(c, func() string {
		return fmt.Sprintf("%s: %s of %s, %s of %s", step.Load(), termui.Count(tables.Load()), plural(int64(len(d.Record.Tables)), "table"),
			termui.Size(bytes.Load()), termui.Size(contentSize(d)))
	}, func() map[string]any {
		return map[string]any{"step": step.Load(), "tables_done": tables.Load(), "tables": len(d.Record.Tables), "bytes_done": bytes.Load(), "bytes": contentSize(d)}
	})
	if err != nil {
		return err
	}
	p.interrupted = "interrupted; the database is half restored: drop it, or restore again with --clean"
	res, err := rebuild.Into(c.Context, d, *o)
	stop()
	if err != nil {
		return p.rebuildFailed(c, err)
	}
	return p.rebuilt(s, d, o, res)
}

// contentSize is the size of all contents of a database.
func contentSize(d *stored.Database) int64 {
	n := d.Record.BlobTotals.Bytes
	for i := range d.Record.Tables {
		n += d.Record.Tables[i].Bytes
	}
	return n
}

func (p *program) rebuildOptions(c *cli.Context, d *stored.Database) (*rebuild.Options, error) {
	url := c.String("to")
	target, err := connect.Parse(url)
	if err != nil {
		return nil, usagef("--to: %v", err)
	}
	name := string(d.Record.Database.Name)
	switch names := target.Databases; len(names) {
	case 0:
	case 1:
		name = names[0]
	default:
		return nil, usagef("--to %s: one database goes into one", url)
	}
	want, err := wanted(c, d)
	if err != nil {
		return nil, err
	}
	return &rebuild.Options{
		Target: target, Name: name, Create: c.Bool("create"), Clean: c.Bool("clean"), Want: want, Globals: c.Bool("globals"),
		NoOwner: c.Bool("no-owner"), NoPrivileges: c.Bool("no-privileges"), NoTablespaces: c.Bool("no-tablespaces"), NoAnalyze: c.Bool("no-analyze"),
		Jobs: c.Int("jobs"), Bin: c.String("pg-bin"),
	}, nil
}

// loaded tells of tables that are there, and counts them.
func (p *program) loaded(d *stored.Database, items []archive.Item) (tables int64) {
	for _, item := range items {
		t := d.TableOf(item)
		if t == nil {
			continue
		}
		tables++
		if p.json != nil {
			p.json.Write("table", map[string]any{"table": t.File, "rows": t.Rows, "bytes": t.Bytes})
		} else if p.verbose {
			fmt.Fprintf(p.Stdout, "restored  %s: %s, %s\n", termui.Quote(t.File), plural(t.Rows, "row"), termui.Size(t.Bytes))
		}
	}
	return tables
}

// rebuildFailed says what is there of a restore that failed, and what to do.
func (p *program) rebuildFailed(c *cli.Context, err error) error {
	var half *rebuild.Restored
	if !errors.As(err, &half) {
		return err
	}
	if p.json != nil {
		p.json.Write("half_restored", map[string]any{"loaded": nonNil(half.Loaded), "missing": nonNil(half.Missing)})
	} else if !p.quiet {
		for _, t := range half.Missing[:min(len(half.Missing), maxShown)] {
			fmt.Fprintf(p.Stderr, "  not there: the rows of %s\n", termui.Quote(t))
		}
	}
	next := "drop the database and restore again, or restore again with --clean"
	switch {
	case c.Bool("create"):
		next = "mend what is wrong, drop the database and restore again"
	case c.Bool("clean"): // which would fail again in the same way
		next = "mend what is wrong, as by dropping what depends on something that is to be replaced, and restore again; a new database (--create) is restored beside the old one"
	}
	return &hintError{fmt.Errorf("the database is half restored: %w", err), next}
}

func nonNil(s []string) []string { return append([]string{}, s...) }

// rebuilt reports the result.
func (p *program) rebuilt(s chosen, d *stored.Database, o *rebuild.Options, res *rebuild.Result) error {
	p.leftOut(res.LeftOut)
	if p.json != nil {
		p.json.Write("summary", map[string]any{
			"id": s.ID.String(), "database": o.Name, "tables": res.Tables, "rows": res.Rows, "bytes": res.Bytes, "large_objects": res.Blobs, "left_out": len(res.LeftOut),
		})
	}
	p.printf("restored %s, %s, %s, %s into database %s, from snapshot %s\n", plural(int64(res.Tables), "table"), plural(res.Rows, "row"),
		plural(int64(res.Blobs), "large object"), termui.Size(res.Bytes), termui.Quote(o.Name), s.ID.Short())
	return nil
}

// databasePlan says what a restore would do.
func (p *program) databasePlan(c *cli.Context, d *stored.Database, o *rebuild.Options) error {
	items, err := d.Items(c.Context)
	if err != nil {
		return err
	}
	db := &reload.Database{TOC: d.TOC, Items: items}
	if o.Want != nil {
		var left []*archive.Entry
		db, left = db.Select(o.Want)
		p.leftOut(left)
	}
	var rows, bytes int64
	tables := 0
	for _, item := range db.Items {
		bytes += item.Size
		if t := d.TableOf(item); t != nil {
			tables++
			rows += t.Rows
			if p.json != nil {
				p.json.Write("table", map[string]any{"table": t.File, "rows": t.Rows, "bytes": t.Bytes})
			} else if !p.quiet {
				fmt.Fprintf(p.Stdout, "would restore %s: %s, %s\n", termui.Quote(t.File), plural(t.Rows, "row"), termui.Size(t.Bytes))
			}
		}
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"database": o.Name, "tables": tables, "rows": rows, "bytes": bytes, "large_objects": len(db.Items) - tables})
	}
	p.printf("would restore %s, %s, %s into database %s\n", plural(int64(tables), "table"), plural(rows, "row"), termui.Size(bytes), termui.Quote(o.Name))
	return nil
}
