package fsmeta

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// RemoveAll removes an entry and everything below it. That it does not exist is
// no error. It follows no links, and it does not go into directories that
// something is mounted on: those are ErrMountPoint, and stay. It removes what it
// can and returns the first error.
//
// It holds one descriptor open for each level of the tree.
func (d *Dir) RemoveAll(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR:
	default:
		return pathError("remove", name, err)
	}
	if err := d.removeEntries(name); err != nil {
		return err
	}
	err = retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
	if err != nil && err != unix.ENOENT {
		return pathError("remove", name, err)
	}
	return nil
}

// removeEntries empties the directory name.
func (d *Dir) removeEntries(name string) error {
	sub, err := d.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if mounted, err := d.isMount(sub); err != nil {
		return err
	} else if mounted {
		return pathError("remove", name, ErrMountPoint)
	}
	names, err := sub.Names()
	if err != nil {
		return err
	}
	var first error
	for _, n := range names {
		err := sub.RemoveAll(n)
		if err == nil || first != nil {
			continue
		}
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathError(pe.Op, name+"/"+pe.Path, pe.Err)
		}
		first = err
	}
	return first
}

// isMount reports whether sub, a directory in d, has something mounted on it.
// Linux says so itself since 5.8; before, a bind mount of d's own file system
// can't be told from a directory.
func (d *Dir) isMount(sub *Dir) (bool, error) {
	var stx unix.Statx_t
	err := retry(func() error { return unix.Statx(sub.fd, "", unix.AT_EMPTY_PATH, 0, &stx) })
	if err == nil && stx.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	outer, err := StatFd(d.fd)
	if err != nil {
		return false, err
	}
	inner, err := StatFd(sub.fd)
	return outer.Dev != inner.Dev, err
}
