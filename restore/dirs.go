package restore

import (
	"container/list"
	"sync"

	"github.com/cairn-backup/cairn/internal/fsmeta"
)

// maxIdleDirs is how many directories stay open that nobody uses, at most.
const maxIdleDirs = 128

// dirs hands out open directories below the target. It keeps a bounded number of
// those last used open and opens others anew, each from its parent and without
// following links, so that neither depth nor size of a tree needs many
// descriptors. It may be used concurrently.
type dirs struct {
	mu   sync.Mutex
	open map[place]*dir
	idle *list.List // of *dir without users; the first was used last
	max  int        // length of idle
}

// dir is an open directory. It belongs to the dirs that it comes from; give it
// back with release.
type dir struct {
	*fsmeta.Dir
	place place
	users int
	idle  *list.Element // in dirs.idle, if users is 0
}

// newDirs takes over the open target.
func newDirs(target *fsmeta.Dir, maxIdle int) *dirs {
	root := &dir{Dir: target, users: 1} // for ever
	return &dirs{open: map[place]*dir{"": root}, idle: list.New(), max: maxIdle}
}

// get opens the directory at p. The error wraps unix.ENOTDIR if anything else is
// there or in place of one above, also if that is a link to a directory.
func (ds *dirs) get(p place) (*dir, error) {
	if d := ds.lookUp(p); d != nil {
		return d, nil
	}
	above, name := p.split()
	parent, err := ds.get(above)
	if err != nil {
		return nil, err
	}
	defer ds.release(parent)
	opened, err := parent.Open(name)
	if err != nil {
		return nil, err
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d := ds.use(p); d != nil { // somebody was quicker
		opened.Close()
		return d, nil
	}
	d := &dir{Dir: opened, place: p, users: 1}
	ds.open[p] = d
	return d, nil
}

func (ds *dirs) lookUp(p place) *dir {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.use(p)
}

// use returns a directory that is open, with one more user.
func (ds *dirs) use(p place) *dir {
	d, ok := ds.open[p]
	if !ok {
		return nil
	}
	d.users++
	if d.idle != nil {
		ds.idle.Remove(d.idle)
		d.idle = nil
	}
	return d
}

// release gives a directory back.
func (ds *dirs) release(d *dir) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d.users--; d.users > 0 {
		return
	}
	d.idle = ds.idle.PushFront(d)
	if ds.idle.Len() > ds.max {
		oldest := ds.idle.Remove(ds.idle.Back()).(*dir)
		delete(ds.open, oldest.place)
		oldest.Close()
	}
}

// close closes all directories, which nobody may use any more.
func (ds *dirs) close() {
	for _, d := range ds.open {
		d.Close()
	}
	ds.open = nil
}
