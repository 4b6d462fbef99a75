package fsmeta

import (
	"golang.org/x/sys/unix"
)

// MayHaveHoles reports whether the file system keeps fewer bytes than the file
// has, so that it is worth a look where its holes are. (It may also be that it
// compresses them.)
func (s *Stat) MayHaveHoles() bool { return s.Blocks < (s.Size+511)/512 }

// NextData finds the first range of an open file at or after pos that is
// stored. What is between pos and start is a hole and reads as zero bytes. If
// there is no more data, start and end are the file's size, or pos if that is
// greater. Where the file system does not tell holes, all is data.
//
// The descriptor stands at start afterwards.
func NextData(fd int, pos int64) (start, end int64, err error) {
	// The size comes first: what is appended after this is no hole, and is not
	// to look like one.
	st, err := StatFd(fd)
	if err != nil {
		return 0, 0, err
	}
	size := max(st.Size, pos)
	start, err = seek(fd, pos, unix.SEEK_DATA)
	switch err {
	case nil:
		if end, err = seek(fd, start, unix.SEEK_HOLE); err == unix.ENXIO {
			end, err = start, nil // cut off meanwhile
		}
	case unix.ENXIO:
		start, end, err = size, size, nil
	case unix.EINVAL, unix.ENOTSUP:
		start, end, err = pos, size, nil
	case unix.ESPIPE: // nor can one go to a place in it: it is read from where it stands
		return pos, size, nil
	}
	if err == nil {
		_, err = seek(fd, start, unix.SEEK_SET)
	}
	if err != nil {
		return 0, 0, pathError("find data", procFd(fd), err)
	}
	return start, end, nil
}

func seek(fd int, offset int64, whence int) (at int64, err error) {
	err = retry(func() (err error) {
		at, err = unix.Seek(fd, offset, whence)
		return err
	})
	return at, err
}
