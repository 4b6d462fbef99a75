package ingest

import (
	"cmp"
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
	paths []string // cleaned, in the order of their keys, without those inside of others
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
	var keys []string // with NUL for /, which sorts in the order of the walk
	for _, p := range paths {
		if p == "" {
			return nil, errors.New("an empty path was given")
		}
		if strings.IndexByte(p, 0) >= 0 {
			return nil, fmt.Errorf("path %q has a NUL byte", p)
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", p, err)
		}
		keys = append(keys, strings.ReplaceAll(strings.TrimSuffix(abs, "/"), "/", "\x00"))
	}
	slices.Sort(keys)
	outer := "" // the last key that is inside of no other
	for i, key := range slices.Compact(keys) {
		t.add(key)
		if i == 0 || !strings.HasPrefix(key, outer+"\x00") {
			t.paths = append(t.paths, cmp.Or(strings.ReplaceAll(key, "\x00", "/"), "/"))
			outer = key
		}
	}
	return t, nil
}

// add adds a path. They must come in order, so that there may be many: where a
// path leaves the one before, nothing is there yet.
func (t *targets) add(key string) {
	node := t.root
	for name := range strings.SplitSeq(strings.TrimPrefix(key, "\x00"), "\x00") {
		if name == "" {
			continue
		}
		if n := len(node.children); n == 0 || node.children[n-1].name != name {
			node.children = append(node.children, &target{name: name})
		}
		node = node.children[len(node.children)-1]
	}
	node.whole = true
}
