package fsmeta

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Xattr is an extended attribute. Name has its namespace in front, such as
// "user.origin". POSIX access control lists are attributes too,
// "system.posix_acl_access" and "system.posix_acl_default".
type Xattr struct {
	Name  string
	Value []byte
}

// XattrError says which attribute could not be read, set or removed.
type XattrError struct {
	Op   string // "read", "set" or "remove"
	Name string
	Err  error
}

func (e *XattrError) Error() string {
	return fmt.Sprintf("%s attribute %q: %v", e.Op, e.Name, e.Err)
}

func (e *XattrError) Unwrap() error { return e.Err }

// Sizes that the kernel never exceeds (XATTR_LIST_MAX, XATTR_SIZE_MAX): with a
// buffer of this size no second try is ever needed.
const (
	maxXattrList  = 64 << 10
	maxXattrValue = 64 << 10
)

// Xattrs returns the extended attributes of an open file, sorted by name: all
// that the kernel lists to this process, of whatever namespace. Where the file
// system knows none there are none.
//
// The error joins one *XattrError for each attribute that could not be read;
// the others are returned all the same.
func Xattrs(fd int) ([]Xattr, error) {
	return attrs{fd: fd}.readAll()
}

// XattrsAt is Xattrs for the file name, which need not be open nor readable, and
// is not followed.
//
// The calls made for that, getxattrat and listxattrat, are younger than most
// kernels in use (Linux 6.13). The older ones know only paths, so this takes the path
// /proc/self/fd/DIRFD/NAME: the kernel resolves all but the last component to
// the open directory itself, whatever its path is by now, and the "l" calls do
// not follow the last one. It needs /proc.
func XattrsAt(dirfd int, name string) ([]Xattr, error) {
	return attrs{fd: -1, path: procAt(dirfd, name), name: name}.readAll()
}

// procAt is the path of a file in an open directory, see XattrsAt.
func procAt(dirfd int, name string) string {
	if dirfd == unix.AT_FDCWD {
		return name
	}
	return procFd(dirfd) + "/" + name
}

// attrs is the attributes of a file, by descriptor, or by path if fd is -1. It
// is no interface and takes no functions so that buffers stay on the stack.
type attrs struct {
	fd     int
	path   string
	name   string // for errors
	pinned bool   // path is /proc's name of a descriptor, to be followed
}

func (a attrs) list(buf []byte) (n int, err error) {
	for err = unix.EINTR; err == unix.EINTR; {
		switch {
		case a.fd >= 0:
			n, err = unix.Flistxattr(a.fd, buf)
		case a.pinned:
			n, err = unix.Listxattr(a.path, buf)
		default:
			n, err = unix.Llistxattr(a.path, buf)
		}
	}
	return n, err
}

func (a attrs) get(name string, buf []byte) (n int, err error) {
	for err = unix.EINTR; err == unix.EINTR; {
		switch {
		case a.fd >= 0:
			n, err = unix.Fgetxattr(a.fd, name, buf)
		case a.pinned:
			n, err = unix.Getxattr(a.path, name, buf)
		default:
			n, err = unix.Lgetxattr(a.path, name, buf)
		}
	}
	return n, err
}

func (a attrs) set(name string, value []byte) error {
	err := retry(func() error {
		switch {
		case a.fd >= 0:
			return unix.Fsetxattr(a.fd, name, value, 0)
		case a.pinned:
			return unix.Setxattr(a.path, name, value, 0)
		}
		return unix.Lsetxattr(a.path, name, value, 0)
	})
	if err != nil {
		return &XattrError{Op: "set", Name: name, Err: err}
	}
	return nil
}

func (a attrs) remove(name string) error {
	err := retry(func() error {
		switch {
		case a.fd >= 0:
			return unix.Fremovexattr(a.fd, name)
		case a.pinned:
			return unix.Removexattr(a.path, name)
		}
		return unix.Lremovexattr(a.path, name)
	})
	if err != nil && err != unix.ENODATA {
		return &XattrError{Op: "remove", Name: name, Err: err}
	}
	return nil
}

