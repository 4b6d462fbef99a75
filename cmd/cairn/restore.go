package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/backend/open"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
)

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "restore files or a database from a snapshot",
		ArgsUsage: "SNAPSHOT[:PATH]",
		Description: "Without PATH, /srv/x goes to DIR/srv/x. With one, the contents of that directory\n" +
			"go into DIR. With --tar, a tar archive is written that extracts to the same.\n" +
			"With --to, a database (SNAPSHOT:postgres/DB) goes into a running server; with --dump it\n" +
			"becomes an archive that pg_restore reads, or SQL.\n" +
			"What was restored is on the disk when the command ends with status 0. If the power\n" +
			"fails before, restore again with --overwrite always, which compares contents.",
		Flags: append(append(filterFlags(), restoreDatabaseFlags()...),
			&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Usage: "restore into `DIR`"},
			&cli.StringFlag{Name: "tar", Usage: "write a tar archive to `FILE` instead (- is the standard output)"},
			&cli.StringSliceFlag{Name: "include", Aliases: []string{"i"}, Usage: "restore only what fits `PATTERN` (as in gitignore), with all below"},
			&cli.StringSliceFlag{Name: "exclude", Aliases: []string{"e"}, Usage: "do not restore what fits `PATTERN`"},
			&cli.StringFlag{Name: "overwrite", Value: "always", Usage: "what is there already: `MODE` always, if-changed, if-newer or never"},
			&cli.BoolFlag{Name: "delete", Usage: "delete what is in the target but not in the snapshot"},
			&cli.BoolFlag{Name: "in-place", Usage: "write only what differs into large files that are there; if interrupted, restore again, as they are neither old nor new"},
			&cli.BoolFlag{Name: "verify", Usage: "read back and compare what was restored"},
			&cli.BoolFlag{Name: "allow-damaged", Usage: "restore what is left of damaged files, as NAME.cairn-damaged (in a tar archive under their names)"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only say what would be done"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask before something is overwritten or deleted"},
		),
		Action: p.restore,
	}
}

var overwriteModes = map[string]restore.Overwrite{
	"always": restore.Always, "if-changed": restore.IfChanged, "if-newer": restore.IfNewer, "never": restore.Never,
}

