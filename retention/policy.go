// Package retention decides which snapshots to keep, as grandfather, father and son:
// a pure function of what is known of the snapshots, with the reasons for each of its
// decisions. It neither reads nor removes anything. docs/retention.md has the rules
// for those who use them.
package retention

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Count is how many snapshots a rule keeps: the newest one of each of so many
// hours, days and so on in which there is one. 0 is no such rule.
type Count int

// Unlimited keeps one of each hour, day and so on.
const Unlimited Count = -1

// ParseCount reads a count: a number from 0, or "unlimited".
func ParseCount(s string) (Count, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("count %q: want a number from 0, or unlimited", s)
	case n < 0:
		return 0, fmt.Errorf("count %q: fewer than no snapshots can't be kept; want a number from 0, or unlimited", s)
	}
	return Count(n), nil
}

// String returns what ParseCount reads.
func (c Count) String() string {
	if c == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(int(c))
}

// Span is a length of time in the units of the calendar.
type Span struct{ Years, Months, Days, Hours int }

// maxSpan bounds each number of a span: times reach no further back.
const maxSpan = 1_000_000

// ParseSpan reads a span as 1y2m3d4h: years, months, days and hours, each at most once.
func ParseSpan(s string) (Span, error) {
	bad := fmt.Errorf("span %q: want years, months, days and hours, as 1y2m3d4h or 30d", s)
	var x Span
	units := map[byte]*int{'y': &x.Years, 'm': &x.Months, 'd': &x.Days, 'h': &x.Hours}
	for rest := s; rest != ""; {
		n := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if n < 1 {
			return Span{}, bad
		}
		field := units[rest[n]]
		v, err := strconv.Atoi(rest[:n])
		if field == nil || err != nil || v > maxSpan {
			return Span{}, bad
		}
		*field = v
		delete(units, rest[n])
		rest = rest[n+1:]
	}
	if x == (Span{}) {
		return Span{}, fmt.Errorf("span %q: it is empty; want one as 1y2m3d4h or 30d", s)
	}
	return x, nil
}

// String returns what ParseSpan reads, "" for the zero Span.
func (x Span) String() string {
	var b strings.Builder
	for _, f := range []struct {
		n    int
		unit string
	}{{x.Years, "y"}, {x.Months, "m"}, {x.Days, "d"}, {x.Hours, "h"}} {
		if f.n != 0 {
			b.WriteString(strconv.Itoa(f.n) + f.unit)
		}
	}
	return b.String()
}

// before returns the time that lies the span before t, in t's zone: years, months and
// days are those of the calendar, hours are 60 minutes.
func (x Span) before(t time.Time) time.Time {
	return t.AddDate(-x.Years, -x.Months, -x.Days).Add(-time.Duration(x.Hours) * time.Hour)
}

// Policy says what to keep of each group of snapshots. A snapshot stays if one of
// the rules keeps it. The zero value has no rules.
type Policy struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly Count

	// Within keeps all snapshots that are less than that older than the group's
	// newest; the others one of each hour, day and so on within it.
	Within                                                               Span
	WithinHourly, WithinDaily, WithinWeekly, WithinMonthly, WithinYearly Span

	// Tags: snapshots that have one of them stay.
	Tags []string
}

// Presets are policies with names.
var Presets = map[string]Policy{
	// What operators are told to use.
	"default": {Daily: 30, Weekly: 12, Monthly: 12, Yearly: 7},
}

// ErrKeepsNothing is the error for a policy without a rule that keeps anything.
var ErrKeepsNothing = errors.New("these options would keep nothing: give at least one count above 0, a span or a tag to keep")

// Validate returns an error for a policy that can't be meant.
func (p *Policy) Validate() error {
	counts := []Count{p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly, p.Yearly}
	spans := []Span{p.Within, p.WithinHourly, p.WithinDaily, p.WithinWeekly, p.WithinMonthly, p.WithinYearly}
	for _, c := range counts {
		if c < Unlimited {
			return fmt.Errorf("count %d: fewer than no snapshots can't be kept", c)
		}
	}
	for _, s := range spans {
		for _, n := range []int{s.Years, s.Months, s.Days, s.Hours} {
			if n < 0 || n > maxSpan {
				return fmt.Errorf("a span of %+v is out of bounds", s)
			}
		}
	}
	if slices.Max(counts) == 0 && slices.Min(counts) == 0 && !slices.ContainsFunc(spans, func(s Span) bool { return s != Span{} }) && len(p.Tags) == 0 {
		return ErrKeepsNothing
	}
	return nil
}

// UnknownTags returns the tags to keep that no snapshot has: a mistyped one would let
// go of what it was to keep.
func (p *Policy) UnknownTags(items []Item) []string {
	has := make(map[string]bool)
	for i := range items {
		for _, t := range items[i].Tags {
			has[t] = true
		}
	}
	var unknown []string
	for _, t := range p.Tags {
		if !has[t] {
			unknown = append(unknown, t)
		}
	}
	return unknown
}

// IsPinned reports whether tags keep a snapshot whatever the policy: "pin", or
// "pin:" with a reason behind it.
func IsPinned(tags []string) bool {
	return slices.ContainsFunc(tags, func(t string) bool { return t == "pin" || strings.HasPrefix(t, "pin:") })
}
