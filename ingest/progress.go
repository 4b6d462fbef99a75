package ingest

import "sync/atomic"

// Progress has counters that grow while a snapshot is made. They may be read
// at any time.
type Progress struct {
	Files, Dirs  atomic.Int64 // entries that were met in the sources
	Bytes        atomic.Int64 // bytes of the files among them
	FilesDone    atomic.Int64 // entries that are in the tree
	BytesDone    atomic.Int64 // bytes of contents that were read or taken over
	WalkFinished atomic.Bool  // nothing more is to come, and the first three are final
}

func (p *Progress) reset() {
	for _, n := range []*atomic.Int64{&p.Files, &p.Dirs, &p.Bytes, &p.FilesDone, &p.BytesDone} {
		n.Store(0)
	}
	p.WalkFinished.Store(false)
}
