package ingest

import (
	"errors"
	"io"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// Tar is a source that becomes a tree: a tar archive as it comes, perhaps compressed
// with gzip, zstd or bzip2.
type Tar struct {
	// Name is that of the directory with the archive's contents; it may have several
	// components.
	Name string
	// Reader delivers the archive. It may still be read from when Snapshot has returned
	// because its context was done.
	Reader io.Reader
	// Again returns a reader that delivers the archive once more, from its beginning. Nil
	// if that can't be.
	Again func() (io.Reader, error)
}

func (t *Tar) key() (snapshot.Key, error) { return snapshot.KeyOf(tarSource + "/" + t.Name) }

// archive takes a tar archive, in two steps: what it contains is stored as it comes, and
// its members go to where they are sorted (members.go); at the archive's end, if it was
// whole, they become entries of the tree. If it was not, the source has failed and
// nothing of it is in the tree.
func (p *pipeline) archive(t *treeSource) error {
	m := newMembers(p, t.key)
	p.members = m
	err := p.readArchive(t, m)
	var failed *readError
	switch {
	case p.ctx.Err() != nil: // nothing has failed but the run was ended
		return p.ctx.Err()
	case err != nil && !errors.As(err, &failed):
		return err
	}
	if err := m.wait(); err != nil {
		return err
	}
	if failed != nil {
		t.status = snapshot.Failed
		p.report(t.key, failed.err, true)
	} else if err := m.intoTree(); err != nil {
		return err
	}
	p.members = nil // before there are those of another archive, which take as much memory
	return m.close()
}

// readArchive stores the contents of an archive and sends its members to m.
func (p *pipeline) readArchive(t *treeSource, m *members) error {
	in := interruptible(p.ctx, &unpacker{in: t.tar.Reader})
	defer in.Close()
	r := &archiveReader{
		pipeline: p, members: m, job: p.newJob(),
		archive: newArchive(in, t.key, fsmeta.NewOwners(), p.report),
		old:     p.memberHints(),
		cut:     make([]byte, 2*p.split.Params().Max),
	}
	r.bundle.seed = p.bundleSeed()
	for {
		next, err := r.archive.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return &readError{err}
		}
		if err := r.take(next); err != nil {
			return err
		}
	}
	return r.flush()
}

// archiveReader makes jobs of the members of an archive, as the walker does of files.
type archiveReader struct {
	*pipeline
	archive *archive
	members *members
	job     *job
	bundle  bundler
	old     *memberHints
	cut     []byte // to cut large files in
}

// take puts a member into the job. Its contents are read at once: an archive can't
// be read again.
func (r *archiveReader) take(m *member) error {
	e := m.entry
	isDir := e.Type == snapshot.Directory
	if x := r.opts.Excludes; x != nil && x.MatchWithParents(r.pathIn(e.Key), isDir).Excluded {
		return nil // the next call of next skips its contents
	}
	seen := r.opts.Observer.Progress
	if isDir {
		seen.Dirs.Add(1)
	} else {
		seen.Files.Add(1)
		seen.Bytes.Add(int64(e.Size))
	}
	switch {
	case e.Type == 0:
		e.Target = []byte(m.link) // see members.take
	case e.Size >= smallFile:
		n, err := r.contents(&e, r.old.find(r.ctx, e.Key), r.archive, r.cut, r.putLater)
		if err != nil {
			return err
		}
		e.Size = n
	case e.Size > 0:
		return r.small(e)
	}
	r.job.add(e, New)
	if r.job.full() {
		return r.flush()
	}
	return nil
}

// pathIn returns the path in the archive, for patterns.
func (r *archiveReader) pathIn(key snapshot.Key) string { return key[len(r.archive.source):].Path() }

// small takes a small file into the job's bundle.
func (r *archiveReader) small(e snapshot.Entry) error {
	size := int64(e.Size)
	if !r.bundle.fits(size) {
		if err := r.flush(); err != nil {
			return err
		}
	}
	j := r.job
	if j.read == nil {
		j.read = make([]byte, 0, maxBundle) // which is never exceeded, so contents do not move
	}
	start := len(j.read)
	j.read = j.read[:start+int(size)]
	if _, err := io.ReadFull(r.archive, j.read[start:]); err != nil {
		return &readError{err}
	}
	j.small = append(j.small, smallWork{entry: len(j.entries), contents: j.read[start:]})
	j.add(e, New)
	if r.bundle.add(e.Key.Base(), size) || j.cost >= jobCost {
		return r.flush()
	}
	return nil
}

// flush sends the job off and begins another.
func (r *archiveReader) flush() error {
	if len(r.job.entries) == 0 {
		return nil
	}
	j := r.job
	r.job = r.newJob()
	r.bundle.reset()
	return r.members.send(j)
}
