package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// parent is the snapshot that the walk is joined with. A nil parent has
// nothing.
type parent struct {
	info   *repo.Snapshot
	cursor *snapshot.Cursor
	entry  *snapshot.Entry // the one at the cursor; nil at the end
	err    error           // of the cursor: the rest is taken as new
	last   snapshot.Key    // the last key that was an entry's of the new snapshot
	thin   map[chunk.ID]bool
	has1   struct { // answer of the last look-up in the index
		id chunk.ID
		ok bool
	}
	removed uint64
}

// findParent picks the parent: the one that was asked for, or the newest
// snapshot of the same host and sources.
func (s *session) findParent(ctx context.Context) error {
	if s.opts.NoParent {
		return nil
	}
	info, err := s.pickParent(ctx)
	if err != nil || info == nil {
		return err
	}
	s.parent = &parent{info: info, thin: make(map[chunk.ID]bool)}
	for _, id := range s.repo.Thin(info.ID) {
		s.parent.thin[id] = true
	}
	s.parent.cursor = snapshot.NewCursor(snapshot.Tree{Root: info.Body.Root, Source: s.repo})
	s.parent.step(ctx, func() (*snapshot.Entry, error) { return s.parent.cursor.Seek(ctx, "") })
	return nil
}

func (s *session) pickParent(ctx context.Context) (*repo.Snapshot, error) {
	set := s.writer.Snapshots()
	if s.opts.Parent != nil {
		info, ok := set.Get(*s.opts.Parent)
		if !ok {
			return nil, fmt.Errorf("parent %s: %w", s.opts.Parent.Short(), repo.ErrNoSnapshot)
		}
		if info.Place != s.writer.Place() || !s.writer.Mine(info) {
			return nil, nil // written under other keys, or by somebody else: nothing can be shared
		}
		return info, s.repo.LoadBody(ctx, info)
	}
	names := s.sourceNames()
	for _, info := range set.Newest() {
		if info.Open.Host != s.opts.Host || info.Place != s.writer.Place() || !s.writer.Mine(info) {
			continue
		}
		if err := s.repo.LoadBody(ctx, info); err != nil {
			if errors.Is(err, repo.ErrWriteOnly) {
				continue // another machine made it, or this one's cache is gone
			}
			return nil, err
		}
		if slices.Equal(names, namesOf(info.Body.Sources)) {
			return info, nil
		}
	}
	return nil, nil
}

// sourceNames is what snapshots of the same sources have in common.
func (s *session) sourceNames() []string {
	var names []string
	for _, p := range s.targets.paths {
		names = append(names, fileSource+" "+p)
	}
	for _, c := range s.sources {
		names = append(names, c.kind+" "+c.name)
	}
	slices.Sort(names)
	return names
}

func namesOf(sources []snapshot.Source) []string {
	var names []string
	for _, s := range sources {
		names = append(names, s.Kind+" "+string(s.Name))
	}
	slices.Sort(names)
	return names
}

func (p *parent) id() snapshot.ID {
	if p == nil {
		return snapshot.ID{}
	}
	return p.info.ID
}

// step moves the cursor. If the parent's tree can't be read, only time is
// lost: the rest of the files count as new.
func (p *parent) step(ctx context.Context, move func() (*snapshot.Entry, error)) {
	p.entry, p.err = move()
}

// advance moves to the first entry that is not before key. Keys must ascend.
func (p *parent) advance(ctx context.Context, key snapshot.Key) {
	for p.entry != nil && p.entry.Key < key {
		if p.entry.Key != p.last {
			p.removed++
		}
		p.step(ctx, func() (*snapshot.Entry, error) { return p.cursor.Next(ctx) })
	}
	p.last = key
}

// find returns the parent's entry of a key.
func (p *parent) find(ctx context.Context, key snapshot.Key) *snapshot.Entry {
	if p == nil {
		return nil
	}
	p.advance(ctx, key)
	if p.entry == nil || p.entry.Key != key {
		return nil
	}
	return p.entry
}

