// Package capture takes PostgreSQL databases into snapshots.
//
// A transaction exports its snapshot of the database. pg_dump writes the table of contents of its
// archive in that snapshot and is stopped then; connections of our own read the rows of all tables in
// the same snapshot, several at once and, where that is cheap, in the order of the primary key, in
// which the next snapshot finds them again. Large objects come from a second pg_dump. What all that
// becomes in a snapshot says package postgres.
package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/connect"
)

// Options say what to take of a database, and how.
type Options struct {
	// Scope has the patterns for pg_dump, as in \dt of psql. Empty: everything.
	Scope postgres.Scope
	// Globals are taken too: roles and tablespaces. Passwords of roles only if the user may
	// read them.
	Globals bool
	// Parallel is how many tables are read at once; 0: DefaultParallel.
	Parallel int
	// LockWait is how long to wait for a lock that somebody has who changes a table; 0: DefaultLockWait.
	LockWait time.Duration
	// Bin is the directory of the client programs; empty: they are looked for.
	Bin string
	// VacuumWarning is how long the snapshot may hold back vacuum before that is reported; 0:
	// DefaultVacuumWarning.
	VacuumWarning time.Duration
	// Now replaces time.Now, if it is not nil.
	Now func() time.Time
}

// Defaults of Options.
const (
	DefaultParallel      = 2
	DefaultLockWait      = 5 * time.Minute
	DefaultVacuumWarning = time.Hour
)

// Database is a database as a source of snapshots. It connects when it is captured.
type Database struct {
	target *connect.Target
	name   string
	o      Options
}

// New returns a database of a server.
func New(target *connect.Target, name string, o Options) *Database {
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.LockWait <= 0 {
		o.LockWait = DefaultLockWait
	}
	if o.VacuumWarning <= 0 {
		o.VacuumWarning = DefaultVacuumWarning
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Database{target, name, o}
}

// Place says that a database is at postgres/NAME.
func (d *Database) Place() (kind, name string) { return postgres.Kind, postgres.DatabaseFile(d.name) }

// Rewind does nothing: each Capture has a snapshot of its own.
func (d *Database) Rewind() error { return nil }

// maxTries is how often a capture begins whose tables are rewritten between its snapshot and
// its locks.
const maxTries = 3

// Capture takes the database as it is at the moment that it begins.
func (d *Database) Capture(ctx context.Context, to *ingest.Sink) error {
	for try := 1; ; try++ {
		err := d.capture(ctx, to)
		if err == nil || !errors.Is(err, errRewritten) || try == maxTries {
			return err
		}
		to.Problem("", fmt.Errorf("%w; beginning again", err), false)
	}
}

// capture is one try. Until it has its locks it delivers nothing.
func (d *Database) capture(ctx context.Context, to *ingest.Sink) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what pg_dump may still be doing
	s, err := begin(ctx, d)
	if err != nil {
		return err
	}
	defer s.end()
	run := &run{Database: d, session: s, to: to, record: s.record()}
	if run.programs, err = connect.Find(ctx, d.o.Bin, connect.Version(s.facts.versionNumber)); err != nil {
		return err
	}
	watch := time.AfterFunc(d.o.VacuumWarning, run.warnOfVacuum)
	defer watch.Stop()
	toc, err := run.contents(ctx)
	if err != nil {
		return err
	}
	if err := run.tables(ctx, toc); err != nil {
		return err
	}
	if err := run.blobs(ctx, toc); err != nil {
		return err
	}
	if err := run.globals(ctx); err != nil {
		return err
	}
	return run.finish(toc)
}

// run is a capture under way.
type run struct {
	*Database
	session  *session
	programs *connect.Programs
	to       *ingest.Sink
	record   *postgres.Record
}

func (r *run) warnOfVacuum() {
	r.to.Problem("", fmt.Errorf("its snapshot is %v old, and until it ends vacuum can remove nothing that was deleted since; to be quicker, read more tables at once (--parallel), "+
		"leave out the contents of some, or back up a standby", r.o.VacuumWarning), false)
}

// finish delivers what describes the rest.
func (r *run) finish(toc *archive.TOC) error {
	p, err := r.record.Encode()
	if err != nil {
		return err
	}
	err = errors.Join(r.file(postgres.TOCFile, toc.Canonical().Append(nil)), r.file(postgres.RecordFile, p))
	if err != nil {
		return err
	}
	for name, value := range r.session.attributes() {
		r.to.Describe(name, []byte(value))
	}
	return nil
}

// file delivers a file that is in memory.
func (r *run) file(path string, contents []byte) error {
	_, err := r.stream(path, bytes.NewReader(contents))
	return err
}

// stream delivers a file. Only its owner can read what is restored of it.
func (r *run) stream(path string, in io.Reader) (uint64, error) {
	e, err := r.entry(path)
	if err != nil {
		return 0, err
	}
	return r.to.File(e, in)
}
