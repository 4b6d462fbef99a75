package ingest

import (
	"context"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/snapshot"
)

// sequencer takes finished jobs in order into the tree.
type sequencer struct {
	*pipeline
	tree  *snapshot.Builder
	links map[uint64]linkedFile // by group, until the last name has come
	// of is the last source that an entry was counted for: entries come in the
	// order of sources.
	of int
}

// sink stores nodes for a builder.
func (p *pipeline) sink(kind chunk.Kind) snapshot.Sink {
	return func(_ context.Context, plaintext []byte) (chunk.ID, error) {
		return p.writer.PutNode(kind, plaintext)
	}
}

func (p *pipeline) newSequencer() *sequencer {
	return &sequencer{
		pipeline: p,
		tree:     snapshot.NewBuilder(p.keys.TreeCut, p.sink(chunk.Node)),
		links:    make(map[uint64]linkedFile),
	}
}

// sequence is the last stage of the pipeline. It returns the tree's root.
func (p *pipeline) sequence() (root snapshot.Root, err error) {
	s := p.newSequencer()
	for j := range p.ordered {
		if j.done != nil {
			select {
			case <-j.done:
			case <-p.ctx.Done():
				return root, p.ctx.Err()
			}
		}
		if err := s.take(j); err != nil {
			return root, err
		}
		if j.taken != nil {
			close(j.taken)
		}
		p.queued.give(j.cost)
		if len(j.entries) > 2*jobEntries {
			continue // it is large, and most are not
		}
		select {
		case p.free <- j:
		default:
		}
	}
	// The queue is closed also when the walk failed: then there is no tree.
	if err := p.ctx.Err(); err != nil {
		return root, err
	}
	p.totals.Unreadable = uint64(p.unreadable.Load())
	return s.tree.Finish(p.ctx)
}

// take adds a job's entries to the tree, or to the members of a source.
func (s *sequencer) take(j *job) error {
	if j.members != nil {
		return j.members.take(j.entries)
	}
	for _, l := range j.links {
		if err := s.link(&j.entries[l.entry], l); err != nil {
			return err
		}
	}
	for i := range j.entries {
		e := &j.entries[i]
		if e.Type == dropped {
			continue
		}
		if err := s.tree.Add(s.ctx, e); err != nil {
			return err
		}
		s.count(e, j.changes[i])
		s.live.add(e)
		s.opts.Observer.Progress.FilesDone.Add(1)
		if s.opts.Observer.Entry != nil {
			s.opts.Observer.Entry(e.Key.Path(), j.changes[i], e.Size)
		}
	}
	return nil
}

// count adds an entry to the totals of the snapshot and of its source.
func (s *sequencer) count(e *snapshot.Entry, c Change) {
	add(&s.totals, e, c)
	for i := s.of; i < len(s.trees); i++ {
		if src := &s.trees[i]; e.Key == src.key || e.Key.IsBelow(src.key) {
			add(&src.totals, e, c)
			s.of = i
			return
		}
	}
}

func add(t *snapshot.Totals, e *snapshot.Entry, c Change) {
	switch e.Type {
	case snapshot.File:
		t.Files++
		t.Bytes += e.Size
		switch c {
		case New:
			t.New++
		case Changed:
			t.Changed++
		case Unmodified:
			t.Unmodified++
		}
	case snapshot.Directory:
		t.Dirs++
	default:
		t.Others++
	}
}
