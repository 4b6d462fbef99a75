// Package restore turns a snapshot back into files.
//
// Directory makes several passes over the snapshot's entry tree, in the order of its
// keys, so that memory does not grow with the tree (but for one byte an entry):
//
//  1. contents (collect.go): directories, links and special files are made,
//     and the contents of files are gathered into batches (batch.go), whose
//     chunks are read once each, in the order in which they are stored, and
//     written to all their places by whoever decoded them (file.go).
//  2. hard links (links.go), once their contents are complete.
//  3. if asked for, what was written is read back (verify.go).
//  4. the metadata of directories, from the leaves up, and deletion
//     (finish.go): whatever happens inside a directory changes its times.
//
// At last all is synced, once (sync.go).
//
// Everything happens below descriptors of directories in the target (dirs.go):
// no name of a snapshot and no link planted in the target leads out of it.
package restore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/repo"
)

// Overwrite says what happens to a file that exists in the target.
// Directories are merged in any case.
type Overwrite uint8

const (
	// Always replaces it, unless its contents are those of the snapshot: then
	// at most its metadata is set. All contents are read to find out, and
	// those parts of a large file that are equal are not read from the
	// repository. The new file is complete before it takes the old one's
	// place, and other names of the old file keep the old contents.
	Always Overwrite = iota
	// IfChanged takes a file of the same size and modification time, or a
	// link with the same target, for equal without a look at contents, and
	// otherwise does as Always, but for directories: it leaves them.
	IfChanged
	// IfNewer replaces it if its modification time is before that in the
	// snapshot.
	IfNewer
	// Never leaves it. Metadata of existing directories is left too.
	Never
)

// Action says what became of an entry.
type Action uint8

const (
	// Created: it was not there before.
	Created Action = iota + 1
	// Replaced: it took the place of something.
	Replaced
	// Updated: its contents were there already, and its metadata was set.
	Updated
	// Unchanged: it was there already. A directory that was there is always
	// unchanged, also when its metadata was set.
	Unchanged
	// Kept: something else was there, and Overwrite says to leave it.
	Kept
	// Linked: it became a further name of a file that is restored.
	Linked
	// Deleted: it was in the target and not in the snapshot.
	Deleted
	// Damaged: its contents can't be had, or not all of them.
	Damaged
	// Failed: the target did not take it.
	Failed
)

