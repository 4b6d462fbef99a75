package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// CheckOptions say how thorough a check is.
type CheckOptions struct {
	// Read says how much of the packs to read and authenticate.
	Read Sample
	// Progress is called as the check goes on, if not nil. total is 0 while it
	// is not known.
	Progress func(phase string, done, total int64)
}

// Sample is an amount of packs. The zero value is none.
type Sample struct {
	Percent float64 // of the packs' bytes; 100 is all
	Bytes   int64   // at most about so many, if not 0
}

// Report is what a check found.
type Report struct {
	Problems []Problem
	// Leftovers are what killed runs left behind: harmless, and freed by
	// prune.
	Leftovers []string
	// Rivals are hosts that several keys claim.
	Rivals []*Rivals

	Snapshots int
	Nodes     int
	Chunks    int // distinct data chunks of all snapshots
	Packs     int
	PackBytes int64
	ReadPacks int
	ReadBytes int64
}

// Problem is something damaged, with what it costs.
type Problem struct {
	Object string // name in the storage, or what it is
	Err    error
	Chunks []chunk.ID // damaged or missing because of it
	// Files that need these chunks, at most maxFiles of them.
	Files []DamagedFile
	// MoreFiles is how many files are not listed.
	MoreFiles int
}

// DamagedFile is a file that can't be restored whole from some snapshots.
type DamagedFile struct {
	Path     string
	Snapshot snapshot.ID // the newest of them
	Others   int         // how many others there are
}

// maxFiles bounds the files listed for a problem.
const maxFiles = 100

// checker is one run of Check.
type checker struct {
	*Repository
	opts   CheckOptions
	report Report
	set    *SnapshotSet

	packs     map[pack.ID]backend.Info
	known     map[pack.ID]bool // packs that a segment names
	condemned map[pack.ID]bool
	sizes     map[pack.ID]int64 // that a segment says of packs that have others
	broken    map[pack.ID]bool  // packs whose directory can't be read

	// chunks has what is known of all chunks, some 50 bytes each: the one thing
	// here whose size grows with the repository.
	chunks   map[chunk.ID]mark
	unproven []chunk.ID       // needed data chunks that only a broken pack is said to have
	lost     map[chunk.ID]int // damaged chunk -> position in report.Problems
	byObject map[string]int   // packs and the like -> position of their problem
}

// mark is what a check knows of a chunk.
type mark uint8

const (
	needed mark = 1 << iota // by a snapshot
	housed                  // in a pack, according to the pack's own directory
)

