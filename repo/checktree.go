package repo

import (
	"context"
	"errors"
	"hash/maphash"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// treeCheck visits the trees of all snapshots, each shared node once for all that is
// said of it alike.
type treeCheck struct {
	*checker
	seed  maphash.Seed
	nodes map[mention]bool // of trees and lists, that were visited
}

// mention is a snapshot.Mention with a hash of the key.
type mention struct {
	id                  chunk.ID
	level               uint8
	key, entries, bytes uint64
}

// checkTrees reads all nodes from the storage, and looks for every data chunk.
func (c *checker) checkTrees(ctx context.Context) error {
	t := &treeCheck{checker: c, seed: maphash.MakeSeed(), nodes: make(map[mention]bool)}
	for n, info := range c.set.Newest() {
		c.progress("snapshots", int64(n), int64(c.report.Snapshots))
		if info.Body == nil {
			continue
		}
		if err := snapshot.Visit(ctx, snapshot.Tree{Root: info.Body.Root, Source: storedNodes{c.Repository}}, t); err != nil {
			return err
		}
	}
	t.report.Nodes = len(t.nodes)
	return nil
}

// Enter implements snapshot.Visitor.
func (t *treeCheck) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	m := mention{n.ID, n.Level, maphash.String(t.seed, string(n.Key)), n.Entries, n.Bytes}
	if t.nodes[m] {
		return false
	}
	t.nodes[m] = true
	t.chunks[n.ID] |= needed
	return true
}

// Extent implements snapshot.Visitor.
func (t *treeCheck) Extent(_ *snapshot.Entry, x snapshot.Extent) error {
	was := t.chunks[x.Chunk]
	if was&needed != 0 {
		return nil
	}
	t.chunks[x.Chunk] = was | needed
	t.report.Chunks++
	if was&housed != 0 {
		return nil
	}
	said, err := t.saidToHave(Ref{x.Chunk, chunk.Data})
	if err != nil {
		return err
	}
	if said {
		t.unproven = append(t.unproven, x.Chunk)
	} else {
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

// storedNodes reads nodes from the storage, not from the cache.
type storedNodes struct{ r *Repository }

func (s storedNodes) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	return s.r.Chunk(ctx, Ref{id, kind})
}
