package fsmeta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Names are the names in a directory, kept so that a million of them cost little
// more than their bytes: one behind the other, each with a NUL at its end, in
// blocks that never move. The zero value has none.
type Names struct {
	blocks [][]byte
	refs   []uint32 // block << blockBits | offset, in the order of the names
}

const (
	blockBits = 20
	blockSize = 1 << blockBits
	maxBlocks = 1 << (32 - blockBits)
)

var errManyNames = errors.New("the names are longer than 4 GiB together")

// Len returns how many names there are.
func (n *Names) Len() int { return len(n.refs) }

// At returns the name at i, counting from 0.
func (n *Names) At(i int) string { return string(n.bytes(n.refs[i])) }

func (n *Names) bytes(ref uint32) []byte {
	b := n.blocks[ref>>blockBits][ref%blockSize:]
	return b[:bytes.IndexByte(b, 0)]
}

// add adds a name. more bounds the bytes of the names that are known to follow.
func (n *Names) add(name []byte, more int) error {
	last := len(n.blocks) - 1
	if last < 0 || cap(n.blocks[last])-len(n.blocks[last]) <= len(name) {
		if len(n.blocks) == maxBlocks {
			return errManyNames
		}
		size := len(name) + 1 + more
		if last >= 0 {
			size = max(size, min(2*cap(n.blocks[last]), blockSize))
		}
		n.blocks = append(n.blocks, make([]byte, 0, size))
		last++
	}
	b := n.blocks[last]
	n.refs = append(n.refs, uint32(last)<<blockBits|uint32(len(b)))
	n.blocks[last] = append(append(b, name...), 0)
	return nil
}

// sort puts the names into the order of their bytes. A directory that changes
// while it is read may show one twice; it is dropped.
func (n *Names) sort() {
	slices.SortFunc(n.refs, func(a, b uint32) int { return bytes.Compare(n.bytes(a), n.bytes(b)) })
	n.refs = slices.CompactFunc(n.refs, func(a, b uint32) bool { return bytes.Equal(n.bytes(a), n.bytes(b)) })
}

// Offsets in the kernel's struct linux_dirent64: the inode number, an offset,
// the record's length, the type, the name with a zero byte at its end.
const (
	direntReclen = 16
	direntName   = 19
)

// ReadNames returns the names in a directory but "." and "..", in the order of
// their bytes, which is the order of a snapshot's entries. It reads from the
// start, wherever the descriptor stands.
func ReadNames(dirfd int) (*Names, error) {
	names := new(Names)
	if err := readDir(dirfd, names.add); err != nil {
		return nil, err
	}
	names.sort()
	return names, nil
}

// FindNames returns those names in a directory that fit, in no order. It costs no
// memory for the others.
func FindNames(dirfd int, fits func(name []byte) bool) ([]string, error) {
	var names []string
	err := readDir(dirfd, func(name []byte, _ int) error {
		if fits(name) {
			names = append(names, string(name))
		}
		return nil
	})
	return names, err
}

// direntBuffers are shared, as most directories are small and many.
var direntBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// readDir calls fn with each name in a directory but "." and "..", from the start,
// and with a bound of the bytes of the names that came with it and follow.
func readDir(dirfd int, fn func(name []byte, more int) error) error {
	fail := func(err error) error { return pathError("read directory", procFd(dirfd), err) }
	if _, err := seek(dirfd, 0, unix.SEEK_SET); err != nil {
		return fail(err)
	}
	bp := direntBuffers.Get().(*[16 << 10]byte)
	defer direntBuffers.Put(bp)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(dirfd, bp[:])
			return err
		})
		if err == nil && n > 0 {
			err = eachName(bp[:n], fn)
		}
		if err != nil {
			return fail(err)
		}
		if n == 0 {
			return nil
		}
	}
}

// eachName calls fn with each name in a buffer that getdents64 filled.
func eachName(buf []byte, fn func(name []byte, more int) error) error {
	for len(buf) >= direntName {
		size := int(binary.NativeEndian.Uint16(buf[direntReclen:]))
		if size < direntName || size > len(buf) {
			break
		}
		name := buf[direntName:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		deleted := binary.NativeEndian.Uint64(buf) == 0 // some file systems leave such records
		buf = buf[size:]
		if deleted || string(name) == "." || string(name) == ".." {
			continue
		}
		// The records that follow are no shorter than their names.
		if err := fn(name, len(buf)); err != nil {
			return err
		}
	}
	return nil
}
