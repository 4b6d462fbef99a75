package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/bases"
)

// Finder finds the bases of new chunks: first among the chunks that are said to be near,
// then in an index of sketches in this machine's cache. Their contents come from the cache,
// if it keeps any, or from the repository. What makes that one can't be had, it passes over. It
// is safe for concurrent use, and serves several Writers in turn. Close it when done.
type Finder struct {
	repo *Repository
	keep bool // contents in the cache

	sketcher *delta.Sketcher
	sketches *bases.Sketches // nil: none

	fetch atomic.Int64 // bytes that may still be fetched
	kept  atomic.Int64 // bytes that were put into the cache
	swept atomic.Int64 // of these, when it was trimmed last
	lost  atomic.Int64 // bases that could not be read
}

// FinderOptions say what finding bases may cost.
type FinderOptions struct {
	// Budget is how many bytes of bases may be read from the storage.
	Budget int64
	// Keep keeps the contents of chunks in this machine's cache, where storage is slow or
	// reading costs. They are always kept there for a key that can't read them again.
	Keep bool
}

const (
	// basesClass is the class of the cache that holds chunks to be bases, and basesLimit how many
	// bytes of it are kept: as compressed, the chunks of some GB.
	basesClass = "bases"
	basesLimit = 1 << 30
	// sweepEvery is how many bytes may be added before the cache is trimmed again.
	sweepEvery = basesLimit / 8
	// maxLost is after how many bases that could not be read no more are asked for.
	maxLost = 8
	// sketchedBytes is how much of a chunk is sketched, from its front: all of one would cost a
	// first snapshot up to a tenth of its CPU time. Cuts follow from contents, so two chunks that
	// are alike mostly begin at the same place.
	sketchedBytes = 256 << 10
	// maxGuesses is how many chunks that look alike are looked up.
	maxGuesses = 8
)

// NewFinder returns a Finder for a Writer of this repository. If the sketch index can't be
// used that is a warning.
func (r *Repository) NewFinder(o FinderOptions) (*Finder, error) {
	place, err := r.writePlace()
	if err != nil {
		return nil, err
	}
	keys, err := r.writeKeys()
	if err != nil {
		return nil, err
	}
	f := &Finder{repo: r, keep: o.Keep || r.private == nil}
	f.fetch.Store(o.Budget)
	if r.opts.Cache == "" {
		f.keep = false // it goes with the run
		return f, nil
	}
	f.sketcher = delta.NewSketcher(keys.Cache)
	// In one domain all have the same keys, but for the epoch.
	name := r.cache.Path(fmt.Sprintf("sketches-%d", place.Domain))
	if f.sketches, err = bases.OpenSketches(name, bases.SketchesSize, []byte(place.String())); err != nil {
		r.opts.Observer.warn(fmt.Errorf("chunks that look alike are not found: %w", err))
	}
	return f, nil
}

// Close releases the sketch index. What could not be kept is a warning.
func (f *Finder) Close() {
	if f.keep {
		f.trim()
	}
	if f.sketches == nil {
		return
	}
	if err := errors.Join(f.sketches.Failed(), f.sketches.Close()); err != nil {
		f.repo.opts.Observer.warn(fmt.Errorf("not all of what was stored can be found again by how it looks: %w", err))
	}
}

func (f *Finder) trim() {
	if err := f.repo.cache.Trim(basesClass, basesLimit); err != nil {
		f.repo.opts.Observer.warn(fmt.Errorf("trim cache of chunks: %w", err))
	}
}

// sketched is a chunk's sketch, once it was made.
type sketched struct {
	done, ok bool
	sketch   delta.Sketch
}

func (f *Finder) sketch(c *NewChunk) (delta.Sketch, bool) {
	s := &c.sketch
	if !s.done {
		s.done = true
		s.sketch, s.ok = f.sketcher.Sketch(c.Plaintext[:min(len(c.Plaintext), sketchedBytes)])
	}
	return s.sketch, s.ok
}

// Bases implements Similar.
func (f *Finder) Bases(ctx context.Context, c *NewChunk, home Home) ([]Base, error) {
	if c.tried == 0 {
		near, err := f.wholeNear(c.Near, home)
		if err != nil {
			return nil, err
		}
		c.Near = near // what is tried now need not be guessed below
		if found, err := f.load(ctx, c, near, delta.MaxBases, home); len(found) > 0 || err != nil {
			return found, err
		}
		c.tried++ // there is nothing near
	}
	if f.sketches == nil || f.sketches.IsNew() {
		return nil, nil
	}
	s, ok := f.sketch(c)
	if !ok {
		return nil, nil
	}
	var buf [4 * maxGuesses]chunk.ID
	guesses := slices.DeleteFunc(f.sketches.Similar(buf[:0], s), func(id chunk.ID) bool { return slices.Contains(c.Near, id) })
	return f.load(ctx, c, guesses[:min(len(guesses), maxGuesses)], 1, home)
}

