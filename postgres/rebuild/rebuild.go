// Package rebuild restores captured databases into servers: it makes the database, or makes sure that
// the one that is there is empty, restores roles if that is wanted, has package reload fill it, and collects
// statistics, without which a new database is slow.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/reload"
	"github.com/cairn-backup/cairn/postgres/stored"
)

// Options say where a database goes, and what of it.
type Options struct {
	Target *connect.Target
	Name   string // of the database there

	// What there must be before: without Create and Clean a database that is empty.
	Create bool // none of that name: it is made, with the encoding and locale that it had
	Clean  bool // one of which everything goes that the captured one has, too

	Want func(*archive.Entry) bool // which objects, see archive.TOC.Select; nil: all

	Globals       bool // roles and tablespaces too, those that are not there
	NoOwner       bool // who restores owns everything
	NoPrivileges  bool // without GRANT and REVOKE
	NoTablespaces bool // everything goes into the default one
	NoAnalyze     bool // without statistics

	Jobs int    // how many processes work at once; 0: 1
	Bin  string // the directory of the client programs; empty: they are looked for

	Observer Observer
}

// Observer hears how far a restore is. All may be nil.
type Observer struct {
	Step     func(what string)
	Progress func(bytes int64)    // so many more are on their way
	Loaded   func([]archive.Item) // are in the database for good
	Warning  func(err error)
}

// Result is what a restore came to.
type Result struct {
	Tables, Blobs int
	Rows, Bytes   int64
	LeftOut       []*archive.Entry // as they need what was not wanted
}

// Restored is the error of a restore that failed in the middle, with a database that was made or partly filled: what
// is there, and what is not.
type Restored struct {
	Err             error
	Loaded, Missing []string // tables
}

func (e *Restored) Error() string {
	switch {
	case len(e.Loaded) == 0:
		return fmt.Sprintf("%v; the rows of no table are there", e.Err)
	case len(e.Missing) == 0:
		return fmt.Sprintf("%v; the rows of all tables are there", e.Err)
	}
	return fmt.Sprintf("%v; the rows of %d tables are there, those of %d are not, the first of which is %s", e.Err, len(e.Loaded), len(e.Missing), e.Missing[0])
}
func (e *Restored) Unwrap() error { return e.Err }

// ErrNothing: a selection has nothing.
var ErrNothing = errors.New("nothing of what was asked for is in the database")

// Into restores a database into a server. If it fails after it changed the database there, the error is a *Restored;
// only of statistics, which come last, it is another one.
func Into(ctx context.Context, d *stored.Database, o Options) (*Result, error) {
	if o.Jobs < 1 {
		o.Jobs = 1
	}
	items, err := d.Items(ctx)
	if err != nil {
		return nil, err
	}
	r := &rebuilding{o: o, db: d, res: new(Result), loaded: make(map[int32]bool)}
	r.source = &reload.Database{TOC: d.TOC, Items: items, Open: d.Open, Progress: r.progress}
	if o.Want != nil {
		found := false
		r.source, r.res.LeftOut = r.source.Select(func(e *archive.Entry) bool {
			want := o.Want(e)
			found = found || want
			return want
		})
		if !found {
			return nil, fmt.Errorf("%s: %w", d.Key.Path(), ErrNothing)
		}
	}
	return r.res, r.run(ctx)
}

// rebuilding is a restore under way.
type rebuilding struct {
	o        Options
	db       *stored.Database
	source   *reload.Database
	programs *connect.Programs
	res      *Result

	mu     sync.Mutex
	loaded map[int32]bool // dump IDs
}

func (r *rebuilding) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	conn, err := r.o.Target.Connect(ctx, r.o.Name)
	if err != nil && r.o.Create {
		return r.half(err)
	}
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	switch {
	case r.o.Create:
		if err := r.properties(ctx, conn); err != nil {
			return r.half(err)
		}
	case !r.o.Clean:
		if err := isEmpty(ctx, conn, r.o.Name); err != nil {
			return err
		}
	}
	if err := r.load(ctx, conn); err != nil {
		return err
	}
	return r.analyze(ctx, conn)
}

