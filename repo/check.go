package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// Read says how much of the packs to read and authenticate: first those that
	// this machine never read, then those for which it is longest ago.
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
	// Affected is how many snapshots need chunks that are damaged or missing.
	Affected int
	// Verified is what this machine knows of the packs' contents, after what this
	// check read.
	Verified Verification
}

// Problem is something damaged, with what it costs. Problems are sorted by their
// objects.
type Problem struct {
	Object string // name in the storage, or what it is
	Err    error
	Chunks []chunk.ID // damaged or missing because of it, sorted
	// Files that need these chunks, at most maxFiles of them: those of the newest
	// snapshot first, in the order of its tree, then what older ones have beside.
	Files []DamagedFile
	// MoreFiles is how many files are not listed.
	MoreFiles int
	// Snapshots that need these chunks, the newest first, at most maxSnapshots of them.
	Snapshots []snapshot.ID
	// MoreSnapshots is how many are not listed.
	MoreSnapshots int
}

// DamagedFile is a file that can't be restored whole from some snapshots.
type DamagedFile struct {
	Path     string
	Snapshot snapshot.ID // the newest of them
	Others   int         // how many others there are
}

// maxFiles and maxSnapshots bound what is listed for a problem.
const (
	maxFiles     = 100
	maxSnapshots = 100
)

// checker is one run of Check.
type checker struct {
	*Repository
	opts     CheckOptions
	report   Report
	set      *SnapshotSet
	verified *verified

	packs     map[pack.ID]backend.Info
	known     map[pack.ID]bool // packs that a segment names
	condemned map[pack.ID]bool
	sizes     map[pack.ID]int64 // that a segment says of packs that have others
	broken    map[pack.ID]bool  // packs whose directory can't be read
	vanished  map[pack.ID]error // packs that were listed and then not found

	ledger  *ledger            // of data chunks
	balance                    // of what the directories say that were read; zero before that is known
	maybe   map[chunk.ID]bool  // of the absent: a pack that came since has a difference to something
	unread  map[chunk.ID]error // bases that could not be had when packs were read, and why

	findings []*finding
	lost     map[chunk.ID]*finding // by the chunks that are damaged or missing
	byObject map[string]*finding   // for packs and the like
}

// finding is a problem while more may come to it.
type finding struct {
	Problem
	// onlyLost: what is wrong is that chunks can't be had which snapshots need. So
	// nothing is, if the snapshots are forgotten.
	onlyLost bool
	bases    []chunk.ID // lost with it, and others are stored as differences to them
}

// maxNamed is of how many chunks an error tells.
const maxNamed = 3

// bare returns what is reported of a finding.
func (f *finding) bare() Problem {
	p := f.Problem
	if len(f.bases) == 0 {
		return p
	}
	slices.SortFunc(f.bases, compareChunks)
	names := make([]string, 0, maxNamed)
	for _, id := range f.bases[:min(len(f.bases), maxNamed)] {
		names = append(names, id.Short())
	}
	more := ""
	if n := len(f.bases) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	p.Err = fmt.Errorf("%w; lost with it is what is stored as differences to chunk %s%s", p.Err, strings.Join(names, ", "), more)
	return p
}

// Check verifies that all is there that the snapshots need, according to the
// packs' own directories, and, as far as told, that it is readable. It takes no lease and
// writes nothing to the storage. It works beside writers and prunes, and a check that
// they confuse looks again, so that it tells of damage only. Which packs it read
// and found good is remembered on this machine, also if it does not come to its end.
//
// The error says that the check could not be done; what it found is in the report.
func (r *Repository) Check(ctx context.Context, opts CheckOptions) (report *Report, err error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	c := &checker{
		Repository: r, opts: opts, verified: r.openVerified(),
		sizes: make(map[pack.ID]int64), broken: make(map[pack.ID]bool), vanished: make(map[pack.ID]error),
		ledger: new(ledger), maybe: make(map[chunk.ID]bool), unread: make(map[chunk.ID]error),
		lost: make(map[chunk.ID]*finding), byObject: make(map[string]*finding),
	}
	defer func() { err = errors.Join(err, c.verified.save(), c.ledger.close()) }()
	// Packs are read first: one that goes meanwhile can be told from one that is
	// missed only by what comes after. The snapshots come before the packs, all of
	// which were stored when the snapshots were committed.
	for _, step := range []func(context.Context) error{
		c.readPacks, c.checkSlots, c.checkCondemned, c.checkSnapshots, c.checkLeases, c.checkIndex, c.checkPacks, c.checkTrees,
		c.drawUp, c.lookAgain, c.checkAbsent, c.findFiles,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	c.finish()
	return &c.report, nil
}

// finish puts the report in order.
func (c *checker) finish() {
	for _, f := range c.findings {
		slices.SortFunc(f.Chunks, compareChunks)
		c.report.Problems = append(c.report.Problems, f.bare())
	}
	slices.SortStableFunc(c.report.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Err.Error(), b.Err.Error()))
	})
	slices.Sort(c.report.Leftovers)
	c.verified.retain(c.packs)
	c.report.Verified = c.verified.status(c.expected())
}

func (c *checker) progress(phase string, done, total int64) {
	if c.opts.Progress != nil {
		c.opts.Progress(phase, done, total)
	}
}

// problem adds a finding.
func (c *checker) problem(object string, err error) *finding {
	var d *DamageError
	if errors.As(err, &d) {
		object, err = d.Object, d.Err
	}
	f := &finding{Problem: Problem{Object: object, Err: err}}
	c.findings = append(c.findings, f)
	return f
}

// once is problem for an object that may have been found damaged before: then the
// first finding stands.
func (c *checker) once(object string, err error) *finding {
	f, ok := c.byObject[object]
	if !ok {
		f = c.problem(object, err)
		c.byObject[object] = f
	}
	return f
}

// lose notes a chunk that can't be had because of a finding.
func (c *checker) lose(id chunk.ID, f *finding) {
	if c.lost[id] == nil {
		f.Chunks = append(f.Chunks, id)
		c.lost[id] = f
	}
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

// readChain reads the chain of manifests, twice if anything is wrong with it: a snapshot that
// is committed while they are listed can be in no listing, and yet be linked to.
func (c *checker) readChain(ctx context.Context) (err error) {
	if c.set, err = c.readSnapshots(ctx, nil); err != nil || len(c.set.Damage) == 0 {
		return err
	}
	before := make(map[string]bool)
	for _, err := range c.set.Damage {
		before[damagedObject(err)] = true
	}
	if c.set, err = c.readSnapshots(ctx, nil); err != nil {
		return err
	}
	c.set.Damage = slices.DeleteFunc(c.set.Damage, func(err error) bool { return !before[damagedObject(err)] })
	return nil
}

// damagedObject returns the object that an error says is damaged.
func damagedObject(err error) string {
	var d *DamageError
	if !errors.As(err, &d) {
		return ""
	}
	return d.Object
}

func (c *checker) checkSnapshots(ctx context.Context) error {
	if err := c.readChain(ctx); err != nil {
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
	for _, f := range c.findings {
		told[f.Object] = true
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
		if !slices.ContainsFunc(c.findings, func(f *finding) bool { return f.Object == d.Object }) {
			c.problem("", err)
		}
		return false, nil
	}
	return err == nil && end.Outcome != protocol.Committed, err
}
