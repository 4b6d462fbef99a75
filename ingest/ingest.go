// Package ingest makes snapshots: it takes entries and contents from sources
// (directories, streams, commands), cuts the contents into chunks, hands these
// to a repo.Writer, and builds the entry tree.
//
// Data flows through a pipeline (pipeline.go): a walk in path order makes
// jobs, workers read and store contents, and a sequencer takes the finished
// jobs in their first order into the tree. All queues are bounded, so memory
// does not grow with the source.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// Options say what to put into a snapshot.
type Options struct {
	// Paths are files and directories to take, absolute or relative to the
	// working directory.
	Paths []string
	// Sources are what else to take. Those of one kind must not have names such that
	// one would be at the other's place or below it.
	Sources []Source

	// Excludes are patterns of what to leave out, anchored at /, in archives at their
	// root.
	Excludes *gitignore.Set
	// ExcludeCaches leaves out the contents of directories with a
	// CACHEDIR.TAG, but the tag; not in archives.
	ExcludeCaches bool
	// OneFileSystem stays on the file systems that Paths are on, and takes of
	// what is mounted below them, be it a part of the same file system, only the directory.
	OneFileSystem bool

	// Repository is the directory that the repository is in, if it is in one. It is known
	// by what it is, under whichever name: its contents are left out, with a warning, and
	// to name it or what is in it is an error.
	Repository string

	Host    string
	User    string
	Tags    []string
	Program string // name and version
	// Time replaces the time of the snapshot, if not zero.
	Time time.Time
	// Parent is the snapshot whose entries are reused for files that did not
	// change; nil: the newest one of the same host and sources.
	Parent *snapshot.ID
	// NoParent reads every file.
	NoParent bool

	// AllowIncomplete publishes the snapshot when one of Sources failed, or when one
	// of Paths can't be had, marked incomplete; otherwise nothing is published.
	AllowIncomplete bool
	// SkipIfUnchanged publishes nothing if the tree is the parent's.
	SkipIfUnchanged bool
	// DryRun stores nothing.
	DryRun bool

	Compression pack.Compression // zero: the repository's
	// DeltaBudget is how many bytes may be read from the storage so that chunks can be
	// stored as differences to others; 0: none is. A key that can't read the repository makes use of
	// this machine's cache alone.
	DeltaBudget int64
	// Splitter cuts contents in place of the repository's, if it isn't nil. What others
	// cut is then hardly found again: it is for measuring.
	Splitter chunk.Splitter
	Now      func() time.Time // nil: time.Now
	Observer Observer
}

// Observer has callbacks for what happens to single items. They are called
// from several goroutines at once. All may be nil.
type Observer struct {
	// Problem: an item could not be read, or not as it was. fatal problems make
	// the snapshot incomplete; the others are worth a warning.
	Problem func(path string, err error, fatal bool)
	// Entry: an entry went into the tree.
	Entry func(path string, change Change, size uint64)
	// Again: other runs fenced this one off and took what it relied on. It begins again, as
	// all of its sources can be read once more. Problems and entries will be told anew.
	Again func(why error)
	// Progress has counters to poll, if not nil. They go back to 0 when the run begins
	// again.
	Progress *Progress
}

// Change says how an entry relates to the parent snapshot.
type Change uint8

// The changes.
const (
	New Change = iota
	Changed
	Unmodified
)

func (c Change) String() string { return [...]string{"new", "changed", "unmodified"}[c] }

// Result is what a snapshot became.
type Result struct {
	ID       snapshot.ID // zero if nothing was published
	Parent   snapshot.ID // zero if there was none
	Root     snapshot.Root
	Totals   snapshot.Totals
	Deltas   repo.Deltas // of Totals.NewRaw and NewStored, what was stored as deltas
	Sources  []snapshot.Source
	Skipped  bool // nothing had changed, and SkipIfUnchanged was set
	Partial  bool // some data could not be read
	Duration time.Duration
}

// ErrIncomplete: one of Options.Sources failed, and nothing was published.
var ErrIncomplete = errors.New("a source failed; no snapshot was made")

// SourceError: one of Options.Paths can't be had, and nothing was published.
type SourceError struct {
	Path string // as far as it could not be followed
	Err  error
}

func (e *SourceError) Error() string { return fmt.Sprintf("source %s: %v", e.Path, e.Err) }
func (e *SourceError) Unwrap() error { return e.Err }

// maxTries is how often a run begins that is fenced off.
const maxTries = 3

// Snapshot makes a snapshot of all sources in opts. The error is repo.ErrFenced if other
// runs took what it relied on, and it can't begin again.
func Snapshot(ctx context.Context, r *repo.Repository, opts Options) (*Result, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Observer.Progress == nil {
		opts.Observer.Progress = new(Progress)
	}
	targets, err := newTargets(opts.Paths)
	if err != nil {
		return nil, err
	}
	sources, err := arrange(opts.Sources)
	if err != nil {
		return nil, err
	}
	own, err := identify(opts.Repository)
	if err != nil {
		return nil, err
	}
	finder, err := opts.finder(r)
	if err != nil {
		return nil, err
	}
	if finder != nil {
		defer finder.Close()
	}
	start := opts.Now()
	s := session{opts: &opts, repo: r, finder: finder, targets: targets, sources: sources, own: own, start: start}
	for try := 1; ; try++ {
		res, err := s.try(ctx)
		if err == nil {
			res.Duration = opts.Now().Sub(start)
			return res, nil
		}
		if try == maxTries || !errors.Is(err, repo.ErrFenced) || ctx.Err() != nil {
			return nil, err
		}
		if why := opts.rewind(); why != nil {
			return nil, fmt.Errorf("%w; it can't begin again by itself: %w", err, why)
		}
		opts.Observer.Progress.reset()
		if opts.Observer.Again != nil {
			opts.Observer.Again(err)
		}
		s = session{opts: &opts, repo: r, finder: finder, writer: s.writer, targets: targets, sources: sources, own: own, start: opts.Now()}
	}
}

