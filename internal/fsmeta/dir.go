package fsmeta

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is an open directory to restore into. Its methods take names of entries,
// each a single component (see CheckName), and follow none of them: from a Dir
// one only ever gets to what is below it. Any link that somebody else plants
// there is an error, or is replaced, but never followed.
//
// A Dir may be used from many goroutines, but not while it is closed. It must
// be closed: no finalizer does it.
type Dir struct {
	fd       int
	dev, ino uint64 // of the directory that was left for it
}

// OpenRoot opens the directory at path. It follows symbolic links: the path is
// the user's own word.
func OpenRoot(path string) (*Dir, error) {
	return openDir(unix.AT_FDCWD, path, 0)
}

func openDir(dirfd int, name string, flags int) (*Dir, error) {
	d := new(Dir)
	err := retry(func() (err error) {
		d.fd, err = unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
		return err
	})
	if err != nil {
		return nil, pathError("open directory", name, err)
	}
	return d, nil
}

// Fd returns the descriptor, which is good until Close.
func (d *Dir) Fd() int { return d.fd }

// Close releases the descriptor. A second Close returns fs.ErrClosed.
func (d *Dir) Close() error {
	if d.fd < 0 {
		return fs.ErrClosed
	}
	fd := d.fd
	d.fd = -1
	return unix.Close(fd)
}

// Open opens a directory in d. For anything else, also for a symbolic link to a
// directory, the error is unix.ENOTDIR.
func (d *Dir) Open(name string) (*Dir, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return openDir(d.fd, name, unix.O_NOFOLLOW)
}

// LeaveFor closes d while sub, which was opened in it, is worked on, until ReturnFrom
// opens it again. So one goes down a tree of any depth with few descriptors.
func (d *Dir) LeaveFor(sub *Dir) error {
	st, err := StatFd(d.fd)
	if err != nil {
		return err
	}
	sub.dev, sub.ino = st.Dev, st.Ino
	return d.Close()
}

// ReturnFrom opens d again and closes sub. If somebody moved sub out of d meanwhile,
// the error is ErrMoved, and d stays closed.
func (d *Dir) ReturnFrom(sub *Dir) error {
	defer sub.Close()
	up, err := openDir(sub.fd, "..", unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	st, err := StatFd(up.fd)
	if err == nil && (st.Dev != sub.dev || st.Ino != sub.ino) {
		err = pathError("open directory", "..", ErrMoved)
	}
	if err != nil {
		up.Close()
		return err
	}
	d.fd = up.fd
	return nil
}

// Names returns the names in d, sorted. See ReadNames.
func (d *Dir) Names() ([]string, error) {
	names, err := ReadNames(d.fd)
	if err != nil {
		return nil, err
	}
	list := make([]string, names.Len())
	for i := range list {
		list[i] = names.At(i)
	}
	return list, nil
}

// Stat describes an entry, of a symbolic link the link itself.
func (d *Dir) Stat(name string) (Stat, error) {
	if err := CheckName(name); err != nil {
		return Stat{}, err
	}
	return StatAt(d.fd, name)
}

// Readlink returns where a symbolic link points to.
func (d *Dir) Readlink(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	return ReadlinkAt(d.fd, name)
}

// do makes a system call for one entry.
func (d *Dir) do(op, name string, call func() error) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := retry(call); err != nil {
		return pathError(op, name, err)
	}
	return nil
}

// Mkdir makes a directory. perm is subject to the umask.
func (d *Dir) Mkdir(name string, perm uint32) error {
	return d.do("mkdir", name, func() error { return unix.Mkdirat(d.fd, name, perm&permMask) })
}

// Create makes a regular file that did not exist and opens it for reading and
// writing. perm is subject to the umask.
func (d *Dir) Create(name string, perm uint32) (*os.File, error) {
	var fd int
	err := d.do("create", name, func() (err error) {
		const flags = unix.O_RDWR | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = unix.Openat(d.fd, name, flags, perm&permMask)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// OpenFile opens a regular file that exists for reading and writing, and
// describes it. Anything else is ErrNotRegular. A file with more than one link
// (see Stat.Nlink) may have its others outside the directory: whoever writes
// to it writes to those too.
func (d *Dir) OpenFile(name string) (*os.File, Stat, error) {
	var fd int
	err := d.do("open", name, func() (err error) {
		// O_NONBLOCK as in OpenAt. It is taken back before package os sees it,
		// which would hand the file to its poller.
		const flags = unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
		fd, err = unix.Openat(d.fd, name, flags, 0)
		return err
	})
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR) {
		return nil, Stat{}, pathError("open", name, ErrNotRegular)
	}
	if err != nil {
		return nil, Stat{}, err
	}
	st, err := StatFd(fd)
	if err == nil && !st.IsRegular() {
		err = pathError("open", name, ErrNotRegular)
	}
	if err == nil {
		if err = unix.SetNonblock(fd, false); err != nil {
			err = pathError("fcntl", name, err)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, Stat{}, err
	}
	return os.NewFile(uintptr(fd), name), st, nil
}

// Mknod makes a FIFO, a socket's name or a device node. mode holds type and
// permissions, which are subject to the umask; rdev is a device's number, as in
// Stat.
func (d *Dir) Mknod(name string, mode uint32, rdev uint64) error {
	return d.do("mknod", name, func() error { return unix.Mknodat(d.fd, name, mode, int(rdev)) })
}

// Symlink makes a symbolic link that points to target, which may be anything:
// it is not looked at.
func (d *Dir) Symlink(target, name string) error {
	return d.do("symlink", name, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// Link makes name a hard link to the entry oldName of from, to a symbolic link
// itself if that is one.
func (d *Dir) Link(from *Dir, oldName, name string) error {
	if err := CheckName(oldName); err != nil {
		return err
	}
	return d.do("link", name, func() error { return unix.Linkat(from.fd, oldName, d.fd, name, 0) })
}

// Rename moves the entry oldName of from to name in d, in place of what is
// there, as rename(2) does.
func (d *Dir) Rename(from *Dir, oldName, name string) error {
	if err := CheckName(oldName); err != nil {
		return err
	}
	return d.do("rename", name, func() error { return unix.Renameat(from.fd, oldName, d.fd, name) })
}

// Remove removes an entry that is not a directory, or an empty directory.
func (d *Dir) Remove(name string) error {
	return d.do("remove", name, func() error {
		err := unix.Unlinkat(d.fd, name, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// Apply gives the entry name its metadata. See the function Apply.
func (d *Dir) Apply(name string, m Meta, opts ApplyOptions) []error {
	return Apply(d.fd, name, m, opts)
}
