package fsmeta

import (
	"golang.org/x/sys/unix"
)

// OpenAt opens a regular file for reading and describes it. The caller owns the
// descriptor.
//
// Between a stat and the open anybody may put something else in the file's
// place. So a symbolic link is not followed, the open of a FIFO does not wait
// for a writer, and a terminal does not become ours; all of them, whatever is
// not a regular file, are closed again and reported as ErrNotRegular. (The open
// of a device node has been made then. Only a stat before it, which the caller
// makes anyway, keeps a device that is always there from being opened.)
//
// The access time of the file is left alone where the system allows that, which
// it does to the file's owner and to root.
func OpenAt(dirfd int, name string) (fd int, st Stat, err error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_NONBLOCK
	fd, noatime, err := open(dirfd, name, flags)
	if err == unix.EAGAIN {
		// Somebody, such as a Samba server, holds a lease on the file.
		fd, noatime, err = openLeased(dirfd, name)
	}
	switch err {
	case nil:
	case unix.ELOOP, unix.ENXIO: // a symbolic link; a socket
		return -1, Stat{}, pathError("open", name, ErrNotRegular)
	default:
		return -1, Stat{}, pathError("open", name, err)
	}
	st, err = StatFd(fd)
	if err == nil && !st.IsRegular() {
		err = pathError("open", name, ErrNotRegular)
	}
	if err == nil {
		// O_NONBLOCK has done its work; some FUSE servers would take it as a
		// request to return early from read. F_SETFL sets all flags at once.
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, noatime); err != nil {
			err = pathError("fcntl", name, err)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, Stat{}, err
	}
	return fd, st, nil
}

// openLeased opens a file whose lease has to be broken. That takes until its
// holder lets go or /proc/sys/fs/lease-break-time has passed, and the open must
// wait for it. To be sure that it waits for nothing else it first looks at what
// it is about to open, without opening it.
func openLeased(dirfd int, name string) (fd, noatime int, err error) {
	var path int
	err = retry(func() (err error) {
		path, err = unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, 0, err
	}
	defer unix.Close(path)
	if st, err := StatFd(path); err != nil || !st.IsRegular() {
		return -1, 0, unix.ELOOP
	}
	return open(unix.AT_FDCWD, procFd(path), unix.O_RDONLY|unix.O_NOCTTY)
}

// OpenDirAt opens a directory for reading, without following name and, where
// the system allows it, without a change to its access time. The caller owns
// the descriptor.
func OpenDirAt(dirfd int, name string) (fd int, err error) {
	fd, _, err = open(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY)
	if err != nil {
		return -1, pathError("open directory", name, err)
	}
	return fd, nil
}

// OpenLinkedDirAt is OpenDirAt, but follows name.
func OpenLinkedDirAt(dirfd int, name string) (fd int, err error) {
	fd, _, err = open(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, pathError("open directory", name, err)
	}
	return fd, nil
}

// OpenSearchAt opens a directory only to look up names in it, for which the right
// to search it is enough. It follows name. The caller owns the descriptor.
func OpenSearchAt(dirfd int, name string) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, pathError("open directory", name, err)
	}
	return fd, nil
}

// open opens with O_NOATIME, and without it if the system forbids it. noatime is
// O_NOATIME or 0 accordingly.
func open(dirfd int, name string, flags int) (fd, noatime int, err error) {
	noatime = unix.O_NOATIME
	for {
		fd, err = unix.Openat(dirfd, name, flags|noatime|unix.O_CLOEXEC, 0)
		switch {
		case err == unix.EINTR:
		case err == unix.EPERM && noatime != 0:
			noatime = 0
		default:
			return fd, noatime, err
		}
	}
}

// ReadlinkAt returns where a symbolic link points to, however long that is.
func ReadlinkAt(dirfd int, name string) (string, error) {
	var stack [256]byte
	for buf := stack[:]; ; buf = make([]byte, 4*len(buf)) {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Readlinkat(dirfd, name, buf)
			return err
		})
		if err != nil {
			return "", pathError("readlink", name, err)
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		// The kernel cuts off in silence: a full buffer may not be all.
	}
}
