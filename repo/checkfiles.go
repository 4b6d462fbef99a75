package repo

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// fileFinder looks for the files that need damaged chunks.
type fileFinder struct {
	*checker
	ctx      context.Context
	snapshot *Snapshot
	hit      bool // by any problem: the snapshot
	found    map[fileProblem]foundFile
	in       map[*finding]snapshot.ID // the last snapshot that has the problem
	lists    map[list][]*finding      // that were visited -> problems below
	reached  map[chunk.ID]bool        // damaged chunks that a snapshot needs

	seed  maphash.Seed
	clean map[mention]bool // nodes of trees below which nothing is wrong
	path  []visiting       // to the node at hand
}

// visiting is a node of a tree that is being visited.
type visiting struct {
	mention
	key snapshot.Key // of the first entry below; none at the root
	hit bool         // something is wrong below
}

// list is all that says what a file's list is.
type list struct {
	snapshot.ListRef
	size uint64
}

type fileProblem struct {
	finding *finding
	path    string
}

type foundFile struct {
	at   int         // position in Problem.Files, -1 if it is not listed
	last snapshot.ID // in which it was found
}

// findFiles says for each damaged chunk which files of which snapshots need
// it. It walks all trees again, and only if there is something to look for. What only
// snapshots needed that were forgotten since is dropped, as prune may have deleted it.
func (c *checker) findFiles(ctx context.Context) error {
	forgotten := false
	for round := 0; len(c.findings) > 0 && round < maxRounds; round++ {
		some, err := c.dropForgotten(ctx)
		if err != nil {
			return err
		}
		forgotten = forgotten || some
		if len(c.lost) == 0 || round > 0 && !some {
			break
		}
		reached, err := c.walk(ctx)
		if err != nil {
			return err
		}
		if forgotten {
			c.dropUnneeded(reached)
		}
	}
	return nil
}

// dropForgotten takes out of the set the snapshots that were forgotten since, with what is
// wrong with their manifests, and reports whether there are any.
func (c *checker) dropForgotten(ctx context.Context) (some bool, err error) {
	now, err := c.readSnapshots(ctx, nil)
	if err != nil {
		return false, err
	}
	for id := range now.Forgotten {
		if _, ok := c.set.byID[id]; ok {
			delete(c.set.byID, id)
			some = true
		}
	}
	c.findings = slices.DeleteFunc(c.findings, func(f *finding) bool {
		id, err := snapshot.ParseID(strings.TrimPrefix(f.Object, snapshotsPrefix))
		_, forgotten := now.Forgotten[id]
		return err == nil && forgotten
	})
	return some, nil
}

// dropUnneeded drops the chunks that are lost and that no snapshot needs.
func (c *checker) dropUnneeded(reached map[chunk.ID]bool) {
	c.findings = slices.DeleteFunc(c.findings, func(f *finding) bool {
		if !f.onlyLost {
			return false
		}
		f.Chunks = slices.DeleteFunc(f.Chunks, func(id chunk.ID) bool {
			if !reached[id] {
				delete(c.lost, id)
			}
			return !reached[id]
		})
		return len(f.Chunks) == 0
	})
}

// walk finds the files, and returns the damaged chunks that any of them needs.
func (c *checker) walk(ctx context.Context) (reached map[chunk.ID]bool, err error) {
	c.report.Affected = 0
	for _, f := range c.findings {
		f.Files, f.MoreFiles, f.Snapshots, f.MoreSnapshots = nil, 0, nil, 0
	}
	f := &fileFinder{
		checker: c, ctx: ctx, found: make(map[fileProblem]foundFile), in: make(map[*finding]snapshot.ID),
		lists: make(map[list][]*finding), reached: make(map[chunk.ID]bool), seed: maphash.MakeSeed(), clean: make(map[mention]bool),
	}
	snapshots := c.set.Newest()
	for n, info := range snapshots {
		c.progress("snapshots again", int64(n), int64(len(snapshots)))
		if info.Body == nil {
			continue
		}
		f.snapshot, f.hit = info, false
		tree := snapshot.Tree{Root: info.Body.Root, Source: storedNodes{c.Repository}}
		if err := snapshot.Visit(ctx, tree, f); err != nil {
			return nil, err
		}
		f.leave(0, true)
		if f.hit {
			c.report.Affected++
		}
	}
	return f.reached, nil
}

