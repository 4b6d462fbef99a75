// Bench runs cairn beside restic and borg over the same data and prints what
// each of them took.
//
//	go run ./bench [flags]
//
// # What is run
//
// A workload is a tree of files, the same for all tools. Each tool makes a new
// repository, takes a first snapshot of the tree, takes one of the unchanged
// tree, takes one after 1 % of the files have been edited, restores it to a
// tmpfs and reads its repository back to check it. What it restored is
// compared with the tree, contents and metadata: a tool that lost something has
// no result.
//
//   - tree: some 800 MB of /usr/lib, /usr/share and GOROOT, whole directories
//     chosen by the hash of their name, so the same ones on each run.
//   - small: 200,000 generated files of 2 KB text, 438 MB.
//   - random: 512 MB that no compressor can make smaller (not run by default).
//
// Two workloads are about what was kept for long, for cairn and restic alone:
//
//   - forget: 10,000 snapshots of 3 hosts over four years are thinned out by one
//     policy; with a warm cache, first dry. What cairn keeps must be what restic
//     keeps, and at most the oldest snapshot of a host more. See retention.go.
//   - prune: 20 snapshots of 50,000 files of 4 KB each, no two of them alike, of
//     which every second snapshot is forgotten. Half of the repository must go, check
//     must find nothing afterwards, and what is left is restored and compared. Then
//     cairn once more with a snapshot beside it. See prune.go.
//
// They are prepared once, and every run has a copy of the repository and the cache. Neither
// is run by default, as that takes a quarter of an hour and 20 GB.
//
// # What is fair
//
// Every run has a fresh repository and cache on the same file system; runs of
// the tools alternate, in an order that rotates; the tree is read once before
// each tool, so that all find it in the page cache; and what the tool before
// left to be written is on disk before the next step begins. Every tool syncs as it
// does by itself, and has its own default compression: restic auto (zstd) in
// a repository of version 2, borg lz4, cairn as the name of its column says.
// All encrypt. Numbers are medians of the runs.
//
// Memory is what the whole group of processes has at a moment, read every 5 ms:
// anonymous memory, which is the tool's own, and apart from it the resident
// peak that the kernel recorded, which counts pages of mapped files too.
//
// # What it prints
//
// A Markdown table for each workload, with each number's ratio to restic's
// (times: how many times as fast; sizes and memory: in percent of it), then the
// targets that cairn is held to. Raw results go to bench/out as JSON. Exit status
// 1 means that a tool failed or restored something else, not that a target was
// missed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// A config is what the flags say.
type config struct {
	tools     []tool
	workloads []workload
	runs      int
	work      string // where sources, repositories and caches are made
	tmpfs     string // where snapshots are restored to
	out       string // where raw results go
}

func parseFlags(args []string, stderr io.Writer) (*config, error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	tools := fs.String("tools", "cairn,cairn-default,restic,borg", "`names` of the tools to compare")
	cairn := fs.String("cairn", "bin/cairn", "`path` of the cairn to measure")
	names := fs.String("workloads", "tree,small", "`names` of the workloads: tree, small, random, forget, prune")
	runs := fs.Int("runs", 3, "how often each tool runs each workload")
	quick := fs.Bool("quick", false, "an eighth of the data, to try the harness; its numbers mean little")
	work := fs.String("work", os.TempDir(), "`directory` for sources, repositories and caches; some 4 GB are used, by prune 20 GB")
	tmpfs := fs.String("tmpfs", "/dev/shm", "`directory` in memory, to restore to")
	out := fs.String("out", "bench/out", "`directory` for raw results")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: all options are flags", fs.Arg(0))
	}
	if *runs < 1 {
		return nil, fmt.Errorf("-runs %d: at least one run is needed", *runs)
	}
	c := &config{runs: *runs, work: *work, tmpfs: *tmpfs, out: *out}
	for name := range strings.SplitSeq(*tools, ",") {
		t, err := newTool(name, *cairn)
		if err != nil {
			return nil, err
		}
		c.tools = append(c.tools, t)
	}
	scale := int64(1)
	if *quick {
		scale = 8
	}
	for name := range strings.SplitSeq(*names, ",") {
		w, err := newWorkload(name, scale)
		if err != nil {
			return nil, err
		}
		c.workloads = append(c.workloads, w)
	}
	return c, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	// Both directories are gone when this returns, on an interrupt too: the
	// context ends the running tool and with it the run.
	if c.work, err = os.MkdirTemp(c.work, "cairn-bench-"); err != nil {
		return err
	}
	defer removeAll(c.work)
	if c.tmpfs, err = os.MkdirTemp(c.tmpfs, "cairn-bench-"); err != nil {
		return err
	}
	defer removeAll(c.tmpfs)

	rep := &report{Date: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(), Runs: c.runs}
	for _, t := range c.tools {
		version, err := exec.CommandContext(ctx, t.program, t.version...).Output()
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		first, _, _ := strings.Cut(string(version), "\n")
		rep.Tools = append(rep.Tools, toolInfo{Name: t.name, Version: first})
	}
	for _, w := range c.workloads {
		res, err := c.runWorkload(ctx, w, stderr)
		if err != nil {
			return fmt.Errorf("workload %s: %w", w.name, err)
		}
		rep.Workloads = append(rep.Workloads, res)
	}
	name, err := rep.save(c.out)
	if err != nil {
		return err
	}
	rep.print(stdout)
	fmt.Fprintf(stderr, "raw results are in %s\n", name)
	return nil
}

