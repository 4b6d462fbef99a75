package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/snapshot"
)

// contents is the first pass: it makes everything but further names of files.
// While the chunks of one batch are read and written, the walk fills the next.
func (s *session) contents(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan *batch)
	free := make(chan *batch, 2)
	free <- newBatch()
	free <- newBatch()
	g.Go(func() error {
		defer close(batches)
		c := &collector{session: s, full: batches, free: free, local: s.newComparer(false)}
		return c.run(ctx)
	})
	g.Go(func() error {
		for b := range batches {
			if err := s.deliver(ctx, b); err != nil {
				return err
			}
			b.reset()
			free <- b
		}
		return nil
	})
	return g.Wait()
}

// collector is the pass that makes entries and fills batches.
type collector struct {
	*session
	batch *batch
	full  chan<- *batch
	free  <-chan *batch
	limit int // of files in a batch
	local *comparer
}

// The first batch is small, so that the readers have work soon.
const (
	firstFiles = 512
	maxFiles   = 8192
)

func (c *collector) run(ctx context.Context) error {
	c.limit = firstFiles
	c.batch = <-c.free
	c.sel.lost = c.lostNode
	target := directory{entry: snapshot.Entry{Key: c.sel.base}, state: c.target}
	if err := c.sweepIn(ctx, &target); err != nil {
		return err
	}
	if err := c.sel.walk(ctx, c); err != nil {
		return err
	}
	c.sel.lost = nil // the other passes would only say it again
	c.o.Observer.Progress.WalkFinished.Store(true)
	return c.flush(ctx)
}

// lostNode reports that some of the tree can't be read.
func (c *collector) lostNode(from snapshot.Key, err error) {
	c.count.LostNodes.Add(1)
	if c.o.Observer.Problem != nil {
		c.o.Observer.Problem(strings.TrimSuffix(from.Path(), "/"), fmt.Errorf("entries from here on are lost, up to the next one that was restored: %w", err))
	}
}

