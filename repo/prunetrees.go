package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// markTrees marks what all snapshots need. Nodes that this machine's cache lacks come from
// the storage, so many are read at once.
func (p *pruner) markTrees(ctx context.Context) (err error) {
	visits := snapshot.NewVisits(ctx, p.nodesAtOnce())
	seen := &markedNodes{seen: make(map[[16]byte]bool)}
	defer func() {
		if werr := visits.Wait(); werr != nil {
			err = stopped(werr) // it comes before what it ended
		}
		if err == nil {
			err = stopped(seen.lost)
		}
	}()
	p.report.Snapshots = p.set.Len()
	for n, info := range p.set.Newest() {
		p.progress("snapshots", int64(n), int64(p.set.Len()))
		if err := p.LoadBody(ctx, info); err != nil {
			return stopped(err)
		}
		w := &markWalk{pruner: p, snapshot: info.ID, nodes: seen}
		if err := visits.Visit(snapshot.Tree{Root: info.Body.Root, Source: p.Repository}, w); err != nil {
			return stopped(err)
		}
	}
	return nil
}

// markedNodes are the nodes of all trees that were visited, by the first halves of their
// IDs. It is safe for concurrent use.
type markedNodes struct {
	mu   sync.Mutex
	seen map[[16]byte]bool
	lost error // a node that no pack has
}

// add reports whether the node was not there before.
func (m *markedNodes) add(id chunk.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [16]byte(id[:])
	was := m.seen[key]
	m.seen[key] = true
	return !was
}

// markWalk visits the nodes of a snapshot's tree that were not visited yet.
type markWalk struct {
	*pruner
	snapshot snapshot.ID
	nodes    *markedNodes
}

// Enter implements snapshot.Visitor.
func (w *markWalk) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	if !w.nodes.add(n.ID) {
		return false
	}
	if w.marks.set(n.ID, wanted) {
		return true
	}
	// Perhaps it can be read all the same: from this machine's cache, or from a pack that
	// is about to go.
	err := damaged("tree node "+n.ID.Short(), w.nowhere(n.ID, ""))
	w.nodes.mu.Lock()
	defer w.nodes.mu.Unlock()
	w.nodes.lost = err
	return false
}

// Extent implements snapshot.Visitor.
func (w *markWalk) Extent(e *snapshot.Entry, x snapshot.Extent) error {
	if w.marks.set(x.Chunk, wanted) {
		return nil
	}
	return damaged(fmt.Sprintf("data chunk %s", x.Chunk.Short()), w.nowhere(x.Chunk, " for "+e.Key.Path()))
}

// nowhere says that a chunk that is needed is in no pack that counts, and what to do.
func (w *markWalk) nowhere(id chunk.ID, what string) error {
	needs := fmt.Sprintf("snapshot %s needs it%s", w.snapshot.Short(), what)
	places, err := w.lookup(nil, id)
	if err == nil && w.final && slices.ContainsFunc(places, func(x index.Place) bool { return w.condemned[x.Pack] }) {
		return fmt.Errorf("only packs have it that a prune has condemned for good, and may delete at any time, and %s: "+
			"store it again with a new snapshot of the same files, or forget the snapshot", needs)
	}
	return fmt.Errorf("no pack has it, and %s: run cairn check, and cairn repair; or forget the snapshot", needs)
}

// Bad implements snapshot.Visitor.
func (w *markWalk) Bad(id chunk.ID, _ *snapshot.Entry, err error) error {
	if !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	return damaged("tree node "+id.Short(), fmt.Errorf("snapshot %s needs it: run cairn check, and cairn repair; or forget the snapshot: %w", w.snapshot.Short(), err))
}
