package repo

import (
	"context"
	"errors"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// fileFinder looks for the files that need damaged chunks.
type fileFinder struct {
	*checker
	snapshot *Snapshot
	tree     snapshot.Tree
	ctx      context.Context
	found    map[fileProblem]foundFile
	lists    map[list][]int // that were visited -> problems below
}

// list is all that says what a file's list is.
type list struct {
	snapshot.ListRef
	size uint64
}

type fileProblem struct {
	problem int
	path    string
}

type foundFile struct {
	at   int         // position in Problem.Files, -1 if it is not listed
	last snapshot.ID // in which it was found
}

// findFiles says for each damaged chunk which files of which snapshots need
// it. It walks all trees again, and only if there is something to look for.
func (c *checker) findFiles(ctx context.Context) error {
	if len(c.lost) == 0 {
		return nil
	}
	f := &fileFinder{checker: c, ctx: ctx, found: make(map[fileProblem]foundFile), lists: make(map[list][]int)}
	for _, info := range c.set.Newest() {
		if info.Body == nil {
			continue
		}
		f.snapshot = info
		f.tree = snapshot.Tree{Root: info.Body.Root, Source: storedNodes{c.Repository}}
		if err := snapshot.Visit(ctx, f.tree, f); err != nil {
			return err
		}
	}
	return nil
}

// Enter implements snapshot.Visitor: shared nodes of trees are visited again,
// since their files belong to several snapshots. A list is the same in each file
// that has it: what is wrong with it is known after the first.
func (f *fileFinder) Enter(n snapshot.Mention, e *snapshot.Entry) bool {
	if e == nil || n.ID != e.List.Root {
		return true
	}
	of := list{*e.List, e.Size}
	problems, seen := f.lists[of]
	for _, p := range problems {
		f.add(p, e.Key.Path())
	}
	if !seen {
		f.lists[of] = nil
	}
	return !seen
}

// in notes that a file has a problem.
func (f *fileFinder) in(problem int, e *snapshot.Entry) {
	if e.List != nil {
		of := list{*e.List, e.Size}
		if !slices.Contains(f.lists[of], problem) {
			f.lists[of] = append(f.lists[of], problem)
		}
	}
	f.add(problem, e.Key.Path())
}

// Extent implements snapshot.Visitor.
func (f *fileFinder) Extent(e *snapshot.Entry, x snapshot.Extent) error {
	if n, ok := f.lost[x.Chunk]; ok {
		f.in(n, e)
	}
	return nil
}

// Bad implements snapshot.Visitor.
func (f *fileFinder) Bad(id chunk.ID, e *snapshot.Entry, err error) error {
	if !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	n, ok := f.lost[id]
	switch {
	case ok && e != nil:
		f.in(n, e)
	case ok:
		f.add(n, "(a part of the tree: all entries in node "+id.Short()+")")
	}
	return nil
}

// add notes a file, once for each problem and snapshot. Snapshots come newest
// first.
func (f *fileFinder) add(problem int, path string) {
	key := fileProblem{problem, path}
	p := &f.report.Problems[problem]
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
