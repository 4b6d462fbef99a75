package restore

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

// unfinishedXattr is on a file for as long as it is being written in place, and so
// stays on one whose restore was killed. (Its modification time says nothing, as each
// write sets it.)
const unfinishedXattr = "user.cairn.unfinished"

var (
	errMixture   = errors.New("it was written in place, and has parts of what was there before; restore it again")
	errExchanged = errors.New("another file took its place while it was written")
)

// isUnfinished reports whether a file's restore in place was not completed.
func isUnfinished(d *dir, name string) bool {
	fd, _, err := fsmeta.OpenAt(d.Fd(), name)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.Fgetxattr(fd, unfinishedXattr, nil)
	return err == nil
}

// beginInPlace makes an old file the one that is written, if that can be done without a
// risk to anything but its own contents: nobody else has a name for it, and it is not of
// a stranger, who could have it open and read what is none of his business. It is for
// nobody else's eyes until it is whole. If it can't be, as while the file is being executed or
// on a file system without attributes, it is replaced like others.
func (c *collector) beginInPlace(f *file, old int, st fsmeta.Stat) bool {
	if st.Nlink != 1 || !c.owns(st) || c.owners.root && st.UID != 0 && st.UID != c.owners.meta(&f.entry).UID {
		return false
	}
	// By the descriptor, so that it is the file that was looked at.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(old), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	if c.owners.root {
		err = unix.Fchown(fd, 0, 0)
	}
	if err == nil {
		err = unix.Fchmod(fd, 0o600)
	}
	if err == nil {
		err = unix.Fsetxattr(fd, unfinishedXattr, []byte{1}, 0)
	}
	// That it is unfinished is on the disk before anything that makes it so.
	if err == nil {
		err = unix.Fsync(fd)
	}
	if err != nil {
		unix.Close(fd)
		return false
	}
	f.fd, f.cloned, f.inPlace = fd, true, true
	f.inherits = true // it may have attributes of its own
	c.mu.Lock()
	c.partial[f] = true
	c.mu.Unlock()
	return true
}

// endInPlace sees to it that the contents are on the disk before the metadata says that
// they are whole, and that the file still has its name.
func (s *session) endInPlace(f *file) error {
	if err := unix.Fsync(f.fd); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	st, err := fsmeta.StatFd(f.fd)
	if err != nil {
		return err
	}
	above, name := f.place.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	now, err := d.Stat(name)
	if err != nil {
		return err
	}
	if now.Ino != st.Ino || now.Dev != st.Dev {
		return errExchanged
	}
	return nil
}
