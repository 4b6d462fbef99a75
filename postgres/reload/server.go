package reload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// Server restores into a database of a server, through pg_restore, without a file in
// between: several processes read archives from pipes at once. pg_restore's own -j needs
// files that it can go back and forth in; pipes in a directory of the directory format it
// takes for whole when they end early, or refuses, depending on its version. In an archive,
// every piece has its length in front, so one that ends early, because cairn was killed,
// fails.
type Server struct {
	Program string   // pg_restore
	Args    []string // options, with those that name the database: "--dbname=shop", "--no-owner"
	Env     []string // as of exec.Cmd: PGHOST, PGPASSFILE and the like

	// Jobs is how many processes work at once; 0 is 1.
	Jobs int

	// Clean drops first what the database has of the objects to be restored. What can't be
	// dropped is an error only if something then can't be created, as some of these
	// statements fail for good reasons: a partition's constraint goes with that of its
	// table.
	Clean bool

	// KeepGoing goes on after statements that fail, as pg_restore does without
	// --exit-on-error. Restore fails in the end all the same.
	KeepGoing bool

	// Temp is where temporary files are made, of the size of definitions; "" is the system's.
	Temp string

	// Loaded, if not nil, hears of contents that are in the database for good. It is called by one
	// goroutine at a time.
	Loaded func([]archive.Item)

	out io.Writer // of what programs write to their standard output; nil is nowhere
}

// Restore restores a database: first definitions, then contents, several at once, then
// indexes, constraints, privileges and the rest. It calls Open and Progress of d from Jobs
// goroutines.
//
// It stops at the first failure, unless KeepGoing is set. Contents that Loaded did not hear
// of may be missing; never a part of a table.
func (s *Server) Restore(ctx context.Context, d *Database) error {
	if err := d.TOC.CheckItems(d.Items); err != nil {
		return err
	}
	jobs := max(1, s.Jobs)
	p := d.split(jobs)
	var late []*archive.Entry
	steps := []step{
		{"create tables and what they need", func() error { return s.pipe(ctx, d.part(p.definitions, nil)) }},
		{"contents", func() (err error) { late, err = s.load(ctx, d, p.contents, jobs); return err }},
		{"indexes, constraints, privileges and the rest", func() error { return s.finish(ctx, d, append(p.rest, late...), jobs) }},
	}
	var dropped error
	if s.Clean {
		dropped = s.drop(ctx, d)
	}
	var failed []error
	for _, step := range steps {
		if err := step.do(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", step.what, err))
			if !s.KeepGoing || ctx.Err() != nil {
				break
			}
		}
	}
	if len(failed) > 0 && dropped != nil {
		failed = append([]error{fmt.Errorf("drop what is there: %w", dropped)}, failed...)
	}
	return errors.Join(failed...)
}

// drop drops what it can.
func (s *Server) drop(ctx context.Context, d *Database) error {
	lenient := *s
	lenient.KeepGoing = true
	return lenient.pipe(ctx, &Database{TOC: drops(d.TOC)}, "--clean", "--if-exists")
}

// step is a part of a restore, and what people call it.
type step struct {
	what string
	do   func() error
}

// load restores contents, and makes indexes while there are others to load. It returns the
// indexes that it did not make: those of large tables that come last, on which several
// processes had better work.
func (s *Server) load(ctx context.Context, d *Database, batches []batch, jobs int) ([]*archive.Entry, error) {
	l := loading{Server: s, db: d}
	for _, b := range batches {
		l.left += b.size
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for _, b := range batches {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return l.batch(ctx, b)
		})
	}
	err := group.Wait()
	return l.late, errors.Join(append(l.failed, err)...)
}

// loading is what those that load have in common.
type loading struct {
	*Server
	db *Database

	mu     sync.Mutex
	left   int64 // bytes that are not loaded as yet
	late   []*archive.Entry
	failed []error
}

func (l *loading) batch(ctx context.Context, b batch) error {
	var args []string
	if !l.KeepGoing {
		args = []string{"--single-transaction"}
	}
	err := l.pipe(ctx, l.db.part(l.begin(b), b.items), args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left -= b.size
	if err == nil {
		if l.Loaded != nil {
			l.Loaded(b.items)
		}
		return nil
	}
	err = fmt.Errorf("load %s: %w", l.db.names(b.items), err)
	if l.KeepGoing && ctx.Err() == nil {
		l.failed = append(l.failed, err)
		return nil
	}
	return err
}

// begin returns the entries to restore: with indexes, if there is one for which it makes no
// difference, or others have as much to do meanwhile.
func (l *loading) begin(b batch) []*archive.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b.indexes) > 1 && l.left-b.size < b.size {
		l.late = append(l.late, b.indexes...)
		return b.entries
	}
	return append(b.entries, b.indexes...)
}

// names is what people call some contents.
func (d *Database) names(items []archive.Item) string {
	if len(items) == 0 {
		return "no large objects"
	}
	if len(items) == 1 {
		return d.name(items[0])
	}
	return fmt.Sprintf("%s and %d more", d.name(items[0]), len(items)-1)
}

// finish restores what has no contents. It may be much work, to be done by many processes, for
// which pg_restore needs a file.
func (s *Server) finish(ctx context.Context, d *Database, rest []*archive.Entry, jobs int) (err error) {
	if jobs == 1 {
		return s.pipe(ctx, d.part(rest, nil))
	}
	f, err := os.CreateTemp(s.Temp, "cairn-*.dump")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if err := d.finishing(rest).Custom(ctx, f); err != nil {
		return err
	}
	p, err := s.start(ctx, nil, fmt.Sprintf("--jobs=%d", jobs), f.Name())
	if err != nil {
		return err
	}
	return p.wait()
}

// pipe restores d by one process.
func (s *Server) pipe(ctx context.Context, d *Database, args ...string) error {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := s.start(ctx, in, args...)
	in.Close()
	if err != nil {
		out.Close()
		return err
	}
	written := d.Custom(ctx, out)
	if written != nil && !errors.Is(written, syscall.EPIPE) {
		p.stop()
	}
	out.Close()
	ended := p.wait()
	switch {
	case written != nil && !errors.Is(written, syscall.EPIPE):
		return written
	case ended != nil:
		return ended
	case written != nil:
		return fmt.Errorf("%s ended before it had read everything: %w", s.Program, written)
	}
	return nil
}
