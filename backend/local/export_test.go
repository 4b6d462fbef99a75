package local

import "time"

// What the tests need to put another file system beneath.
type (
	FS    = fsys
	File  = file
	Entry = entry
)

// OS is the real file system.
type OS = osFS

// OpenOn and CreateOn are Open and Create on another file system.
var (
	OpenOn   = open
	CreateOn = create
)

// What Link consists of.
var (
	LinkBy          = linkBy
	RenameExclusive = renameExclusive
)

// NewEntry describes a directory or a regular file.
func NewEntry(name string, isDir bool, size int64, modified time.Time) Entry {
	if isDir {
		return entry{name: name, kind: directory}
	}
	return entry{name: name, kind: regular, size: size, modified: modified}
}

// TmpDir is the directory of temporary files below the root.
const TmpDir = tmpDir
