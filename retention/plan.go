package retention

import (
	"fmt"
	"slices"
	"time"
)

// Input is what is decided about.
type Input struct {
	// Items are all snapshots, of each ID one. What a policy is not to look at is
	// left out by Chosen: their links are needed all the same.
	Items  []Item
	Chosen func(*Item) bool // nil: all
	// Forgotten are snapshots that are gone, with what they linked to.
	Forgotten map[ID][]ID
	GroupBy   GroupBy
	// Now stands in for a storage's time that is not known.
	Now time.Time
	// Zone is where hours, days, weeks and so on begin.
	Zone *time.Location
}

// Apply decides by a policy, which must be valid. Decisions point into in.Items.
func Apply(p *Policy, in *Input) *Plan {
	plan := newPlan(in)
	for _, g := range plan.Groups {
		p.apply(g, in.Zone)
	}
	return plan
}

// Remove decides that the snapshots named go and all others stay.
func Remove(ids []ID, in *Input) *Plan {
	plan := newPlan(in)
	named := make(map[ID]bool, len(ids))
	for _, id := range ids {
		named[id] = true
	}
	for _, g := range plan.Groups {
		for i := range g.Decisions {
			if d := &g.Decisions[i]; named[d.Item.ID] {
				d.Keep, d.Reasons = false, nil
			} else if !d.Keep {
				d.keep("not named")
			}
		}
	}
	return plan
}

// newPlan returns a plan that keeps what is implausible, and what shows that it is: if
// that went, the next run would believe the other.
func newPlan(in *Input) *Plan {
	plan := &Plan{Groups: newGroups(in.Items, in.GroupBy, in.Chosen)}
	graph := judge(in)
	for _, g := range plan.Groups {
		graph.judgeGroup(g)
	}
	for _, g := range plan.Groups {
		for i := range g.Decisions {
			d := &g.Decisions[i]
			n := graph.index[d.Item.ID]
			if why := graph.bad[n]; why != "" {
				d.Implausible = true
				d.keep("implausible: " + why)
			} else if m := graph.shows[n]; m > 0 {
				d.keep(fmt.Sprintf("shows that snapshot %x is implausible", in.Items[m-1].ID[:4]))
			}
		}
	}
	return plan
}

func (d *Decision) keep(why string) {
	d.Keep = true
	d.Reasons = append(d.Reasons, why)
}

// tier is a rule that keeps one snapshot, the newest, of each period.
type tier struct {
	name   string
	count  Count
	within Span
	// period tells periods apart. Those of neighbours in time are equal only if it is
	// one.
	period func(t time.Time, n int) [4]int
	last   [4]int
	begun  bool
}

func (p *Policy) tiers() []tier {
	all := []tier{
		{name: "last", count: p.Last, period: each},
		{name: "hourly", count: p.Hourly, within: p.WithinHourly, period: hour},
		{name: "daily", count: p.Daily, within: p.WithinDaily, period: day},
		{name: "weekly", count: p.Weekly, within: p.WithinWeekly, period: week},
		{name: "monthly", count: p.Monthly, within: p.WithinMonthly, period: month},
		{name: "yearly", count: p.Yearly, within: p.WithinYearly, period: year},
	}
	var used []tier
	for _, t := range all {
		if t.count != 0 {
			used = append(used, tier{name: t.name, count: t.count, period: t.period})
		}
	}
	for _, t := range all {
		if t.within != (Span{}) {
			used = append(used, tier{name: t.name, within: t.within, period: t.period})
		}
	}
	return used
}

func each(_ time.Time, n int) [4]int { return [4]int{n} }

// hour tells hours apart as they pass: when a clock is set back in autumn, the hour that
// it shows twice is two hours.
func hour(t time.Time, _ int) [4]int {
	_, offset := t.Zone()
	return [4]int{t.Year(), t.YearDay(), t.Hour(), offset}
}

func day(t time.Time, _ int) [4]int { return [4]int{t.Year(), t.YearDay()} }

// week is that of ISO 8601: it begins on Monday and belongs to the year of its Thursday.
func week(t time.Time, _ int) [4]int {
	y, w := t.ISOWeek()
	return [4]int{y, w}
}

func month(t time.Time, _ int) [4]int { return [4]int{t.Year(), int(t.Month())} }

func year(t time.Time, _ int) [4]int { return [4]int{t.Year()} }

// apply decides about the plausible snapshots of a group.
func (p *Policy) apply(g *Group, zone *time.Location) {
	plausible := make([]*Decision, 0, len(g.Decisions))
	for i := range g.Decisions {
		if d := &g.Decisions[i]; !d.Implausible {
			plausible = append(plausible, d)
		}
	}
	if len(plausible) == 0 {
		return
	}
	newest := plausible[0].Item.Time.In(zone)
	tiers := p.tiers()
	for n, d := range plausible {
		if IsPinned(d.Item.Tags) {
			d.keep("pinned")
		}
		for _, t := range p.Tags {
			if slices.Contains(d.Item.Tags, t) {
				d.keep("tag " + t)
			}
		}
		local := d.Item.Time.In(zone)
		if p.Within != (Span{}) && local.After(p.Within.before(newest)) {
			d.keep("within " + p.Within.String())
		}
		for i := range tiers {
			if why := tiers[i].keeps(local, n, newest, n == len(plausible)-1); why != "" {
				d.keep(why)
			}
		}
	}
}

// keeps says why the rule keeps a snapshot, "" if it doesn't. It is asked for each of a
// group, the newest first.
func (t *tier) keeps(local time.Time, n int, newest time.Time, oldest bool) string {
	byCount := t.within == (Span{})
	if byCount && t.count == 0 || !byCount && !local.After(t.within.before(newest)) {
		return ""
	}
	period := t.period(local, n)
	same := t.begun && period == t.last
	// As long as a rule has not kept all that it may, the oldest stays too: it becomes
	// the first that later is the only one of its period.
	if same && !(oldest && byCount) {
		return ""
	}
	t.begun, t.last = true, period
	if t.count > 0 {
		t.count--
	}
	switch {
	case !byCount:
		return fmt.Sprintf("%s within %s", t.name, t.within)
	case same:
		return "oldest, while " + t.name + " is not used up"
	}
	return t.name
}
