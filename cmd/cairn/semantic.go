package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/postgres/verify"
	"github.com/cairn-backup/cairn/repo"
)

// semanticFlags are those of check that are about what contents mean.
func semanticFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{Name: "semantic", Usage: "read databases and check that what is there means what was recorded of it: each table's rows, columns and hash"},
		&cli.StringFlag{Name: "max-row-loss", Value: "50%", Usage: "warn of a table or database that has lost more than `N%` of its rows since the snapshot before"},
	}, filterFlags()...)
}

// semantic is a semantic check under way.
type semantic struct {
	*program
	repo    *repo.Repository
	share   float64
	checker verify.Checker
	at      *repo.Snapshot
	found   []semanticProblem
	losses  int
	before  map[databaseOf]*postgres.Record
}

type semanticProblem struct {
	snapshot *repo.Snapshot
	path     string
	err      error
}

// databaseOf is a database of a host.
type databaseOf struct{ host, path string }

// parseShare reads a percentage.
func parseShare(flag, s string) (float64, error) {
	n, ok := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(n, 64)
	if !ok || err != nil || !(f >= 0 && f <= 100) {
		return 0, usagef("--%s %s: want a percentage, 0%% to 100%%", flag, s)
	}
	return f / 100, nil
}

// semanticOptions refuses what makes no sense without --semantic.
func (p *program) semanticOptions(c *cli.Context) (share float64, err error) {
	if c.Bool("semantic") {
		return parseShare("max-row-loss", c.String("max-row-loss"))
	}
	for _, f := range semanticFlags() {
		if name := f.Names()[0]; name != "semantic" && c.IsSet(name) {
			return 0, usagef("--%s chooses what --semantic checks; give that too", name)
		}
	}
	return 0, nil
}

// checkSemantics checks the databases of the snapshots that were chosen, the oldest first.
func (p *program) checkSemantics(c *cli.Context, r *repo.Repository, share float64) (*semantic, error) {
	s := &semantic{program: p, repo: r, share: share, before: make(map[databaseOf]*postgres.Record)}
	s.checker.Problem = func(d *stored.Database, path string, err error) { s.problem(d.Key.Path()+"/"+path, err) }
	all, damage, err := p.list(c.Context, r, filter{})
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	chosen := filterOf(c)
	for _, s.at = range all {
		if s.at.Body == nil {
			return nil, fmt.Errorf("look into snapshot %s: %w", s.at.ID.Short(), repo.ErrWriteOnly)
		}
		if err := s.snapshot(c, chosen.fits(s.at)); err != nil {
			return nil, err
		}
	}
	return s, errors.Join(damage...)
}

func (s *semantic) problem(path string, err error) {
	s.found = append(s.found, semanticProblem{s.at, path, err})
	if s.json != nil {
		f := pathFields(path)
		f["snapshot"], f["message"] = s.at.ID.String(), err.Error()
		s.json.Write("semantic_problem", f)
		return
	}
	fmt.Fprintf(s.Stderr, "wrong: %s:%s: %s\n", s.at.ID.Short(), termui.Quote(path), termui.Clean(err.Error()))
}

// snapshot checks the databases of a snapshot, or only remembers what they had.
func (s *semantic) snapshot(c *cli.Context, check bool) error {
	for key, err := range stored.All(c.Context, s.repo, s.at.Body.Root) {
		if err != nil {
			return err
		}
		d, err := stored.Open(c.Context, s.repo, s.at.Body.Root, key)
		if err != nil {
			if c.Context.Err() != nil {
				return err
			}
			if check {
				s.problem(key.Path(), err)
			}
			continue
		}
		of := databaseOf{s.at.Open.Host, key.Path()}
		if check {
			if err := s.checker.Check(c.Context, d); err != nil {
				return err
			}
			s.compare(d, s.before[of])
		}
		s.before[of] = d.Record
	}
	return nil
}

// compare warns of what lost many rows.
func (s *semantic) compare(d *stored.Database, before *postgres.Record) {
	if before == nil {
		return
	}
	for _, l := range verify.Losses(before, d.Record, s.share) {
		s.losses++
		what := d.Key.Path()
		if l.File != "" {
			what += "/" + l.File
		}
		if s.json != nil {
			f := pathFields(what)
			f["snapshot"], f["rows_before"], f["rows_after"] = s.at.ID.String(), l.Before, l.After
			s.json.Write("row_loss", f)
			continue
		}
		s.warn("%s:%s has %s, %s fewer than in the snapshot before", s.at.ID.Short(), termui.Quote(what), plural(l.After, "row"), termui.Count(l.Before-l.After))
	}
}

// done tells the result.
func (s *semantic) done() error {
	n := s.checker.Counts
	if s.json != nil {
		s.json.Write("semantic", map[string]any{
			"databases": n.Databases, "tables": n.Tables, "large_objects": n.Blobs, "rows_read": n.Rows, "bytes_read": n.Bytes,
			"problems": len(s.found), "row_losses": s.losses,
		})
	}
	s.printf("checked the meaning of %s: %s, %s; read %s, %s\n", plural(int64(n.Databases), "database"), plural(int64(n.Tables), "table"),
		plural(int64(n.Blobs), "large object"), plural(n.Rows, "row"), termui.Size(n.Bytes))
	if len(s.found) > 0 {
		return &hintError{&statusError{statusDamage, fmt.Errorf("%s with the meaning of databases", plural(int64(len(s.found)), "problem"))},
			"these databases were captured or stored wrong; other snapshots of them, and what is not named above, are good"}
	}
	return nil
}
