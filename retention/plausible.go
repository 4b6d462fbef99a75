package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A host that was taken over can give its snapshots any time, and with it could make
// others look superfluous: one snapshot of each day of the last year, or a newest of the
// year 2100. So a time must fit the storage's clock and the chain of manifests. One
// that doesn't is implausible.

// MaxAhead is by how much a snapshot's time may be later than the storage's.
const MaxAhead = time.Hour

// maxBehind is by how much a snapshot may be older than one of its group that the storage
// had before and that it does not know of: a run may take that long beside others.
const maxBehind = 24 * time.Hour

// graph is the chain of manifests, those that were forgotten too.
type graph struct {
	items []Item
	index map[ID]int32 // positions in links; those of items come first
	links [][]ID
	order []int32     // each after all that it links to
	known []time.Time // by when each was stored at the latest
	bad   []string    // of items: why the time is implausible
	shows []int32     // of items: one more than what its time makes implausible, 0 if nothing
}

// judge finds what is implausible whatever the groups are.
func judge(in *Input) *graph {
	g := &graph{items: in.Items, index: make(map[ID]int32, len(in.Items)+len(in.Forgotten)), bad: make([]string, len(in.Items)), shows: make([]int32, len(in.Items))}
	add := func(id ID, links []ID, stored time.Time) {
		if _, ok := g.index[id]; ok {
			return // brought back as it was: can't be, as a new manifest has a new ID
		}
		g.index[id] = int32(len(g.links))
		g.links, g.known = append(g.links, links), append(g.known, stored)
	}
	for i := range in.Items {
		it := &in.Items[i]
		stored := it.Stored
		if stored.IsZero() {
			stored = in.Now
		}
		add(it.ID, it.Links, stored)
	}
	for id, links := range in.Forgotten {
		add(id, links, in.Now)
	}
	g.sort()
	g.judgeTimes()
	// Whoever links to a snapshot has seen it stored.
	for _, n := range slices.Backward(g.order) {
		for _, l := range g.links[n] {
			if m, ok := g.index[l]; ok && g.known[n].Before(g.known[m]) {
				g.known[m] = g.known[n]
			}
		}
	}
	return g
}

// sort orders the graph. Links are hashes of what they lead to, so they make no circle;
// if they did, it would only be cut somewhere.
func (g *graph) sort() {
	type step struct{ node, link int32 }
	seen := make([]bool, len(g.links))
	for root := range g.links {
		if seen[root] {
			continue
		}
		seen[root] = true
		stack := []step{{int32(root), 0}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			links := g.links[top.node]
			if int(top.link) == len(links) {
				g.order = append(g.order, top.node)
				stack = stack[:len(stack)-1]
				continue
			}
			m, ok := g.index[links[top.link]]
			top.link++
			if ok && !seen[m] {
				seen[m] = true
				stack = append(stack, step{m, 0})
			}
		}
	}
}

// judgeTimes compares times with the storage's, and with those of the snapshots linked
// to that are to be believed.
func (g *graph) judgeTimes() {
	for _, n := range g.order {
		if int(n) >= len(g.items) || g.bad[n] != "" {
			continue
		}
		it := &g.items[n]
		if ahead := it.Time.Sub(g.known[n]); ahead > MaxAhead {
			g.bad[n] = fmt.Sprintf("its time is %s later than when it was stored", about(ahead))
			continue
		}
		if it.kind() != Made {
			continue
		}
		for _, l := range it.Links {
			m, ok := g.index[l]
			if !ok || int(m) >= len(g.items) || g.bad[m] != "" || g.items[m].kind() != Made {
				continue
			}
			if it.Time.Before(g.items[m].Time) {
				g.bad[n] = fmt.Sprintf("its time is %s before that of snapshot %x, which it links to", about(g.items[m].Time.Sub(it.Time)), l[:4])
				g.shows[m] = n + 1
				break
			}
		}
	}
}

// judgeGroup finds snapshots that were put in among older ones. Whoever leaves out
// links can give a snapshot any time of the past; but at the time when it was stored
// there were newer ones, which an honest writer would have linked to.
func (g *graph) judgeGroup(group *Group) {
	if group.Kind != Made {
		return
	}
	var nodes []int32
	for i := range group.Decisions {
		if n := g.index[group.Decisions[i].Item.ID]; g.bad[n] == "" {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b int32) int {
		return cmp.Or(g.known[a].Compare(g.known[b]), g.items[a].Time.Compare(g.items[b].Time))
	})
	newest, next := int32(-1), int32(-1) // of those known before; and of all so far
	for i, n := range nodes {
		if i > 0 && g.known[nodes[i-1]].Before(g.known[n]) {
			newest = next
		}
		it := &g.items[n]
		if newest >= 0 && !it.Restored {
			if behind := g.items[newest].Time.Sub(it.Time); behind > maxBehind {
				g.bad[n] = fmt.Sprintf("its time is %s before that of snapshot %x, which was stored before it", about(behind), g.items[newest].ID[:4])
				g.shows[newest] = n + 1
				continue
			}
		}
		if next < 0 || it.Time.After(g.items[next].Time) {
			next = n
		}
	}
}

// about is a length of time for people.
func about(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}
