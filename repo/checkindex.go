package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	if err := c.compare(ctx, bad); err != nil {
		return err
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
	c.orphans.Store(nil) // there may be others than at the last check
	return c.findOrphans(ctx, c.pruneState(ctx))
}

// compare lists the packs, and compares that with the index.
func (c *checker) compare(ctx context.Context, bad func(name string, err error)) (err error) {
	if c.packs, err = c.listPacks(ctx, bad); err != nil {
		return err
	}
	c.known = make(map[pack.ID]bool)
	local, err := c.index()
	if err != nil {
		return err
	}
	for p, err := range local.Packs() {
		if err != nil {
			return fmt.Errorf("read the local index: %w", err)
		}
		c.known[p.ID] = true
		if info, ok := c.packs[p.ID]; ok && info.Size != p.Size {
			c.sizes[p.ID] = p.Size
		}
		// A pack that the index names and that is gone is a problem only if
		// something needs it: checkAbsent knows.
	}
	return nil
}

// checkSegments reads the segments that loadIndex absorbed before and did not
// look at again: they may have changed since.
func (c *checker) checkSegments(ctx context.Context) error {
	local, err := c.index()
	if err != nil {
		return err
	}
	have, err := local.Absorbed()
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
		superseded, err := local.Superseded(id)
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

// expected returns the packs of which anything is expected.
func (c *checker) expected() (packs []backend.Info) {
	for id, info := range c.packs {
		if !c.isGoing(id) {
			packs = append(packs, info)
		}
	}
	return packs
}

// checkPacks reads the directory of each pack, two small reads, and notes what
// it says. What segments say is a hint, and anybody who may write can publish a false one.
func (c *checker) checkPacks(ctx context.Context) error { return c.readDirectories(ctx, c.expected()) }

func (c *checker) readDirectories(ctx context.Context, packs []backend.Info) error {
	done := int64(0)
	var failed error
	err := c.eachDirectory(ctx, slices.Values(packs), func(info backend.Info, entries []pack.Entry, err error) {
		id := packIDOf(info)
		if done++; errors.Is(err, seal.ErrNoKey) {
			delete(c.packs, id) // of an epoch that began after this check, as are its snapshots
			return
		}
		if errors.Is(err, backend.ErrNotExist) {
			c.vanished[id] = err
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
			if e.Kind == chunk.Data {
				failed = cmp.Or(failed, c.isHome(e))
			}
		}
		c.progress("packs", done, int64(len(packs)))
	})
	return cmp.Or(err, failed)
}

// isHome notes that a pack's directory has a data chunk.
func (c *checker) isHome(e pack.Entry) error {
	if c.absent == nil {
		return c.ledger.home(e)
	}
	if e.Encoding != pack.Delta {
		delete(c.absent, e.ID)
		delete(c.homeless, e.ID)
	} else if _, ok := c.absent[e.ID]; ok {
		c.maybe[e.ID] = true
	}
	return nil
}

// drawUp finds out which chunks are needed that are in no directory.
func (c *checker) drawUp(context.Context) (err error) {
	c.balance, err = c.ledger.balance(func(id chunk.ID) bool { return c.lost[id] != nil || c.unread[id] != nil })
	c.report.Chunks = c.needed
	return errors.Join(err, c.ledger.close())
}

// lookAgain looks for the chunks that are in no directory that was read, in packs that were
// stored since: a prune may have moved them there. It does so again while prunes go on.
func (c *checker) lookAgain(ctx context.Context) error {
	was := c.pruneState(ctx)
	for round := 0; len(c.absent)+len(c.vanished) > 0 && round < maxRounds; round++ {
		if err := c.lookAtNew(ctx); err != nil {
			return err
		}
		is := c.pruneState(ctx)
		if is == was && len(c.vanished) == 0 {
			return nil
		}
		was = is
	}
	return nil
}

// lookAtNew lists the packs again, and reads the directories of those that were not listed
// before, or were and then could not be found.
func (c *checker) lookAtNew(ctx context.Context) error {
	before, vanished := c.packs, c.vanished
	silent := func(string, error) {}
	if err := c.loadIndex(ctx, silent); err != nil {
		return err
	}
	if err := c.compare(ctx, silent); err != nil {
		return err
	}
	c.vanished = make(map[pack.ID]error)
	var look []backend.Info
	for _, info := range c.expected() {
		id := packIDOf(info)
		if _, listed := before[id]; !listed || vanished[id] != nil {
			look = append(look, info)
		}
	}
	if err := c.readDirectories(ctx, look); err != nil {
		return err
	}
	for id, err := range c.vanished {
		if vanished[id] != nil { // it did not go: it is listed all the time
			c.broken[id] = true
			c.once(c.packs[id].Name, err)
			delete(c.vanished, id)
		}
	}
	return nil
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

// checkAbsent reads the chunks that only a pack without a directory is said to
// have, or to have the bases of, or that a new one has as a difference. All others that no
// directory has are lost.
func (c *checker) checkAbsent(ctx context.Context) error {
	for _, id := range slices.SortedFunc(maps.Keys(c.absent), compareChunks) {
		bases := c.absent[id]
		may, err := c.mayHave(id, bases)
		if err != nil {
			return err
		}
		if may {
			if _, err = c.Chunk(ctx, Ref{id, chunk.Data}); err == nil {
				continue
			}
			if !errors.Is(err, ErrDamage) {
				return err
			}
		}
		if len(bases) > 0 {
			c.baseless(id, bases)
		} else {
			c.missing(id, chunk.Data, nil)
		}
	}
	return nil
}

// mayHave reports whether a chunk that is absent, as are bases of it, is worth a try.
func (c *checker) mayHave(id chunk.ID, bases []chunk.ID) (bool, error) {
	if c.maybe[id] || slices.ContainsFunc(bases, func(b chunk.ID) bool { return !c.homeless[b] || c.unread[b] != nil }) {
		return true, nil
	}
	for _, id := range append([]chunk.ID{id}, bases...) {
		if said, err := c.saidToHave(Ref{id, chunk.Data}); said || err != nil {
			return said, err
		}
	}
	return false, nil
}

// baseless notes a chunk of which there are only differences to others, and of those bases
// that can't be had. It is lost because of whatever the first of them is lost by.
func (c *checker) baseless(id chunk.ID, bases []chunk.ID) {
	base := bases[max(slices.IndexFunc(bases, func(b chunk.ID) bool { return c.homeless[b] }), 0)]
	f := c.lost[base]
	if f == nil {
		f = c.whereabouts(base, chunk.Data, c.unread[base], func(p index.Place) bool { return p.Entry.Encoding != pack.Delta })
	}
	if !slices.Contains(f.bases, base) {
		f.bases = append(f.bases, base)
	}
	c.lose(id, f)
}

// missing notes a chunk that no pack has in good condition. Chunks that were in the same
// pack make one problem, as do all of which nobody knows where they were. why is how
// reading it failed, if it was read.
func (c *checker) missing(id chunk.ID, kind chunk.Kind, why error) {
	c.lose(id, c.whereabouts(id, kind, why, func(index.Place) bool { return true }))
}

// whereabouts returns the problem by which a chunk is missing, which was at places that are so.
func (c *checker) whereabouts(id chunk.ID, kind chunk.Kind, why error, so func(index.Place) bool) *finding {
	object := fmt.Sprintf("%s chunks", kind)
	err := errors.New("no pack has them, and no index segment says where they were")
	var d *DamageError
	if p, ok := c.formerPlace(id, so); ok {
		object = packName(p.PackKind, p.Pack)
		_, there := c.packs[p.Pack]
		switch {
		case !there:
			err = errors.New("the pack is missing")
		case c.broken[p.Pack]:
			err = errors.New("the pack is damaged: these chunks can't be read from it")
		case errors.As(why, &d):
			object, err = d.Object, d.Err
		default:
			err = errors.New("an index segment says that the pack has these chunks, and the pack's directory does not")
		}
	}
	f, ok := c.byObject[object]
	if !ok {
		f = &finding{Problem: Problem{Object: object, Err: err}, onlyLost: true}
		c.findings, c.byObject[object] = append(c.findings, f), f
	}
	return f
}

// formerPlace returns where a chunk that is missing is said to be.
func (c *checker) formerPlace(id chunk.ID, so func(index.Place) bool) (index.Place, bool) {
	places, err := c.places(nil, id)
	if err != nil {
		return index.Place{}, false
	}
	for _, p := range places {
		if !c.isGoing(p.Pack) && so(p) {
			return p, true
		}
	}
	return index.Place{}, false
}