// Enter implements snapshot.Visitor: shared nodes of trees are visited again where
// something is wrong below, since their files belong to several snapshots. A list is
// the same in each file that has it: what is wrong with it is known after the first.
func (f *fileFinder) Enter(n snapshot.Mention, e *snapshot.Entry) bool {
	if e == nil {
		m := mentionOf(f.seed, n)
		f.leave(n.Level, false)
		if f.clean[m] {
			return false
		}
		f.path = append(f.path, visiting{mention: m, key: n.Key})
		return true
	}
	if n.ID != e.List.Root {
		return true
	}
	of := list{*e.List, e.Size}
	findings, seen := f.lists[of]
	for _, p := range findings {
		f.add(p, e.Key.Path())
	}
	if !seen {
		f.lists[of] = nil
	}
	return !seen
}

// leave notes the end of the visit of the nodes up to a level, or of all.
func (f *fileFinder) leave(level uint8, all bool) {
	for len(f.path) > 0 {
		last := f.path[len(f.path)-1]
		if !all && last.level > level {
			return
		}
		if !last.hit {
			f.clean[last.mention] = true
		}
		f.path = f.path[:len(f.path)-1]
	}
}

// needs notes that a file has a problem.
func (f *fileFinder) needs(p *finding, e *snapshot.Entry) {
	if e.List != nil {
		of := list{*e.List, e.Size}
		if !slices.Contains(f.lists[of], p) {
			f.lists[of] = append(f.lists[of], p)
		}
	}
	f.add(p, e.Key.Path())
}

// Extent implements snapshot.Visitor.
func (f *fileFinder) Extent(e *snapshot.Entry, x snapshot.Extent) error {
	if p, ok := f.lost[x.Chunk]; ok {
		f.reached[x.Chunk] = true
		f.needs(p, e)
	}
	return nil
}

// Bad implements snapshot.Visitor.
func (f *fileFinder) Bad(id chunk.ID, e *snapshot.Entry, err error) error {
	if f.lost[id] == nil {
		// It went since. If that was because the snapshot is forgotten, the next round
		// tells.
		kind := chunk.Node
		if e != nil {
			kind = chunk.List
		}
		if err := f.badNode(id, kind, err); err != nil {
			return err
		}
	} else if !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	f.reached[id] = true
	if p := f.lost[id]; e != nil {
		f.needs(p, e)
	} else {
		f.add(p, f.part(id))
	}
	return nil
}

// part names the entries in the node at hand, which can't be read.
func (f *fileFinder) part(id chunk.ID) string {
	if len(f.path) < 2 {
		return "(the whole tree, as its root is lost)"
	}
	return "(a part of the tree: node " + id.Short() + ", all entries from " + f.path[len(f.path)-1].key.Path() + " on)"
}

// add notes a file, once for each problem and snapshot. Snapshots come newest
// first.
func (f *fileFinder) add(p *finding, path string) {
	for i := range f.path {
		f.path[i].hit = true
	}
	f.hit = true
	if last, ok := f.in[p]; !ok || last != f.snapshot.ID {
		f.in[p] = f.snapshot.ID
		if len(p.Snapshots) == maxSnapshots {
			p.MoreSnapshots++
		} else {
			p.Snapshots = append(p.Snapshots, f.snapshot.ID)
		}
	}
	key := fileProblem{p, path}
	was, ok := f.found[key]
	switch {
	case ok && was.last == f.snapshot.ID:
		return
	case ok:
		if was.at >= 0 {
			p.Files[was.at].Others++
		}
	case len(p.Files) == maxFiles:
		was.at = -1
		p.MoreFiles++
	default:
		was.at = len(p.Files)
		p.Files = append(p.Files, DamagedFile{Path: path, Snapshot: f.snapshot.ID})
	}
	was.last = f.snapshot.ID
	f.found[key] = was
}