// prepare connects to where databases are made, does what is to be done before there is one, and finds the
// programs for the server.
func (r *rebuilding) prepare(ctx context.Context) (err error) {
	first := r.o.Name
	if r.o.Create {
		if first, err = r.maintenance(ctx); err != nil {
			return err
		}
	}
	conn, err := r.o.Target.Connect(ctx, first)
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "3D000" {
		return fmt.Errorf("%w; --create makes the database", err)
	}
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version, err := strconv.Atoi(parameter(ctx, conn, "server_version_num"))
	if err != nil {
		return fmt.Errorf("the version of the server: %w", err)
	}
	if r.programs, err = connect.Find(ctx, r.o.Bin, connect.Version(version)); err != nil {
		return err
	}
	if from := r.db.Record.Server.VersionNumber / 10000; from > version/10000 {
		r.warn(fmt.Errorf("the database comes from PostgreSQL %d, and the server is of version %d: what only the newer one knows will fail", from, version/10000))
	}
	if r.o.Globals {
		r.step("roles and tablespaces")
		if err := r.globals(ctx, conn); err != nil {
			return err
		}
	}
	if r.o.Create {
		r.step("make the database")
		return r.create(ctx, conn)
	}
	return nil
}

// maintenance returns a database that can be connected to while another is made.
func (r *rebuilding) maintenance(ctx context.Context) (string, error) {
	var errs []error
	for _, name := range []string{"postgres", "template1"} {
		conn, err := r.o.Target.Connect(ctx, name)
		if err == nil {
			return name, conn.Close(ctx)
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func parameter(ctx context.Context, conn *pgx.Conn, name string) (value string) {
	_ = conn.QueryRow(ctx, "SELECT pg_catalog.current_setting($1)", name).Scan(&value) // empty is no version
	return value
}

// load fills the database.
func (r *rebuilding) load(ctx context.Context, conn *pgx.Conn) error {
	env, cleanup, err := r.o.Target.Environ(r.o.Name, conn)
	if err != nil {
		return err
	}
	args := []string{"--dbname=" + connectionName, "--no-password"}
	if r.o.NoOwner {
		args = append(args, "--no-owner")
	}
	if r.o.NoPrivileges {
		args = append(args, "--no-privileges")
	}
	if r.o.NoTablespaces {
		args = append(args, "--no-tablespaces")
	}
	s := &reload.Server{
		Program: r.programs.Restore, Args: args, Env: env,
		Jobs: r.o.Jobs, Clean: r.o.Clean, Loaded: r.isLoaded,
	}
	r.step("load")
	if err := s.Restore(ctx, r.source); err != nil {
		return errors.Join(r.half(err), cleanup())
	}
	return cleanup()
}

// connectionName makes pg_restore connect to the database that its environment names: any connection string
// does, and an empty one it takes for none.
const connectionName = "application_name=cairn"

// isLoaded notes contents that are there.
func (r *rebuilding) isLoaded(items []archive.Item) {
	r.mu.Lock()
	for _, item := range items {
		r.loaded[item.DumpID] = true
		r.res.Bytes += item.Size
		if item.OID != 0 {
			r.res.Blobs++
			continue
		}
		r.res.Tables++
		if t := r.db.TableOf(item); t != nil {
			r.res.Rows += t.Rows
		}
	}
	r.mu.Unlock()
	if r.o.Observer.Loaded != nil {
		r.o.Observer.Loaded(items)
	}
}

// half says what is there of a restore that failed.
func (r *rebuilding) half(err error) error {
	e := &Restored{Err: err}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, item := range r.source.Items {
		t := r.db.TableOf(item)
		switch {
		case t == nil:
		case r.loaded[item.DumpID]:
			e.Loaded = append(e.Loaded, t.File)
		default:
			e.Missing = append(e.Missing, t.File)
		}
	}
	slices.Sort(e.Loaded)
	slices.Sort(e.Missing)
	return e
}

// analyze collects statistics.
func (r *rebuilding) analyze(ctx context.Context, conn *pgx.Conn) error {
	if r.o.NoAnalyze {
		return nil
	}
	r.step("collect statistics")
	// One by one: what can't be analyzed, as a foreign table whose server is not there, is no reason to leave the
	// others without.
	rows, err := conn.Query(ctx, `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`)
	if err != nil {
		return notAnalyzed(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return notAnalyzed(err)
	}
	for _, t := range tables {
		_, err := conn.PgConn().Exec(ctx, "ANALYZE "+t).ReadAll()
		var e *pgconn.PgError
		if errors.As(err, &e) {
			r.warn(fmt.Errorf("no statistics of %s: %w", t, err))
		} else if err != nil {
			return notAnalyzed(err)
		}
	}
	return nil
}

func notAnalyzed(err error) error {
	return fmt.Errorf("everything is restored, but collecting statistics (ANALYZE) failed: %w", err)
}

func (r *rebuilding) step(what string) {
	if r.o.Observer.Step != nil {
		r.o.Observer.Step(what)
	}
}

func (r *rebuilding) warn(err error) {
	if r.o.Observer.Warning != nil {
		r.o.Observer.Warning(err)
	}
}

func (r *rebuilding) progress(_ archive.Item, n int) {
	if r.o.Observer.Progress != nil {
		r.o.Observer.Progress(int64(n))
	}
}
