package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// tempNames makes names for what is not complete yet: such that no entry of a
// snapshot has them but by intent, and that a later restore knows where they come
// from.
type tempNames struct {
	prefix string
	last   atomic.Uint64
}

var tempName = regexp.MustCompile(`^\.cairn-[0-9a-f]{16}-[1-9][0-9]*$`)

// choose chooses the names.
func (t *tempNames) choose(random io.Reader) error {
	var token [8]byte
	if _, err := io.ReadFull(random, token[:]); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	t.prefix = fmt.Sprintf(".cairn-%x-", token)
	return nil
}

func (t *tempNames) next() string { return fmt.Sprintf("%s%d", t.prefix, t.last.Add(1)) }

// create makes a temporary file in a directory and opens it. It is locked for as
// long as it is open, so that another restore does not take it for a leftover. The
// plain descriptor spares each small file what package os does for one.
func (t *tempNames) create(dirfd int) (fd int, name string, err error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	name = t.next()
	for {
		fd, err = unix.Openat(dirfd, name, flags, 0o600)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return -1, "", &fs.PathError{Op: "create", Path: name, Err: appeared(err)}
		}
	}
	// Where files can't be locked, nobody takes them for leftovers.
	unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	return fd, name, nil
}

// publish gives a file that is complete its name: one that is free, or that of
// what it replaces.
func publish(d *dir, temp, name string, a Action) error {
	if a == Created {
		return renameNew(d.Fd(), temp, name)
	}
	return d.Rename(d.Dir, temp, name)
}

// renameNew renames a file in a directory unless the new name is taken.
func renameNew(dirfd int, from, to string) error {
	if err := fsmeta.CheckName(to); err != nil {
		return err
	}
	err := unix.Renameat2(dirfd, from, dirfd, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // some file systems, as NFS
		if _, serr := fsmeta.StatAt(dirfd, to); serr == nil {
			return errAppeared
		}
		err = unix.Renameat(dirfd, from, dirfd, to)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: appeared(err)}
	}
	return nil
}

// sweep removes from a directory that was there before what killed restores left in
// it.
func (c *collector) sweep(d *directory, inSnapshot func(snapshot.Key) bool) error {
	dir, err := c.dirs.get(d.place)
	if err != nil {
		return err
	}
	defer c.dirs.release(dir)
	names, err := fsmeta.FindNames(dir.Fd(), tempName.Match)
	if err != nil {
		return err
	}
	for _, name := range names {
		if key := d.entry.Key.Child(name); !c.mayBeLeftover(dir.Dir, name) || inSnapshot(key) {
			continue
		}
		if gone, err := c.sweepOne(dir.Dir, name); err != nil {
			return err
		} else if gone {
			c.count.Swept.Add(1)
		}
	}
	return nil
}

// mayBeLeftover reports whether a restore by this user could have made what has this
// name. (Root gives files their owners before their names.)
func (s *session) mayBeLeftover(d *fsmeta.Dir, name string) bool {
	if !tempName.MatchString(name) {
		return false
	}
	st, err := d.Stat(name)
	return err == nil && !st.IsDir() && s.owns(st)
}

// owns reports whether this user may change what st describes.
func (s *session) owns(st fsmeta.Stat) bool { return s.owners.root || int(st.UID) == os.Geteuid() }

// sweepOne removes a leftover, unless a restore that still runs has it.
func (s *session) sweepOne(d *fsmeta.Dir, name string) (gone bool, err error) {
	fd, _, err := fsmeta.OpenAt(d.Fd(), name)
	if errors.Is(err, fs.ErrPermission) && !s.o.DryRun && fsmeta.ChmodAt(d.Fd(), name, 0o600) == nil {
		fd, _, err = fsmeta.OpenAt(d.Fd(), name) // its restore died between its mode and its name
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, fsmeta.ErrNotRegular): // has no lock, as it has no contents
	case err != nil:
		return s.o.DryRun && errors.Is(err, fs.ErrPermission), nil
	default:
		defer unix.Close(fd)
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
			return false, nil
		}
	}
	if s.o.DryRun {
		return true, nil
	}
	if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, nil
}
