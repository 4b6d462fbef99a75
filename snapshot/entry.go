package snapshot

import (
	"errors"
	"fmt"

	"github.com/cairn-backup/cairn/chunk"
)

// Type is what an entry is.
type Type uint8

// The types of entries.
const (
	File        Type = 1
	Directory   Type = 2
	Symlink     Type = 3
	FIFO        Type = 4
	Socket      Type = 5
	CharDevice  Type = 6
	BlockDevice Type = 7
)

func (t Type) String() string {
	names := [...]string{"", "file", "directory", "symlink", "fifo", "socket", "character device", "block device"}
	if t >= File && t <= BlockDevice {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Time is a time as file systems have it.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Extent is a piece of a file: a part of a chunk, or a hole.
type Extent struct {
	Chunk     chunk.ID // zero: a hole
	ChunkSize uint32   // bytes of the whole chunk
	Offset    uint32   // in the chunk
	Length    uint64   // bytes
}

// IsHole reports whether the extent is a hole.
func (x Extent) IsHole() bool { return x.Chunk.IsZero() }

// isWhole reports whether the extent is all of its chunk.
func (x Extent) isWhole() bool { return x.Offset == 0 && x.Length == uint64(x.ChunkSize) }

// ListRef is the root of a tree of extents.
type ListRef struct {
	Root  chunk.ID
	Level uint8
}

// MaxExtents is how many extents an entry should have in itself; more go into
// a list tree.
const MaxExtents = 64

// Entry is what a snapshot knows of one path.
type Entry struct {
	Key         Key
	Type        Type
	Mode        uint32 // permission, setuid, setgid, sticky bits
	UID, GID    uint32
	User, Group string // empty: unknown
	Mtime       Time
	Ctime       Time // for telling changes, never restored
	Inode       uint64
	// HasLink says that the file has several names; Link is equal in all of
	// them.
	HasLink bool
	Link    uint64
	Xattrs  []Xattr // sorted by name

	// Of files:
	Size    uint64
	Partial bool     // the source shrank or failed while it was read
	Hash    [16]byte // of the contents; zero if Size is 0
	Extents []Extent // add up to Size, unless List is set
	List    *ListRef

	Target []byte // of symlinks
	Device uint64 // of device nodes, in Linux encoding
}

// Validate reports why an entry can't stand in a tree.
func (e *Entry) Validate() error {
	if err := e.Key.Validate(); err != nil {
		return err
	}
	if err := e.validate(); err != nil {
		return fmt.Errorf("entry %q: %w", e.Key.Path(), err)
	}
	return nil
}

func (e *Entry) validate() error {
	switch {
	case e.Type < File || e.Type > BlockDevice:
		return fmt.Errorf("unknown %s", e.Type)
	case e.Mode > 0o7777:
		return fmt.Errorf("mode %o", e.Mode)
	case e.Mtime.Nsec >= 1e9 || e.Ctime.Nsec >= 1e9:
		return errors.New("a time with a second or more of nanoseconds")
	case e.Type != File && (e.Size != 0 || e.Partial || e.List != nil || len(e.Extents) > 0 || e.Hash != [16]byte{}):
		return errors.New("contents, but no file")
	case e.Type != Symlink && len(e.Target) > 0:
		return errors.New("a target, but no symlink")
	case e.Type != CharDevice && e.Type != BlockDevice && e.Device != 0:
		return errors.New("a device number, but no device")
	case !e.HasLink && e.Link != 0:
		return errors.New("a link group without its flag")
	}
	for i := 1; i < len(e.Xattrs); i++ {
		if e.Xattrs[i-1].Name >= e.Xattrs[i].Name {
			return errors.New("xattrs are not sorted")
		}
	}
	if e.Type == File {
		return e.validateContents()
	}
	return nil
}

func (e *Entry) validateContents() error {
	if e.Size == 0 {
		if e.List != nil || len(e.Extents) > 0 || e.Hash != [16]byte{} {
			return errors.New("an empty file with contents")
		}
		return nil
	}
	if e.List != nil {
		if len(e.Extents) > 0 {
			return errors.New("a list and extents")
		}
		return nil
	}
	if len(e.Extents) == 0 {
		return errors.New("no extents")
	}
	var sum uint64
	for _, x := range e.Extents {
		if err := x.validate(); err != nil {
			return err
		}
		if sum += x.Length; sum < x.Length {
			return errors.New("extents overflow")
		}
	}
	if sum != e.Size {
		return fmt.Errorf("extents of %d bytes for %d", sum, e.Size)
	}
	return nil
}

func (x Extent) validate() error {
	switch {
	case x.Length == 0:
		return errors.New("an empty extent")
	case x.IsHole() && (x.Offset != 0 || x.ChunkSize != 0):
		return errors.New("a hole with an offset")
	case !x.IsHole() && (x.ChunkSize == 0 || x.Length > uint64(x.ChunkSize) || uint64(x.Offset) > uint64(x.ChunkSize)-x.Length):
		return errors.New("an extent beyond its chunk")
	}
	return nil
}
