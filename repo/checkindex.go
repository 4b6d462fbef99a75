package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

func (c *checker) checkCondemned(ctx context.Context) (err error) {
	c.condemned, err = c.readCondemned(ctx)
	if errors.Is(err, ErrDamage) {
		c.problem(condemnedName, err)
		return nil
	}
	return err
}

// checkIndex reads every segment again, and compares index and listing.
func (c *checker) checkIndex(ctx context.Context) error {
	bad := func(name string, err error) { c.problem(name, err) }
	if err := c.loadIndex(ctx, bad); err != nil {
		return err
	}
	if err := c.checkSegments(ctx); err != nil {
		return err
	}
	var err error
	if c.packs, err = c.listPacks(ctx, bad); err != nil {
		return err
	}
	c.known = make(map[pack.ID]bool)
	for p, err := range c.index().Packs() {
		if err != nil {
			return fmt.Errorf("read the local index: %w", err)
		}
		c.known[p.ID] = true
		if info, ok := c.packs[p.ID]; ok && info.Size != p.Size {
			c.sizes[p.ID] = p.Size
		}
		// A pack that the index names and that is gone is a problem only if
		// something needs it: checkTrees knows.
	}
	for id, info := range c.packs {
		c.report.Packs++
		c.report.PackBytes += info.Size
		switch {
		case c.condemned[id]:
			c.report.Leftovers = append(c.report.Leftovers, info.Name+": a pack that is condemned; prune deletes it")
		case !c.known[id]:
			c.report.Leftovers = append(c.report.Leftovers, info.Name+": a pack of a run that did not finish")
		}
	}
	slices.Sort(c.report.Leftovers)
	c.orphans.Store(nil) // there may be others than at the last check
	return c.findOrphans(ctx)
}

// checkSegments reads the segments that loadIndex absorbed before and did not
// look at again: they may have changed since.
func (c *checker) checkSegments(ctx context.Context) error {
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
			continue // loadIndex told of it
		}
		superseded, err := c.index().Superseded(id)
		if err != nil {
			return fmt.Errorf("read the local index: %w", err)
		}
		if superseded {
			c.report.Leftovers = append(c.report.Leftovers, info.Name+": an index segment that another one supersedes")
			continue
		}
		if _, err := c.readSegment(ctx, id); errors.Is(err, ErrDamage) {
			c.problem(info.Name, err)
		} else if err != nil && !errors.Is(err, backend.ErrNotExist) {
			return err
		}
		n++
		c.progress("index", n, 0)
	}
	return nil
}

// isGoing reports whether a pack is condemned and no segment names it any
// more. Nothing is expected of such a pack.
func (c *checker) isGoing(id pack.ID) bool { return c.condemned[id] && !c.known[id] }

// checkPacks reads the directory of each pack, two small reads, and notes what
// it says. What segments say is a hint, and anybody who may write can publish a false one.
func (c *checker) checkPacks(ctx context.Context) error {
	var stay []backend.Info
	for id, info := range c.packs {
		if !c.isGoing(id) {
			stay = append(stay, info)
		}
	}
	done := int64(0)
	return c.eachDirectory(ctx, slices.Values(stay), func(info backend.Info, entries []pack.Entry, err error) {
		id := packIDOf(info)
		if done++; errors.Is(err, seal.ErrNoKey) {
			delete(c.packs, id) // of an epoch that began after this check, as are its snapshots
			return
		}
		if size, ok := c.sizes[id]; ok {
			err = damaged(info.Name, fmt.Errorf("the pack has %d bytes, and an index segment says %d", info.Size, size))
		}
		if err != nil {
			c.broken[id] = c.broken[id] || entries == nil
			c.once(info.Name, err)
		}
		for _, e := range entries {
			if e.Encoding != pack.Delta && e.Kind == chunk.Data {
				c.chunks[e.ID] |= housed
			}
		}
		c.progress("packs", done, int64(len(stay)))
	})
}

// saidToHave reports whether a pack that is there, and whose directory can't
// tell, is said to have the chunk.
func (c *checker) saidToHave(ref Ref) (bool, error) {
	places, err := c.places(nil, ref.ID)
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if info, ok := c.packs[p.Pack]; ok && c.broken[p.Pack] && p.Entry.Kind == ref.Kind && packKindOf(info.Name) == p.PackKind &&
			int64(p.Entry.Offset)+int64(p.Entry.Stored) <= info.Size {
			return true, nil
		}
	}
	return false, nil
}

// checkUnproven reads the chunks that only a pack without a directory is said
// to have.
func (c *checker) checkUnproven(ctx context.Context) error {
	for _, id := range c.unproven {
		_, err := c.Chunk(ctx, Ref{id, chunk.Data})
		if errors.Is(err, ErrDamage) {
			c.missing(id, chunk.Data)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// missing notes a chunk that no pack has. Chunks that were in the same pack
// make one problem, as do all of which nobody knows where they were.
func (c *checker) missing(id chunk.ID, kind chunk.Kind) {
	object := fmt.Sprintf("%s chunks", kind)
	err := errors.New("no pack has them, and no index segment says where they were")
	if p, ok := c.formerPlace(id); ok {
		object = packName(p.PackKind, p.Pack)
		_, there := c.packs[p.Pack]
		switch {
		case !there:
			err = errors.New("the pack is missing")
		case c.broken[p.Pack]:
			err = errors.New("the pack is damaged: these chunks can't be read from it")
		default:
			err = errors.New("an index segment says that the pack has these chunks, and the pack's directory does not")
		}
	}
	n := c.once(object, err)
	c.report.Problems[n].Chunks = append(c.report.Problems[n].Chunks, id)
	c.lost[id] = n
}

// formerPlace returns where a chunk that is missing is said to be.
func (c *checker) formerPlace(id chunk.ID) (index.Place, bool) {
	places, err := c.places(nil, id)
	if err != nil {
		return index.Place{}, false
	}
	for _, p := range places {
		if !c.isGoing(p.Pack) {
			return p, true
		}
	}
	return index.Place{}, false
}
