package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// session is one run of Directory.
type session struct {
	o    Options
	repo *repo.Repository
	sel  *selection

	protected protected

	dirs   *dirs     // nil in a dry run without a target
	target dirState  // of the target itself
	made   bool      // the target was made by this run
	temp   tempNames // for files that are not complete
	owners owners

	devices  map[uint64]place // where each file system but the target's was first met
	outcomes outcomes
	maxOpen  int                   // files of a batch; see limits
	links    map[uint64]*firstName // by hard link group
	linked   bool                  // there are further names to make

	mu      sync.Mutex
	partial map[*file]bool // files begun and not complete, to be cleaned up

	count counters
}

// counters are the fields of Result.
type counters struct {
	Files, Directories, Others, Links, Replaced, Updated, Unchanged, Kept, Deleted, Swept atomic.Int64
	Bytes, Reused, ReadChunks, ReadBytes, Verified, Damaged, LostNodes, Problems          atomic.Int64
}

func (s *session) result() *Result {
	c := &s.count
	return &Result{
		Files: c.Files.Load(), Directories: c.Directories.Load(), Others: c.Others.Load(), Links: c.Links.Load(),
		Replaced: c.Replaced.Load(), Updated: c.Updated.Load(), Unchanged: c.Unchanged.Load(), Kept: c.Kept.Load(),
		Deleted: c.Deleted.Load(), Swept: c.Swept.Load(), Bytes: c.Bytes.Load(), Reused: c.Reused.Load(), ReadChunks: c.ReadChunks.Load(), ReadBytes: c.ReadBytes.Load(),
		Verified: c.Verified.Load(), Damaged: c.Damaged.Load(), LostNodes: c.LostNodes.Load(), Problems: c.Problems.Load(),
	}
}

func newSession(r *repo.Repository, o Options, sel *selection, protected protected) (*session, error) {
	s := &session{
		o: o, repo: r, sel: sel, protected: protected,
		owners:  newOwners(os.Geteuid() == 0),
		devices: make(map[uint64]place),
		links:   make(map[uint64]*firstName),
		partial: make(map[*file]bool),
	}
	if err := s.temp.choose(o.Random); err != nil {
		return nil, err
	}
	idle, open := limits()
	s.maxOpen = open
	if err := s.openTarget(idle); err != nil {
		return nil, err
	}
	if !s.owners.root && !o.DryRun {
		s.warn(o.Target, errNoOwners)
	}
	return s, nil
}

var errNoOwners = errors.New("owners and groups are not restored, as only root can set them")

// limits returns how many idle directories and how many unfinished files of a batch
// may be open, so that two batches and what else is open remain well below the
// process's limit.
func limits() (idle, open int) {
	idle, open = maxIdleDirs, maxOpen
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err == nil && l.Cur < 8*maxOpen {
		idle, open = min(idle, int(l.Cur/8)), max(1, int(l.Cur/8))
	}
	return idle, open
}

// openTarget opens the target, and makes it if need be.
func (s *session) openTarget(idle int) error {
	root, err := fsmeta.OpenRoot(s.o.Target)
	if errors.Is(err, fs.ErrNotExist) {
		s.made, s.target.fresh = true, true
		if s.o.DryRun {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(s.o.Target), 0o777); err != nil {
			return fmt.Errorf("make the target: %w", err)
		}
		if err := os.Mkdir(s.o.Target, 0o700); err != nil {
			return fmt.Errorf("make the target: %w", err)
		}
		root, err = fsmeta.OpenRoot(s.o.Target)
	}
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	s.dirs = newDirs(root, idle)
	s.target.inherits = hasDefaultACL(root)
	return nil
}

func (s *session) close() error {
	s.mu.Lock()
	begun := s.partial
	s.partial = nil
	s.mu.Unlock()
	for f := range begun {
		s.discard(f)
	}
	if s.dirs != nil {
		s.dirs.close()
	}
	return nil
}

// problem reports an entry that was not restored as it should.
func (s *session) problem(path string, err error) {
	s.count.Problems.Add(1)
	if s.o.Observer.Problem != nil {
		s.o.Observer.Problem(path, err)
	}
}

func (s *session) warn(path string, err error) {
	if s.o.Observer.Warning != nil {
		s.o.Observer.Warning(path, err)
	}
}

// fail notes that an entry was not restored, and returns an error if it makes no sense to
// go on. err may be nil.
func (s *session) fail(e *snapshot.Entry, out *outcome, err error) error {
	if err == nil {
		return nil
	}
	if err := hopeless(e.Key.Path(), err); err != nil {
		return err
	}
	out.set(Failed)
	s.problem(e.Key.Path(), err)
	s.fileDone(e)
	return nil
}

// hopeless returns err with advice, if the next entry would fare no better, and
// otherwise nil.
func hopeless(path string, err error) error {
	var advice string
	switch {
	case errors.Is(err, unix.ENOSPC):
		advice = "make room in the target"
	case errors.Is(err, unix.EDQUOT):
		advice = "the quota of the target is used up; have it raised"
	case errors.Is(err, unix.EROFS):
		advice = "remount the target for writing"
	case errors.Is(err, unix.EIO):
		advice = "the target's disk fails; look into the system's log"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		advice = "raise the limit of open files (ulimit -n)"
	default:
		return nil
	}
	return fmt.Errorf("restore %s: %w: %s, and run again, which may leave what is there already "+
		"(overwrite if changed)", path, err, advice)
}

// done counts an entry that is as it should be, and tells the observer.
func (s *session) done(e *snapshot.Entry, out *outcome, a Action) {
	out.set(a)
	c := &s.count
	switch {
	case a == Linked:
		c.Links.Add(1)
	case a == Kept:
		c.Kept.Add(1)
	case a == Updated:
		c.Updated.Add(1)
	case a == Unchanged && e.Type != snapshot.Directory:
		c.Unchanged.Add(1)
	case a == Created || a == Replaced:
		c.kind(e.Type).Add(1)
		if e.Type == snapshot.File {
			c.Bytes.Add(int64(e.Size))
		}
	}
	if a == Replaced {
		c.Replaced.Add(1)
	}
	s.fileDone(e)
	if s.o.Observer.Entry != nil {
		s.o.Observer.Entry(e.Key.Path(), a)
	}
}

// fileDone counts an entry for the progress, which counts no directories.
func (s *session) fileDone(e *snapshot.Entry) {
	if e.Type != snapshot.Directory {
		s.o.Observer.Progress.FilesDone.Add(1)
	}
}

// kind returns the counter for entries of a type.
func (c *counters) kind(t snapshot.Type) *atomic.Int64 {
	switch t {
	case snapshot.File:
		return &c.Files
	case snapshot.Directory:
		return &c.Directories
	}
	return &c.Others
}

// outcome is what became of an entry: an Action, or 0. At any time only one
// goroutine has to do with it.
type outcome Action

func (o *outcome) set(a Action) { *o = outcome(a) }
func (o *outcome) get() Action  { return Action(*o) }

// outcomes has one outcome for each entry, by its number in the walk. They are how
// later passes know what the first one did, for a byte an entry.
type outcomes struct{ pages []*[outcomePage]outcome }

const outcomePage = 1 << 16

// at returns the outcome of an entry, which does not move. Only one goroutine
// may call it.
func (o *outcomes) at(number int) *outcome {
	for number/outcomePage >= len(o.pages) {
		o.pages = append(o.pages, new([outcomePage]outcome))
	}
	return &o.pages[number/outcomePage][number%outcomePage]
}