func (p *program) restore(c *cli.Context) error {
	arg, err := argument(c, "SNAPSHOT[:PATH]")
	if err != nil {
		return err
	}
	if err := databaseUsage(c); err != nil {
		return err
	}
	if isDatabaseRestore(c) {
		return p.restoreDatabase(c, arg)
	}
	o, err := p.restoreOptions(c)
	if err != nil {
		return err
	}
	if c.IsSet("tar") {
		if err := p.tarUsage(c); err != nil {
			return err
		}
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
	o.Snapshot, o.Path = s.Snapshot, s.path
	if dir := open.Dir(c.String("repo")); dir != "" {
		o.Protect = []string{dir}
	}
	switch {
	case o.DryRun:
		return p.restorePlan(c, r, *o)
	case c.IsSet("tar"):
		return p.restoreTar(c, r, s, *o)
	}
	if err := p.confirmRestore(c, r, *o); err != nil {
		return err
	}
	o.Observer = p.restoreObserver()
	warn := p.warnOfNothing(o)
	stop, err := p.showRestore(c, o.Observer.Progress)
	if err != nil {
		return err
	}
	p.interrupted = "interrupted; some files are restored, each whole; run it again for the rest (quicker with --overwrite if-changed)"
	if o.InPlace {
		p.interrupted = "interrupted; files that were being written in place are neither old nor new; run it again for them and the rest"
	}
	res, err := restore.Directory(c.Context, r, *o)
	stop()
	if err == nil {
		warn()
	}
	return p.restoreDone(s, res, err)
}

// showRestore shows the progress of a restore until the function that it returns is called.
func (p *program) showRestore(c *cli.Context, counters *restore.Progress) (stop func(), err error) {
	return p.show(c, func() string {
		line := fmt.Sprintf("%s files, %s restored", termui.Count(counters.FilesDone.Load()), termui.Size(counters.BytesDone.Load()))
		if counters.WalkFinished.Load() {
			line += " of " + termui.Size(counters.Bytes.Load())
		}
		return line
	}, func() map[string]any {
		return map[string]any{
			"files_done": counters.FilesDone.Load(), "bytes_done": counters.BytesDone.Load(),
			"files": counters.Files.Load(), "bytes": counters.Bytes.Load(), "walk_finished": counters.WalkFinished.Load(),
		}
	})
}

func (p *program) restoreOptions(c *cli.Context) (*restore.Options, error) {
	o := &restore.Options{
		Target: c.String("target"), Delete: c.Bool("delete"), DryRun: c.Bool("dry-run"), Verify: c.Bool("verify"), AllowDamaged: c.Bool("allow-damaged"), InPlace: c.Bool("in-place"),
	}
	if o.Target == "" && c.String("tar") == "" {
		return nil, usagef("where to? give --target DIR, or --tar FILE; for a database --to URL, or --dump FILE")
	}
	mode, ok := overwriteModes[c.String("overwrite")]
	if !ok {
		return nil, usagef("--overwrite %q: want always, if-changed, if-newer or never", c.String("overwrite"))
	}
	o.Overwrite = mode
	var err error
	if o.Include, err = patterns(c, "include"); err != nil {
		return nil, err
	}
	o.Exclude, err = patterns(c, "exclude")
	return o, err
}

// patterns returns the patterns of an option, nil if there are none.
func patterns(c *cli.Context, option string) (*gitignore.Set, error) {
	if len(c.StringSlice(option)) == 0 {
		return nil, nil
	}
	set := gitignore.New("/")
	for _, s := range c.StringSlice(option) {
		if err := set.Add(s, "--"+option); err != nil {
			return nil, usagef("%v", err)
		}
	}
	return set, nil
}

// warnOfNothing makes the function that it returns warn if a restore met nothing that fits
// --include: patterns are easily mistyped, and nothing is no error.
func (p *program) warnOfNothing(o *restore.Options) func() {
	if o.Include == nil {
		return func() {}
	}
	base := cmp.Or(o.Path, "/") // is there in any case
	var met atomic.Bool
	told := o.Observer.Entry
	o.Observer.Entry = func(path string, a restore.Action) {
		if path != base {
			met.Store(true)
		}
		if told != nil {
			told(path, a)
		}
	}
	return func() {
		if !met.Load() {
			p.warn("nothing in the snapshot fits --include; cairn find PATTERN finds entries by name")
		}
	}
}

// restorePlan says what a restore would do.
func (p *program) restorePlan(c *cli.Context, r *repo.Repository, o restore.Options) error {
	o.Observer = p.restoreObserver()
	if !p.quiet {
		o.Observer.Entry = func(path string, a restore.Action) {
			if a != restore.Unchanged || p.verbose {
				p.restoreEntry(path, a)
			}
		}
	}
	warn := p.warnOfNothing(&o)
	plan := restore.Plan
	if c.IsSet("tar") {
		plan = planTar
	}
	res, err := plan(c.Context, r, o)
	if err == nil {
		warn()
	}
	if res == nil {
		return err
	}
	if p.json != nil {
		p.json.Write("summary", restoreFields(res))
	}
	p.printf("would restore %s, %s; would replace %s and delete %s; to be read: %s, %s before compression\n",
		plural(res.Files, "file"), termui.Size(res.Bytes), plural(res.Replaced, "entry"), plural(res.Deleted, "entry"),
		plural(res.ReadChunks, "chunk"), termui.Size(res.ReadBytes))
	if res.Updated > 0 {
		p.printf("would give metadata to %s with the right contents\n", plural(res.Updated, "entry"))
	}
	if c.IsSet("tar") && err == nil {
		return tarStatus(res)
	}
	return restoreStatus(res, err)
}

// restoreEntry prints what became of an entry, or would.
func (p *program) restoreEntry(path string, a restore.Action) {
	if p.json == nil {
		fmt.Fprintf(p.Stdout, "%-9s %s\n", a, termui.Quote(path))
		return
	}
	f := pathFields(path)
	f["action"] = a.String()
	p.json.Write("entry", f)
}

// maxShown is how much of a plan a question shows.
const maxShown = 10

// confirmRestore asks before a restore that would overwrite or delete
// something. An empty or new target needs no plan.
func (p *program) confirmRestore(c *cli.Context, r *repo.Repository, o restore.Options) error {
	if c.Bool("yes") || isEmpty(o.Target) {
		return nil
	}
	var mu sync.Mutex
	var some []string
	o.Observer.Entry = func(path string, a restore.Action) {
		mu.Lock()
		defer mu.Unlock()
		if (a == restore.Replaced || a == restore.Deleted) && len(some) < maxShown {
			some = append(some, fmt.Sprintf("%s %s", a, termui.Quote(path)))
		}
	}
	plan, err := restore.Plan(c.Context, r, o)
	if err != nil && !errors.Is(err, restore.ErrIncomplete) && !errors.Is(err, repo.ErrDamage) {
		return err // else there are entries that the restore itself will complain of
	}
	if plan.Replaced == 0 && plan.Deleted == 0 {
		return nil
	}
	for _, s := range some {
		fmt.Fprintf(p.Stderr, "  would be %s\n", s)
	}
	if more := plan.Replaced + plan.Deleted - int64(len(some)); more > 0 {
		fmt.Fprintf(p.Stderr, "  and %s; --dry-run lists all\n", termui.Count(more)+" more")
	}
	return p.confirm(c, fmt.Sprintf("This replaces %s and deletes %s in %s.", plural(plan.Replaced, "entry"), plural(plan.Deleted, "entry"), termui.Quote(o.Target)))
}

// isEmpty reports whether a restore has nothing to replace in a target: it is new,
// empty, or can't be read, which the restore itself will meet.
func isEmpty(target string) bool {
	d, err := os.Open(target)
	if err != nil {
		return true
	}
	defer d.Close()
	names, _ := d.Readdirnames(1) // of perhaps very many
	return len(names) == 0
}

func (p *program) restoreObserver() restore.Observer {
	o := restore.Observer{
		Progress: new(restore.Progress),
		Problem: func(path string, err error) {
			if p.json == nil {
				p.warn("%s: %v", termui.Quote(cmp.Or(path, "the whole tree")), reason(err))
				return
			}
			f := pathFields(path)
			f["message"] = err.Error()
			p.json.Write("problem", f)
		},
		Warning: func(path string, err error) {
			if path == "" {
				p.warn("%v", err)
				return
			}
			p.warn("%s: %v", termui.Quote(path), err)
		},
	}
	if p.verbose {
		o.Entry = p.restoreEntry
	}
	return o
}

func restoreFields(res *restore.Result) map[string]any {
	return map[string]any{
		"files": res.Files, "directories": res.Directories, "others": res.Others, "links": res.Links, "replaced": res.Replaced,
		"updated": res.Updated, "unchanged": res.Unchanged, "kept": res.Kept, "deleted": res.Deleted, "swept": res.Swept,
		"bytes": res.Bytes, "reused_bytes": res.Reused, "read_chunks": res.ReadChunks,
		"read_bytes": res.ReadBytes, "verified": res.Verified, "damaged": res.Damaged, "problems": res.Problems,
	}
}

// restoreDone reports the result. Damage that was allowed for is still damage
// to scripts.
func (p *program) restoreDone(s chosen, res *restore.Result, err error) error {
	if res == nil {
		return err
	}
	if p.json != nil {
		f := restoreFields(res)
		f["id"] = s.ID.String()
		p.json.Write("summary", f)
	}
	p.printf("restored %s, %s, %s, %s, from snapshot %s\n", plural(res.Files+res.Links, "file"),
		plural(res.Directories, "directory"), plural(res.Others, "other"), termui.Size(res.Bytes), s.ID.Short())
	if res.Verified > 0 {
		p.printf("read back and compared %s\n", plural(res.Verified, "file"))
	}
	if res.Deleted > 0 {
		p.printf("deleted, as the snapshot does not have it: %s\n", plural(res.Deleted, "entry"))
	}
	if res.Unchanged+res.Kept > 0 {
		p.printf("left alone, as it was there already: %s\n", plural(res.Unchanged+res.Kept, "entry"))
	}
	if res.Updated > 0 {
		p.printf("had the right contents, and got its metadata: %s\n", plural(res.Updated, "entry"))
	}
	if res.Reused > 0 {
		p.printf("taken from the files that were replaced: %s\n", termui.Size(res.Reused))
	}
	if res.Swept > 0 {
		p.printf("removed what a killed restore had left: %s\n", plural(res.Swept, "temporary file"))
	}
	return restoreStatus(res, err)
}

// restoreStatus returns err with the exit status that fits.
func restoreStatus(res *restore.Result, err error) error {
	if res.Damaged > 0 && !errors.Is(err, repo.ErrDamage) {
		damaged := fmt.Errorf("damaged, and restored as NAME.cairn-damaged: %s", plural(res.Damaged, "file"))
		return &statusError{statusDamage, errors.Join(damaged, err)}
	}
	if errors.Is(err, restore.ErrIncomplete) && !errors.Is(err, repo.ErrDamage) {
		return &statusError{statusFailed, err}
	}
	return err
}
