package main

import (
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

func (p *program) snapshotCommand() *cli.Command {
	return &cli.Command{
		Name:      "snapshot",
		Aliases:   []string{"backup"},
		Usage:     "make one snapshot of all sources",
		ArgsUsage: "SOURCE...",
		Description: "A SOURCE is a path, - for the standard input, or tar:FILE (tar:-) for what is in\n" +
			"a tar archive, also compressed with gzip, zstd or bzip2, or postgres://HOST/DB for a\n" +
			"database (DB1,DB2 for several, nothing for all of the server; who connects, how, and with which\n" +
			"password is said by the URL and by PG* variables, as to psql). All sources become one\n" +
			"snapshot, published at once or not at all.",
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "command", Usage: "take the output of a command, as `NAME=CMD`; it must end with status 0"},
			&cli.StringFlag{Name: "stdin-name", Value: "stdin", Usage: "`NAME` of the standard input, and of tar:-, in the snapshot"},
			&cli.StringSliceFlag{Name: "exclude", Aliases: []string{"e"}, Usage: "leave out what fits `PATTERN` (as in gitignore, anchored at /, in archives at their root)"},
			&cli.StringSliceFlag{Name: "exclude-file", Usage: "read such patterns from `FILE`"},
			&cli.BoolFlag{Name: "exclude-caches", Usage: "leave out the contents of directories with a valid CACHEDIR.TAG, but the tag"},
			&cli.StringSliceFlag{Name: "files-from", Usage: "read further paths from `FILE` (- is the standard input), one a line"},
			&cli.StringSliceFlag{Name: "files-from-raw", Usage: "the same, with a NUL byte behind each path, as find -print0 writes them"},
			&cli.StringSliceFlag{Name: "tag", Usage: "`TAG` the snapshot"},
			&cli.StringFlag{Name: "host", Usage: "`NAME` of the host", DefaultText: "this machine's"},
			&cli.StringFlag{Name: "time", Usage: "`TIME` of the snapshot: RFC 3339, or YYYY-MM-DD[ HH:MM:SS] in local time", DefaultText: "now"},
			&cli.StringFlag{Name: "parent", Usage: "take unchanged files from snapshot `ID` (none: read every file)", DefaultText: "the newest of the same host and sources"},
			&cli.StringFlag{Name: "compression", Usage: "`LEVEL`: fastest, default or better", DefaultText: "the repository's"},
			&cli.StringFlag{Name: "delta-budget", Value: defaultDeltaBudget, Usage: "read up to `SIZE` of older chunks from the storage, to store new ones as differences to them (0: store no differences)"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "store nothing, only say what would be stored"},
			&cli.BoolFlag{Name: "one-file-system", Aliases: []string{"x"}, Usage: "do not go into what is mounted below the sources"},
			&cli.BoolFlag{Name: "skip-if-unchanged", Usage: "make no snapshot if nothing has changed since the parent"},
			&cli.BoolFlag{Name: "allow-incomplete", Usage: "keep what succeeded if a source fails or is missing, marked as incomplete"},
		}, postgresFlags()...),
		Action: p.snapshot,
	}
}

// defaultDeltaBudget is what most nightly runs do not come to, and is read in seconds from a disk;
// from a distant storage it takes minutes, and costs ten cents where reading is dearest.
const defaultDeltaBudget = "1GiB"

