package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) repairCommand() *cli.Command {
	return &cli.Command{
		Name:  "repair",
		Usage: "rebuild the index from packs, save what is good in damaged packs, and say what is lost",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "read-data", Usage: "read the packs too, to find damage inside of them: all of them, or with =`N%|SIZE` so much, first what this machine has not read for the longest time"},
			&cli.BoolFlag{Name: "forget-lost", Usage: "give up snapshots whose manifests are lost for good, so that nothing asks for them any more"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "print what would be done, and do nothing"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask before --forget-lost"},
		},
		Action: p.repair,
	}
}

func (p *program) repair(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	sample, err := parseSample(c.String("read-data"))
	if err != nil {
		return err
	}
	dry := c.Bool("dry-run")
	mended, err := p.mendConfig(c, dry)
	if err != nil {
		return err
	}
	if mended && dry {
		return &statusError{statusDamage, fmt.Errorf("what else there is to do can't be said before config is back")}
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	if c.Bool("forget-lost") && !dry {
		if err := p.confirm(c, "Give up all snapshots whose manifests are lost, for good?"); err != nil {
			return err
		}
	}
	host, _ := os.Hostname()
	progress, stop, err := p.showPhases(c, "repairing:", "")
	if err != nil {
		return err
	}
	report, err := r.Repair(c.Context, repo.RepairOptions{
		Read: sample, ForgetLost: c.Bool("forget-lost"), Host: host, DryRun: dry,
		Progress: progress,
	})
	stop()
	for _, f := range report.Fixes {
		p.printFix(f, dry)
	}
	if err != nil {
		return err
	}
	return p.repairDone(report, dry, mended, sample != repo.Sample{})
}

// mendConfig puts config back where nothing could be opened without.
func (p *program) mendConfig(c *cli.Context, dry bool) (bool, error) {
	b, err := p.storage(c, open.URL)
	if err != nil {
		return false, nil // opening the repository will say so
	}
	done, err := repo.MendConfig(c.Context, repo.Options{Storage: b, Cache: cacheDir(c), Observer: p.observer()}, dry)
	if done {
		p.printFix(repo.Fix{Object: "config", What: "put back, from this machine's cache"}, dry)
	}
	return done, err
}

func (p *program) printFix(f repo.Fix, dry bool) {
	if p.json != nil {
		p.json.Write("fix", map[string]any{"object": f.Object, "message": f.What, "dry_run": dry})
		return
	}
	does := "repaired"
	if dry {
		does = "would repair"
	}
	p.printf("%s %s\n", does, termui.Clean(f.Object+": "+f.What))
}

func (p *program) repairDone(report *repo.RepairReport, dry, mended, read bool) error {
	fixes := len(report.Fixes)
	if mended {
		fixes++
	}
	for _, pr := range report.Left.Problems {
		p.printProblem(pr)
	}
	left := len(report.Left.Problems)
	if p.json != nil {
		p.json.Write("summary", map[string]any{"fixes": fixes, "problems": left, "dry_run": dry})
	}
	if !read {
		p.printf("the contents of packs were not read; --read-data finds damage in them\n")
	}
	switch {
	case dry && left+fixes > 0:
		return &statusError{statusDamage, fmt.Errorf("%s would be done; nothing was changed", plural(int64(fixes), "repair"))}
	case left > 0:
		return &hintError{&statusError{statusDamage, fmt.Errorf("%s left after %s", plural(int64(left), "problem"), plural(int64(fixes), "repair"))},
			"back the same sources up again: what they still have is stored anew, and heals older snapshots; manifests lost for good are given up with --forget-lost"}
	}
	p.printf("%s; no problems are left\n", plural(int64(fixes), "repair"))
	return nil
}
