// Bench runs cairn beside restic, borg and kopia over the same data and prints what
// each of them took.
//
//	go run ./bench [flags]
//
// Which workloads there are, what is measured and what is held to be fair is in
// docs/benchmarks.md. It prints a Markdown table for each workload, with each number's
// ratio to restic's (times: how many times as fast; sizes and memory: in percent of it), and
// the targets that cairn is held to. Raw results go to bench/out as JSON, after each
// workload; -update puts the tables into a document. Exit status 1 means that a tool
// failed or restored something else, not that a target was missed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
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
	archivers []tool   // that keep nothing but the first state, for comparison
	missing   []string // tools that are not installed
	workloads []workload
	runs      int
	work      string // where sources, repositories and caches are made
	tmpfs     string // where snapshots are restored to
	out       string // where raw results go
	update    string // a document to put the tables into, or ""
}

func parseFlags(args []string, stderr io.Writer) (*config, error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	tools := fs.String("tools", "", "`names` of the tools to compare: cairn, cairn-default, restic, borg, kopia (default all that are installed)")
	cairn := fs.String("cairn", "bin/cairn", "`path` of the cairn to measure")
	names := fs.String("workloads", "tree,small,dump", "`names` of the workloads: "+strings.Join(workloadNames, ", "))
	runs := fs.Int("runs", 3, "how often each tool runs each workload")
	quick := fs.Bool("quick", false, "an eighth of the data, to try the harness; its numbers mean little")
	work := fs.String("work", os.TempDir(), "`directory` for sources, repositories and caches; some 5 GB are used, by prune 20 GB")
	tmpfs := fs.String("tmpfs", "/dev/shm", "`directory` in memory, to restore to")
	out := fs.String("out", "bench/out", "`directory` for raw results")
	update := fs.String("update", "", "`file` in which the tables replace what stands between the lines "+updateBegin+" and "+updateEnd)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: all options are flags", fs.Arg(0))
	}
	if *runs < 1 {
		return nil, fmt.Errorf("-runs %d: at least one run is needed", *runs)
	}
	c := &config{runs: *runs, work: *work, tmpfs: *tmpfs, out: *out, update: *update}
	if err := c.findTools(*tools, *cairn, stderr); err != nil {
		return nil, err
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

	rep := &report{Date: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(), Runs: c.runs, Flags: args, Missing: c.missing}
	if slices.ContainsFunc(c.workloads, func(w workload) bool { return w.name == "postgres" }) {
		version, err := exec.CommandContext(ctx, "pg_dump", "--version").Output()
		if err != nil {
			return fmt.Errorf("%s: %w (apt-get install postgresql)", dumperName, err)
		}
		rep.Tools = append(rep.Tools, toolInfo{Name: dumperName, Version: strings.TrimSpace(string(version)) + ", to nowhere; pg_restore of a file made with -Fc"})
	}
	for _, t := range slices.Concat(c.tools, c.archivers) {
		version, err := exec.CommandContext(ctx, t.program, t.version...).Output()
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		first, _, _ := strings.Cut(string(version), "\n")
		rep.Tools = append(rep.Tools, toolInfo{Name: t.name, Version: first})
	}
	name, err := "", error(nil)
	for _, w := range c.workloads {
		res, failed := c.runWorkload(ctx, w, stderr)
		if failed != nil {
			err = fmt.Errorf("workload %s: %w", w.name, failed)
			break
		}
		// After each, so that an hour's results are not lost with what fails later.
		rep.Workloads = append(rep.Workloads, res)
		if name, err = rep.save(c.out); err != nil {
			return err
		}
	}
	if len(rep.Workloads) > 0 {
		rep.print(stdout)
		fmt.Fprintf(stderr, "raw results are in %s\n", name)
	}
	if err == nil && c.update != "" {
		err = rep.updateFile(c.update)
	}
	return err
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
