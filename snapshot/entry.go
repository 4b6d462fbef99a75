package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cairn-backup/cairn/chunk"
)

// Type says what an entry is.
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

var typeNames = [...]string{File: "file", Directory: "directory", Symlink: "symlink", FIFO: "FIFO", Socket: "socket",
	CharDevice: "character device", BlockDevice: "block device"}

func (t Type) String() string {
	if t >= File && t <= BlockDevice {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Time is a file's time. It has a larger range than time.Duration since 1970,
// as file systems do.
type Time struct {
	Sec  int64  // since 1970-01-01 UTC
	Nsec uint32 // less than 1e9
}

// TimeOf returns t as a Time.
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// Std returns t as the standard library's time, in UTC.
func (t Time) Std() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Extent is a run of a file's contents: a chunk, a part of one, or a hole.
type Extent struct {
	Chunk     chunk.ID // zero for a hole
	ChunkSize uint32   // of the chunk's plaintext, 0 for a hole
	Offset    uint32   // in the chunk, 0 for a hole
	Length    uint64   // in bytes, at least 1
}

// IsHole reports whether the extent is a hole, which reads as zero bytes.
func (x Extent) IsHole() bool { return x.Chunk.IsZero() }

// isWhole reports whether the extent is all of a chunk.
func (x Extent) isWhole() bool {
	return !x.IsHole() && x.Offset == 0 && x.Length == uint64(x.ChunkSize)
}

// Validate reports why x is no extent.
func (x Extent) Validate() error {
	switch {
	case x.Length == 0:
		return errors.New("extent without length")
	case x.IsHole():
		if x.ChunkSize != 0 || x.Offset != 0 {
			return errors.New("hole with a place in a chunk")
		}
	case x.ChunkSize == 0 || x.ChunkSize > maxChunk:
		return fmt.Errorf("chunk %s of %d bytes", x.Chunk.Short(), x.ChunkSize)
	case x.Offset >= x.ChunkSize || x.Length > uint64(x.ChunkSize-x.Offset):
		return fmt.Errorf("extent reaches beyond chunk %s", x.Chunk.Short())
	}
	return nil
}

// ListRef is the root of a list tree (see List).
type ListRef struct {
	Root  chunk.ID
	Level uint8
}

// Entry is a file, directory or whatever else has a path. Each name of a file
// with hard links has a whole entry.
type Entry struct {
	Key         Key
	Type        Type
	Mode        uint32 // permission, setuid, setgid and sticky bits as in chmod(2): 07777
	UID, GID    uint32
	User, Group string // empty: unknown
	Mtime       Time
	Ctime       Time // tells changes, can't be restored
	Inode       uint64
	// HasLink says that the inode has several names, which have the same Link.
	// Directories have one name.
	HasLink bool
	Link    uint64
	Xattrs  []Xattr // sorted by name

	// For files:

	Size    uint64
	Partial bool // the contents are known not to be whole: the source shrank or failed while it was read
	// Hash is a keyed hash of the contents, zero if Size is 0. Equal hashes mean
	// equal contents; a file that was cut into other chunks has another hash.
	Hash [16]byte
	// The contents of a file that is not empty are either Extents, which add up to
	// Size, or List.
	Extents []Extent
	List    *ListRef

	Target []byte // of a symlink
	Device uint64 // number of a device, in Linux's encoding
}

// Clone returns a copy that shares no memory with e. A plain copy of an entry
// that was read stays good too, but keeps much of its node in memory.
func (e *Entry) Clone() *Entry {
	c := *e
	c.Key = Key(strings.Clone(string(e.Key)))
	c.Xattrs = slices.Clone(e.Xattrs)
	for i := range c.Xattrs {
		c.Xattrs[i].Value = bytes.Clone(c.Xattrs[i].Value)
	}
	c.Extents = slices.Clone(e.Extents)
	if e.List != nil {
		l := *e.List
		c.List = &l
	}
	c.Target = bytes.Clone(e.Target)
	return &c
}

// Validate reports why e is no entry.
func (e *Entry) Validate() error {
	if err := e.Key.Validate(); err != nil {
		return fmt.Errorf("path %q: %w", e.Key.Path(), err)
	}
	if err := e.validate(); err != nil {
		return fmt.Errorf("%q: %w", e.Key.Path(), err)
	}
	return nil
}

const maxNsec = 999_999_999

// validate is Validate without the key.
func (e *Entry) validate() error {
	switch {
	case e.Type < File || e.Type > BlockDevice:
		return fmt.Errorf("unknown %s", e.Type)
	case e.Mode > 0o7777:
		return fmt.Errorf("mode %o", e.Mode)
	case e.Mtime.Nsec > maxNsec || e.Ctime.Nsec > maxNsec:
		return errors.New("time of a second of nanoseconds or more")
	case e.HasLink && e.Type == Directory:
		return errors.New("directory with hard links")
	case e.Link != 0 && !e.HasLink:
		return errors.New("hard link group without its flag")
	case (len(e.Target) > 0) != (e.Type == Symlink):
		return fmt.Errorf("%s with target of %d bytes", e.Type, len(e.Target))
	case bytes.IndexByte(e.Target, 0) >= 0:
		return errors.New("target with a NUL byte")
	case e.Device != 0 && e.Type != CharDevice && e.Type != BlockDevice:
		return fmt.Errorf("%s with a device number", e.Type)
	}
	if err := e.validateXattrs(); err != nil {
		return err
	}
	if err := e.validateContents(); err != nil {
		return err
	}
	if n := e.variable(); n > MaxEntry {
		return fmt.Errorf("entry of %d bytes: its attributes are larger than %d", n, MaxEntry)
	}
	return nil
}

// variable is a bound on the size of what is not fixed in an entry. 64 bytes
// are enough for an extent and its place in the table of chunks.
func (e *Entry) variable() int {
	n := len(e.Key) + len(e.User) + len(e.Group) + len(e.Target) + 64*len(e.Extents)
	for _, x := range e.Xattrs {
		n += len(x.Name) + len(x.Value) + 8
	}
	return n
}

func (e *Entry) validateXattrs() error {
	for i, x := range e.Xattrs {
		if x.Name == "" || strings.IndexByte(x.Name, 0) >= 0 {
			return fmt.Errorf("extended attribute with the name %q", x.Name)
		}
		if i > 0 && e.Xattrs[i-1].Name >= x.Name {
			return fmt.Errorf("extended attribute %q is %w", x.Name, errOrder)
		}
	}
	return nil
}

func (e *Entry) validateContents() error {
	inline := len(e.Extents) > 0
	switch {
	case e.Type != File:
		if e.Size != 0 || e.Partial || e.Hash != ([16]byte{}) || inline || e.List != nil {
			return fmt.Errorf("%s with contents", e.Type)
		}
		return nil
	case e.Size == 0:
		if e.Hash != ([16]byte{}) || inline || e.List != nil {
			return errors.New("empty file with contents")
		}
		return nil
	case e.Size > math.MaxInt64:
		return fmt.Errorf("file of %d bytes", e.Size)
	case inline == (e.List != nil):
		return errors.New("contents are to be either extents or a list")
	case e.List != nil:
		if e.List.Root.IsZero() || e.List.Level > MaxLevel {
			return fmt.Errorf("list %s of level %d", e.List.Root.Short(), e.List.Level)
		}
		return nil
	}
	left := e.Size
	for _, x := range e.Extents {
		if err := x.Validate(); err != nil {
			return err
		}
		if x.Length > left {
			return errors.New("extents are longer than the file")
		}
		left -= x.Length
	}
	if left > 0 {
		return fmt.Errorf("extents are %d bytes shorter than the file", left)
	}
	return nil
}