// finder returns what finds the bases of deltas, nil if none are wanted. A storage that is no
// directory of this machine is slow to read, or costs.
func (o *Options) finder(r *repo.Repository) (*repo.Finder, error) {
	if o.DeltaBudget <= 0 {
		return nil, nil
	}
	return r.NewFinder(repo.FinderOptions{Budget: o.DeltaBudget, Keep: o.Repository == ""})
}

// session is one try of Snapshot.
type session struct {
	opts    *Options
	repo    *repo.Repository
	finder  *repo.Finder // nil: no deltas
	writer  *repo.Writer // before try, that of the try before
	targets *targets
	sources []captured // as they were before the try
	own     ownDir
	start   time.Time
	parent  *parent
	totals  snapshot.Totals
	live    liveness
}

// try makes the snapshot, or leaves no lease.
func (s *session) try(ctx context.Context) (*Result, error) {
	o := s.opts
	wo := repo.WriterOptions{Host: o.Host, Compression: o.Compression, DryRun: o.DryRun, After: s.writer}
	if s.finder != nil {
		wo.Similar = s.finder
	}
	w, err := s.repo.NewWriter(ctx, wo)
	if err != nil {
		return nil, err
	}
	s.writer = w
	res, err := s.run(ctx)
	if err != nil {
		// The lease is ended even if the caller gave up.
		return nil, errors.Join(err, w.Abort(context.WithoutCancel(ctx)))
	}
	return res, nil
}

func (s *session) run(ctx context.Context) (*Result, error) {
	if err := s.writer.CheckTime(s.time()); err != nil {
		return nil, err // before anything is read
	}
	if err := s.findParent(ctx); err != nil {
		return nil, err
	}
	p, err := newPipeline(s)
	if err != nil {
		return nil, err
	}
	root, err := p.run(ctx)
	if err != nil {
		return nil, err
	}
	res := &Result{Root: root, Parent: s.parent.id(), Sources: p.reports()}
	failed := false
	for _, src := range res.Sources {
		failed = failed || src.Status != snapshot.Complete
	}
	if failed && !s.opts.AllowIncomplete {
		return nil, ErrIncomplete
	}
	s.totals.NewRaw, s.totals.NewStored = s.added()
	res.Totals, res.Deltas = s.totals, s.writer.Deltas()
	res.Partial = failed || s.totals.Unreadable > 0
	if s.opts.SkipIfUnchanged && !res.Partial {
		if res.Skipped, err = s.unchanged(ctx, p, root); err != nil {
			return nil, err
		}
		if res.Skipped {
			return res, s.writer.Abort(ctx)
		}
	}
	return res, s.commit(ctx, res)
}

// unchanged reports whether the sources are as they were in the parent. What
// is above them does not count: /tmp is never the same twice.
func (s *session) unchanged(ctx context.Context, p *pipeline, root snapshot.Root) (bool, error) {
	if s.parent == nil {
		return false, nil
	}
	before := snapshot.Tree{Root: s.parent.info.Body.Root, Source: s.repo}
	after := snapshot.Tree{Root: root, Source: s.repo}
	for c, err := range snapshot.Diff(ctx, before, after) {
		if err != nil {
			return false, fmt.Errorf("compare with the parent: %w", err)
		}
		e := c.New
		if e == nil {
			e = c.Old
		}
		of := func(t captured) bool { return e.Key == t.key || e.Key.IsBelow(t.key) }
		if c.Kind != snapshot.MetadataChanged || slices.ContainsFunc(p.trees, of) {
			return false, nil
		}
	}
	return true, nil
}

func (s *session) added() (raw, stored uint64) {
	r, st := s.writer.Added()
	return uint64(r), uint64(st)
}

// time is that of the snapshot.
func (s *session) time() time.Time {
	if s.opts.Time.IsZero() {
		return s.start
	}
	return s.opts.Time
}

func (s *session) commit(ctx context.Context, res *Result) error {
	var flags snapshot.Flags
	if !s.opts.Time.IsZero() {
		flags |= snapshot.TimeGiven
	}
	if res.Partial {
		flags |= snapshot.Incomplete
	}
	id, err := s.writer.Commit(ctx, repo.NewSnapshot{
		Time: s.time(), Flags: flags, Host: s.opts.Host, Parent: res.Parent,
		Body: snapshot.Body{
			Root: res.Root, User: s.opts.User, Program: s.opts.Program,
			Start: s.start, End: s.opts.Now(), Tags: s.opts.Tags,
			Totals: res.Totals, Sources: res.Sources,
		},
	})
	if err != nil {
		return fmt.Errorf("publish snapshot: %w", err)
	}
	res.ID = id
	if !s.opts.DryRun {
		s.repo.RememberThin(id, s.live.thin())
	}
	return nil
}
