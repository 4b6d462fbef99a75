package repo

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// treeCheck visits the trees of all snapshots, each shared node once for all that is
// said of it alike. It is safe for concurrent use.
type treeCheck struct {
	*checker
	seed maphash.Seed

	mu    sync.Mutex
	nodes map[mention]bool // of trees and lists, that were visited
}

// mention is a snapshot.Mention with a hash of the key.
type mention struct {
	id                  chunk.ID
	level               uint8
	key, entries, bytes uint64
}

func mentionOf(seed maphash.Seed, n snapshot.Mention) mention {
	return mention{n.ID, n.Level, maphash.String(seed, string(n.Key)), n.Entries, n.Bytes}
}

// checkTrees reads all nodes from the storage, many at once, and notes which data
// chunks they need.
func (c *checker) checkTrees(ctx context.Context) error {
	visits := snapshot.NewVisits(ctx, c.nodesAtOnce())
	t := &treeCheck{checker: c, seed: maphash.MakeSeed(), nodes: make(map[mention]bool)}
	var err error
	for n, info := range c.set.Newest() {
		c.progress("snapshots", int64(n), int64(c.report.Snapshots))
		if info.Body == nil {
			continue
		}
		if err = visits.Visit(snapshot.Tree{Root: info.Body.Root, Source: storedNodes{c.Repository}}, t); err != nil {
			break
		}
	}
	if first := visits.Wait(); first != nil {
		err = first // it comes before what it ended
	}
	t.report.Nodes = len(t.nodes)
	return err
}

// nodesAtOnce is how many nodes of trees are read at once.
func (r *Repository) nodesAtOnce() int {
	if r.opts.Goroutines == 1 {
		return 1
	}
	return smallReads
}

// Enter implements snapshot.Visitor.
func (t *treeCheck) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	m := mentionOf(t.seed, n)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes[m] {
		return false
	}
	t.nodes[m] = true
	return true
}

// Extent implements snapshot.Visitor.
func (t *treeCheck) Extent(_ *snapshot.Entry, x snapshot.Extent) error { return t.ledger.need(x.Chunk) }

// Bad implements snapshot.Visitor.
func (t *treeCheck) Bad(id chunk.ID, e *snapshot.Entry, err error) error {
	kind := chunk.Node
	if e != nil {
		kind = chunk.List
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.badNode(id, kind, err)
}

// badNode notes a node that can't be had, or whose contents are wrong.
func (c *checker) badNode(id chunk.ID, kind chunk.Kind, err error) error {
	switch {
	case errors.Is(err, ErrDamage):
		if c.lost[id] == nil {
			c.missing(id, kind, err)
		}
		return nil
	case !errors.Is(err, seal.ErrDamaged):
		return err
	}
	// Whoever wrote it did so, or what names it says what it is not.
	object := "tree node " + id.Short()
	f := c.once(object, err)
	f.onlyLost = true
	c.lose(id, f)
	return nil
}

// storedNodes reads nodes from the storage, not from the cache.
type storedNodes struct{ r *Repository }

func (s storedNodes) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	return s.r.Chunk(ctx, Ref{id, kind})
}
