package restore

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// sep joins the components of keys, and of places in the target (see place).
const sep = "\x00"

// place is where an entry goes: the components of its path below the target,
// joined by zero bytes. The target itself is "".
type place string

// split returns the directory that a place is in, and its last component.
func (p place) split() (dir place, name string) {
	i := strings.LastIndex(string(p), sep)
	if i < 0 {
		return "", string(p)
	}
	return p[:i], string(p[i+1:])
}

// afterAll returns a key that comes after dir and everything below it, and before
// all else that does.
func afterAll(dir snapshot.Key) snapshot.Key { return dir + "\x01" }

// selection is what to restore of a snapshot.
type selection struct {
	tree snapshot.Tree
	// start is the first key, and end the first behind the last; "" is none.
	start, end snapshot.Key
	// base is the directory whose contents go into the target.
	base snapshot.Key
	// all: other sources, which are not below base, belong to it too.
	all bool
	// others are the top-level directories of other sources, if all.
	others []string

	include, exclude *gitignore.Set
	// included: base is at or below what include matches.
	included bool

	// damaged: some of the tree can't be read. lost, if not nil, is told
	// from which key on.
	damaged bool
	lost    func(from snapshot.Key, err error)
}

// newSelection looks at what o asks for. It is an error if that is not in the
// snapshot, or if two entries would go to one place.
func newSelection(ctx context.Context, r *repo.Repository, o *Options) (*selection, error) {
	s := &selection{
		tree:    snapshot.Tree{Root: o.Snapshot.Body.Root, Source: &nodes{repo: r, bad: make(map[chunk.ID]error)}},
		include: patterns(o.Include), exclude: patterns(o.Exclude),
	}
	s.included = s.include == nil
	if o.Path == "" {
		s.all = true
		return s, s.checkCollisions(ctx, o.Target)
	}
	key, err := snapshot.KeyOf(o.Path)
	if err != nil {
		return nil, fmt.Errorf("path %q in the snapshot: %w", o.Path, err)
	}
	e, err := s.tree.Lookup(ctx, key)
	switch {
	case isDamage(err): // then let it be a directory, of which something may be left
		e = &snapshot.Entry{Key: key, Type: snapshot.Directory}
	case err != nil:
		return nil, err
	case e == nil:
		return nil, fmt.Errorf("%s in snapshot %s: %w; look with ls what it has", o.Path, o.Snapshot.ID.Short(), fs.ErrNotExist)
	}
	s.base, s.start, s.end = key, key, afterAll(key)
	if e.Type != snapshot.Directory {
		s.base, _ = key.Parent()
		s.end = key + sep
	}
	if s.include != nil && s.base != "" {
		s.included = s.include.MatchWithParents(s.base.Path(), true).Excluded
	}
	return s, nil
}

// patterns returns nil for a set without patterns.
func patterns(s *gitignore.Set) *gitignore.Set {
	if s == nil || s.Len() == 0 {
		return nil
	}
	return s
}

// checkCollisions finds the top-level directories of other sources and refuses
// those that would go where a file source's go. As both are directories and all
// else is below, there is no other way to collide. (Where the tree is damaged
// a collision may go unseen; then the two are merged.)
func (s *selection) checkCollisions(ctx context.Context, target string) error {
	for e, err := range s.tree.Roots(ctx) {
		if err != nil {
			return ignoreDamage(err)
		}
		if e.Key == "" {
			continue
		}
		name := string(e.Key)
		s.others = append(s.others, name)
		file, err := s.tree.Lookup(ctx, snapshot.Key(sep+name))
		if ignoreDamage(err) != nil {
			return err
		}
		if file != nil && s.wants(file) && s.wants(e) {
			return fmt.Errorf("both /%s and the source %s of the snapshot go to %s/%s; restore them one at a time, by their paths %q and %q",
				name, name, target, name, "/"+name, name)
		}
	}
	return nil
}

// inRange reports whether a key is one of those that the walk comes to.
func (s *selection) inRange(key snapshot.Key) bool {
	return key >= s.start && (s.end == "" || key < s.end)
}

// wants reports whether an entry at the top is not excluded.
func (s *selection) wants(e *snapshot.Entry) bool {
	return s.exclude == nil || !s.exclude.Match(e.Key.Path(), e.Type == snapshot.Directory).Excluded
}

// place returns where the entry of a key goes.
func (s *selection) place(key snapshot.Key) place {
	switch {
	case key == s.base:
		return ""
	case key.IsBelow(s.base):
		return place(key[len(s.base)+1:])
	}
	return place(key) // of another source
}

// directory is a directory of the snapshot during a walk.
type directory struct {
	entry   snapshot.Entry
	place   place
	number  int // see outcomes
	matched bool
	entered bool
	skipped bool
	lost    bool // its entry is, so its metadata is not known

	state dirState // of the pass that collects
	names *names   // of the pass that finishes, when it deletes
}

// visitor is a pass over a selection. It sees each directory before and after
// what is in it. Entries have numbers, the same in each pass.
type visitor interface {
	// enter comes to a directory in parent, which is nil at the top. skip leaves out all
	// that is below, and the call of leave.
	enter(ctx context.Context, d, parent *directory) (skip bool, err error)
	// item comes to anything else.
	item(ctx context.Context, e *snapshot.Entry, number int, parent *directory) error
	leave(ctx context.Context, d, parent *directory) error
}