// wholeNear returns near with the bases of its deltas in their place: no delta can be a base, and
// what is like it is like these. Those that come first are best.
func (f *Finder) wholeNear(near []chunk.ID, home Home) (whole []chunk.ID, err error) {
	add := func(id chunk.ID) {
		if !slices.Contains(whole, id) {
			whole = append(whole, id)
		}
	}
	var places []index.Place
	for _, id := range near {
		_, ok, err := home(id)
		if err != nil {
			return nil, err
		}
		if ok {
			add(id)
			continue
		}
		if places, err = f.repo.lookup(places[:0], id); err != nil {
			return nil, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
		}
		for _, p := range places {
			for _, base := range p.Entry.Bases.IDs() {
				add(base)
			}
		}
	}
	return whole, nil
}

// load returns those of the given chunks that may be bases and can be had, n at most.
func (f *Finder) load(ctx context.Context, c *NewChunk, ids []chunk.ID, n int, home Home) (found []Base, err error) {
	for _, id := range ids {
		if len(found) == n {
			break
		}
		if id == c.ID {
			continue
		}
		at, ok, err := home(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		p, err := f.contents(ctx, at)
		if err != nil {
			return nil, err
		}
		if p != nil {
			found = append(found, Base{ID: id, Plaintext: p})
		}
	}
	return found, nil
}

// contents returns the plaintext of a chunk, or nil if it can't be had.
func (f *Finder) contents(ctx context.Context, at index.Place) ([]byte, error) {
	id := at.Entry.ID
	if p := f.repo.recentBases.get(id); p != nil {
		return p, nil
	}
	p := f.cached(id)
	if p == nil {
		var err error
		if p, err = f.fetched(ctx, at); p == nil || err != nil {
			return nil, err
		}
	}
	f.repo.recentBases.put(id, p)
	return p, nil
}

func (f *Finder) cached(id chunk.ID) []byte {
	if !f.keep {
		return nil
	}
	p, ok := f.repo.cache.Get(basesClass, id)
	if !ok || !f.repo.IsChunk(Ref{id, chunk.Data}, p) {
		return nil
	}
	return p
}

// fetched reads a chunk from the repository, within the budget.
func (f *Finder) fetched(ctx context.Context, at index.Place) ([]byte, error) {
	size := int64(at.Entry.Stored)
	if f.repo.private == nil || f.lost.Load() >= maxLost {
		return nil, nil
	}
	if f.fetch.Add(-size) < 0 {
		f.fetch.Add(size) // perhaps a smaller one still fits
		return nil, nil
	}
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	p, err := f.repo.readPlace(ctx, at, b)
	if err == nil {
		b.plain = nil // it is the caller's now
		return p, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if f.lost.Add(1) == 1 || errors.Is(err, ErrDamage) {
		f.repo.opts.Observer.warn(fmt.Errorf("a chunk that a new one could be a difference to can't be read, and is stored whole: %w", err))
	}
	return nil, nil
}

// Stored implements Similar.
func (f *Finder) Stored(c *NewChunk, encoded []byte, encoding pack.Encoding) {
	if encoding == pack.Delta {
		return // it can't be a base
	}
	// What does not compress hardly ever comes again with small differences.
	if f.sketches != nil && encoding == pack.Zstd && f.sketches.Failed() == nil {
		if s, ok := f.sketch(c); ok {
			f.sketches.Add(c.ID, s, f.repo.opts.Now().Unix())
		}
	}
	if f.keep {
		f.keepContents(c, encoded, encoding)
	}
}

// keepContents puts a chunk into the cache, unless this run has filled it: what comes first in
// the sources is of use in the next run, if the rest does not push it out.
func (f *Finder) keepContents(c *NewChunk, encoded []byte, encoding pack.Encoding) {
	if f.kept.Load() >= basesLimit || encoding != pack.Zstd {
		return
	}
	kept := f.kept.Add(int64(f.repo.cache.PutFrame(basesClass, c.ID, encoded)))
	if swept := f.swept.Load(); kept-swept >= sweepEvery && f.swept.CompareAndSwap(swept, kept) {
		f.trim()
	}
}