// names returns the sorted names. A file without attributes, as most are, costs
// a single call and no buffer on the heap.
func (a attrs) names() ([]string, error) {
	var stack [1024]byte
	buf := stack[:]
	n, err := a.list(buf)
	if err == unix.ERANGE {
		buf = make([]byte, maxXattrList)
		n, err = a.list(buf)
	}
	switch {
	case err == unix.ENOTSUP:
		return nil, nil
	case err != nil:
		return nil, a.listError(err)
	}
	var names []string
	for list := buf[:n]; len(list) > 0; {
		// Not bytes.SplitSeq, which would take the buffer to the heap.
		end := bytes.IndexByte(list, 0)
		if end < 0 {
			end = len(list)
		}
		if end > 0 {
			names = append(names, string(list[:end]))
		}
		list = list[min(end+1, len(list)):]
	}
	slices.Sort(names)
	return names, nil
}

func (a attrs) listError(err error) error {
	if a.fd >= 0 {
		return pathError("list attributes", procFd(a.fd), err)
	}
	var st unix.Stat_t
	if err == unix.ENOENT && a.path != a.name && unix.Stat("/proc/self/fd", &st) != nil {
		err = errors.New("/proc is not mounted, and without it attributes can't be reached; mount it")
	}
	return pathError("list attributes", a.name, err)
}

func (a attrs) readAll() ([]Xattr, error) {
	names, err := a.names()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	var (
		all   = make([]Xattr, 0, len(names))
		errs  []error
		stack [512]byte
		large []byte
	)
	for _, name := range names {
		buf := stack[:]
		n, err := a.get(name, buf)
		if err == unix.ERANGE {
			if large == nil {
				large = make([]byte, maxXattrValue)
			}
			buf = large
			n, err = a.get(name, buf)
		}
		switch {
		case err == unix.ENODATA: // removed since it was listed
		case err != nil:
			errs = append(errs, &XattrError{Op: "read", Name: name, Err: err})
		default:
			all = append(all, Xattr{Name: name, Value: bytes.Clone(buf[:n])})
		}
	}
	return all, errors.Join(errs...)
}

// SetXattr sets an attribute of an open file.
func SetXattr(fd int, x Xattr) error { return attrs{fd: fd}.set(x.Name, x.Value) }

// SetXattrAt sets an attribute of the file name, which is not followed. It needs
// /proc, see XattrsAt.
func SetXattrAt(dirfd int, name string, x Xattr) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return attrs{fd: -1, path: procAt(dirfd, name)}.set(x.Name, x.Value)
}

// setAll sets the given attributes. If exact, it first removes all others that
// a restore may remove: labels of security modules belong to the machine's
// policy, not to the file, and stay.
func (a attrs) setAll(xs []Xattr, exact bool) []error {
	var errs []error
	if exact {
		present, err := a.names()
		if err != nil {
			errs = append(errs, err)
		}
		for _, name := range present {
			wanted := slices.ContainsFunc(xs, func(x Xattr) bool { return x.Name == name })
			if wanted || isLabel(name) {
				continue
			}
			if err := a.remove(name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, x := range xs {
		if err := a.set(x.Name, x.Value); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// areAll reports whether the attributes are such that setAll would change nothing.
func (a attrs) areAll(xs []Xattr, exact bool) bool {
	if len(xs) == 0 && !exact {
		return true
	}
	present, err := a.readAll()
	if err != nil {
		return false
	}
	found := 0
	for _, p := range present {
		i := slices.IndexFunc(xs, func(x Xattr) bool { return x.Name == p.Name })
		switch {
		case i >= 0 && bytes.Equal(xs[i].Value, p.Value):
			found++
		case i >= 0, exact && !isLabel(p.Name):
			return false
		}
	}
	return found == len(xs)
}

// isLabel reports whether an attribute belongs to a security module. All of that
// namespace do but file capabilities.
func isLabel(name string) bool {
	return strings.HasPrefix(name, "security.") && name != "security.capability"
}
