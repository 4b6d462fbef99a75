package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "verify that everything is there, and readable",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "read-data", Usage: "read and authenticate the packs too: all of them, or with =`N%|SIZE` so much, chosen at random"},
		},
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
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	var at atomic.Value
	at.Store([3]any{"", int64(0), int64(0)})
	stop, err := p.show(c, func() string {
		v := at.Load().([3]any)
		return fmt.Sprintf("checking %s %s%s", v[0], termui.Count(v[1].(int64)), of(v[2].(int64)))
	}, func() map[string]any {
		v := at.Load().([3]any)
		return map[string]any{"phase": v[0], "done": v[1], "total": v[2]}
	})
	if err != nil {
		return err
	}
	report, err := r.Check(c.Context, repo.CheckOptions{
		Read:     sample,
		Progress: func(phase string, done, total int64) { at.Store([3]any{phase, done, total}) },
	})
	stop()
	if err != nil {
		return err
	}
	if err := p.warnOfRivals(r, report.Rivals); err != nil {
		return err
	}
	return p.checkDone(report)
}

func of(total int64) string {
	if total == 0 {
		return ""
	}
	return " of " + termui.Count(total)
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
		})
	}
	p.printf("checked %s, %s, %s, %s of %s\n", plural(int64(report.Snapshots), "snapshot"), plural(int64(report.Nodes), "tree node"),
		plural(int64(report.Chunks), "chunk"), plural(int64(report.Packs), "pack"), termui.Size(report.PackBytes))
	if report.ReadPacks > 0 {
		p.printf("read and authenticated %s, %s\n", plural(int64(report.ReadPacks), "pack"), termui.Size(report.ReadBytes))
	} else {
		p.printf("the contents of packs were not read; --read-data does that\n")
	}
	if len(report.Problems) > 0 {
		return &hintError{&statusError{statusDamage, fmt.Errorf("%s found; what is not named above is intact", plural(int64(len(report.Problems)), "problem"))},
			"cairn repair mends what can be mended, and makes the next snapshot store again what is lost; cairn restore --allow-damaged gives what is left of a file"}
	}
	p.printf("no problems were found\n")
	return nil
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
		p.json.Write("problem", map[string]any{"object": pr.Object, "message": what, "chunks": chunks, "files": files, "more_files": pr.MoreFiles})
		return
	}
	fmt.Fprintf(p.Stderr, "damaged: %s\n", termui.Clean(pr.Object+": "+what))
	if n := len(pr.Chunks); n > 0 {
		fmt.Fprintf(p.Stderr, "  %s lost: %s\n", plural(int64(n), "chunk"), shortChunks(pr.Chunks))
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
}

// shortChunks names some chunks; --json names all.
func shortChunks(ids []chunk.ID) string {
	const some = 4
	var names []string
	for _, id := range ids[:min(len(ids), some)] {
		names = append(names, id.Short())
	}
	if len(ids) > some {
		names = append(names, "...")
	}
	return strings.Join(names, " ")
}
