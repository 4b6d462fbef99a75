package fsmeta

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

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
	var names []string
	err := readDir(dirfd, func(buf []byte) {
		var block strings.Builder
		block.Grow(len(buf)) // so that String never moves
		eachName(buf, func(name []byte) {
			start := block.Len()
			block.Write(name)
			names = append(names, block.String()[start:])
		})
	})
	slices.Sort(names)
	// A directory that changes while it is read may show a name twice.
	return slices.Compact(names), err
}

// FindNames returns those names in a directory that fit, in no order. It costs no
// memory for the others.
func FindNames(dirfd int, fits func(name []byte) bool) ([]string, error) {
	var names []string
	err := readDir(dirfd, func(buf []byte) {
		eachName(buf, func(name []byte) {
			if fits(name) {
				names = append(names, string(name))
			}
		})
	})
	return names, err
}

// readDir calls fn with each bufferful of entries of a directory, from the start.
func readDir(dirfd int, fn func(buf []byte)) error {
	if _, err := unix.Seek(dirfd, 0, unix.SEEK_SET); err != nil {
		return pathError("read directory", procFd(dirfd), err)
	}
	bp := direntBuffers.Get().(*[16 << 10]byte)
	defer direntBuffers.Put(bp)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(dirfd, bp[:])
			return err
		})
		if err != nil {
			return pathError("read directory", procFd(dirfd), err)
		}
		if n == 0 {
			return nil
		}
		fn(bp[:n])
	}
}

// direntBuffers are shared, as most directories are small and many.
var direntBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// eachName calls fn with each name but "." and ".." in a buffer that getdents64
// filled.
func eachName(buf []byte, fn func(name []byte)) {
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
		if !deleted && string(name) != "." && string(name) != ".." {
			fn(name)
		}
	}
}
