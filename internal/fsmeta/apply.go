package fsmeta

import (
	"golang.org/x/sys/unix"
)

// Meta is what Apply gives a file.
type Meta struct {
	Mode     uint32 // with type, as in Stat
	UID, GID uint32 // of this machine: look names up first, see Owners
	Mtime    Time
	Xattrs   []Xattr
}

// ApplyOptions change what Apply does. The zero value applies everything.
type ApplyOptions struct {
	// NoOwner leaves owner and group, as only root can change them.
	NoOwner bool
	// NoXattrs leaves all extended attributes.
	NoXattrs bool
	// ExactXattrs removes attributes that are not in Meta, such as access
	// control lists that a new file inherits from its directory. Labels of
	// security modules stay.
	ExactXattrs bool
}

// Apply gives the file name, of any type, its metadata. Its contents must be
// complete: to write takes away set-user-ID bits and capabilities and sets the
// time; and so must be a directory's entries. It does as much as it can and
// returns an error for each thing that it could not do.
//
// Where the owner or group stays another than the one in m, the set-user-ID or
// set-group-ID bit of a file is not set, as it would lend somebody else's
// rights than it was made for.
//
// It holds on to what name is at first, so that all of m goes to one file. If
// that is of another type than m, or has further names, which may be anywhere,
// somebody put it there: the error is ErrStranger, and nothing is changed. It
// needs /proc.
func Apply(dirfd int, name string, m Meta, opts ApplyOptions) []error {
	o, err := pin(dirfd, name)
	if err != nil {
		return []error{err}
	}
	defer o.close()
	st, err := o.stat()
	if err == nil && (st.Type() != m.Mode&unix.S_IFMT || !st.IsDir() && st.Nlink > 1) {
		err = pathError("set metadata", name, ErrStranger)
	}
	if err != nil {
		return []error{err}
	}
	return apply(o, m, opts)
}

// ApplyFd is Apply for an open file or directory.
func ApplyFd(fd int, m Meta, opts ApplyOptions) []error {
	return apply(byFd(fd), m, opts)
}

// apply keeps to the one order that works:
//
//  1. the owner, as the change takes away set-user-ID bits and capabilities;
//  2. attributes, as to set those of namespace user needs permission to write,
//     which the final mode may not give even to the owner;
//  3. the mode, also because setting an access control list changes it;
//  4. the times.
func apply(o object, m Meta, opts ApplyOptions) []error {
	var errs []error
	owned := false
	if !opts.NoOwner {
		err := o.chown(m.UID, m.GID)
		if err != nil {
			errs = append(errs, err)
		}
		owned = err == nil
	}
	if !opts.NoXattrs {
		errs = append(errs, o.attrs().setAll(m.Xattrs, opts.ExactXattrs)...)
	}
	if m.Mode&unix.S_IFMT != unix.S_IFLNK {
		mode := m.Mode
		if !owned {
			mode = withoutForeignRights(o, m)
		}
		if err := o.chmod(mode); err != nil {
			errs = append(errs, err)
		}
	}
	if err := o.setTimes(m.Mtime); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// withoutForeignRights returns m.Mode without the set-ID bits that would lend the
// rights of another owner or group than m's. On a directory they lend none.
func withoutForeignRights(o object, m Meta) uint32 {
	if m.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 || m.Mode&unix.S_IFMT == unix.S_IFDIR {
		return m.Mode
	}
	mode := m.Mode
	st, err := o.stat()
	if err != nil || st.UID != m.UID {
		mode &^= unix.S_ISUID
	}
	if err != nil || st.GID != m.GID {
		mode &^= unix.S_ISGID
	}
	return mode
}

// object is a file that metadata is applied to.
type object interface {
	stat() (Stat, error)
	chown(uid, gid uint32) error
	chmod(mode uint32) error
	setTimes(mtime Time) error
	attrs() attrs
}

type byFd int

func (o byFd) stat() (Stat, error)         { return StatFd(int(o)) }
func (o byFd) chown(uid, gid uint32) error { return Chown(int(o), uid, gid) }
func (o byFd) chmod(mode uint32) error     { return Chmod(int(o), mode) }
func (o byFd) setTimes(mtime Time) error   { return SetTimes(int(o), mtime) }
func (o byFd) attrs() attrs                { return attrs{fd: int(o)} }

// IsApplied reports whether name has the metadata already that Apply would give
// it. If that can't be found out, it has not.
func IsApplied(dirfd int, name string, m Meta, opts ApplyOptions) bool {
	o, err := pin(dirfd, name)
	if err != nil {
		return false
	}
	defer o.close()
	return isApplied(o, m, opts)
}

// IsAppliedFd is IsApplied for an open file or directory.
func IsAppliedFd(fd int, m Meta, opts ApplyOptions) bool { return isApplied(byFd(fd), m, opts) }

func isApplied(o object, m Meta, opts ApplyOptions) bool {
	st, err := o.stat()
	if err != nil || st.Type() != m.Mode&unix.S_IFMT || st.Mtime != m.Mtime {
		return false
	}
	if !opts.NoOwner && (st.UID != m.UID || st.GID != m.GID) {
		return false
	}
	if !st.IsSymlink() {
		mode := m.Mode
		if opts.NoOwner {
			mode = withoutForeignRights(o, m)
		}
		if st.Perm() != mode&permMask {
			return false
		}
	}
	return opts.NoXattrs || o.attrs().areAll(m.Xattrs, opts.ExactXattrs)
}

// pinned is a hold on a file of any type, which needs no permission to open it and
// which renames and links don't move to another one.
type pinned struct {
	fd   int // with O_PATH
	name string
}

func pin(dirfd int, name string) (pinned, error) {
	if err := CheckName(name); err != nil {
		return pinned{}, err
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return pinned{}, pathError("open", name, err)
	}
	return pinned{fd, name}, nil
}

func (o pinned) close()              { unix.Close(o.fd) }
func (o pinned) stat() (Stat, error) { return StatFd(o.fd) }
func (o pinned) attrs() attrs        { return attrs{fd: -1, path: procFd(o.fd), name: o.name, pinned: true} }

func (o pinned) chown(uid, gid uint32) error {
	return o.do("chown", func() error { return unix.Fchownat(o.fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH) })
}

// chmod goes by /proc, as fchmod does not take such a descriptor.
func (o pinned) chmod(mode uint32) error {
	return o.do("chmod", func() error { return unix.Chmod(procFd(o.fd), mode&permMask) })
}

func (o pinned) setTimes(mtime Time) error { return SetTimes(o.fd, mtime) }

func (o pinned) do(op string, call func() error) error {
	if err := retry(call); err != nil {
		return pathError(op, o.name, err)
	}
	return nil
}
