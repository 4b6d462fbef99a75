package ingest

import (
	"encoding/binary"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// A file with several names is read once: the first that the walk meets gets a job, and
// the sequencer, to which all names come in order, gives the others the same contents.

// maxLinks is how many files with several names are remembered. Of more, each name is
// read: that takes time, and no memory.
const maxLinks = 64 << 10

// fileID tells files of one machine apart.
type fileID struct{ dev, ino uint64 }

// group is the number that the names of one file have in common in the tree.
func (id fileID) group() uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], id.dev)
	binary.LittleEndian.PutUint64(b[8:], id.ino)
	sum := blake3.Sum256(b[:])
	return binary.LittleEndian.Uint64(sum[:])
}

// linkWork says that an entry of a job is one of several names of a file.
type linkWork struct {
	entry int
	group uint64
	stat  fsmeta.Stat // what the walk found
	copy  bool        // its contents are those of a name before
	last  bool        // no further name is to come
}

// link notes a name of a file with several, and returns what is to be done for it; nil if it counts as a
// file of its own. If it is a copy, the contents are those of a name met before. What it returns belongs into
// the job that the entry goes into (job.link), which need not be the one that is being filled.
func (w *walker) link(e *snapshot.Entry, st fsmeta.Stat, reused bool) *linkWork {
	if st.Nlink < 2 {
		return nil
	}
	id := fileID{st.Dev, st.Ino}
	left, met := w.links[id]
	if !met {
		if len(w.links) >= w.maxLinks {
			return nil
		}
		left = st.Nlink
	}
	left--
	if left == 0 {
		delete(w.links, id)
	} else {
		w.links[id] = left
	}
	return &linkWork{group: e.Link, stat: st, copy: met && !reused, last: left == 0}
}

// link notes that the entry that is added next is one of several names; l may be nil.
func (j *job) link(l *linkWork) {
	if l == nil {
		return
	}
	l.entry = len(j.entries)
	j.links = append(j.links, *l)
}

// linkedFile is what the names of a file have in common: the contents, and the
// metadata that was read with them.
type linkedFile struct {
	mode, uid, gid uint32
	mtime, ctime   snapshot.Time
	xattrs         []snapshot.Xattr
	size           uint64
	hash           [16]byte
	extents        []snapshot.Extent
	list           *snapshot.ListRef
	partial        bool
}

func linkedFileOf(e *snapshot.Entry) linkedFile {
	return linkedFile{e.Mode, e.UID, e.GID, e.Mtime, e.Ctime, e.Xattrs, e.Size, e.Hash, e.Extents, e.List, e.Partial}
}

func (c *linkedFile) copyTo(e *snapshot.Entry) {
	e.Mode, e.UID, e.GID, e.Mtime, e.Ctime = c.mode, c.uid, c.gid, c.mtime, c.ctime
	e.Xattrs, e.Size, e.Hash, e.Extents, e.List, e.Partial = c.xattrs, c.size, c.hash, c.extents, c.list, c.partial
}

// link gives a further name of a file the contents of the first. If that could
// not be read, or became another file meanwhile, this name is read instead.
func (s *sequencer) link(e *snapshot.Entry, l linkWork) error {
	c, met := s.links[l.group]
	switch {
	case l.copy && met:
		c.copyTo(e)
		e.User, e.Group = s.owners.User(e.UID), s.owners.Group(e.GID)
	case l.copy:
		if err := s.readName(e, l.stat); err != nil {
			return err
		}
	}
	if !met && e.Type != dropped && e.HasLink {
		s.links[l.group] = linkedFileOf(e)
	}
	if l.last {
		delete(s.links, l.group)
	}
	return nil
}

// readName reads a file whose directory nobody holds open any more.
func (s *sequencer) readName(e *snapshot.Entry, st fsmeta.Stat) error {
	s.opts.Observer.Progress.BytesDone.Add(-st.Size) // the walk took it for done
	var name string
	d, err := s.dirs.open(s.ctx, func() (fd int, err error) {
		fd, name, err = openAbove(e.Key)
		return fd, err
	})
	if ctxErr := s.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if err == nil {
		var now fsmeta.Stat
		if now, err = fsmeta.StatAt(d.fd, name); err == nil && (now.Ino != st.Ino || now.Dev != st.Dev) {
			err = errVanished // what has the name now is another file
		}
		if err != nil {
			d.release()
		}
	}
	if err != nil {
		s.unreadableFile(e, err)
		return nil
	}
	return s.readFile(e, &largeWork{dir: d, name: name, stat: st}, nil, newWorker(s.pipeline).putNow)
}

// openAbove opens the directory that a file stands in, only to look names up in
// it. It goes there component by component, as the path may be longer than the
// system takes, and follows links, as the walk may have on the way to what it
// was told to take. So it may come to another place if the tree was changed: the
// caller must compare what it finds with what it looks for.
func openAbove(key snapshot.Key) (fd int, name string, err error) {
	components := strings.Split(string(key), "\x00")[1:]
	last := len(components) - 1
	if fd, err = fsmeta.OpenSearchAt(unix.AT_FDCWD, "/"); err != nil {
		return -1, "", err
	}
	for _, c := range components[:last] {
		next, err := fsmeta.OpenSearchAt(fd, c)
		unix.Close(fd)
		if err != nil {
			return -1, "", err
		}
		fd = next
	}
	return fd, components[last], nil
}