// Check verifies that all is there that the snapshots need, according to the
// packs' own directories, and, as far as told, that it is readable. It takes no lease and writes nothing to the storage.
// The error says that the check could not be done; what it found is in the report.
func (r *Repository) Check(ctx context.Context, opts CheckOptions) (*Report, error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	c := &checker{
		Repository: r, opts: opts,
		sizes: make(map[pack.ID]int64), broken: make(map[pack.ID]bool), chunks: make(map[chunk.ID]mark),
		lost: make(map[chunk.ID]int), byObject: make(map[string]int),
	}
	for _, step := range []func(context.Context) error{
		c.checkSlots, c.checkCondemned, c.checkIndex, c.checkPacks, c.checkSnapshots, c.checkLeases, c.checkTrees, c.checkUnproven, c.readPacks, c.findFiles,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &c.report, nil
}

func (c *checker) progress(phase string, done, total int64) {
	if c.opts.Progress != nil {
		c.opts.Progress(phase, done, total)
	}
}

// problem adds a finding and returns its position.
func (c *checker) problem(object string, err error) int {
	var d *DamageError
	if errors.As(err, &d) {
		object, err = d.Object, d.Err
	}
	c.report.Problems = append(c.report.Problems, Problem{Object: object, Err: err})
	return len(c.report.Problems) - 1
}

// once is problem for an object that may have been found damaged before: then the
// first finding stands.
func (c *checker) once(object string, err error) int {
	n, ok := c.byObject[object]
	if !ok {
		n = c.problem(object, err)
		c.byObject[object] = n
	}
	return n
}

func (c *checker) checkSlots(ctx context.Context) error {
	listed := make(map[string]bool)
	for _, s := range c.config.Slots {
		listed[slotsPrefix+s.ID.String()] = true
	}
	err := c.badSlots(ctx, func(_ config.Slot, err error) error {
		c.problem("", err)
		return nil
	})
	if err != nil {
		return err
	}
	for info, err := range c.storage.List(ctx, slotsPrefix) {
		if err != nil {
			return fmt.Errorf("list key slots: %w", err)
		}
		if !listed[info.Name] {
			c.report.Leftovers = append(c.report.Leftovers, info.Name+": a key slot that config does not list; it opens nothing")
		}
	}
	return nil
}

// badSlots calls fn for the slots of config that are damaged or missing.
func (r *Repository) badSlots(ctx context.Context, fn func(s config.Slot, err error) error) error {
	for _, s := range r.config.Slots {
		_, bad := r.loadSlot(ctx, s)
		if bad == nil {
			continue
		}
		if !errors.Is(bad, ErrDamage) {
			return bad
		}
		c, _, err := r.readConfig(ctx)
		if err != nil {
			return err
		}
		if _, ok := c.Slot(s.ID); !ok {
			continue // removed since config was read
		}
		if err := fn(s, bad); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkSnapshots(ctx context.Context) (err error) {
	if c.set, err = c.Snapshots(ctx); err != nil {
		return err
	}
	for _, err := range c.set.Damage {
		c.problem("", err)
	}
	c.report.Rivals = c.set.Rivals()
	for _, info := range c.set.Newest() {
		c.report.Snapshots++
		// The cache may hold what the storage has lost meanwhile.
		name := snapshotsPrefix + info.ID.String()
		object, err := readWhole(ctx, c.storage, name, maxManifest)
		switch {
		case errors.Is(err, backend.ErrNotExist) && slices.Contains(c.set.Uncopied, info.ID):
			c.report.Leftovers = append(c.report.Leftovers, name+": committed, but not yet copied to its place; the next snapshot does that")
		case errors.Is(err, backend.ErrNotExist), errors.Is(err, ErrDamage):
			c.problem(name, err)
		case err != nil:
			return fmt.Errorf("read snapshot: %w", err)
		case checkDigest(info.ID, object) != nil:
			c.problem(name, checkDigest(info.ID, object))
		}
		if err := c.LoadBody(ctx, info); err != nil {
			c.problem(name, err)
		}
	}
	told := make(map[string]bool)
	for _, p := range c.report.Problems {
		told[p.Object] = true
	}
	return c.badTombstones(ctx, func(name string, _ protocol.TombstoneID) error {
		if !told[name] {
			c.problem(name, errors.New("the tombstone is damaged; this machine's cache has a copy"))
		}
		return nil
	})
}

func (c *checker) checkLeases(ctx context.Context) error {
	leases, err := c.listLeases(ctx)
	if err != nil {
		return err
	}
	for _, l := range inOrder(leases) {
		for _, name := range l.objects {
			if err := c.verifyLease(ctx, name); errors.Is(err, ErrDamage) {
				c.problem(name, err)
			} else if err != nil && !errors.Is(err, backend.ErrNotExist) && !errors.Is(err, seal.ErrNoKey) {
				return err
			}
		}
		settled := false // for good: an end that stays, to keep its writer from committing
		if l.ended {
			if settled, err = c.checkEnd(ctx, l); err != nil {
				return err
			}
		}
		switch {
		case l.begun && !l.ended:
			c.report.Leftovers = append(c.report.Leftovers,
				fmt.Sprintf("%s%.8s: a run that is still going on, or was killed; last seen %s", leasesPrefix, l.id, l.modified.Format(time.DateTime)))
		case !settled || len(l.objects) > 1:
			c.report.Leftovers = append(c.report.Leftovers, fmt.Sprintf("%s%.8s: an ended lease", leasesPrefix, l.id))
		}
	}
	return nil
}

// checkEnd reads the end of a lease, as what Snapshots knows of it may be from the
// cache, and reports whether it committed nothing.
func (c *checker) checkEnd(ctx context.Context, l *leaseState) (isEmpty bool, err error) {
	end, by, err := c.readEnd(ctx, l.id)
	if err == nil {
		_, err = c.committedBy(ctx, l, end, by)
	}
	switch {
	case errors.Is(err, backend.ErrNotExist), errors.Is(err, seal.ErrNoKey):
		return false, nil
	case errors.Is(err, ErrDamage):
		var d *DamageError
		errors.As(err, &d)
		if !slices.ContainsFunc(c.report.Problems, func(p Problem) bool { return p.Object == d.Object }) {
			c.problem("", err)
		}
		return false, nil
	}
	return err == nil && end.Outcome != protocol.Committed, err
}
