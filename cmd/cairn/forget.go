package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for --time-zone where the system has none, as in containers

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/retention"
	"github.com/cairn-backup/cairn/snapshot"
)

// keepPeriods are the rules that keep one snapshot of each period, in --keep-PERIOD and
// --keep-within-PERIOD.
var keepPeriods = []string{"hourly", "daily", "weekly", "monthly", "yearly"}

func (p *program) forgetCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "preset", Usage: "keep as `NAME` says: " + presetText()},
		&cli.StringFlag{Name: "keep-last", Usage: "keep the newest `N` snapshots"},
	}
	for _, s := range keepPeriods {
		flags = append(flags, &cli.StringFlag{Name: "keep-" + s, Usage: fmt.Sprintf("keep the newest of each of the last `N` %s that have one (or unlimited)", periodName(s))})
	}
	flags = append(flags, &cli.StringFlag{Name: "keep-within", Usage: "keep all that are less than `SPAN` older than the newest, as 1y2m3d4h"})
	for _, s := range keepPeriods {
		flags = append(flags, &cli.StringFlag{Name: "keep-within-" + s, Usage: fmt.Sprintf("keep the newest of each of the %s within `SPAN` of the newest", periodName(s))})
	}
	flags = append(flags,
		&cli.StringSliceFlag{Name: "keep-tag", Usage: "keep those with `TAG` (pin, and pin:REASON, are always kept)"},
		&cli.StringFlag{Name: "group-by", Value: "host,source", Usage: "apply the options to each group with the same `WHAT`: host, source, tag or several with commas; none"},
		&cli.StringFlag{Name: "time-zone", Usage: "days and weeks begin as in `ZONE`, such as Europe/Berlin", DefaultText: "this machine's"},
	)
	flags = append(flags, filterFlags()...)
	flags = append(flags,
		&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "print what would be forgotten, and do nothing"},
		&cli.BoolFlag{Name: "allow-many", Usage: "forget more than half of a group, too"},
		&cli.BoolFlag{Name: "undo", Usage: "bring back what the last run forgot, or the ID... given, if prune has not passed"},
		&cli.BoolFlag{Name: "prune", Usage: "then free what no snapshot needs, as cairn prune does with the options below"},
		&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
	)
	return &cli.Command{
		Name:      "forget",
		Usage:     "remove snapshots by age, or by ID",
		ArgsUsage: "[ID...]",
		Description: "Of each group, of a host and its sources, what one of the options keeps stays. Counts are\n" +
			"of days and so on that have a snapshot. While a count is not used up, the oldest stays\n" +
			"too. Snapshots whose time can't be right stay and do not count. Until prune has passed\n" +
			"--undo brings back what was forgotten.",
		Flags:  append(flags, pruneFlags()...),
		Action: p.forget,
	}
}

func periodName(rule string) string {
	return map[string]string{"hourly": "hours", "daily": "days", "weekly": "weeks", "monthly": "months", "yearly": "years"}[rule]
}

// presetText says what the presets are.
func presetText() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(retention.Presets)) {
		x := retention.Presets[name]
		texts = append(texts, fmt.Sprintf("%s (%s daily, %s weekly, %s monthly, %s yearly)", name, x.Daily, x.Weekly, x.Monthly, x.Yearly))
	}
	return strings.Join(texts, ", ")
}

// forgetting is one run of forget.
type forgetting struct {
	policy  *retention.Policy // nil: named ones go
	words   []string          // that name them
	filter  filter
	groupBy retention.GroupBy
	zone    *time.Location
	dry     bool
	prune   *repo.PruneOptions // nil: no prune

	set    *repo.SnapshotSet
	byID   map[retention.ID]*repo.Snapshot
	items  []retention.Item
	damage []error
}

