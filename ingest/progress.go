package ingest

import "sync/atomic"

// Progress has counters that grow while a snapshot is made. They may be read
// at any time.
type Progress struct {
	Files, Dirs  atomic.Int64 // entries seen by the walk
	Bytes        atomic.Int64 // bytes of files seen by the walk
	FilesDone    atomic.Int64 // entries that are in the tree
	BytesDone    atomic.Int64 // bytes of contents that were read or taken over
	WalkFinished atomic.Bool  // the first three are final
}
