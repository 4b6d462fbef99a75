package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/snapshot"
)

func (p *program) diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "show what changed between two snapshots",
		ArgsUsage: "A B",
		Description: "Lines begin with + (added), - (removed), M (contents changed), T (type changed)\n" +
			"or U (only metadata changed). Of tables of databases it is said by how many rows and bytes.",
		Flags: append(filterFlags(),
			&cli.BoolFlag{Name: "metadata", Usage: "show entries too of which only the metadata changed"}),
		Action: p.diff,
	}
}

var changeLetters = map[snapshot.ChangeKind]string{
	snapshot.Added: "+", snapshot.Removed: "-", snapshot.Modified: "M", snapshot.TypeChanged: "T", snapshot.MetadataChanged: "U",
}

func (p *program) diff(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("cairn diff takes two arguments: the older and the newer snapshot")
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	a, err := p.choose(c, r, c.Args().Get(0), false)
	if err != nil {
		return err
	}
	b, err := p.choose(c, r, c.Args().Get(1), false)
	if err != nil {
		return err
	}
	if a.path != b.path {
		return usagef("the two paths must be the same")
	}
	key, has, err := a.key()
	if err != nil {
		return err
	}
	tables := &tableDiffs{repo: r, a: a, b: b}
	count := make(map[snapshot.ChangeKind]int)
	for ch, err := range snapshot.Diff(c.Context, a.tree(r), b.tree(r)) {
		if err != nil {
			return err
		}
		e := ch.New
		if e == nil {
			e = ch.Old
		}
		if has && e.Key != key && !e.Key.IsBelow(key) {
			continue
		}
		count[ch.Kind]++
		if ch.Kind != snapshot.MetadataChanged || c.Bool("metadata") {
			if err := p.printChange(c.Context, ch, e, tables); err != nil {
				return err
			}
		}
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{
			"added": count[snapshot.Added], "removed": count[snapshot.Removed], "modified": count[snapshot.Modified],
			"type_changed": count[snapshot.TypeChanged], "metadata_changed": count[snapshot.MetadataChanged],
		})
		return nil
	}
	p.printf("%s added, %s removed, %s modified, %s of another type, %s with other metadata only\n",
		termui.Count(int64(count[snapshot.Added])), termui.Count(int64(count[snapshot.Removed])), termui.Count(int64(count[snapshot.Modified])),
		termui.Count(int64(count[snapshot.TypeChanged])), termui.Count(int64(count[snapshot.MetadataChanged])))
	return nil
}

func (p *program) printChange(ctx context.Context, ch snapshot.Change, e *snapshot.Entry, tables *tableDiffs) error {
	before, after, isTable, err := tables.of(ctx, e.Key)
	if err != nil {
		return err
	}
	if p.json != nil {
		f := pathFields(e.Key.Path())
		f["change"] = changeLetters[ch.Kind]
		if ch.Old != nil && ch.Old.Type == snapshot.File {
			f["old_size"] = ch.Old.Size
		}
		if ch.New != nil && ch.New.Type == snapshot.File {
			f["new_size"] = ch.New.Size
		}
		if isTable {
			changeOf(before, after).fields(f)
		}
		return p.json.Write("change", f)
	}
	more := ""
	if isTable {
		more = changeOf(before, after).text()
	}
	_, err = fmt.Fprintf(p.Stdout, "%s %s%s\n", changeLetters[ch.Kind], termui.Quote(e.Key.Path()), more)
	return err
}