func (p *program) snapshot(c *cli.Context) error {
	opts, err := p.snapshotOptions(c)
	if err != nil {
		return err
	}
	defer closeTars(opts)
	r, err := p.open(c)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := p.parentOption(c, r, opts); err != nil {
		return err
	}
	opts.Repository = open.Dir(c.String("repo"))
	counters := new(ingest.Progress)
	opts.Observer = ingest.Observer{Progress: counters, Problem: p.snapshotProblem, Again: func(why error) {
		p.warn("%v; the sources are read again", why)
	}}
	if p.verbose {
		opts.Observer.Entry = p.snapshotEntry
	}
	stop, err := p.show(c, func() string { return snapshotLine(counters) }, func() map[string]any {
		return map[string]any{
			"files_done": counters.FilesDone.Load(), "bytes_done": counters.BytesDone.Load(),
			"files_seen": counters.Files.Load(), "bytes_seen": counters.Bytes.Load(), "walk_finished": counters.WalkFinished.Load(),
		}
	})
	if err != nil {
		return err
	}
	p.interrupted = "interrupted; no snapshot was made, and nothing that was stored before is affected"
	res, err := ingest.Snapshot(c.Context, r, *opts)
	stop()
	if err != nil {
		return err
	}
	return p.snapshotDone(res, opts.DryRun)
}

func (p *program) snapshotOptions(c *cli.Context) (*ingest.Options, error) {
	opts := &ingest.Options{
		ExcludeCaches:   c.Bool("exclude-caches"),
		OneFileSystem:   c.Bool("one-file-system"),
		Tags:            c.StringSlice("tag"),
		AllowIncomplete: c.Bool("allow-incomplete"),
		SkipIfUnchanged: c.Bool("skip-if-unchanged"),
		DryRun:          c.Bool("dry-run"),
		Program:         "cairn " + version(),
	}
	if err := p.sources(c, opts); err != nil {
		return nil, err
	}
	var err error
	if opts.Excludes, err = excludes(c); err != nil {
		return nil, err
	}
	if opts.Host, err = hostName(c); err != nil {
		return nil, err
	}
	if u, err := user.Current(); err == nil {
		opts.User = u.Username
	}
	if s := c.String("time"); s != "" {
		if opts.Time, err = parseTime(s); err != nil {
			return nil, err
		}
	}
	if opts.Compression, err = compressionOption(c); err != nil {
		return nil, err
	}
	if s := c.String("delta-budget"); s != "" {
		if opts.DeltaBudget, err = termui.ParseSize(s); err != nil || opts.DeltaBudget < 0 {
			return nil, usagef("--delta-budget %s: want a size, such as 10GiB, or 0 for no differences", s)
		}
	}
	return opts, nil
}

func excludes(c *cli.Context) (*gitignore.Set, error) {
	set := gitignore.New("/")
	for _, f := range c.StringSlice("exclude-file") {
		r, err := os.Open(f)
		if err != nil {
			return nil, fmt.Errorf("read exclude patterns: %w", err)
		}
		err = set.AddFrom(r, f)
		r.Close()
		if err != nil {
			return nil, usagef("%v", err)
		}
	}
	for _, s := range c.StringSlice("exclude") {
		if err := set.Add(s, "--exclude"); err != nil {
			return nil, usagef("%v", err)
		}
	}
	if set.Len() == 0 {
		return nil, nil
	}
	return set, nil
}

func hostName(c *cli.Context) (string, error) {
	if h := c.String("host"); h != "" {
		return h, nil
	}
	h, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find out the host's name (or give --host): %w", err)
	}
	return h, nil
}

// parseTime reads a time as users write it, which must be one that a manifest can
// say: 64 bits of nanoseconds.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		t, err := time.ParseInLocation(layout, s, time.Local) // where it names no other zone
		if err != nil {
			continue
		}
		if !time.Unix(0, t.UnixNano()).Equal(t) {
			return t, usagef("time %q: want one between the years 1678 and 2262", s)
		}
		return t, nil
	}
	return time.Time{}, usagef("time %q: want RFC 3339, or YYYY-MM-DD[ HH:MM:SS] in local time", s)
}

func (p *program) parentOption(c *cli.Context, r *repo.Repository, opts *ingest.Options) error {
	switch s := c.String("parent"); s {
	case "":
	case "none":
		opts.NoParent = true
	default:
		info, err := p.find1(c.Context, r, s, filter{})
		if err != nil {
			return fmt.Errorf("--parent: %w", err)
		}
		opts.Parent = &info.ID
	}
	return nil
}

