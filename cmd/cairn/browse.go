package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

func (p *program) lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list what is in a snapshot",
		ArgsUsage: "SNAPSHOT[:PATH]",
		Description: "SNAPSHOT is latest, or the beginning of an ID. Without PATH its sources are listed, with\n" +
			"one what is in that directory.",
		Flags: append(filterFlags(),
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "with modes, owners, sizes and times"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"R"}, Usage: "with everything below"},
		),
		Action: p.ls,
	}
}

func (p *program) ls(c *cli.Context) error {
	arg, err := argument(c, "SNAPSHOT[:PATH]")
	if err != nil {
		return err
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := p.choose(c, r, arg, false)
	if err != nil {
		return err
	}
	n := 0
	err = s.each(c, r, c.Bool("recursive"), func(e *snapshot.Entry) error {
		n++
		p.printEntry(e, c.Bool("long"))
		return nil
	})
	if err == nil && p.json != nil {
		p.json.Write("summary", map[string]any{"id": s.ID.String(), "entries": n})
	}
	return err
}

// each calls fn for the entries that the path means: a directory's children,
// or with everything below; the entry itself if it is something else.
func (s chosen) each(c *cli.Context, r *repo.Repository, recursive bool, fn func(*snapshot.Entry) error) error {
	tree := s.tree(r)
	key, has, err := s.key()
	if err != nil {
		return err
	}
	if has {
		e, err := tree.Lookup(c.Context, key)
		if err != nil {
			return err
		}
		if e == nil {
			return fmt.Errorf("%s is not in snapshot %s", termui.Quote(s.path), s.ID.Short())
		}
		if e.Type != snapshot.Directory {
			return fn(e)
		}
	}
	entries := tree.All(c.Context)
	switch {
	case has && recursive:
		entries = tree.Below(c.Context, key)
	case has:
		entries = tree.Children(c.Context, key)
	case !recursive:
		return s.eachSource(c, r, fn)
	}
	for e, err := range entries {
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// eachSource calls fn for what the snapshot is of: without a path, "/" would
// be all that there is to see.
func (s chosen) eachSource(c *cli.Context, r *repo.Repository, fn func(*snapshot.Entry) error) error {
	for _, name := range sourceNames(s.Snapshot) {
		key, err := snapshot.KeyOf(name)
		if err != nil {
			return fmt.Errorf("source %s: %w", termui.Quote(name), err)
		}
		e, err := s.tree(r).Lookup(c.Context, key)
		if err != nil {
			return err
		}
		if e == nil {
			continue // a source that failed
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

var typeLetters = map[snapshot.Type]byte{
	snapshot.File: '-', snapshot.Directory: 'd', snapshot.Symlink: 'l', snapshot.FIFO: 'p', snapshot.Socket: 's',
	snapshot.CharDevice: 'c', snapshot.BlockDevice: 'b',
}

// modeString is the mode as ls -l shows it.
func modeString(e *snapshot.Entry) string {
	b := []byte{typeLetters[e.Type]}
	for i := 8; i >= 0; i-- {
		if e.Mode&(1<<i) != 0 {
			b = append(b, "xwr"[i%3])
		} else {
			b = append(b, '-')
		}
	}
	for _, s := range []struct {
		bit   uint32
		at    int
		lower byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if e.Mode&s.bit != 0 {
			if b[s.at] == 'x' {
				b[s.at] = s.lower
			} else {
				b[s.at] = s.lower - 'a' + 'A'
			}
		}
	}
	return string(b)
}

func entryFields(e *snapshot.Entry) map[string]any {
	f := pathFields(e.Key.Path())
	f["type"], f["mode"], f["uid"], f["gid"], f["user"], f["group"] = e.Type.String(), fmt.Sprintf("%04o", e.Mode), e.UID, e.GID, e.User, e.Group
	f["mtime"] = stamp(time.Unix(e.Mtime.Sec, int64(e.Mtime.Nsec)))
	if e.Type == snapshot.File {
		f["size"] = e.Size
	}
	if e.Type == snapshot.Symlink {
		f["target"] = strings.ToValidUTF8(string(e.Target), "\ufffd")
	}
	if e.Partial {
		f["partial"] = true
	}
	return f
}

func (p *program) printEntry(e *snapshot.Entry, long bool) {
	if p.json != nil {
		p.json.Write("entry", entryFields(e))
		return
	}
	name := termui.Quote(e.Key.Path())
	if !long {
		fmt.Fprintln(p.Stdout, name)
		return
	}
	if e.Type == snapshot.Symlink {
		name += " -> " + termui.Quote(string(e.Target))
	}
	if e.Partial {
		name += " (partial)"
	}
	owner := func(name string, id uint32) string {
		if name == "" {
			return fmt.Sprint(id)
		}
		return termui.Quote(name)
	}
	fmt.Fprintf(p.Stdout, "%s %-8s %-8s %10s %s %s\n", modeString(e), owner(e.User, e.UID), owner(e.Group, e.GID), termui.Size(int64(e.Size)),
		termui.Time(time.Unix(e.Mtime.Sec, int64(e.Mtime.Nsec))), name)
}

func (p *program) catCommand() *cli.Command {
	return &cli.Command{
		Name:      "cat",
		Usage:     "print a file of a snapshot",
		ArgsUsage: "SNAPSHOT:PATH",
		Flags: append(filterFlags(),
			&cli.BoolFlag{Name: "csv", Usage: "print a table of a database as CSV, with the names of its columns"},
		),
		Action: p.cat,
	}
}

func (p *program) cat(c *cli.Context) error {
	arg, err := argument(c, "SNAPSHOT:PATH")
	if err != nil {
		return err
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	s, err := p.choose(c, r, arg, true)
	if err != nil {
		return err
	}
	key, has, err := s.key()
	if err != nil {
		return err
	}
	if !has {
		return usagef("cairn cat wants a path, SNAPSHOT:PATH; cairn ls shows what there is")
	}
	e, err := s.tree(r).Lookup(c.Context, key)
	switch {
	case err != nil:
		return err
	case e == nil:
		return fmt.Errorf("%s is not in snapshot %s", termui.Quote(s.path), s.ID.Short())
	case e.Type != snapshot.File:
		return fmt.Errorf("%s is a %s, not a file", termui.Quote(s.path), e.Type)
	}
	var out io.Writer = p.Stdout
	if p.json != nil {
		out = dataWriter{p.json}
	}
	var csv io.WriteCloser
	if c.Bool("csv") {
		if csv, err = s.csv(c.Context, r, key, out); err != nil {
			return err
		}
		out = csv
	}
	n, err := io.Copy(struct{ io.Writer }{out}, repo.NewFile(c.Context, r, e))
	if csv != nil && err == nil {
		err = csv.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", termui.Quote(s.path), err)
	}
	if p.json != nil {
		f := pathFields(s.path)
		f["id"], f["bytes"] = s.ID.String(), n
		p.json.Write("summary", f)
	}
	if e.Partial {
		return &statusError{statusIncomplete, errors.New("the file was not read whole when the snapshot was made")}
	}
	return nil
}

// dataWriter writes bytes as messages, in base64.
type dataWriter struct{ json *termui.JSONWriter }

func (w dataWriter) Write(b []byte) (int, error) {
	if err := w.json.Write("data", map[string]any{"base64": b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *program) findCommand() *cli.Command {
	return &cli.Command{
		Name:      "find",
		Usage:     "find files in all snapshots",
		ArgsUsage: "PATTERN...",
		Description: "A PATTERN without a slash is compared with names, others with whole paths.\n" +
			"* and ? stand for any characters but slashes, [a-z] for one of several.",
		Flags: append(filterFlags(),
			&cli.StringSliceFlag{Name: "snapshot", Usage: "only in snapshot `ID`"},
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "with modes, owners, sizes and times"},
		),
		Action: p.find,
	}
}

func (p *program) find(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef("cairn find wants a pattern")
	}
	patterns := c.Args().Slice()
	for _, pat := range patterns {
		if pat == "" {
			return usagef("a pattern is empty; * fits every name")
		}
		if _, err := path.Match(pat, ""); err != nil {
			return usagef("pattern %q: a bracket or backslash has no end", pat)
		}
	}
	r, err := p.openToRead(c)
	if err != nil {
		return err
	}
	defer r.Close()
	found, damage, err := p.list(c.Context, r, filterOf(c))
	if err != nil {
		return err
	}
	if ids := c.StringSlice("snapshot"); len(ids) > 0 {
		found, damage = found[:0], nil // what was not asked for may be damaged
		for _, id := range ids {
			s, err := p.find1(c.Context, r, id, filterOf(c))
			if err != nil {
				return err
			}
			found = append(found, s)
		}
	}
	n := 0
	for _, s := range found {
		if s.Body == nil {
			return fmt.Errorf("look into snapshot %s: %w", s.ID.Short(), repo.ErrWriteOnly)
		}
		for e, err := range (chosen{s, ""}).tree(r).All(c.Context) {
			if err != nil {
				return err
			}
			if !fits(patterns, e.Key) {
				continue
			}
			n++
			p.printFound(s, e, c.Bool("long"))
		}
	}
	if p.json != nil {
		p.json.Write("summary", map[string]any{"matches": n, "snapshots": len(found)})
	}
	return errors.Join(damage...)
}

func fits(patterns []string, k snapshot.Key) bool {
	for _, pat := range patterns {
		subject := k.Path()
		if !strings.Contains(pat, "/") {
			subject = k.Base()
		}
		if ok, _ := path.Match(pat, subject); ok { // the pattern was checked
			return true
		}
	}
	return false
}

func (p *program) printFound(s *repo.Snapshot, e *snapshot.Entry, long bool) {
	if p.json != nil {
		f := entryFields(e)
		f["snapshot"] = s.ID.String()
		p.json.Write("match", f)
		return
	}
	fmt.Fprintf(p.Stdout, "%s %s ", s.ID.Short(), termui.Time(s.Open.Time))
	p.printEntry(e, long)
}