// runWorkload makes the tree of a workload, lets each tool work on it as often
// as asked, and removes it.
func (c *config) runWorkload(ctx context.Context, w workload, log io.Writer) (*workloadResult, error) {
	if w.run != nil {
		return w.run(ctx, c, log)
	}
	source := filepath.Join(c.work, "source", w.name)
	defer removeAll(source)
	fmt.Fprintf(log, "%s: making the data\n", w.name)
	if err := w.make(ctx, source); err != nil {
		return nil, err
	}
	files, bytes, err := warm(source)
	if err != nil {
		return nil, err
	}
	res := &workloadResult{Name: w.name, Files: files, Bytes: bytes}
	for n := range c.runs {
		// The order rotates, so that nobody always comes after the same.
		order := slices.Concat(c.tools[n%len(c.tools):], c.tools[:n%len(c.tools)])
		for _, t := range order {
			if _, _, err := warm(source); err != nil {
				return nil, err
			}
			s, err := c.runTool(ctx, t, source)
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

// runTool takes one tool through all steps with a new repository.
func (c *config) runTool(ctx context.Context, t tool, source string) (_ *sample, err error) {
	p := places{
		source:  source,
		repo:    filepath.Join(c.work, "repo"),
		private: filepath.Join(c.work, "private"),
		target:  filepath.Join(c.tmpfs, "restored"),
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

	s := &sample{Tool: t.name, Steps: make(map[string]usage)}
	step := func(name string, args []string) error {
		syscall.Sync()
		u, err := measure(ctx, t.command(ctx, p, args))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.Steps[name] = u
		return nil
	}

	if err := step(stepInit, t.init(p)); err != nil {
		return nil, err
	}
	if err := step(stepFirst, t.snapshot(p, "first")); err != nil {
		return nil, err
	}
	if s.FirstBytes, err = stored(p.repo); err != nil {
		return nil, err
	}
	if err := step(stepUnchanged, t.snapshot(p, "unchanged")); err != nil {
		return nil, err
	}
	before, err := stored(p.repo)
	if err != nil {
		return nil, err
	}
	edit, err := editFiles(source, stash)
	if err != nil {
		return nil, err
	}
	defer func() {
		if undoErr := edit.undo(); err == nil {
			err = undoErr
		}
	}()
	if err := step(stepChanged, t.snapshot(p, "changed")); err != nil {
		return nil, err
	}
	after, err := stored(p.repo)
	if err != nil {
		return nil, err
	}
	s.ChangedBytes = after - before

	if err := step(stepRestore, t.restore(p, "changed")); err != nil {
		return nil, err
	}
	if err := compareTrees(source, filepath.Join(p.target, source)); err != nil {
		return nil, fmt.Errorf("it restored something else: %w", err)
	}
	return s, step(stepCheck, t.check(p))
}

// describeMachine says what the numbers were measured on.
func describeMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = field(string(b), "model name")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	return m
}
