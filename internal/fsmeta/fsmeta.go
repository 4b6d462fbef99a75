// Package fsmeta reads and writes what a file system knows of a file besides its
// contents: type, permissions, owner, times, extended attributes. It is the
// common ground of backing up and restoring, for Linux.
//
// Everything works on an open directory and a name in it, never on long paths:
// that is fast, has no limit of length, and what is meant stays what is meant
// when somebody renames a directory above. Nothing follows a symbolic link in
// the last component. A dirfd may be unix.AT_FDCWD for the functions that only
// read; their name is then a path.
//
// The functions and methods that write take a single component only and refuse
// anything else (see CheckName), so a restore that goes down from one Dir
// can't leave it, whatever names a snapshot holds and whatever links somebody
// plants in the target meanwhile.
//
// Errors are *fs.PathError with the name that was given, or *XattrError; both
// wrap a unix.Errno. The caller knows, and should add, the whole path.
package fsmeta

import (
	"cmp"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotRegular: what was opened as a regular file is none, or no longer.
	ErrNotRegular = errors.New("not a regular file")
	// ErrName: a name is not a single component of a path.
	ErrName = errors.New(`not a single component of a path`)
	// ErrStranger: a file is not the one that was made here.
	ErrStranger = errors.New("something else took its place, or it got further names, meanwhile")
	// ErrMoved: a directory is no longer where it was.
	ErrMoved = errors.New("a directory was moved meanwhile")
	// ErrMountPoint: a directory that should be removed has something mounted
	// on it.
	ErrMountPoint = errors.New("something is mounted here; unmount it first")
)

// Time is a point in time as file systems keep it, in seconds and nanoseconds
// since 1970. Nsec is below 1e9.
type Time struct {
	Sec  int64
	Nsec uint32
}

// TimeOf converts t.
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// Std returns t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Compare returns -1 if t is before u, 1 if it is after u, and 0 otherwise.
func (t Time) Compare(u Time) int {
	return cmp.Or(cmp.Compare(t.Sec, u.Sec), cmp.Compare(t.Nsec, u.Nsec))
}

// Stat is what stat(2) says.
type Stat struct {
	Mode         uint32 // type and permissions, as in st_mode
	UID, GID     uint32
	Size         int64 // bytes
	Mtime, Ctime Time
	Dev, Ino     uint64
	Nlink        uint64
	Rdev         uint64 // of a device node
	Blocks       int64  // allocated, of 512 bytes each
}

// Type returns the S_IFMT part of the mode, such as unix.S_IFREG.
func (s *Stat) Type() uint32 { return s.Mode & unix.S_IFMT }

// Perm returns the permissions with the set-user-ID, set-group-ID and sticky
// bits.
func (s *Stat) Perm() uint32 { return s.Mode & permMask }

// IsDir reports whether s is of a directory.
func (s *Stat) IsDir() bool { return s.Type() == unix.S_IFDIR }

// IsRegular reports whether s is of a regular file.
func (s *Stat) IsRegular() bool { return s.Type() == unix.S_IFREG }

// IsSymlink reports whether s is of a symbolic link.
func (s *Stat) IsSymlink() bool { return s.Type() == unix.S_IFLNK }

// permMask is the part of a mode that chmod changes.
const permMask = 0o7777

// StatAt describes name without following it.
func StatAt(dirfd int, name string) (Stat, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Stat{}, pathError("stat", name, err)
	}
	return fromSys(&st), nil
}

// StatFd describes an open file.
func StatFd(fd int) (Stat, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstat(fd, &st) })
	if err != nil {
		return Stat{}, pathError("stat", procFd(fd), err)
	}
	return fromSys(&st), nil
}

// MountID tells apart what is mounted where: two directories of one file system
// that are seen through different mounts have different numbers. It is 0 where the
// kernel can't tell (before Linux 5.8).
func MountID(fd int) uint64 {
	var st unix.Statx_t
	err := retry(func() error { return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) })
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}

// fromSys converts from the kernel's struct, whose types depend on the
// architecture.
func fromSys(st *unix.Stat_t) Stat {
	return Stat{
		Mode:   st.Mode,
		UID:    st.Uid,
		GID:    st.Gid,
		Size:   st.Size,
		Mtime:  Time{int64(st.Mtim.Sec), uint32(st.Mtim.Nsec)},
		Ctime:  Time{int64(st.Ctim.Sec), uint32(st.Ctim.Nsec)},
		Dev:    uint64(st.Dev),
		Ino:    st.Ino,
		Nlink:  uint64(st.Nlink),
		Rdev:   uint64(st.Rdev),
		Blocks: st.Blocks,
	}
}

// CheckName returns an error that wraps ErrName unless name is a single
// component of a path: not empty, not "." or "..", without a slash or a zero
// byte.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return pathError("use name", strconv.Quote(name), ErrName)
	}
	return nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// procFd is the path of an open file, for the calls that know no descriptors,
// and for error texts. To resolve it the kernel goes straight to the file:
// renames and links play no part.
func procFd(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// retry calls f again for as long as a signal interrupts it. Go installs its
// handlers with SA_RESTART, but network and FUSE file systems return EINTR all
// the same.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
