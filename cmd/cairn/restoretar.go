package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
)

// tarUsage refuses what makes no sense with --tar. Where the archive goes to the standard
// output, all that people read goes to the standard error.
func (p *program) tarUsage(c *cli.Context) error {
	for _, name := range []string{"target", "overwrite", "delete", "in-place", "verify"} {
		if c.IsSet(name) {
			return usagef("--%s and --tar: a restore writes into a directory, where --%s belongs, or an archive", name, name)
		}
	}
	if c.String("tar") != "-" || c.Bool("dry-run") {
		return nil
	}
	if p.json != nil {
		return usagef("--json and --tar - both write to the standard output; give the archive a file")
	}
	if f := asFile(p.Stdout); f != nil && term.IsTerminal(int(f.Fd())) {
		return usagef("an archive is nothing to read on a terminal; give --tar FILE, or send the standard output elsewhere")
	}
	return nil
}

// planTar counts what would be in an archive.
func planTar(ctx context.Context, r *repo.Repository, o restore.Options) (*restore.Result, error) {
	o.DryRun = true
	return restore.Tar(ctx, r, o, io.Discard)
}

// restoreTar writes an archive.
func (p *program) restoreTar(c *cli.Context, r *repo.Repository, s chosen, o restore.Options) error {
	name := c.String("tar")
	w, finish, err := p.tarOutput(c, name)
	if err != nil {
		return err
	}
	if name == "-" {
		p.Stdout = p.Stderr
	}
	o.Observer = p.restoreObserver()
	warn := p.warnOfNothing(&o)
	stop, err := p.showRestore(c, o.Observer.Progress)
	if err != nil {
		return errors.Join(err, finish(err))
	}
	p.interrupted = "interrupted; the archive is not complete"
	res, err := restore.Tar(c.Context, r, o, w)
	stop()
	if err == nil {
		warn()
	}
	// An archive that is whole but lacks what is lost is of use.
	if err = errors.Join(err, finish(err)); err != nil {
		return err
	}
	return p.tarDone(s, res, name)
}

// tarOutput opens what an archive is written to. finish gives it its name, if there was no
// error, and takes it away if there was one.
func (p *program) tarOutput(c *cli.Context, name string) (w io.Writer, finish func(error) error, err error) {
	if name == "-" {
		return p.Stdout, func(error) error { return nil }, nil
	}
	st, err := os.Stat(name)
	give := nameNew
	switch {
	case err == nil && st.IsDir():
		return nil, nil, usagef("--tar %s: it is a directory; give the archive a name in it", name)
	case err == nil && !st.Mode().IsRegular(): // a tape, a pipe
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("open archive: %w", err)
		}
		return f, func(error) error { return f.Close() }, nil
	case err == nil:
		if err := p.confirm(c, fmt.Sprintf("This replaces the file %s.", termui.Quote(name))); err != nil {
			return nil, nil, err
		}
		if name, err = filepath.EvalSymlinks(name); err != nil { // a link stays one
			return nil, nil, fmt.Errorf("open archive: %w", err)
		}
		give = os.Rename
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("open archive: %w", err)
	}
	// Only its owner can read it: it has files that others may not read.
	f, err := os.CreateTemp(filepath.Dir(name), ".cairn-tar-")
	if err != nil {
		return nil, nil, fmt.Errorf("make archive: %w", err)
	}
	return f, func(err error) error { return publishFile(f, name, give, err) }, nil
}

// nameNew renames a file unless the new name is taken.
func nameNew(temp, name string) error {
	err := os.Link(temp, name)
	if err == nil {
		return os.Remove(temp)
	}
	if _, statErr := os.Lstat(name); statErr == nil {
		return fmt.Errorf("%s came meanwhile, or is a link to nothing; it was left as it is", termui.Quote(name))
	}
	return os.Rename(temp, name) // not all file systems have links
}

// publishFile makes a temporary file durable and gives it its name, or, if something
// failed, removes it. Nobody ever sees half of it under its name.
func publishFile(f *os.File, name string, give func(temp, name string) error, failed error) error {
	if failed != nil {
		return errors.Join(f.Close(), os.Remove(f.Name()))
	}
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = give(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write archive: %w", err), os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("sync the folder of the archive: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the folder of the archive: %w", err)
	}
	return nil
}

// tarDone reports the result of an archive that is whole.
func (p *program) tarDone(s chosen, res *restore.Result, name string) error {
	if p.json != nil {
		f := restoreFields(res)
		f["id"] = s.ID.String()
		p.json.Write("summary", f)
	}
	p.printf("wrote %s, %s, %s, %s, of snapshot %s to %s\n", plural(res.Files+res.Links, "file"),
		plural(res.Directories, "directory"), plural(res.Others, "other"), termui.Size(res.Bytes), s.ID.Short(), termui.Quote(name))
	return tarStatus(res)
}

// tarStatus says what a whole archive lacks, or would.
func tarStatus(res *restore.Result) error {
	switch {
	case res.LostNodes > 0:
		return &statusError{statusDamage, fmt.Errorf("the archive lacks what is in %s of the list of what is in the snapshot, and has zeros in %s",
			plural(res.LostNodes, "gap"), plural(res.Damaged, "damaged file"))}
	case res.Damaged > 0:
		return &statusError{statusDamage, fmt.Errorf("the archive has zeros in place of what is lost of %s", plural(res.Damaged, "damaged file"))}
	case res.Problems > 0:
		return &statusError{statusFailed, fmt.Errorf("%s could not go into the archive as they are", plural(res.Problems, "entry"))}
	}
	return nil
}
