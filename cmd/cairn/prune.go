package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "free what no snapshot needs; backups, checks and restores may go on meanwhile",
		Flags: append(pruneFlags(),
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "print what would be freed, and do nothing"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		),
		Action: p.prune,
	}
}

// pruneFlags are the options that say how to prune.
func pruneFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "max-unused", Value: "5%", Usage: "leave at most `N%|SIZE|unlimited` of what no snapshot needs in packs that are partly needed"},
		&cli.StringFlag{Name: "max-repack", Usage: "write packs anew of at most `SIZE` together (default: as many as --max-unused asks for)"},
		&cli.StringFlag{Name: "max-verify", Usage: "read at most `SIZE` of what write-only keys have stored, to let all hosts share it (default: all that is new)"},
		&cli.BoolFlag{Name: "cold", Usage: "delete and write anew packs in cold storage too, which may cost fees"},
		&cli.BoolFlag{Name: "wait", Usage: "wait for running snapshots that may rely on what is to go (otherwise the next prune deletes it)"},
		&cli.StringFlag{Name: "fence-after", Value: "1h", Usage: "take a run for dead that has shown no sign of life for `DURATION`; 0s ends all running snapshots, which then begin again"},
	}
}

// pruneOptions reads pruneFlags.
func pruneOptions(c *cli.Context) (o repo.PruneOptions, err error) {
	o.Host, _ = os.Hostname()
	o.Cold, o.Wait, o.DryRun = c.Bool("cold"), c.Bool("wait"), c.Bool("dry-run")
	if o.MaxUnused, err = parseUnused(c.String("max-unused")); err != nil {
		return o, err
	}
	for name, at := range map[string]*int64{"max-repack": &o.MaxRepack, "max-verify": &o.MaxVerify} {
		s := c.String(name)
		if s == "" {
			continue
		}
		n, err := termui.ParseSize(s)
		if err != nil || n < 0 {
			return o, usagef("--%s %s: want a size, such as 10GiB", name, s)
		}
		*at = max(n, 1) // nothing has so few bytes
	}
	after, err := time.ParseDuration(c.String("fence-after"))
	if err != nil || after < 0 {
		return o, usagef("--fence-after %s: want a duration, such as 90m", c.String("fence-after"))
	}
	if o.Patience = after; after == 0 {
		o.Patience = -1
	}
	return o, nil
}

func parseUnused(s string) (repo.Sample, error) {
	if s == "unlimited" {
		return repo.Sample{Percent: 100}, nil
	}
	if n, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(n, 64)
		if err != nil || !(f >= 0 && f <= 100) {
			return repo.Sample{}, usagef("--max-unused %s: want a percentage from 0 to 100", s)
		}
		return repo.Sample{Percent: f}, nil
	}
	n, err := termui.ParseSize(s)
	if err != nil || n < 0 {
		return repo.Sample{}, usagef("--max-unused %s: want N%%, a size such as 10GiB, or unlimited", s)
	}
	return repo.Sample{Bytes: n}, nil
}