func (p *program) forget(c *cli.Context) error {
	if c.Bool("undo") {
		return p.undo(c)
	}
	f, err := forgetOptions(c)
	if err != nil {
		return err
	}
	if !f.dry && !c.Bool("yes") && p.onTerminal() == nil {
		return usagef("forget removes snapshots. Give --yes to do it without being asked, or --dry-run to see which.")
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := f.load(c.Context, r); err != nil {
		return err
	}
	plan, err := f.plan(p)
	if err != nil {
		return err
	}
	if err := p.warnOfRivals(r, f.rivals(plan)); err != nil {
		return err
	}
	p.warnOfImplausible(plan)
	if err := p.printForget(f, plan); err != nil {
		return err
	}
	if err := f.refuses(c, plan); err != nil {
		return err
	}
	if err := p.carryOut(c, r, f, plan); err != nil || f.prune == nil {
		return err
	}
	if f.dry {
		p.printf("a dry run does not prune, as nothing is forgotten yet\n")
		return nil
	}
	return p.pruneRepository(c, r, *f.prune)
}

// forgetOptions reads the options of forget.
func forgetOptions(c *cli.Context) (*forgetting, error) {
	f := &forgetting{words: c.Args().Slice(), filter: filterOf(c), dry: c.Bool("dry-run"), zone: time.Local}
	var err error
	if f.groupBy, err = retention.ParseGroupBy(c.String("group-by")); err != nil {
		return nil, usagef("--group-by: %v", err)
	}
	if z := c.String("time-zone"); z != "" {
		if f.zone, err = time.LoadLocation(z); err != nil {
			return nil, usagef("--time-zone %q: there is no such zone; want one such as Europe/Berlin, or UTC", z)
		}
	}
	policy, given, err := policyOf(c)
	if err != nil {
		return nil, err
	}
	filtered := given || c.IsSet("host") || c.IsSet("tag") || c.IsSet("source")
	switch {
	case len(f.words) > 0 && filtered:
		return nil, usagef("forget takes IDs, or options that say what to keep of which snapshots, but not both")
	case len(f.words) == 0 && !given:
		return nil, usagef("forget which snapshots? Give IDs, or say what to keep: with --preset %s, or with --keep-last and the like", presetText())
	case given:
		if err := policy.Validate(); err != nil {
			return nil, usagef("%v", err)
		}
		f.policy = policy
	}
	if c.Bool("prune") {
		o, err := pruneOptions(c)
		if err != nil {
			return nil, err
		}
		f.prune = &o
		return f, nil
	}
	for _, flag := range pruneFlags() {
		if name := flag.Names()[0]; c.IsSet(name) {
			return nil, usagef("--%s says how to prune; give --prune too", name)
		}
	}
	return f, nil
}

// policyOf reads the options that say what to keep, and whether there are any.
func policyOf(c *cli.Context) (policy *retention.Policy, given bool, err error) {
	policy = new(retention.Policy)
	if name := c.String("preset"); name != "" || c.IsSet("preset") {
		preset, ok := retention.Presets[name]
		if !ok {
			return nil, false, usagef("--preset %q: want %s", name, presetText())
		}
		*policy, given = preset, true
	}
	counts := map[string]*retention.Count{
		"last": &policy.Last, "hourly": &policy.Hourly, "daily": &policy.Daily, "weekly": &policy.Weekly, "monthly": &policy.Monthly, "yearly": &policy.Yearly,
	}
	spans := map[string]*retention.Span{
		"within": &policy.Within, "within-hourly": &policy.WithinHourly, "within-daily": &policy.WithinDaily, "within-weekly": &policy.WithinWeekly,
		"within-monthly": &policy.WithinMonthly, "within-yearly": &policy.WithinYearly,
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if option := "keep-" + name; c.IsSet(option) {
			if *counts[name], err = retention.ParseCount(c.String(option)); err != nil {
				return nil, false, usagef("--%s: %v", option, err)
			}
			given = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spans)) {
		if option := "keep-" + name; c.IsSet(option) {
			if *spans[name], err = retention.ParseSpan(c.String(option)); err != nil {
				return nil, false, usagef("--%s: %v", option, err)
			}
			given = true
		}
	}
	policy.Tags = c.StringSlice("keep-tag")
	return policy, given || len(policy.Tags) > 0, nil
}

// load reads what is known of all snapshots, whichever are looked at: their links count.
func (f *forgetting) load(ctx context.Context, r *repo.Repository) (err error) {
	if f.set, err = r.Snapshots(ctx); err != nil {
		return err
	}
	f.damage = slices.Clone(f.set.Damage)
	f.byID = make(map[retention.ID]*repo.Snapshot, f.set.Len())
	f.items = make([]retention.Item, 0, f.set.Len())
	for _, s := range f.set.Newest() {
		if err := r.LoadBody(ctx, s); errors.Is(err, repo.ErrDamage) {
			f.damage = append(f.damage, err)
		} else if err != nil {
			return err
		}
		f.byID[retention.ID(s.ID)] = s
		f.items = append(f.items, s.RetentionItem(sourceNames(s)))
	}
	return nil
}

// plan decides what goes.
func (f *forgetting) plan(p *program) (*retention.Plan, error) {
	in := retention.Input{Items: f.items, Forgotten: f.set.ForgottenLinks(), GroupBy: f.groupBy, Now: time.Now(), Zone: f.zone}
	if f.policy == nil {
		ids, err := f.named()
		if err != nil {
			return nil, err
		}
		for _, d := range f.damage {
			p.warn("%v", d)
		}
		return retention.Remove(ids, &in), nil
	}
	if unknown := f.policy.UnknownTags(f.items); unknown != nil {
		return nil, usagef("--keep-tag %q: no snapshot has that tag, so it would keep nothing; is it mistyped?", unknown[0])
	}
	in.Chosen = func(it *retention.Item) bool { return f.filter.fits(f.byID[it.ID]) }
	return retention.Apply(f.policy, &in), nil
}

// named finds the snapshots that the arguments name.
func (f *forgetting) named() ([]retention.ID, error) {
	var ids []retention.ID
	all := make([]snapshot.ID, 0, len(f.items))
	for _, it := range f.items {
		all = append(all, snapshot.ID(it.ID))
	}
	for _, w := range f.words {
		id, err := matchID(w, all, f.damage)
		if err != nil {
			return nil, err
		}
		ids = append(ids, retention.ID(id))
	}
	return ids, nil
}

// matchID finds the one snapshot whose ID begins with a word. If it is among what is
// damaged, that is the error.
func matchID(word string, ids []snapshot.ID, damage []error) (found snapshot.ID, err error) {
	if len(word) < 4 || strings.Trim(word, "0123456789abcdef") != "" {
		return found, usagef("snapshot %q: want at least four digits of an ID", word)
	}
	n := 0
	for _, id := range ids {
		if strings.HasPrefix(id.String(), word) {
			found = id
			n++
		}
	}
	switch {
	case n == 1:
		return found, nil
	case n > 1:
		return found, fmt.Errorf("snapshot %s: %w; give more digits", word, repo.ErrAmbiguous)
	}
	for _, d := range damage {
		var de *repo.DamageError
		if errors.As(d, &de) && strings.HasPrefix(de.Object, "snapshots/"+word) {
			return found, &hintError{d, "cairn repair mends what can be mended; --forget-lost gives up what is lost for good"}
		}
	}
	return found, fmt.Errorf("snapshot %s: %w", word, repo.ErrNoSnapshot)
}

// refuses says why a plan is not to be carried out.
func (f *forgetting) refuses(c *cli.Context, plan *retention.Plan) error {
	if f.policy != nil && len(f.damage) > 0 {
		// What is not known can't be counted, and a tombstone that can't be read brings
		// back what does not count.
		return &hintError{fmt.Errorf("nothing was forgotten, as it is not known what there is: %w", errors.Join(f.damage...)),
			"cairn repair mends what can be mended, and then this can be run again; snapshots can be forgotten by their IDs meanwhile"}
	}
	most := plan.LoseMost()
	if len(most) == 0 || c.Bool("allow-many") {
		return nil
	}
	var errs []error
	for _, g := range most[:min(len(most), maxShown)] {
		errs = append(errs, fmt.Errorf("%d of %s of %s would go, which is more than half", g.Removed(), plural(int64(len(g.Decisions)), "snapshot"), groupName(g)))
	}
	if more := len(most) - len(errs); more > 0 {
		errs = append(errs, fmt.Errorf("and more than half of %s", plural(int64(more), "other group")))
	}
	return &hintError{errors.Join(errs...), "nothing was forgotten; if that is meant, add --allow-many"}
}

// carryOut forgets what the plan says, after asking.
func (p *program) carryOut(c *cli.Context, r *repo.Repository, f *forgetting, plan *retention.Plan) error {
	var ids []snapshot.ID
	all := plan.Decisions()
	for _, d := range all {
		if !d.Keep {
			ids = append(ids, snapshot.ID(d.Item.ID))
		}
	}
	if len(ids) > 0 && !f.dry {
		if err := p.confirm(c, fmt.Sprintf("This forgets %s of %s.", plural(int64(len(ids)), "snapshot"), plural(int64(len(all)), "snapshot"))); err != nil {
			return err
		}
		if _, err := r.ForgetOf(c.Context, f.set, ids); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
	}
	p.forgetDone(f, plan, len(ids))
	return nil
}

// undoTakes are the options of forget that may stand beside --undo; --yes is for scripts
// that give it always.
var undoTakes = []string{"undo", "dry-run", "yes"}

// undo brings back what was forgotten.
func (p *program) undo(c *cli.Context) error {
	for _, flag := range c.Command.Flags {
		// What says which snapshots stay, or how to prune, would be passed over in silence.
		if name := flag.Names()[0]; c.IsSet(name) && !slices.Contains(undoTakes, name) {
			return usagef("--undo takes IDs, or none for what the last run forgot, and no other options but --dry-run; --%s was given", name)
		}
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	set, err := r.Snapshots(c.Context)
	if err != nil {
		return err
	}
	ids := set.LastForgotten()
	if c.NArg() > 0 {
		ids = nil
		gone := slices.Collect(maps.Keys(set.Forgotten))
		for _, w := range c.Args().Slice() {
			id, err := matchID(w, gone, nil)
			if errors.Is(err, repo.ErrNoSnapshot) {
				err = &hintError{fmt.Errorf("snapshot %s: %w that was forgotten", w, repo.ErrNoSnapshot), "without an ID, --undo brings back what the last run forgot"}
			}
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
	}
	host, _ := os.Hostname()
	p.interrupted = "interrupted; snapshots that are listed are back, and the same command brings back the others"
	done, err := r.Unforget(c.Context, repo.UnforgetOptions{IDs: ids, Host: host, DryRun: c.Bool("dry-run")})
	return errors.Join(p.printUndone(set, done, c.Bool("dry-run"), err == nil), err)
}
