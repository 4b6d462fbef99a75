package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/snapshot"
)

// Source is what a snapshot can take besides files of the system: something that
// delivers entries and contents when it is asked to. It becomes what is at, and below, one
// place of the tree. Stream and Tar are sources; a further kind is a type with these three
// methods, in a package of its own.
type Source interface {
	// Place returns where in the tree the source goes: below a directory that is named for its
	// kind, at a name, which may have several components. It is always the same. A snapshot's parent
	// is one with sources of the same places.
	Place() (kind, name string)

	// Capture delivers all that the source has to s, and returns when that is done and known to be
	// whole: the end of a stream alone proves nothing.
	//
	// An error means that the source failed. Nothing of it will be in the snapshot then,
	// whatever was delivered. Errors of s may be returned as they are or wrapped; a run that can't
	// store ends with the reason, whatever Capture returns. It returns soon when ctx is done, and
	// leaves nothing running.
	Capture(ctx context.Context, s *Sink) error

	// Rewind makes the source ready for another Capture, for a run that must begin
	// again, or says why that can't be.
	Rewind() error
}

// Kinds of sources, as they stand in manifests. For all but files it is also the
// first component of the path in the snapshot.
const (
	fileSource    = "files"
	stdinSource   = "stdin"
	commandSource = "command"
	tarSource     = "tar"
)

// captured is a source with its place and what became of it.
type captured struct {
	source     Source // nil: files
	kind       string
	name       string // of files: the path that was asked for
	key        snapshot.Key
	status     snapshot.Status
	totals     snapshot.Totals // added to by the sequencer
	attributes map[string][]byte
}

// place returns s with its place, if it has a valid one.
func place(s Source) (captured, error) {
	kind, name := s.Place()
	if name == "" {
		return captured{}, fmt.Errorf("a source of kind %s has no name", kind)
	}
	key, err := snapshot.KeyOf(kind + "/" + name)
	if err != nil {
		return captured{}, fmt.Errorf("name %q of a source of kind %s: %w", name, kind, err)
	}
	return captured{source: s, kind: kind, name: name, key: key}, nil
}

// arrange returns sources in the order of the tree. It refuses names that are no paths, and
// sources that would be in each other's way.
func arrange(sources []Source) ([]captured, error) {
	var all []captured
	for _, s := range sources {
		if v, ok := s.(interface{ validate() error }); ok {
			if err := v.validate(); err != nil {
				return nil, err
			}
		}
		c, err := place(s)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b captured) int { return cmp.Compare(a.key, b.key) })
	for i := 1; i < len(all); i++ {
		// What is below a key stands right behind it.
		if a, b := &all[i-1], &all[i]; a.key == b.key || b.key.IsBelow(a.key) {
			return nil, fmt.Errorf("two sources of kind %s have the names %q and %q, which are one place or in each other", a.kind, a.name, b.name)
		}
	}
	return all, nil
}

// produce is the first stage of the pipeline: files, then all sources in key order.
func (p *pipeline) produce() error {
	if len(p.targets.paths) > 0 {
		if err := p.walkFiles(); err != nil {
			return err
		}
	}
	var last snapshot.Key
	for i := range p.trees {
		t := &p.trees[i]
		if t.source == nil {
			continue
		}
		if err := p.parents(last, t.key); err != nil {
			return err
		}
		if err := p.capture(t); err != nil {
			return fmt.Errorf("source %s: %w", t.key.Path(), err)
		}
		last = t.key
	}
	p.opts.Observer.Progress.WalkFinished.Store(true)
	p.parent.finish(p.ctx)
	if p.parent != nil {
		p.totals.Removed = p.parent.removed
	}
	return nil
}

// capture takes a source, in two steps: what it has is stored as it comes, and the
// entries go to where they are sorted (members.go); when it ended, and was whole, they go into
// the tree. If it failed, nothing of it is there: half a dump is no dump.
func (p *pipeline) capture(t *captured) error {
	m := newMembers(p, t.key)
	p.members = m
	s := newSink(p, t, m)
	failed := t.source.Capture(p.ctx, s)
	if err := cmp.Or(p.ctx.Err(), s.broken()); err != nil { // nothing has failed but the run was ended
		return err
	}
	if err := errors.Join(s.flush(), m.wait()); err != nil {
		return err
	}
	t.attributes, m.timeless = s.attributes, s.timeless
	if failed != nil {
		t.status = snapshot.Failed
		p.problem(t.key, failed, true)
	} else if err := m.intoTree(); err != nil {
		return err
	}
	p.members = nil // before there are those of another source, which take as much memory
	return m.close()
}

// rewind makes the sources ready to be taken once more, or says why they can't be. Paths
// always can.
func (o *Options) rewind() error {
	for _, s := range o.Sources {
		if err := s.Rewind(); err != nil {
			return err
		}
	}
	return nil
}
