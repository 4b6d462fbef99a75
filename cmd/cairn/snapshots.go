package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

func (p *program) snapshotsCommand() *cli.Command {
	return &cli.Command{
		Name:  "snapshots",
		Usage: "list snapshots",
		Flags: append(filterFlags(), &cli.IntFlag{Name: "latest", Usage: "only the newest `N` of each host and sources"}),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			r, err := p.open(c)
			if err != nil {
				return err
			}
			defer r.Close()
			return p.snapshots(c, r)
		},
	}
}

func (p *program) snapshots(c *cli.Context, r *repo.Repository) error {
	found, damage, err := p.list(c.Context, r, filterOf(c))
	if err != nil {
		return err
	}
	if c.IsSet("latest") {
		if c.Int("latest") < 1 {
			return usagef("--latest wants a number from 1")
		}
		found = newestOfEach(found, c.Int("latest"))
	}
	if p.json == nil {
		t := table("ID", "Time", "Host", "Tags", "Sources", ">Files", ">Size", ">New", ">Stored", ">Changes")
		for i := len(found) - 1; i >= 0; i-- { // the newest stands last, above the prompt
			t.Row(snapshotRow(found[i])...)
		}
		if err := p.print(t); err != nil {
			return err
		}
	}
	for i := len(found) - 1; i >= 0 && p.json != nil; i-- {
		p.json.Write("snapshot", snapshotFields(found[i]))
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"snapshots": len(found), "damaged": len(damage)})
	}
	return errors.Join(damage...)
}

// newestOfEach keeps the first n snapshots of each host and sources.
func newestOfEach(found []*repo.Snapshot, n int) []*repo.Snapshot {
	count := make(map[string]int)
	var kept []*repo.Snapshot
	for _, s := range found {
		key := s.Open.Host + "\x00" + strings.Join(sourceNames(s), "\x00")
		if count[key]++; count[key] <= n {
			kept = append(kept, s)
		}
	}
	return kept
}

func sourceNames(s *repo.Snapshot) []string {
	names := []string{}
	if s.Body != nil {
		for _, src := range s.Body.Sources {
			if src.Kind == "files" {
				names = append(names, string(src.Name))
			} else {
				names = append(names, src.Kind+"/"+string(src.Name))
			}
		}
	}
	return names
}

func snapshotRow(s *repo.Snapshot) []string {
	row := []string{s.ID.Short(), termui.Time(s.Open.Time), termui.Quote(s.Open.Host)}
	if s.Body == nil { // a write-only key can't see more
		return append(row, "?", "?", "?", "?", "?", "?", "?")
	}
	b := s.Body
	var sources []string
	for _, n := range sourceNames(s) {
		sources = append(sources, termui.Quote(n))
	}
	id := strings.Join(sources, ", ")
	if s.Open.Flags&snapshot.Incomplete != 0 {
		id += " (incomplete)"
	}
	return append(row, termui.Quote(strings.Join(b.Tags, ",")), id, termui.Count(int64(b.Totals.Files)), termui.Size(int64(b.Totals.Bytes)),
		termui.Size(int64(b.Totals.NewRaw)), termui.Size(int64(b.Totals.NewStored)),
		fmt.Sprintf("+%d ~%d -%d", b.Totals.New, b.Totals.Changed, b.Totals.Removed))
}

func snapshotFields(s *repo.Snapshot) map[string]any {
	f := map[string]any{
		"id": s.ID.String(), "time": s.Open.Time.Format(time.RFC3339Nano), "host": s.Open.Host,
		"incomplete": s.Open.Flags&snapshot.Incomplete != 0,
	}
	if !s.Open.Parent.IsZero() {
		f["parent"] = s.Open.Parent.String()
	}
	if b := s.Body; b != nil {
		tags := b.Tags
		if tags == nil {
			tags = []string{}
		}
		f["tags"], f["sources"], f["user"], f["program"] = tags, sourceNames(s), b.User, b.Program
		f["files"], f["bytes_read"], f["bytes_added"], f["bytes_stored"] = b.Totals.Files, b.Totals.Bytes, b.Totals.NewRaw, b.Totals.NewStored
		f["files_new"], f["files_changed"], f["files_unmodified"] = b.Totals.New, b.Totals.Changed, b.Totals.Unmodified
		f["entries_removed"], f["unreadable"] = b.Totals.Removed, b.Totals.Unreadable
		f["duration"] = b.End.Sub(b.Start).Seconds()
	}
	return f
}
