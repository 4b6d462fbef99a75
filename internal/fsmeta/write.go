package fsmeta

import (
	"golang.org/x/sys/unix"
)

// Chown sets the owner and group of an open file.
func Chown(fd int, uid, gid uint32) error {
	err := retry(func() error { return unix.Fchown(fd, int(uid), int(gid)) })
	if err != nil {
		return pathError("chown", procFd(fd), err)
	}
	return nil
}

// ChownAt sets the owner and group of name, of a symbolic link itself.
func ChownAt(dirfd int, name string, uid, gid uint32) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := retry(func() error {
		return unix.Fchownat(dirfd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return pathError("chown", name, err)
	}
	return nil
}

// Chmod sets the permissions of an open file, with the set-user-ID,
// set-group-ID and sticky bits. It ignores the type bits of mode.
func Chmod(fd int, mode uint32) error {
	err := retry(func() error { return unix.Fchmod(fd, mode&permMask) })
	if err != nil {
		return pathError("chmod", procFd(fd), err)
	}
	return nil
}

// ChmodAt is Chmod for the file name. A symbolic link has no permissions on
// Linux: it is not followed, and the error is unix.EOPNOTSUPP.
func ChmodAt(dirfd int, name string, mode uint32) error {
	if err := CheckName(name); err != nil {
		return err
	}
	mode &= permMask
	err := retry(func() error { return unix.Fchmodat(dirfd, name, mode, unix.AT_SYMLINK_NOFOLLOW) })
	// Before fchmodat2 (Linux 6.6) there is EOPNOTSUPP; older seccomp filters of
	// containers answer any call that they don't know with EPERM.
	if err == unix.EOPNOTSUPP || err == unix.EPERM {
		return chmodPinned(dirfd, name, mode)
	}
	if err != nil {
		return pathError("chmod", name, err)
	}
	return nil
}

// chmodPinned changes the permissions of what name is now, without a race: name
// is held on to, seen not to be a link, and changed by that hold, even if name has
// become a link to elsewhere meanwhile. (To open the file in earnest might be
// forbidden, or wait for ever on a FIFO.)
func chmodPinned(dirfd int, name string, mode uint32) error {
	o, err := pin(dirfd, name)
	if err != nil {
		return err
	}
	defer o.close()
	st, err := o.stat()
	if err == nil && st.IsSymlink() {
		err = pathError("chmod", name, unix.EOPNOTSUPP)
	}
	if err != nil {
		return err
	}
	return o.chmod(mode)
}

// SetTimes sets the modification time of an open file, or of one that is held on to
// with O_PATH, and leaves its access
// time.
func SetTimes(fd int, mtime Time) error {
	ts, err := timespecs(mtime)
	if err == nil {
		err = retry(func() error { return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH) })
		if err == unix.EINVAL || err == unix.ENOENT || err == unix.EBADF { // before Linux 5.8
			err = retry(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, procFd(fd), ts, 0) })
		}
	}
	if err != nil {
		return pathError("set times", procFd(fd), err)
	}
	return nil
}

// SetTimesAt is SetTimes for the file name, for a symbolic link itself.
func SetTimesAt(dirfd int, name string, mtime Time) error {
	if err := CheckName(name); err != nil {
		return err
	}
	ts, err := timespecs(mtime)
	if err == nil {
		err = retry(func() error { return unix.UtimesNanoAt(dirfd, name, ts, unix.AT_SYMLINK_NOFOLLOW) })
	}
	if err != nil {
		return pathError("set times", name, err)
	}
	return nil
}

// timespecs returns what utimensat wants: access time, modification time. By way
// of time.Time a bad Nsec can't be one of the kernel's magic values.
func timespecs(mtime Time) ([]unix.Timespec, error) {
	m, err := unix.TimeToTimespec(mtime.Std())
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m}, err
}
