package ingest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// targets is the tree of what to walk: the paths that were asked for, and the
// directories on the way to them, which are taken without their other
// contents.
type targets struct {
	root  *target
	paths []string // cleaned, sorted, without those inside of others
}

// target is one component of a wanted path.
type target struct {
	name     string
	whole    bool // take everything below
	children []*target
}

// newTargets arranges paths. That they exist is found out by the walk.
func newTargets(paths []string) (*targets, error) {
	t := &targets{root: &target{}}
	for _, p := range paths {
		if p == "" {
			return nil, errors.New("an empty path was given")
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", p, err)
		}
		t.paths = append(t.paths, abs)
		node := t.root
		for name := range strings.SplitSeq(strings.TrimPrefix(abs, "/"), "/") {
			if name != "" {
				node = node.child(name)
			}
		}
		node.whole = true
	}
	t.root.sort()
	slices.Sort(t.paths)
	t.paths = slices.Compact(t.paths)
	all := slices.Clone(t.paths)
	t.paths = slices.DeleteFunc(t.paths, func(p string) bool {
		return slices.ContainsFunc(all, func(q string) bool {
			return p != q && strings.HasPrefix(p, strings.TrimSuffix(q, "/")+"/")
		})
	})
	return t, nil
}

func (t *target) child(name string) *target {
	for _, c := range t.children {
		if c.name == name {
			return c
		}
	}
	c := &target{name: name}
	t.children = append(t.children, c)
	return c
}

func (t *target) sort() {
	slices.SortFunc(t.children, func(a, b *target) int { return strings.Compare(a.name, b.name) })
	for _, c := range t.children {
		c.sort()
	}
}
