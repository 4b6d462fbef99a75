package fsmeta

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Offsets in the kernel's struct linux_dirent64: the inode number, an offset,
// the record's length, the type, the name with a zero byte at its end.
const (
	direntReclen = 16
	direntName   = 19
)

// ReadNames returns the names in a directory but "." and "..", in the order of
// their bytes, which is the order of a snapshot's entries. It reads from the
// start, wherever the descriptor stands.
//
// Names that arrive together share one allocation of up to 16 KiB: a million
// names cost their bytes and a string header each, but one name that is kept
// keeps its neighbours too.
func ReadNames(dirfd int) ([]string, error) {
	if _, err := unix.Seek(dirfd, 0, unix.SEEK_SET); err != nil {
		return nil, pathError("read directory", procFd(dirfd), err)
	}
	var (
		buf   [16 << 10]byte // on the stack: most directories are small and many
		names []string
	)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(dirfd, buf[:])
			return err
		})
		if err != nil {
			return nil, pathError("read directory", procFd(dirfd), err)
		}
		if n == 0 {
			break
		}
		names = appendNames(names, buf[:n])
	}
	slices.Sort(names)
	// A directory that changes while it is read may show a name twice.
	return slices.Compact(names), nil
}

// appendNames appends the names in a buffer that getdents64 filled.
func appendNames(names []string, buf []byte) []string {
	var block strings.Builder
	block.Grow(len(buf)) // so that String never moves
	for len(buf) >= direntName {
		n := int(binary.NativeEndian.Uint16(buf[direntReclen:]))
		if n < direntName || n > len(buf) {
			break
		}
		name := buf[direntName:n]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		deleted := binary.NativeEndian.Uint64(buf) == 0 // some file systems leave such records
		buf = buf[n:]
		if deleted || string(name) == "." || string(name) == ".." {
			continue
		}
		start := block.Len()
		block.Write(name)
		names = append(names, block.String()[start:])
	}
	return names
}
