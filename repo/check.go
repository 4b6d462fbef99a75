package repo

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
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
	// Files that need these chunks, each with one of the snapshots that have it;
	// at most maxFiles of them.
	Files []DamagedFile
	// MoreFiles is how many files are not listed.
	MoreFiles int
}

// DamagedFile is a file of a snapshot that can't be restored whole.
type DamagedFile struct {
	Snapshot snapshot.ID
	Path     string
}

// maxFiles bounds the files listed for a problem.
const maxFiles = 100

// checker is one run of Check.
type checker struct {
	*Repository
	opts   CheckOptions
	report Report
	packs  map[pack.ID]backend.Info
	set    *SnapshotSet
	lost   map[chunk.ID]int  // damaged chunk -> position in report.Problems
	absent map[string]int    // object with missing chunks -> position in report.Problems
	data   map[chunk.ID]bool // data chunks of the snapshots: are they there?
}

// Check verifies that all is there that the snapshots need and, as far as told,
// that it is readable. It takes no lease and writes nothing to the storage.
// The error says that the check could not be done; what it found is in the report.
func (r *Repository) Check(ctx context.Context, opts CheckOptions) (*Report, error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	c := &checker{Repository: r, opts: opts, lost: make(map[chunk.ID]int), absent: make(map[string]int), data: make(map[chunk.ID]bool)}
	for _, step := range []func(context.Context) error{
		c.checkSlots, c.checkIndex, c.checkSnapshots, c.checkLeases, c.checkTrees, c.readPacks, c.findFiles,
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

func (c *checker) checkSlots(ctx context.Context) error {
	listed := make(map[string]bool)
	for _, s := range c.config.Slots {
		listed[slotsPrefix+s.ID.String()] = true
		if _, err := c.loadSlot(ctx, s); errors.Is(err, ErrDamage) {
			c.problem("", err)
		} else if err != nil {
			return err
		}
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

// checkIndex reads every segment again, and compares index and listing.
func (c *checker) checkIndex(ctx context.Context) error {
	bad := func(name string, err error) { c.problem(name, err) }
	if err := c.loadIndex(ctx, bad); err != nil {
		return err
	}
	// loadIndex trusts what it absorbed before; the objects may have changed since.
	have, err := c.index().Absorbed()
	if err != nil {
		return fmt.Errorf("read the local index: %w", err)
	}
	n := int64(0)
	for info, err := range c.storage.List(ctx, indexPrefix) {
		if err != nil {
			return fmt.Errorf("list index segments: %w", err)
		}
		id, err := index.ParseSegmentID(strings.TrimPrefix(info.Name, indexPrefix))
		if err != nil || !have[id] {
			continue // reported above
		}
		if _, err := c.readSegment(ctx, id); errors.Is(err, ErrDamage) {
			c.problem(info.Name, err)
		} else if err != nil && !errors.Is(err, backend.ErrNotExist) {
			return err
		}
		n++
		c.progress("index", n, 0)
	}
	if c.packs, err = c.listPacks(ctx, bad); err != nil {
		return err
	}
	known := make(map[pack.ID]bool)
	for p, err := range c.index().Packs() {
		if err != nil {
			return fmt.Errorf("read the local index: %w", err)
		}
		known[p.ID] = true
		info, ok := c.packs[p.ID]
		if ok && info.Size != p.Size {
			c.problem(info.Name, fmt.Errorf("the pack has %d bytes, not %d", info.Size, p.Size))
		}
		// A pack that the index names and that is gone is a problem only if
		// something needs it: checkTrees knows.
	}
	for id, info := range c.packs {
		c.report.Packs++
		c.report.PackBytes += info.Size
		if !known[id] {
			c.report.Leftovers = append(c.report.Leftovers, info.Name+": a pack of a run that did not finish")
		}
	}
	slices.Sort(c.report.Leftovers)
	c.orphans.Store(nil) // there may be others than at the last check
	return c.findOrphans(ctx)
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
		object, err := backend.ReadAll(ctx, c.storage, name, maxManifest)
		switch {
		case errors.Is(err, backend.ErrNotExist) && slices.Contains(c.set.Uncopied, info.ID):
			c.report.Leftovers = append(c.report.Leftovers, name+": committed, but not yet copied to its place; the next snapshot does that")
		case err != nil:
			c.problem(name, err)
		case checkDigest(info.ID, object) != nil:
			c.problem(name, checkDigest(info.ID, object))
		}
		if err := c.LoadBody(ctx, info); err != nil {
			c.problem(name, err)
		}
	}
	return nil
}

func (c *checker) checkLeases(ctx context.Context) error {
	leases, err := c.listLeases(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		for _, name := range l.objects {
			if err := c.verifyLease(ctx, name); errors.Is(err, ErrDamage) {
				c.problem(name, err)
			} else if err != nil && !errors.Is(err, backend.ErrNotExist) {
				return err
			}
		}
		switch {
		case l.begun && !l.ended:
			c.report.Leftovers = append(c.report.Leftovers,
				fmt.Sprintf("%s%.8s: a run that is still going on, or was killed; last seen %s", leasesPrefix, l.id, l.modified.Format(time.DateTime)))
		default:
			c.report.Leftovers = append(c.report.Leftovers, fmt.Sprintf("%s%.8s: an ended lease", leasesPrefix, l.id))
		}
	}
	if _, err := c.readCondemned(ctx); errors.Is(err, ErrDamage) {
		c.problem(condemnedName, err)
	} else if err != nil {
		return err
	}
	return nil
}

// available reports whether some pack that exists is said to have the chunk.
func (c *checker) available(ref Ref, buf []index.Place) (bool, error) {
	places, err := c.places(buf[:0], ref.ID)
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if info, ok := c.packs[p.Pack]; ok && p.Entry.Kind == ref.Kind && packKindOf(info.Name) == p.PackKind &&
			int64(p.Entry.Offset)+int64(p.Entry.Stored) <= info.Size {
			return true, nil
		}
	}
	return false, nil
}

// treeCheck visits the trees of all snapshots, each shared node once for all that is
// said of it alike.
type treeCheck struct {
	*checker
	seed  maphash.Seed
	nodes map[mention]bool // of trees and lists, that were visited
	buf   []index.Place
}

// mention is a snapshot.Mention with a hash of the key.
type mention struct {
	id                  chunk.ID
	level               uint8
	key, entries, bytes uint64
}

// checkTrees reads all nodes from the storage, and looks every data chunk up.
func (c *checker) checkTrees(ctx context.Context) error {
	t := &treeCheck{checker: c, seed: maphash.MakeSeed(), nodes: make(map[mention]bool), buf: make([]index.Place, 0, 8)}
	for n, info := range c.set.Newest() {
		c.progress("snapshots", int64(n), int64(c.report.Snapshots))
		if info.Body == nil {
			continue
		}
		if err := snapshot.Visit(ctx, snapshot.Tree{Root: info.Body.Root, Source: storedNodes{c.Repository}}, t); err != nil {
			return err
		}
	}
	c.report.Nodes, c.report.Chunks = len(t.nodes), len(t.data)
	return nil
}

// Enter implements snapshot.Visitor.
func (t *treeCheck) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	m := mention{n.ID, n.Level, maphash.String(t.seed, string(n.Key)), n.Entries, n.Bytes}
	if t.nodes[m] {
		return false
	}
	t.nodes[m] = true
	return true
}

// Extent implements snapshot.Visitor.
func (t *treeCheck) Extent(_ *snapshot.Entry, x snapshot.Extent) error {
	if _, ok := t.data[x.Chunk]; ok {
		return nil
	}
	ok, err := t.available(Ref{x.Chunk, chunk.Data}, t.buf)
	if err != nil {
		return err
	}
	t.data[x.Chunk] = ok
	if !ok {
		t.missing(x.Chunk, chunk.Data)
	}
	return nil
}

// Bad implements snapshot.Visitor.
func (t *treeCheck) Bad(id chunk.ID, _ *snapshot.Entry, err error) error {
	if !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	n := t.problem("tree node "+id.Short(), err)
	t.report.Problems[n].Chunks = append(t.report.Problems[n].Chunks, id)
	t.lost[id] = n
	return nil
}

// missing notes a chunk that no pack has. Chunks that were in the same pack
// make one problem.
func (c *checker) missing(id chunk.ID, kind chunk.Kind) {
	object := fmt.Sprintf("%s chunk %s", kind, id.Short())
	err := errors.New("no pack has it, and no index segment says where it was")
	if places, lerr := c.places(nil, id); lerr == nil && len(places) > 0 {
		object = packName(places[0].PackKind, places[0].Pack)
		err = errors.New("the pack is missing or cut off")
	}
	n, ok := c.absent[object]
	if !ok {
		n = c.problem(object, err)
		c.absent[object] = n
	}
	c.report.Problems[n].Chunks = append(c.report.Problems[n].Chunks, id)
	c.lost[id] = n
}

// storedNodes reads nodes from the storage, not from the cache.
type storedNodes struct{ r *Repository }

func (s storedNodes) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	return s.r.Chunk(ctx, Ref{id, kind})
}
