package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// The steps of the workload forget.
const (
	stepOpen   = "open"
	stepDry    = "forget, dry"
	stepForget = "forget"
)

// policy is what people are told to use; both tools call it the same.
var policy = []string{"--keep-daily", "30", "--keep-weekly", "12", "--keep-monthly", "12", "--keep-yearly", "7"}

const (
	fillHosts = 3
	fillSpan  = 4 * 365 * 24 * time.Hour
)

// fillTime and fillHost say when and on which host the snapshot k of n was made. They
// are spread evenly, the last one at epoch.
func fillTime(k, n int) time.Time {
	every := fillSpan / time.Duration(max(1, n/fillHosts))
	return epoch.Add(-time.Duration((n-1-k)/fillHosts) * every.Truncate(time.Second))
}

func fillHost(k int) string { return fmt.Sprintf("host%d", k%fillHosts) }

// runForget measures forgetting most of n snapshots.
func (c *config) runForget(ctx context.Context, n int, log io.Writer) (*workloadResult, error) {
	defer c.clear("forget")
	tools, prepared, err := c.keepers("forget")
	if err != nil {
		return nil, err
	}
	for _, t := range tools {
		fmt.Fprintf(log, "forget: making %d snapshots with %s\n", n, t.name)
		if err := c.fill(ctx, t, prepared[t.name], n); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	res := &workloadResult{Name: "forget", What: fmt.Sprintf("%d snapshots", n)}
	keeps := make(map[string][]kept)
	for run := range c.runs {
		for i := range tools {
			t := tools[(i+run)%len(tools)]
			s, left, err := c.forgetOnce(ctx, t, prepared[t.name], n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			s.Run = run + 1
			res.Samples = append(res.Samples, s)
			keeps[t.name] = left
			fmt.Fprintf(log, "forget: run %d of %d: %s: %.2f s\n", run+1, c.runs, t.name, s.Steps[stepForget].Wall.Seconds())
		}
	}
	return res, samePolicy(keeps)
}

// fill makes n snapshots and looks whether all of them are there, as they should be.
func (c *config) fill(ctx context.Context, t tool, p places, n int) error {
	scratch := c.tmpfs + "/fill"
	defer removeAll(scratch)
	if err := t.keeping.fill(ctx, t, p, scratch, n); err != nil {
		return err
	}
	all, err := t.snapshots(ctx, p)
	if err != nil {
		return err
	}
	if len(all) != n {
		return fmt.Errorf("%d snapshots were made and %d are listed", n, len(all))
	}
	for k, s := range all {
		if !s.Time.Equal(fillTime(k, n)) {
			return fmt.Errorf("snapshot %d is of %v, not of %v", k, s.Time, fillTime(k, n))
		}
	}
	return nil
}

// forgetOnce is one run of one tool. It returns the snapshots that are left, too.
func (c *config) forgetOnce(ctx context.Context, t tool, prepared places, n int) (*sample, []kept, error) {
	defer c.clear("run")
	p, err := c.copyOf(ctx, prepared, "run")
	if err != nil {
		return nil, nil, err
	}
	s := &sample{Tool: t.name, Steps: make(map[string]usage), Sizes: make(map[string]int64)}
	for _, step := range []struct {
		name string
		args []string
	}{
		{stepOpen, t.keeping.open(p)},
		{stepDry, t.keeping.forget(p, slices.Concat(policy, []string{"--dry-run"})...)},
		{"", nil},
		{stepForget, t.keeping.forget(p, policy...)},
	} {
		if step.name == "" {
			if all, err := t.snapshots(ctx, p); err != nil || len(all) != n {
				return nil, nil, fmt.Errorf("after a dry run %d of %d snapshots are left (%v)", len(all), n, err)
			}
		} else if err := s.step(ctx, t, p, step.name, step.args); err != nil {
			return nil, nil, err
		}
	}
	left, err := t.snapshots(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	s.Sizes[sizeKept] = int64(len(left))
	_, err = t.output(ctx, p, t.check(p))
	return s, left, err
}

// samePolicy compares what the tools kept with what restic did: all that it kept, and of
// each host at most one snapshot more, the oldest, which cairn keeps while a count is
// not used up.
func samePolicy(keeps map[string][]kept) error {
	base, ok := keeps[baseline]
	if !ok {
		return nil
	}
	has := func(all []kept, s kept) bool {
		return slices.ContainsFunc(all, func(o kept) bool { return o.Host == s.Host && o.Time.Equal(s.Time) })
	}
	for name, left := range keeps {
		for _, s := range base {
			if !has(left, s) {
				return fmt.Errorf("%s did not keep the snapshot of %s of %v, which %s kept", name, s.Host, s.Time, baseline)
			}
		}
		more := make(map[string]int)
		for _, s := range left {
			if has(base, s) {
				continue
			}
			if more[s.Host]++; more[s.Host] > 1 {
				return fmt.Errorf("%s kept %d snapshots and %s %d, of %s by more than the oldest", name, len(left), baseline, len(base), s.Host)
			}
		}
	}
	return nil
}