// flush hands the batch over and takes an empty one.
func (c *collector) flush(ctx context.Context) error {
	if len(c.batch.refs) == 0 {
		return nil
	}
	c.count.ReadChunks.Add(int64(len(c.batch.refs)))
	c.count.ReadBytes.Add(c.batch.bytes)
	if c.o.DryRun {
		c.batch.reset()
		return nil
	}
	c.limit = min(2*c.limit, maxFiles)
	select {
	case c.full <- c.batch:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case c.batch = <-c.free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stateOf returns what is known of the directory that an entry is in.
func (s *session) stateOf(parent *directory) dirState {
	if parent == nil {
		return s.target
	}
	return parent.state
}

func (c *collector) enter(ctx context.Context, d, parent *directory) (skip bool, err error) {
	out := c.outcomes.at(d.number)
	if d.place == "" {
		d.state = c.target
		if out.set(Unchanged); c.made {
			c.done(&d.entry, out, Created)
		}
		return false, nil
	}
	action, state, err := c.makeDir(d.place, c.stateOf(parent))
	if err != nil {
		return true, c.fail(&d.entry, out, err)
	}
	d.state = state
	c.done(&d.entry, out, action)
	return false, c.sweepIn(ctx, d)
}

// sweepIn sweeps a directory, unless this run made it.
func (c *collector) sweepIn(ctx context.Context, d *directory) error {
	if d.state.fresh {
		return nil
	}
	err := c.sweep(d, func(key snapshot.Key) bool {
		e, err := c.sel.tree.Lookup(ctx, key)
		return e != nil || err != nil
	})
	if err == nil {
		return nil
	}
	if err := hopeless(d.entry.Key.Path(), err); err != nil {
		return err
	}
	c.warn(d.entry.Key.Path(), fmt.Errorf("look for what killed restores left: %w", err))
	return nil
}

func (c *collector) leave(context.Context, *directory, *directory) error { return nil }

func (c *collector) item(ctx context.Context, e *snapshot.Entry, number int, parent *directory) error {
	out := c.outcomes.at(number)
	progress := c.o.Observer.Progress
	progress.Files.Add(1)
	progress.Bytes.Add(int64(e.Size))
	p, in := c.sel.place(e.Key), c.stateOf(parent)
	if c.isFurther(e) {
		out.set(Linked) // by the next pass
		c.linked = true
		return nil
	}
	action, st, err := c.decide(p, e, in)
	if err == nil && (action == Replaced || action == Unchanged) {
		action, err = c.spare(ctx, p, e, st, action)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		progress.BytesDone.Add(int64(e.Size))
		return c.fail(e, out, err)
	}
	if action == Unchanged || action == Updated || action == Kept {
		progress.BytesDone.Add(int64(e.Size))
		c.first(e, p, out, action)
		c.done(e, out, action)
		return nil
	}
	if action == Replaced && st.IsDir() {
		if err := c.makeWay(p, e); err != nil {
			return c.fail(e, out, err)
		}
	}
	c.first(e, p, out, action)
	if e.Type != snapshot.File {
		return c.special(p, e, in, action, out)
	}
	return c.file(ctx, &file{entry: *e, place: p, action: action, inherits: in.inherits, out: out, fd: -1})
}

// makeWay removes a directory that an entry replaces.
func (s *session) makeWay(p place, e *snapshot.Entry) error {
	above, name := p.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	return s.clear(d, e, name)
}

// special puts what has no contents in its place.
func (c *collector) special(p place, e *snapshot.Entry, in dirState, action Action, out *outcome) error {
	if c.o.DryRun {
		c.done(e, out, action)
		return nil
	}
	above, name := p.split()
	d, err := c.dirs.get(above)
	if err != nil {
		return c.fail(e, out, err)
	}
	defer c.dirs.release(d)
	at := name
	if action == Replaced {
		at = c.temp.next()
	}
	if err := c.makeSpecial(d, at, e, in.inherits); err != nil {
		return c.fail(e, out, err)
	}
	if at != name {
		if err := d.Rename(d.Dir, at, name); err != nil {
			return c.fail(e, out, errors.Join(err, d.Remove(at)))
		}
	}
	c.done(e, out, action)
	return nil
}

// makeSpecial makes a symbolic link, FIFO or the like, with its metadata.
func (s *session) makeSpecial(d *dir, name string, e *snapshot.Entry, inherits bool) error {
	var err error
	if e.Type == snapshot.Symlink {
		err = d.Symlink(string(e.Target), name)
	} else {
		err = d.Mknod(name, typeBits(e.Type)|0o600, e.Device)
	}
	if err != nil {
		return appeared(err)
	}
	s.metaProblems(e, d.Apply(name, s.owners.meta(e), s.applyOptions(inherits)))
	return nil
}

// file puts the contents of a file into batches.
func (c *collector) file(ctx context.Context, f *file) error {
	e := &f.entry
	if e.Partial {
		c.warn(e.Key.Path(), errPartial)
	}
	old, err := c.openOld(f)
	if old >= 0 {
		defer unix.Close(old)
	}
	if err := f.fail(err); err != nil {
		return err
	}
	if len(e.Extents) == 1 && e.List == nil && !e.Extents[0].IsHole() && old < 0 {
		if c.o.DryRun {
			c.done(e, f.out, f.action)
		}
		f.whole = true
		c.batch.add(f, e.Extents[0], 0)
		c.batch.files++
		return c.flushIfFull(ctx)
	}
	// The collector holds on to the file until it has seen all extents.
	f.pending.Store(1)
	c.batch.open++
	at, err := c.extents(ctx, f, old)
	if err != nil && !isDamage(err) {
		return err
	}
	if err == nil && at != e.Size {
		err = damagedEntry(at, e.Size)
	}
	if err != nil {
		f.lose(err)
	}
	if c.o.DryRun {
		c.count.Reused.Add(f.reused)
		c.done(e, f.out, f.action)
		return nil
	}
	if err := c.complete(ctx, f); err != nil {
		return err
	}
	return c.flushIfFull(ctx)
}

// extents puts the extents of a file into batches, and returns where the last one
// ends.
func (c *collector) extents(ctx context.Context, f *file, old int) (at uint64, err error) {
	add := func(x snapshot.Extent) error {
		if f.sparse = x.IsHole(); f.sparse {
			if f.cloned {
				if err := f.fail(c.zero(f, at, x.Length)); err != nil {
					return err
				}
			}
			at += x.Length
			c.o.Observer.Progress.BytesDone.Add(int64(x.Length))
			return nil
		}
		if reused, err := c.reuse(ctx, f, old, x, at); reused || err != nil {
			at += x.Length
			return err
		}
		f.pending.Add(1)
		c.batch.add(f, x, at)
		at += x.Length
		return c.flushIfFull(ctx)
	}
	next := snapshot.Extents(ctx, c.sel.tree.Source, &f.entry)
	for {
		x, err := next()
		if err == io.EOF {
			return at, nil
		}
		if err == nil {
			err = add(x)
		}
		if err != nil {
			return at, err
		}
	}
}

func (c *collector) flushIfFull(ctx context.Context) error {
	if c.batch.files < c.limit && c.batch.open < c.maxOpen && len(c.batch.parts) < maxParts {
		return nil
	}
	return c.flush(ctx)
}
