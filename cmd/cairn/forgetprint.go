package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/retention"
	"github.com/cairn-backup/cairn/snapshot"
)

// groupName names a group of snapshots for people.
func groupName(g *retention.Group) string {
	var parts []string
	if g.Host != "" {
		parts = append(parts, "host "+termui.Quote(g.Host))
	}
	quoted := func(words []string) string {
		var q []string
		for _, w := range words {
			q = append(q, termui.Quote(w))
		}
		return strings.Join(q, ", ")
	}
	if len(g.Sources) > 0 {
		parts = append(parts, quoted(g.Sources))
	}
	if len(g.Tags) > 0 {
		parts = append(parts, "tagged "+quoted(g.Tags))
	}
	if len(parts) == 0 {
		parts = append(parts, "all snapshots")
	}
	name := strings.Join(parts, ", ")
	switch g.Kind {
	case retention.Given:
		name += " (with times given by --time)"
	case retention.Imported:
		name += " (imported)"
	}
	return name
}

// rivals are the keys that claim a host of the plan.
func (f *forgetting) rivals(plan *retention.Plan) []*repo.Rivals {
	hosts := make(map[string]bool)
	for _, d := range plan.Decisions() {
		hosts[d.Item.Host] = true
	}
	return slices.DeleteFunc(f.set.Rivals(), func(x *repo.Rivals) bool { return !hosts[x.Host] })
}

// warnOfImplausible names what is kept as its time can't be right.
func (p *program) warnOfImplausible(plan *retention.Plan) {
	n := 0
	for _, d := range plan.Decisions() {
		if !d.Implausible || !d.Keep {
			continue
		}
		if n++; n <= maxShown {
			why := strings.TrimPrefix(d.Reasons[0], "implausible: ")
			p.warn("snapshot %s of host %q is kept and does not count: %s; was a clock wrong, or has somebody else its key? Give its ID to forget it",
				snapshot.ID(d.Item.ID).Short(), d.Item.Host, why)
		}
	}
	if n > maxShown {
		p.warn("and %s of implausible times", plural(int64(n-maxShown), "other snapshot"))
	}
}

// printForget shows the plan. Of named snapshots it shows only these.
func (p *program) printForget(f *forgetting, plan *retention.Plan) error {
	for _, g := range plan.Groups {
		if f.policy == nil && g.Removed() == 0 {
			continue
		}
		if p.json != nil {
			p.writeDecisions(f, g)
			continue
		}
		if p.quiet {
			continue
		}
		t := table("ID", "Time", "Tags", "Decision", "Reasons")
		for _, d := range slices.Backward(g.Decisions) { // the newest stands last, as in snapshots
			if d.Keep && f.policy == nil {
				continue
			}
			does := "keep"
			if !d.Keep {
				does = "forget"
			}
			t.Row(snapshot.ID(d.Item.ID).Short(), f.time(d.Item.Time), termui.Quote(strings.Join(d.Item.Tags, ",")), does, strings.Join(d.Reasons, "; "))
		}
		p.printf("%s: %s stay, %s go\n", groupName(g), termui.Count(int64(len(g.Decisions)-g.Removed())), termui.Count(int64(g.Removed())))
		if err := p.print(t); err != nil {
			return err
		}
		p.printf("\n")
	}
	return nil
}

// time shows a time in the zone in which days begin.
func (f *forgetting) time(t time.Time) string {
	return t.In(f.zone).Format("2006-01-02 15:04:05 -07:00")
}

func (p *program) writeDecisions(f *forgetting, g *retention.Group) {
	for _, d := range slices.Backward(g.Decisions) {
		if d.Keep && f.policy == nil {
			continue
		}
		p.json.Write("snapshot", struct {
			snapshotMessage
			Keep        bool     `json:"keep"`
			Reasons     []string `json:"reasons"`
			Implausible bool     `json:"implausible"`
			Group       string   `json:"group"`
		}{messageOf(f.byID[d.Item.ID]), d.Keep, append([]string{}, d.Reasons...), d.Implausible, groupName(g)})
	}
}

// forgetDone says what a run came to.
func (p *program) forgetDone(f *forgetting, plan *retention.Plan, n int) {
	all := plan.Decisions()
	implausible := 0
	for _, d := range all {
		if d.Implausible {
			implausible++
		}
	}
	if p.json != nil {
		kind := "summary"
		if f.prune != nil && !f.dry {
			kind = "forgotten" // what the prune comes to is the summary
		}
		p.json.Write(kind, map[string]any{
			"forgotten": n, "kept": len(all) - n, "implausible": implausible, "groups": len(plan.Groups), "dry_run": f.dry,
		})
		return
	}
	switch {
	case len(all) == 0:
		p.printf("no snapshots fit; nothing to forget\n")
	case n == 0:
		p.printf("nothing to forget: %s\n", stay(len(all)))
	case f.dry:
		p.printf("would forget %s of %s; nothing was changed\n", plural(int64(n), "snapshot"), termui.Count(int64(len(all))))
	case f.prune != nil:
		p.printf("forgot %s of %s\n", plural(int64(n), "snapshot"), termui.Count(int64(len(all))))
	default:
		it := "them"
		if n == 1 {
			it = "it"
		}
		p.printf("forgot %s of %s; cairn prune frees what no other needs, and until then cairn forget --undo brings %s back\n",
			plural(int64(n), "snapshot"), termui.Count(int64(len(all))), it)
	}
}

func stay(n int) string {
	if n == 1 {
		return "1 snapshot stays"
	}
	return plural(int64(n), "snapshot") + " stay"
}

// printUndone says what an undo came to. all tells that it came to its end.
func (p *program) printUndone(set *repo.SnapshotSet, done []repo.Undone, dry, all bool) error {
	var back, there, failed int
	for _, d := range done {
		what := "snapshot " + d.Old.Short()
		if s, ok := set.Gone(d.Old); ok {
			what += fmt.Sprintf(" of %s, host %s,", termui.Time(s.Open.Time), termui.Quote(s.Open.Host))
		}
		text := ""
		switch {
		case d.Err != nil:
			failed++
		case d.There:
			there++
			text = what + " is back already, as snapshot " + d.New.Short()
		case dry:
			back++
			text = what + " can be brought back"
		default:
			back++
			text = what + " is back, as snapshot " + d.New.Short()
		}
		if p.json != nil {
			m := map[string]any{"id": d.Old.String(), "new_id": idOrNull(d.New), "there": d.There, "dry_run": dry, "error": nil}
			if d.Err != nil {
				m["error"] = d.Err.Error()
			}
			p.json.Write("undone", m)
		} else if text != "" {
			p.printf("%s\n", text)
		}
	}
	if p.json != nil && all {
		p.json.Write("summary", map[string]any{"brought_back": back, "there": there, "failed": failed, "dry_run": dry})
	}
	if len(done) == 0 && all {
		p.printf("nothing was forgotten; there is nothing to bring back\n")
	}
	if failed == 0 {
		return nil
	}
	var errs []error
	for _, d := range done {
		if d.Err != nil {
			errs = append(errs, d.Err)
		}
	}
	if more := len(errs) - maxShown; more > 0 {
		errs = append(errs[:maxShown], fmt.Errorf("and %s", plural(int64(more), "other snapshot")))
	}
	return errors.Join(errs...)
}