func (p *program) snapshotProblem(path string, err error, fatal bool) {
	text := fmt.Sprintf("%s: %v", termui.Quote(path), reason(err))
	if p.json != nil {
		f := pathFields(path)
		f["message"], f["lost"] = reason(err), fatal
		p.json.Write("problem", f)
		return
	}
	p.warn("%s", text)
}

// reason is an error without the name that the message has already.
func reason(err error) string {
	if pe, ok := err.(*os.PathError); ok { // and what is around one says more
		return pe.Err.Error()
	}
	return err.Error()
}

func (p *program) snapshotEntry(path string, change ingest.Change, size uint64) {
	if p.json != nil {
		f := pathFields(path)
		f["change"], f["size"] = change.String(), size
		p.json.Write("entry", f)
		return
	}
	fmt.Fprintf(p.Stdout, "%-10s %s\n", change, termui.Quote(path))
}

func snapshotLine(c *ingest.Progress) string {
	done, seen := c.BytesDone.Load(), c.Bytes.Load()
	line := fmt.Sprintf("%s, %s read", plural(c.FilesDone.Load(), "entry"), termui.Size(done))
	if c.WalkFinished.Load() && seen > 0 {
		return fmt.Sprintf("%s of %s", line, termui.Size(seen))
	}
	return line
}

// snapshotDone reports the result, and what it means for the exit status.
func (p *program) snapshotDone(res *ingest.Result, dry bool) error {
	t := res.Totals
	if p.json != nil {
		f := map[string]any{
			"files": t.Files, "dirs": t.Dirs, "others": t.Others, "bytes_read": t.Bytes, "bytes_added": t.NewRaw, "bytes_stored": t.NewStored,
			"files_new": t.New, "files_changed": t.Changed, "files_unmodified": t.Unmodified, "entries_removed": t.Removed,
			"unreadable": t.Unreadable, "duration": res.Duration.Seconds(), "incomplete": res.Partial, "skipped": res.Skipped, "dry_run": dry,
			"id": idOrNull(res.ID), "parent": idOrNull(res.Parent),
			"delta_bytes": res.Deltas.Raw, "delta_stored": res.Deltas.Stored, "delta_saved": res.Deltas.Saved,
		}
		p.json.Write("summary", f)
	}
	what, added := "snapshot "+res.ID.Short()+" saved", "added"
	switch {
	case dry:
		what, added = "dry run, nothing was stored", "would add"
	case res.Skipped:
		what = "nothing has changed since snapshot " + res.Parent.Short() + ", no snapshot was made"
	}
	p.printf("%s: %s (%s new, %s changed, %s unmodified, %s removed), %s in %s\n", what,
		plural(t.Files, "file"), termui.Count(int64(t.New)), termui.Count(int64(t.Changed)), termui.Count(int64(t.Unmodified)),
		plural(t.Removed, "entry"), termui.Size(int64(t.Bytes)), termui.Duration(res.Duration))
	p.printf("  %s %s, stored as %s%s\n", added, termui.Size(int64(t.NewRaw)), termui.Size(int64(t.NewStored)), deltasText(res.Deltas))
	if res.Partial {
		return &statusError{statusIncomplete, fmt.Errorf("%s could not be read; the snapshot lacks what is named above, and is marked as incomplete", plural(t.Unreadable, "item"))}
	}
	return nil
}

// deltasText says what deltas saved, if they did.
func deltasText(d repo.Deltas) string {
	if d.Raw == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s of it as differences to older chunks, which saved about %s)", termui.Size(d.Raw), termui.Size(d.Saved))
}

// compressionOption reads --compression, zero if it was not given.
func compressionOption(c *cli.Context) (pack.Compression, error) {
	if c.String("compression") == "" {
		return 0, nil
	}
	level, err := pack.ParseCompression(c.String("compression"))
	if err != nil {
		return 0, usagef("--compression: %v", err)
	}
	return level, nil
}