var actionNames = [...]string{"", "created", "replaced", "updated", "unchanged", "kept", "linked", "deleted", "damaged", "failed"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// Options say what to restore and where to.
type Options struct {
	Snapshot *repo.Snapshot
	// Path is what to restore, as in the snapshot: "/srv/x", "stdin/dump". The
	// contents of a directory go into Target, a file to Target/NAME. Empty is
	// everything: /srv/x goes to Target/srv/x, stdin/dump to
	// Target/stdin/dump.
	Path string
	// Target is a directory, which is made if it does not exist. If it exists
	// it keeps its own metadata.
	Target string

	// Include has patterns of what to restore, with all that is below;
	// nil or empty is everything. Exclude has patterns of what not to restore.
	// Both match paths of the snapshot.
	Include, Exclude *gitignore.Set

	Overwrite Overwrite
	// Delete removes what is not in the snapshot, but nothing that Exclude
	// matches or Include does not, and only inside of what was a source of
	// the snapshot: of directories above a source the snapshot has only what
	// leads there.
	Delete bool
	// InPlace writes into large files that are there and differ, and only what
	// differs, instead of putting whole new ones into their places. That needs no
	// room for both, and spares the disk. But a restore that ends in the middle,
	// or meets damage, leaves a file that is neither the old nor the new one, with
	// an attribute that says so (user.cairn.unfinished), and mode 0600; the next
	// restore completes it, unless Overwrite is Never. Who has the file open sees
	// it change. Files with further names, and those that belong to neither root
	// nor their owner in the snapshot, are replaced.
	InPlace bool
	// DryRun changes nothing. The result and the observer say what would be
	// done, but for damage, which only reading finds.
	DryRun bool
	// Verify reads back each file and compares it with the snapshot.
	Verify bool
	// AllowDamaged restores files with damaged contents as
	// NAME.cairn-damaged, with zeros in place of what is lost. Otherwise
	// they are left out.
	AllowDamaged bool

	// Protect has directories in which nothing is made, replaced or deleted:
	// those of the repository. A target in them is refused, and what the
	// snapshot has in the place of one is a problem.
	Protect []string

	// Random names temporary files; nil is crypto/rand.Reader.
	Random   io.Reader
	Observer Observer
}

// Observer has callbacks for what happens to single entries. They are called from
// several goroutines at once. All may be nil.
type Observer struct {
	// Problem: an entry was not restored, or not as it should be.
	Problem func(path string, err error)
	// Warning: something worth knowing that makes the restore no less
	// complete than it can be here.
	Warning func(path string, err error)
	// Entry: something became of an entry. path is the one in the snapshot,
	// and for deletions the one it would have.
	Entry func(path string, action Action)
	// Progress has counters to poll, if not nil.
	Progress *Progress
}

// Progress has counters that grow during a restore. They may be read at any time.
type Progress struct {
	Files, Bytes         atomic.Int64 // found by the walk
	FilesDone, BytesDone atomic.Int64 // restored, or found to need no work
	WalkFinished         atomic.Bool  // the first two are final
}

// Result is what a restore did, or with DryRun what it would do.
type Result struct {
	Files       int64 // created or replaced
	Directories int64 // created
	Others      int64 // symbolic links and special files, created or replaced
	Links       int64 // further names of files
	Replaced    int64 // of these, how many took the place of something
	Updated     int64 // files and others of which only the metadata was set
	Unchanged   int64 // files and others that were there already
	Kept        int64 // files and others that were left as Overwrite says
	Deleted     int64 // entries removed, each with all below it
	Swept       int64 // temporary files removed that killed restores had left

	Bytes      int64 // of contents, in created and replaced files
	Reused     int64 // of these, bytes that were in the files replaced
	ReadChunks int64 // chunks to read for them; one that two batches need counts twice
	ReadBytes  int64 // size of these chunks, before compression

	Verified  int64 // files read back and found good
	Damaged   int64 // files whose contents can't be had whole
	LostNodes int64 // nodes of the snapshot's tree that can't be had, with the entries in them
	Problems  int64 // other problems
}

// ErrIncomplete: some entries were not restored, or not as they should be. The
// observer was told which.
var ErrIncomplete = errors.New("the restore is incomplete")

// Directory restores files into a directory. It goes on after problems with
// single entries, and after damage; then the error matches ErrIncomplete or
// repo.ErrDamage (with AllowDamaged, damaged files are in the result only). When the
// target is full, or the repository can't be reached, it stops. The
// result is valid with any error, if it isn't nil.
//
// When it returns without an error, what it restored is on the disk. After a loss of power
// before that, files may have their names and times and not their contents: so restore
// again with Always, which compares contents. IfChanged would take them for restored.
//
// Owners and groups are set, as root, by name if this machine knows the name, and
// else by number, as tar does. Other users can't set them.
func Directory(ctx context.Context, r *repo.Repository, o Options) (*Result, error) {
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Observer.Progress == nil {
		o.Observer.Progress = new(Progress)
	}
	if err := r.LoadBody(ctx, o.Snapshot); err != nil {
		return nil, err
	}
	sel, err := newSelection(ctx, r, &o)
	if err != nil {
		return nil, err
	}
	if err := checkDelete(&o); err != nil {
		return nil, err
	}
	protected, err := protect(&o)
	if err != nil {
		return nil, err
	}
	s, err := newSession(r, o, sel, protected)
	if err != nil {
		return nil, err
	}
	err = s.restore(ctx)
	return s.result(), errors.Join(s.verdict(err), s.close())
}

// Plan says what Directory would do, without a change to anything.
func Plan(ctx context.Context, r *repo.Repository, o Options) (*Result, error) {
	o.DryRun = true
	return Directory(ctx, r, o)
}

// checkDelete refuses deletion on the word of a snapshot that is known to lack
// things.
func checkDelete(o *Options) error {
	if n := o.Snapshot.Body.Totals.Unreadable; o.Delete && n > 0 {
		return fmt.Errorf("snapshot %s lacks %d items that could not be read when it was made, "+
			"and deleting what it lacks could take their only copies; restore without deleting", o.Snapshot.ID.Short(), n)
	}
	return nil
}

// restore makes the passes.
func (s *session) restore(ctx context.Context) error {
	if err := s.contents(ctx); err != nil {
		return err
	}
	if err := s.hardLinks(ctx); err != nil {
		return err
	}
	if s.o.Verify && !s.o.DryRun {
		if err := s.verify(ctx); err != nil {
			return err
		}
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	if s.o.DryRun {
		return nil
	}
	return s.sync()
}

// verdict adds to err, which ended the restore, what the observer was told.
func (s *session) verdict(err error) error {
	errs := []error{err}
	if n := s.count.Damaged.Load(); n > 0 && !s.o.AllowDamaged {
		errs = append(errs, fmt.Errorf("%w: files lost in whole or in part, and not restored: %d; "+
			"to get what is left of them, allow damaged files", repo.ErrDamage, n))
	}
	if n := s.count.LostNodes.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("%w: gaps in the list of what is in the snapshot: %d; what was in them is not restored, "+
			"another snapshot may have it", repo.ErrDamage, n))
	}
	if n := s.count.Problems.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("%w: problems: %d", ErrIncomplete, n))
	}
	return errors.Join(errs...)
}
