package main

import (
	"errors"
	"fmt"
	"strings"

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
			if c.IsSet("latest") && c.Int("latest") < 1 {
				return usagef("--latest %d: want a number from 1", c.Int("latest"))
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
		p.json.Write("snapshot", messageOf(found[i]))
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
			names = append(names, sourceName(src))
		}
	}
	return names
}

// sourceName is what people call a source: a path, or the place of anything else in
// the tree.
func sourceName(src snapshot.Source) string {
	if src.Kind == "files" {
		return string(src.Name)
	}
	return src.Kind + "/" + string(src.Name)
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

// snapshotMessage is what scripts learn of a snapshot. What the key can't read is
// null.
type snapshotMessage struct {
	ID          string   `json:"id"`
	Time        string   `json:"time"`
	Host        string   `json:"host"`
	Signer      string   `json:"signer"` // public key of who made it
	Tags        []string `json:"tags"`
	Sources     []string `json:"sources"`
	Parent      any      `json:"parent"` // null: none
	Files       *uint64  `json:"files"`
	BytesRead   *uint64  `json:"bytes_read"`
	BytesAdded  *uint64  `json:"bytes_added"`
	BytesStored *uint64  `json:"bytes_stored"`
	New         *uint64  `json:"files_new"`
	Changed     *uint64  `json:"files_changed"`
	Unmodified  *uint64  `json:"files_unmodified"`
	Removed     *uint64  `json:"entries_removed"`
	Unreadable  *uint64  `json:"unreadable"`
	Incomplete  bool     `json:"incomplete"`
	Duration    *float64 `json:"duration"` // seconds
	User        *string  `json:"user"`
	Program     *string  `json:"program"`
}

func messageOf(s *repo.Snapshot) snapshotMessage {
	m := snapshotMessage{
		ID: s.ID.String(), Time: stamp(s.Open.Time), Host: s.Open.Host, Signer: s.Signer.String(), Parent: idOrNull(s.Open.Parent),
		Tags: []string{}, Sources: sourceNames(s), Incomplete: s.Open.Flags&snapshot.Incomplete != 0,
	}
	if b := s.Body; b != nil {
		t, duration := &b.Totals, b.End.Sub(b.Start).Seconds()
		m.Tags = append(m.Tags, b.Tags...)
		m.Files, m.BytesRead, m.BytesAdded, m.BytesStored = &t.Files, &t.Bytes, &t.NewRaw, &t.NewStored
		m.New, m.Changed, m.Unmodified, m.Removed, m.Unreadable = &t.New, &t.Changed, &t.Unmodified, &t.Removed, &t.Unreadable
		m.Duration, m.User, m.Program = &duration, &b.User, &b.Program
	}
	return m
}
