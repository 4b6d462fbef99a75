package fsmeta

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// RemoveAll removes an entry and everything below it. That it does not exist is
// no error. It follows no links, and it does not go into directories that
// something is mounted on: those are ErrMountPoint, and stay. It removes what it
// can and returns the first error. It needs two descriptors, however deep the tree
// is.
func (d *Dir) RemoveAll(name string) error { return d.removeAll(name, false) }

// removeAll may close d while it is below, if d is owned.
func (d *Dir) removeAll(name string, owned bool) error {
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
	if err := d.removeEntries(name, owned); err != nil {
		return err
	}
	err = retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
	if err != nil && err != unix.ENOENT {
		return pathError("remove", name, err)
	}
	return nil
}

// removeEntries empties the directory name.
func (d *Dir) removeEntries(name string, owned bool) (err error) {
	sub, err := d.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mounted, err := d.isMount(sub)
	if err == nil && mounted {
		err = pathError("remove", name, ErrMountPoint)
	}
	if err != nil || !owned {
		defer sub.Close()
	} else if err = d.LeaveFor(sub); err != nil {
		sub.Close()
	} else {
		defer func() {
			if rerr := d.ReturnFrom(sub); err == nil {
				err = rerr
			}
		}()
	}
	if err != nil {
		return err
	}
	names, err := sub.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		rerr := sub.removeAll(n, true)
		if pe, ok := errors.AsType[*fs.PathError](rerr); ok {
			rerr = pathError(pe.Op, name+"/"+pe.Path, pe.Err)
		}
		if err == nil {
			err = rerr
		}
		if sub.fd < 0 {
			break // the way back to it was lost
		}
	}
	return err
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
