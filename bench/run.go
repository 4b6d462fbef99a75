package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// runWorkload makes the tree of a workload, lets each tool work on it as often
// as asked, and removes it.
func (c *config) runWorkload(ctx context.Context, w workload, log io.Writer) (*workloadResult, error) {
	if w.run != nil {
		return w.run(ctx, c, log)
	}
	source, later := filepath.Join(c.work, "source", w.name), filepath.Join(c.work, "later")
	defer removeAll(source)
	defer removeAll(later)
	fmt.Fprintf(log, "%s: making the data\n", w.name)
	if err := w.make(ctx, source); err != nil {
		return nil, err
	}
	files, bytes, err := warm(source)
	if err != nil {
		return nil, err
	}
	changes, err := w.prepare(ctx, source, later)
	if err != nil {
		return nil, err
	}
	res := &workloadResult{Name: w.name, Files: files, Bytes: bytes}
	tools := c.tools
	if w.archive {
		tools = slices.Concat(tools, c.archivers)
	}
	for n := range c.runs {
		// The order rotates, so that nobody always comes after the same.
		order := slices.Concat(tools[n%len(tools):], tools[:n%len(tools)])
		for _, t := range order {
			for _, dir := range []string{source, later} {
				if _, _, err := warm(dir); err != nil {
					return nil, err
				}
			}
			s, err := c.runTool(ctx, t, w, source, changes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			s.Run = n + 1
			res.Samples = append(res.Samples, s)
			fmt.Fprintf(log, "%s: run %d of %d: %s: first snapshot %.2f s\n", w.name, n+1, c.runs, t.name, s.Steps[stepFirst].Wall.Seconds())
		}
	}
	return res, nil
}

// toolRun is one tool's way through all steps.
type toolRun struct {
	tool
	places
	sample *sample
}

// runTool takes one tool through all steps with a new repository.
func (c *config) runTool(ctx context.Context, t tool, w workload, source string, changes []change) (_ *sample, err error) {
	p := places{
		source:  source,
		repo:    filepath.Join(c.work, "repo"),
		private: filepath.Join(c.work, "private"),
		target:  filepath.Join(c.tmpfs, "restored"),
	}
	if w.stream != "" {
		p.stream = filepath.Join(source, w.stream)
	}
	stash := filepath.Join(c.work, "stash")
	for _, dir := range []string{p.private, p.target, stash} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	defer func() {
		for _, dir := range []string{p.repo, p.private, p.target, stash} {
			removeAll(dir)
		}
	}()
	r := toolRun{t, p, &sample{Tool: t.name, Steps: make(map[string]usage)}}
	if err := r.first(ctx); err != nil || t.restore == nil {
		return r.sample, err
	}
	var done []*edit
	defer func() {
		for _, e := range slices.Backward(done) {
			err = errors.Join(err, e.undo())
		}
	}()
	before, err := stored(p.repo)
	if err != nil {
		return nil, err
	}
	for i, change := range changes {
		e, err := change(source, filepath.Join(stash, fmt.Sprint(i)))
		if err != nil {
			return nil, err
		}
		done = append(done, e)
		if err := r.snapshot(ctx, stepChanged, fmt.Sprintf("changed-%d", i+1)); err != nil {
			return nil, err
		}
	}
	after, err := stored(p.repo)
	if err != nil {
		return nil, err
	}
	r.sample.ChangedBytes = after - before
	return r.sample, r.verify(ctx, fmt.Sprintf("changed-%d", len(changes)))
}

// first makes the repository and the first snapshots. One that makes no repository (see
// archivers) has no more steps.
func (r *toolRun) first(ctx context.Context) error {
	if r.init != nil {
		if err := r.step(ctx, stepInit, r.init(r.places)); err != nil {
			return err
		}
	}
	if r.setUp != nil {
		if _, err := r.output(ctx, r.places, r.setUp(r.places)); err != nil {
			return err
		}
	}
	if err := r.snapshot(ctx, stepFirst, "first"); err != nil {
		return err
	}
	var err error
	if r.sample.FirstBytes, err = stored(r.repo); err != nil || r.restore == nil {
		return err
	}
	return r.snapshot(ctx, stepUnchanged, "unchanged")
}

func (r *toolRun) snapshot(ctx context.Context, step, name string) error {
	return r.step(ctx, step, r.tool.snapshot(r.places, name))
}

// verify restores a snapshot, compares, and checks the repository.
func (r *toolRun) verify(ctx context.Context, name string) error {
	if err := r.step(ctx, stepRestore, r.restore(r.places, name)); err != nil {
		return err
	}
	compare := func() error { return compareTrees(r.source, filepath.Join(r.target, r.source)) }
	if r.stream != "" {
		compare = func() error { return compareFiles(r.stream, r.streamed(r.places)) }
	}
	if err := compare(); err != nil {
		return fmt.Errorf("it restored something else: %w", err)
	}
	return r.step(ctx, stepCheck, r.check(r.places))
}

// step measures a command. What was measured for the same step before is added to.
func (r *toolRun) step(ctx context.Context, name string, args []string) error {
	cmd := r.command(ctx, r.places, args)
	if r.stream != "" && (name == stepFirst || name == stepUnchanged || name == stepChanged) {
		f, err := os.Open(r.stream)
		if err != nil {
			return err
		}
		defer f.Close()
		cmd.Stdin = f
	}
	syscall.Sync()
	u, err := measure(ctx, cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.sample.Steps[name] = r.sample.Steps[name].add(u)
	return nil
}