// copyOf returns a copy of the parent's entry of a key, for those that read it when the walk has
// gone on, or nil.
func (p *parent) copyOf(ctx context.Context, key snapshot.Key) *snapshot.Entry {
	e := p.find(ctx, key)
	if e == nil {
		return nil
	}
	old := *e
	return &old
}

// finish counts the entries behind the last one as removed.
func (p *parent) finish(ctx context.Context) {
	for p != nil && p.entry != nil {
		p.advance(ctx, p.entry.Key+"\x00")
	}
}

func (p *parent) has(key snapshot.Key) bool {
	return p != nil && p.entry != nil && p.entry.Key == key
}

// old returns the parent's entry for e if nothing about it has changed since.
func (w *walker) old(e *snapshot.Entry) *snapshot.Entry {
	o := w.parent.find(w.ctx, e.Key)
	if o == nil || o.Type != e.Type || o.Partial || o.Mtime != e.Mtime || o.Ctime != e.Ctime || o.Inode != e.Inode {
		return nil
	}
	if e.Type == snapshot.File && o.Size != e.Size {
		return nil
	}
	if w.racy(e) {
		return nil
	}
	return o
}

// racy reports whether an entry may have been changed after the parent read
// it without a change of its times: they are as coarse as the kernel's tick, or
// whole seconds on some file systems.
func (w *walker) racy(e *snapshot.Entry) bool {
	grain := 20 * time.Millisecond
	if e.Ctime.Nsec == 0 && e.Mtime.Nsec == 0 {
		grain = 2 * time.Second
	}
	edge := w.parent.info.Body.Start.Add(-grain)
	return !time.Unix(e.Ctime.Sec, int64(e.Ctime.Nsec)).Before(edge)
}

// reuse gives a file the contents that it has in the parent, if it is
// unchanged and all its chunks are still there to rely on. (If some are not,
// reading the file again heals the repository.) same reports whether it is
// unchanged, reused or not.
func (w *walker) reuse(e *snapshot.Entry) (reused, same bool, err error) {
	o := w.old(e)
	if o == nil {
		return false, false, nil
	}
	for _, x := range o.Extents {
		if w.parent.thin[x.Chunk] {
			return false, true, nil
		}
		if ok, err := w.isStored(x); !ok {
			return false, true, err
		}
	}
	if o.List != nil {
		if ok, err := w.keepList(o); !ok {
			return false, true, err
		}
	}
	e.Xattrs, e.Hash, e.Extents, e.List = o.Xattrs, o.Hash, o.Extents, o.List
	return true, true, nil
}

// isStored reports whether the chunk of an extent is there to rely on.
func (w *walker) isStored(x snapshot.Extent) (bool, error) {
	if x.IsHole() {
		return true, nil
	}
	if c := &w.parent.has1; c.id != x.Chunk {
		ok, err := w.writer.Has(repo.Ref{ID: x.Chunk, Kind: chunk.Data})
		if err != nil {
			return false, err
		}
		c.id, c.ok = x.Chunk, ok
	}
	return w.parent.has1.ok, nil
}

// keepList reports whether all chunks in the list tree of a file of the parent
// are there to rely on. It builds the tree again meanwhile, since storing a
// node that is there costs only a look-up, and one that got lost comes back.
func (w *walker) keepList(o *snapshot.Entry) (bool, error) {
	list := snapshot.NewListBuilder(w.keys.TreeCut, w.sink(chunk.List))
	next := snapshot.Extents(w.ctx, w.repo, o)
	for {
		x, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, w.ctx.Err() // the list can't be read: the file can
		}
		if ok, err := w.isStored(x); !ok {
			return false, err
		}
		if err := list.Add(w.ctx, x); err != nil {
			return false, err
		}
	}
	root, err := list.Finish(w.ctx)
	return root == *o.List, err
}
