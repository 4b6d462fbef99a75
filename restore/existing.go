package restore

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// Reasons for problems with what is in the target.
var (
	errInTheWay  = errors.New("something else is in the way of a directory; move it away, or let it be overwritten always")
	errDirInWay  = errors.New("a directory is in the way; move it away, or let it be overwritten always")
	errNotEmpty  = errors.New("a directory that is not empty is in the way; move it away, or restore with overwriting always and deletion")
	errAppeared  = errors.New("something of this name appeared in the target meanwhile, or its file system does not tell this name from another one")
	errManyLinks = errors.New("it has the right contents, but its metadata was left, as it has further names elsewhere")
)

// dirState says what a pass knows of a directory in the target.
type dirState struct {
	// fresh: this run made it, so nothing can be in it but what this run put
	// there. In a dry run it does not exist.
	fresh bool
	// inherits: new entries get an access control list from it.
	inherits bool
}

// hasDefaultACL reports whether new entries of a directory inherit an access
// control list. If that can't be found out, they are treated as if.
func hasDefaultACL(d *fsmeta.Dir) bool {
	xs, err := fsmeta.Xattrs(d.Fd())
	for _, x := range xs {
		if x.Name == "system.posix_acl_default" {
			return true
		}
	}
	return err != nil
}

// decide says what to do with an entry that is not a directory: Created,
// Replaced, Unchanged or Kept. st describes what is there, if the answer isn't
// Created.
func (s *session) decide(p place, e *snapshot.Entry, parent dirState) (a Action, st fsmeta.Stat, err error) {
	if parent.fresh {
		return Created, st, nil
	}
	above, name := p.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return 0, st, err
	}
	defer s.dirs.release(d)
	st, err = d.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Created, st, nil
	}
	if err != nil {
		return 0, st, err
	}
	switch s.o.Overwrite {
	case Never:
		return Kept, st, nil
	case IfNewer:
		if fsmeta.Time(e.Mtime).Compare(st.Mtime) <= 0 && !(st.IsRegular() && e.Size >= smallFile && isUnfinished(d, name)) {
			return Kept, st, nil
		}
	case IfChanged:
		if same(d.Dir, name, e, &st) {
			return Unchanged, st, nil
		}
	}
	if st.IsDir() && s.o.Overwrite != Always {
		return 0, st, errDirInWay
	}
	return Replaced, st, nil
}

// same reports whether what is in the target looks like e, without a look at
// contents.
func same(d *fsmeta.Dir, name string, e *snapshot.Entry, st *fsmeta.Stat) bool {
	if st.Type() != typeBits(e.Type) {
		return false
	}
	switch e.Type {
	case snapshot.File:
		return uint64(st.Size) == e.Size && st.Mtime == fsmeta.Time(e.Mtime)
	case snapshot.Symlink:
		target, err := d.Readlink(name)
		return err == nil && target == string(e.Target)
	case snapshot.CharDevice, snapshot.BlockDevice:
		return st.Rdev == e.Device
	}
	return true
}

// typeBits returns the type as it stands in st_mode.
func typeBits(t snapshot.Type) uint32 {
	switch t {
	case snapshot.File:
		return unix.S_IFREG
	case snapshot.Directory:
		return unix.S_IFDIR
	case snapshot.Symlink:
		return unix.S_IFLNK
	case snapshot.FIFO:
		return unix.S_IFIFO
	case snapshot.Socket:
		return unix.S_IFSOCK
	case snapshot.CharDevice:
		return unix.S_IFCHR
	case snapshot.BlockDevice:
		return unix.S_IFBLK
	}
	return 0
}

// makeDir makes a directory, or finds it there, and says what its state is. It is
// accessible to this user only, until the last pass gives it its metadata.
func (s *session) makeDir(p place, parent dirState) (Action, dirState, error) {
	fresh := dirState{fresh: true, inherits: parent.inherits}
	if parent.fresh && s.o.DryRun {
		return Created, fresh, nil
	}
	above, name := p.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return 0, dirState{}, err
	}
	defer s.dirs.release(d)
	action := Created
	if !parent.fresh {
		st, err := d.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return 0, dirState{}, err
		case st.IsDir():
			state, err := s.merge(d, p, st)
			return Unchanged, state, err
		case s.o.Overwrite != Always:
			return 0, dirState{}, errInTheWay
		default:
			if !s.o.DryRun {
				err = d.Remove(name)
			}
			if err != nil {
				return 0, dirState{}, err
			}
			action = Replaced
		}
	}
	if s.o.DryRun {
		return action, fresh, nil
	}
	if err := d.Mkdir(name, 0o700); err != nil {
		// On a file system that does not tell upper case from lower, two
		// directories of the snapshot may be one in the target.
		if st, serr := d.Stat(name); errors.Is(err, fs.ErrExist) && serr == nil && st.IsDir() {
			state, err := s.merge(d, p, st)
			return Unchanged, state, err
		}
		return 0, dirState{}, err
	}
	return action, fresh, nil
}

// merge prepares a directory that exists for new entries.
func (s *session) merge(parent *dir, p place, st fsmeta.Stat) (dirState, error) {
	if s.protected.has(st) {
		return dirState{}, errProtected
	}
	if _, known := s.devices[st.Dev]; !known {
		s.devices[st.Dev] = p
	}
	_, name := p.split()
	// Root may write anywhere. Others can only open up what is theirs: so a
	// link that somebody puts here meanwhile makes them change nothing that
	// they could not be made to change otherwise.
	isOwn := int(st.UID) == os.Geteuid()
	if isOwn && !s.owners.root && !s.o.DryRun && st.Mode&0o700 != 0o700 {
		if err := fsmeta.ChmodAt(parent.Fd(), name, st.Perm()|0o700); err != nil {
			return dirState{}, err
		}
	}
	d, err := s.dirs.get(p)
	if err != nil {
		return dirState{}, err
	}
	defer s.dirs.release(d)
	return dirState{inherits: hasDefaultACL(d.Dir)}, nil
}

// clear makes way for an entry that replaces a directory.
func (s *session) clear(d *dir, e *snapshot.Entry, name string) error {
	empty, err := s.removeEmpty(d, name)
	if empty || err != nil {
		return err
	}
	if !s.o.Delete || !s.isSource(e.Key) {
		return errNotEmpty
	}
	all, err := s.remove(d.Dir, false, name, e.Key, s.sel.include == nil)
	if err == nil && !all {
		err = errNotEmpty
	}
	return err
}

// removeEmpty removes a directory if it is empty.
func (s *session) removeEmpty(d *dir, name string) (empty bool, err error) {
	if s.o.DryRun {
		sub, err := d.Open(name)
		if err != nil {
			return false, err
		}
		defer sub.Close()
		names, err := fsmeta.FindNames(sub.Fd(), func([]byte) bool { return true })
		return len(names) == 0, err
	}
	err = d.Remove(name)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}
