package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ID names a snapshot.
type ID [32]byte

// Item is what is known of a snapshot.
type Item struct {
	ID      ID
	Time    time.Time // as it says itself
	Host    string
	Sources []string
	Tags    []string
	Links   []ID
	// Stored is when the storage got it, by the storage's own clock. Zero: not known.
	Stored time.Time
	// TimeGiven and Imported: its time was never meant to be that of its making.
	TimeGiven, Imported bool
	// Restored: the admin brought it back after it had been forgotten.
	Restored bool
}

// Kind is how the snapshots of a group came to their times.
type Kind uint8

// The kinds.
const (
	Made     Kind = iota // at the time that they say
	Given                // with a time that the user gave
	Imported             // from another program's backups
)

// String names what is particular of a kind, "" for Made.
func (k Kind) String() string {
	return [...]string{"", "time given", "imported"}[k]
}

func (it *Item) kind() Kind {
	switch {
	case it.Imported:
		return Imported
	case it.TimeGiven:
		return Given
	}
	return Made
}

// GroupBy says what the snapshots of a group have in common, besides their kind.
type GroupBy struct{ Host, Sources, Tags bool }

// DefaultGroupBy is one group for each host and its sources.
var DefaultGroupBy = GroupBy{Host: true, Sources: true}

// ParseGroupBy reads words of host, source and tag, with commas between them; none, or
// nothing, is one group of all.
func ParseGroupBy(s string) (g GroupBy, err error) {
	if s == "" || s == "none" {
		return g, nil
	}
	for _, w := range strings.Split(s, ",") {
		switch w {
		case "host", "hosts":
			g.Host = true
		case "source", "sources":
			g.Sources = true
		case "tag", "tags":
			g.Tags = true
		default:
			return GroupBy{}, fmt.Errorf("%q: want host, source, tag or several of them with commas, or none", s)
		}
	}
	return g, nil
}

// Group is the snapshots that a policy looks at together.
type Group struct {
	Kind Kind
	// What they have in common, sorted; what they are not grouped by is empty.
	Host          string
	Sources, Tags []string

	Decisions []Decision // the newest first, ties by ID
}

// Decision is what becomes of a snapshot.
type Decision struct {
	Item *Item
	Keep bool
	// Implausible: its time can't be right, so that it neither counts nor goes
	// unless it is named.
	Implausible bool
	// Reasons say why it is kept. None: nothing keeps it.
	Reasons []string
}

// Removed returns how many snapshots go.
func (g *Group) Removed() (n int) {
	for i := range g.Decisions {
		if !g.Decisions[i].Keep {
			n++
		}
	}
	return n
}

// LosesMost reports whether more than half of the group's snapshots go. Implausible ones
// don't count, or somebody could add as many as it takes.
func (g *Group) LosesMost() bool {
	all, removed := 0, 0
	for i := range g.Decisions {
		if d := &g.Decisions[i]; !d.Implausible {
			all++
			if !d.Keep {
				removed++
			}
		}
	}
	return removed*2 > all
}

// Plan is what becomes of all snapshots.
type Plan struct{ Groups []*Group }

// Decisions returns the decisions of all groups.
func (p *Plan) Decisions() []*Decision {
	var all []*Decision
	for _, g := range p.Groups {
		for i := range g.Decisions {
			all = append(all, &g.Decisions[i])
		}
	}
	return all
}

// LoseMost returns the groups of which more than half goes.
func (p *Plan) LoseMost() []*Group {
	return slices.DeleteFunc(slices.Clone(p.Groups), func(g *Group) bool { return !g.LosesMost() })
}

// newGroups sorts snapshots into groups, sorted by what they have in common.
func newGroups(items []Item, by GroupBy, chosen func(*Item) bool) []*Group {
	byKey := make(map[string]*Group)
	var groups []*Group
	var key []byte
	for i := range items {
		it := &items[i]
		if chosen != nil && !chosen(it) {
			continue
		}
		g := Group{Kind: it.kind()}
		key = append(key[:0], byte(g.Kind))
		if by.Host {
			g.Host = it.Host
			key = appendWord(key, it.Host)
		}
		if by.Sources {
			g.Sources = sorted(it.Sources)
			key = appendWords(key, g.Sources)
		}
		if by.Tags {
			g.Tags = sorted(it.Tags)
			key = appendWords(key, g.Tags)
		}
		there := byKey[string(key)]
		if there == nil {
			there = &g
			byKey[string(key)] = there
			groups = append(groups, there)
		}
		there.Decisions = append(there.Decisions, Decision{Item: it})
	}
	for _, g := range groups {
		slices.SortFunc(g.Decisions, func(a, b Decision) int {
			return cmp.Or(b.Item.Time.Compare(a.Item.Time), slices.Compare(b.Item.ID[:], a.Item.ID[:]))
		})
	}
	slices.SortFunc(groups, func(a, b *Group) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), slices.Compare(a.Sources, b.Sources), slices.Compare(a.Tags, b.Tags), cmp.Compare(a.Kind, b.Kind))
	})
	return groups
}

// sorted returns the words sorted, each once.
func sorted(words []string) []string {
	if len(words) < 2 {
		return words
	}
	words = slices.Clone(words)
	slices.Sort(words)
	return slices.Compact(words)
}

// appendWord appends a word such that no two lists of words give the same bytes.
func appendWord(b []byte, w string) []byte { return fmt.Appendf(b, "%d:%s", len(w), w) }

func appendWords(b []byte, words []string) []byte {
	b = fmt.Appendf(b, "%d;", len(words))
	for _, w := range words {
		b = appendWord(b, w)
	}
	return b
}
