package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) statsCommand() *cli.Command {
	return &cli.Command{
		Name:   "stats",
		Usage:  "show sizes, deduplication and growth",
		Flags:  filterFlags(),
		Action: p.withRepo(p.stats),
	}
}

// growth is what the snapshots of one host and its sources came to.
type growth struct {
	host, sources string
	names         []string // of the sources
	snapshots     int
	last          uint64 // bytes of the newest snapshot
	bytes         uint64 // of all snapshots, as if each were kept whole
	added, stored uint64
}

func (p *program) stats(c *cli.Context, r *repo.Repository) error {
	if err := noArguments(c); err != nil {
		return err
	}
	usage, err := r.Usage(c.Context)
	if err != nil {
		return err
	}
	found, damage, err := p.list(c.Context, r, filterOf(c))
	if err != nil {
		return err
	}
	groups := grow(found)
	var logical uint64
	for _, g := range groups {
		logical += g.bytes
	}
	ratio := 0.0
	if usage.Bytes() > 0 {
		ratio = float64(logical) / float64(usage.Bytes())
	}
	if p.json != nil {
		for _, g := range groups {
			p.json.Write("group", map[string]any{
				"host": g.host, "sources": g.names, "snapshots": g.snapshots, "newest_bytes": g.last, "bytes": g.bytes, "bytes_added": g.added, "bytes_stored": g.stored,
			})
		}
		p.json.Write("summary", map[string]any{
			"snapshots": len(found), "snapshot_bytes": logical, "stored_bytes": usage.Bytes(), "ratio": ratio,
			"data_packs": usage.DataPacks, "data_bytes": usage.DataBytes, "meta_packs": usage.MetaPacks, "meta_bytes": usage.MetaBytes,
			"index_bytes": usage.IndexBytes, "chunks": usage.Chunks, "damaged": len(damage),
		})
		return errors.Join(damage...)
	}
	cfg := r.Config()
	p.printf("repository %s, made %s\n", r.ID(), termui.Time(cfg.Created))
	p.printf("chunker %s, %s to %s, %s on average; compression %s\n\n", cfg.Chunker.Algorithm, termui.Size(int64(cfg.Chunker.Min)),
		termui.Size(int64(cfg.Chunker.Max)), termui.Size(int64(cfg.Chunker.Avg)), cfg.Compression)
	t := table("Host", "Sources", ">Snapshots", ">Newest", ">Added", ">Stored")
	for _, g := range groups {
		t.Row(termui.Quote(g.host), termui.Quote(g.sources), termui.Count(int64(g.snapshots)), termui.Size(int64(g.last)),
			termui.Size(int64(g.added)), termui.Size(int64(g.stored)))
	}
	if err := p.print(t); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "\n%s of %s in all take %s (%.1f times less)\n", plural(int64(len(found)), "snapshot"), termui.Size(int64(logical)),
		termui.Size(usage.Bytes()), ratio)
	fmt.Fprintf(p.Stdout, "  data  %s, %s\n  meta  %s, %s\n  index %s for %s\n", plural(int64(usage.DataPacks), "pack"), termui.Size(usage.DataBytes),
		plural(int64(usage.MetaPacks), "pack"), termui.Size(usage.MetaBytes), termui.Size(usage.IndexBytes), plural(usage.Chunks, "chunk"))
	return errors.Join(damage...)
}

// grow groups snapshots by host and sources.
func grow(found []*repo.Snapshot) []*growth {
	byKey := make(map[string]*growth)
	var groups []*growth
	for _, s := range found { // newest first
		sources := strings.Join(sourceNames(s), ", ")
		g := byKey[s.Open.Host+"\x00"+sources]
		if g == nil {
			g = &growth{host: s.Open.Host, sources: sources, names: sourceNames(s)}
			if s.Body != nil {
				g.last = s.Body.Totals.Bytes
			}
			byKey[s.Open.Host+"\x00"+sources] = g
			groups = append(groups, g)
		}
		g.snapshots++
		if s.Body != nil {
			g.bytes += s.Body.Totals.Bytes
			g.added += s.Body.Totals.NewRaw
			g.stored += s.Body.Totals.NewStored
		}
	}
	slices.SortFunc(groups, func(a, b *growth) int { return strings.Compare(a.host+"\x00"+a.sources, b.host+"\x00"+b.sources) })
	return groups
}
