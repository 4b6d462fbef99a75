package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "verify that everything is there, and readable",
		Description: "The structure is always checked: that all snapshots can be read, and that all chunks that they\n" +
			"need are in some pack. What was recorded of databases is compared with --semantic.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "read-data", Usage: "read and authenticate the packs too: all of them, or with =`N%|SIZE` so much, first what this machine has not read for the longest time, so that repeated checks read everything"},
		}, semanticFlags()...),
		Action: p.check,
	}
}

// parseSample reads the value of --read-data.
func parseSample(s string) (repo.Sample, error) {
	if s == "" {
		return repo.Sample{}, nil
	}
	if n, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(n, 64)
		if err != nil || !(f > 0 && f <= 100) {
			return repo.Sample{}, usagef("--read-data=%s: want a percentage above 0, up to 100", s)
		}
		return repo.Sample{Percent: f}, nil
	}
	n, err := termui.ParseSize(s)
	if err != nil || n <= 0 {
		return repo.Sample{}, usagef("--read-data=%s: want N%% or a size, such as 10GiB", s)
	}
	return repo.Sample{Bytes: n}, nil
}

func (p *program) check(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	sample, err := parseSample(c.String("read-data"))
	if err != nil {
		return err
	}
	share, err := p.semanticOptions(c)
	if err != nil {
		return err
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	progress, stop, err := p.showPhases(c, "checking", "")
	if err != nil {
		return err
	}
	report, err := r.Check(c.Context, repo.CheckOptions{
		Read:     sample,
		Progress: progress,
	})
	stop()
	if err != nil {
		return err
	}
	if err := p.warnOfRivals(r, report.Rivals); err != nil {
		return err
	}
	if !c.Bool("semantic") {
		return p.checkDone(report)
	}
	found, err := p.checkSemantics(c, r, share)
	if err == nil {
		err = found.done()
	}
	return errors.Join(p.checkDone(report), err)
}

func (p *program) checkDone(report *repo.Report) error {
	for _, pr := range report.Problems {
		p.printProblem(pr)
	}
	for _, l := range report.Leftovers {
		if p.json != nil {
			p.json.Write("leftover", map[string]any{"message": l})
		} else {
			p.printf("left over: %s\n", termui.Clean(l))
		}
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{
			"problems": len(report.Problems), "leftovers": len(report.Leftovers), "snapshots": report.Snapshots, "nodes": report.Nodes,
			"chunks": report.Chunks, "packs": report.Packs, "pack_bytes": report.PackBytes, "read_packs": report.ReadPacks, "read_bytes": report.ReadBytes,
			"affected_snapshots": report.Affected, "oldest_verification": stampOrNull(report.Verified.Oldest),
			"unverified_packs": report.Verified.Never, "unverified_bytes": report.Verified.NeverBytes,
		})
	}
	p.printf("checked %s, %s, %s, %s of %s\n", plural(int64(report.Snapshots), "snapshot"), plural(int64(report.Nodes), "tree node"),
		plural(int64(report.Chunks), "chunk"), plural(int64(report.Packs), "pack"), termui.Size(report.PackBytes))
	if report.ReadPacks > 0 {
		p.printf("read and authenticated %s, %s\n", plural(int64(report.ReadPacks), "pack"), termui.Size(report.ReadBytes))
	} else {
		p.printf("the contents of packs were not read; --read-data does that\n")
	}
	if report.Packs > 0 {
		p.printf("%s\n", verifiedLine(report.Verified, time.Now()))
	}
	if len(report.Problems) > 0 {
		found := plural(int64(len(report.Problems)), "problem") + " found"
		if report.Affected > 0 {
			found += fmt.Sprintf(", in %s of %s", termui.Count(int64(report.Affected)), plural(int64(report.Snapshots), "snapshot"))
		}
		return &hintError{&statusError{statusDamage, fmt.Errorf("%s; what is not named above is intact", found)},
			"cairn repair mends what can be mended, and makes the next snapshot store again what is lost; cairn restore --allow-damaged gives what is left of a file"}
	}
	p.printf("no problems were found\n")
	return nil
}

// verifiedLine says what this machine knows of the contents of packs.
func verifiedLine(v repo.Verification, now time.Time) string {
	switch {
	case v.Oldest.IsZero():
		return "verified by this machine: no pack yet"
	case v.Never > 0:
		return fmt.Sprintf("verified by this machine: all but %s of %s, the oldest %s", plural(int64(v.Never), "pack"), termui.Size(v.NeverBytes), ago(v.Oldest, now))
	}
	return "verified by this machine: all packs, the oldest " + ago(v.Oldest, now)
}

func ago(t, now time.Time) string {
	return fmt.Sprintf("%s ago (%s)", termui.Duration(max(now.Sub(t), 0).Truncate(time.Second)), termui.Time(t))
}

// stampOrNull is a time for programs, null if it is zero.
func stampOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}

func (p *program) printProblem(pr repo.Problem) {
	what := strings.ReplaceAll(pr.Err.Error(), "\n", "; ") // several errors of one object
	if p.json != nil {
		files := []map[string]any{}
		for _, f := range pr.Files {
			m := pathFields(f.Path)
			m["snapshot"], m["other_snapshots"] = f.Snapshot.String(), f.Others
			files = append(files, m)
		}
		chunks := []string{}
		for _, id := range pr.Chunks {
			chunks = append(chunks, id.String())
		}
		snapshots := []string{}
		for _, id := range pr.Snapshots {
			snapshots = append(snapshots, id.String())
		}
		p.json.Write("problem", map[string]any{
			"object": pr.Object, "message": what, "chunks": chunks, "files": files, "more_files": pr.MoreFiles,
			"snapshots": snapshots, "more_snapshots": pr.MoreSnapshots,
		})
		return
	}
	fmt.Fprintf(p.Stderr, "damaged: %s\n", termui.Clean(pr.Object+": "+what))
	if n := len(pr.Chunks); n > 0 {
		fmt.Fprintf(p.Stderr, "  %s lost: %s\n", plural(int64(n), "chunk"), short(pr.Chunks, n))
	}
	for _, f := range pr.Files {
		others := ""
		if f.Others > 0 {
			others = " and " + plural(int64(f.Others), "older snapshot")
		}
		fmt.Fprintf(p.Stderr, "  needed by %s:%s%s\n", f.Snapshot.Short(), termui.Quote(f.Path), others)
	}
	if pr.MoreFiles > 0 {
		fmt.Fprintf(p.Stderr, "  and by %s\n", plural(int64(pr.MoreFiles), "more file"))
	}
	if n := len(pr.Snapshots) + pr.MoreSnapshots; n > 0 {
		fmt.Fprintf(p.Stderr, "  in %s: %s\n", plural(int64(n), "snapshot"), short(pr.Snapshots, n))
	}
}

// short names the first of n IDs; --json names more.
func short[ID interface{ Short() string }](ids []ID, n int) string {
	const some = 8
	var names []string
	for _, id := range ids[:min(len(ids), some)] {
		names = append(names, id.Short())
	}
	if n > len(names) {
		names = append(names, "...")
	}
	return strings.Join(names, " ")
}