func (p *program) prune(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	o, err := pruneOptions(c)
	if err != nil {
		return err
	}
	if !o.DryRun && !c.Bool("yes") && p.onTerminal() == nil {
		return usagef("prune deletes for good what no snapshot needs. Give --yes to do it without being asked, or --dry-run to see what that is.")
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	return p.pruneRepository(c, r, o)
}

// pruneRepository shows what a prune would do, asks, and does it.
func (p *program) pruneRepository(c *cli.Context, r *repo.Repository, o repo.PruneOptions) error {
	if !o.DryRun && !c.Bool("yes") {
		plan := o
		plan.DryRun = true
		report, err := p.runPrune(c, r, plan)
		if err != nil {
			return err
		}
		p.printPlan(report)
		if err := p.confirm(c, fmt.Sprintf("This frees about %s, for good.", termui.Size(report.Frees()))); err != nil {
			return err
		}
	}
	// What is marked stays in memory to the end, and is most of it.
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	p.interrupted = "interrupted; nothing that a snapshot needs is affected, and the next prune goes on from here"
	report, err := p.runPrune(c, r, o)
	if err != nil {
		if report.Freed.Packs > 0 {
			p.warn("%s of %s were deleted before the error; none of them was needed", termui.Size(report.Freed.Bytes), plural(int64(report.Freed.Packs), "pack"))
		}
		return roomHint(err)
	}
	p.printPrune(report, o)
	return nil
}

// roomHint says how to prune where the disk is full.
func roomHint(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return &hintError{err, "make some 100 KiB of room, which every prune needs, and use --max-unused unlimited: then it writes nothing anew, and needs no more; nothing that was stored before is affected"}
}

func (p *program) runPrune(c *cli.Context, r *repo.Repository, o repo.PruneOptions) (*repo.PruneReport, error) {
	progress, stop, err := p.showPhases(c, "pruning:", "what is stored")
	if err != nil {
		return new(repo.PruneReport), err
	}
	defer stop()
	o.Progress = progress
	return r.Prune(c.Context, o)
}

// looked tells whether a prune came to look what is needed. One that waits with what an
// earlier one condemned did not, and its zeros would read as an empty repository.
func looked(r *repo.PruneReport) bool {
	return r.Snapshots > 0 || r.Stored.Packs > 0 || len(r.Waiting) == 0
}

// printPlan says what a prune found.
func (p *program) printPlan(r *repo.PruneReport) {
	if looked(r) {
		needs := "need"
		if r.Snapshots == 1 {
			needs = "needs"
		}
		p.printf("%s %s %s of %s in %s\n", plural(int64(r.Snapshots), "snapshot"), needs, termui.Size(r.Live), termui.Size(r.Stored.Bytes), plural(int64(r.Stored.Packs), "pack"))
	}
	line := func(a repo.Amount, format string) {
		if a.Packs > 0 {
			p.printf(format+"\n", plural(int64(a.Packs), "pack"), termui.Size(a.Bytes))
		}
	}
	line(r.Adopted, "condemned by an earlier run: %s, %s")
	line(r.Dead, "not needed: %s, %s")
	line(r.Repacked, "partly needed, and written anew: %s, %s")
	line(r.Later, "not needed, and left to the next prune, as they are too many at once: %s, %s")
	line(r.Recent, "left alone, as running snapshots may use them: %s, %s")
	line(r.Cold, "left alone, as they are in cold storage (--cold): %s, %s")
	line(r.Verified, "stored by write-only keys, verified, and signed for: %s, %s")
	if len(r.Damaged) > 0 {
		p.printf("damaged, and left alone: %s; cairn repair saves what is good in them\n", plural(int64(len(r.Damaged)), "pack"))
	}
}

func (p *program) printPrune(r *repo.PruneReport, o repo.PruneOptions) {
	dry := o.DryRun
	if p.json != nil {
		waiting := []map[string]any{}
		for _, w := range r.Waiting {
			waiting = append(waiting, map[string]any{"lease": w.Lease.String(), "host": w.Host, "begun": w.Begun, "seen": w.Seen})
		}
		amount := func(a repo.Amount) map[string]any { return map[string]any{"packs": a.Packs, "bytes": a.Bytes} }
		m := map[string]any{
			"dry_run": dry, "snapshots": r.Snapshots, "stored": amount(r.Stored), "live_bytes": r.Live, "unused_bytes": r.Unused,
			"adopted": amount(r.Adopted), "dead": amount(r.Dead), "repacked": amount(r.Repacked), "rewritten": amount(r.Rewritten),
			"verified": amount(r.Verified), "recent": amount(r.Recent), "cold": amount(r.Cold), "later": amount(r.Later), "damaged": len(r.Damaged),
			"frees_bytes": r.Frees(), "freed": amount(r.Freed), "waiting": waiting, "fenced": r.Fenced,
			"manifests": r.Manifests, "segments": r.Segments, "leases": r.Leases,
		}
		if !looked(r) {
			m["snapshots"], m["stored"], m["live_bytes"], m["unused_bytes"] = nil, nil, nil, nil
		}
		p.json.Write("summary", m)
		return
	}
	p.printPlan(r)
	if dry {
		p.printf("would free %s; nothing was changed\n", termui.Size(r.Frees()))
		return
	}
	switch {
	case r.Fenced > 0 && o.Patience < 0:
		p.printf("%s ended, as --fence-after 0s asks for; what still runs begins again\n", plural(int64(r.Fenced), "run"))
	case r.Fenced > 0:
		p.printf("%s that showed no sign of life can't commit any more\n", plural(int64(r.Fenced), "run"))
	}
	if n := len(r.Waiting); n > 0 {
		p.printf("deleting waits for %s:\n", plural(int64(n), "running snapshot"))
		for _, w := range r.Waiting {
			p.printf("  %s, last seen %s\n", termui.Clean(hostOr(w.Host)), termui.Time(w.Seen))
		}
		p.printf("the next prune goes on from here; --wait waits\n")
	}
	p.printFreed(r)
	if r.Unused > 0 {
		p.printf("%s in packs that stay are not needed; --max-unused says how much may be\n", termui.Size(r.Unused))
	}
}

// printFreed says by how much the packs have shrunk. Until what was written anew has
// taken its place, it is there twice.
func (p *program) printFreed(r *repo.PruneReport) {
	if n := r.Freed.Bytes - r.Rewritten.Bytes; n >= 0 && (n > 0 || len(r.Waiting) == 0) {
		p.printf("freed %s\n", termui.Size(n))
		return
	}
	twice := ""
	if r.Rewritten.Bytes > 0 {
		twice = fmt.Sprintf("; meanwhile %s, written anew, take up more", termui.Size(r.Rewritten.Bytes))
	}
	p.printf("freed nothing yet%s\n", twice)
}

func hostOr(host string) string {
	if host == "" {
		return "an unknown host"
	}
	return host
}
