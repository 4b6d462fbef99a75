package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// Sink takes what a source has. All its methods may be called from several goroutines at once;
// contents are stored by the same workers, however many streams there are.
//
// Paths are relative to the source's place. "" is that place itself, where a source that is just
// one file has it; such a source has nothing else.
type Sink struct {
	*pipeline
	of *captured

	mu         sync.Mutex
	members    *members
	job        *job
	bundle     bundler
	old        *memberHints
	attributes map[string][]byte
	timeless   bool
	failed     error // of what the sink hands on to
}

func newSink(p *pipeline, t *captured, m *members) *Sink {
	s := &Sink{pipeline: p, of: t, members: m, job: p.newJob(), old: p.memberHints()}
	s.bundle.seed = p.bundleSeed()
	return s
}

// Key returns the key of a path, or an error if it can't have one.
func (s *Sink) Key(path string) (snapshot.Key, error) {
	if path == "" {
		return s.of.key, nil
	}
	k, err := snapshot.KeyOf(s.of.key.Path() + "/" + path)
	if err != nil {
		return "", err
	}
	return k, tooLong(len(k), len(k.Base()))
}

// Add puts an entry without contents, whose Key is set, into the tree: a directory, a link, an
// empty file. They come in any order; of several of one key the last one counts. Directories
// that nobody adds are made up.
func (s *Sink) Add(e snapshot.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(e)
}

// File puts a file into the tree with what r delivers as its contents. Size, Hash and where the
// contents lie are filled in. An error of r comes back as it is, and the file does not come
// into the tree.
func (s *Sink) File(e snapshot.Entry, r io.Reader) (size uint64, err error) {
	e.Type = snapshot.File
	b := s.buffers()
	defer s.release(b)
	n, err := fill(b.head, r)
	switch {
	case err != nil && err != io.EOF:
		return uint64(n), err
	case n < len(b.head):
		return uint64(n), s.small(e, b.head[:n])
	case err == io.EOF:
		return s.large(e, bytes.NewReader(b.head), b)
	}
	return s.large(e, io.MultiReader(bytes.NewReader(b.head), r), b)
}

// fill reads until p is full, or r has ended, which is io.EOF. Unlike with io.ReadFull what else
// r says is not mistaken for its end.
func fill(p []byte, r io.Reader) (n int, err error) {
	for idle := 0; n < len(p); {
		m, err := r.Read(p[n:])
		if n += m; err != nil {
			return n, err
		}
		if m > 0 {
			idle = 0
		} else if idle++; idle == maxIdle {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// maxIdle is how often in a row a reader may deliver nothing, as in package bufio.
const maxIdle = 100

// Now returns the time of the run, for entries that have none of their own. In a source that asked for it,
// entries that are as they were in the parent snapshot keep the times that they have there.
func (s *Sink) Now() snapshot.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timeless = true
	return s.now()
}

// Previous opens what the parent snapshot has as the contents of a file of this source; the error is
// fs.ErrNotExist if there is no parent or no such file in it. What can't be read of it, perhaps because
// it is lost, should be no reason to fail: a snapshot heals what is lost.
func (s *Sink) Previous(path string) (io.Reader, error) {
	key, err := s.Key(path)
	if err != nil {
		return nil, err
	}
	e := s.before(key)
	if e == nil || e.Type != snapshot.File || e.Partial {
		return nil, fmt.Errorf("%s in the parent snapshot: %w", key.Path(), fs.ErrNotExist)
	}
	return repo.NewFile(s.ctx, s.repo, e), nil
}

// Problem reports something about what is at a path. A fatal one marks the snapshot as incomplete:
// an item that can't be had, though the source as a whole did not fail.
func (s *Sink) Problem(path string, err error, fatal bool) {
	key := s.of.key
	if path != "" {
		key = key.Child(path) // perhaps none that an entry could have, but one to be shown
	}
	s.problem(key, err, fatal)
}

// Describe records an attribute of the source in the snapshot's manifest, for what
// holds for this one time: versions, positions in a log. The name is UTF-8.
func (s *Sink) Describe(name string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attributes == nil {
		s.attributes = make(map[string][]byte)
	}
	s.attributes[name] = value
}

// Excluded reports whether the user wants a path left out.
func (s *Sink) Excluded(path string, isDir bool) bool {
	x := s.opts.Excludes
	return x != nil && x.MatchWithParents("/"+path, isDir).Excluded
}

// sinkBuffers are what one stream needs.
type sinkBuffers struct {
	head []byte // what decides whether a file is a small one
	cut  []byte // to cut a large file in; nil until there is one
}

func (s *Sink) buffers() *sinkBuffers {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.buffersLeft); n > 0 {
		b := s.buffersLeft[n-1]
		s.buffersLeft = s.buffersLeft[:n-1]
		return b
	}
	return &sinkBuffers{head: make([]byte, smallFile)}
}

func (s *Sink) release(b *sinkBuffers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buffersLeft = append(s.buffersLeft, b)
}

// before returns the parent's entry of a key, or nil.
func (s *Sink) before(key snapshot.Key) *snapshot.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.old.find(s.ctx, key)
	if e == nil {
		return nil
	}
	old := *e // the cursor goes on
	return &old
}

// large stores a file that is cut into chunks of its own. Chunks go to the workers; only the
// entry waits for those of others.
func (s *Sink) large(e snapshot.Entry, r io.Reader, b *sinkBuffers) (uint64, error) {
	if b.cut == nil {
		b.cut = make([]byte, 2*s.split.Params().Max)
	}
	var err error
	e.Size, err = s.contents(&e, s.before(e.Key), r, b.cut, s.putLater)
	var failed *readError
	if errors.As(err, &failed) {
		return e.Size, failed.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return e.Size, s.fail(err)
	}
	return e.Size, s.add(e)
}

// small takes a small file into the job's bundle.
func (s *Sink) small(e snapshot.Entry, contents []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(contents))
	e.Size = uint64(size)
	if size == 0 {
		return s.add(e)
	}
	if !s.bundle.fits(size) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	j := s.job
	if j.read == nil {
		j.read = make([]byte, 0, maxBundle) // which is never exceeded, so contents do not move
	}
	start := len(j.read)
	j.read = append(j.read, contents...)
	j.small = append(j.small, smallWork{entry: len(j.entries), contents: j.read[start:]})
	s.count(&e)
	j.add(e, New)
	if s.bundle.add(e.Key.Base(), size) || j.cost >= jobCost {
		return s.flush()
	}
	return nil
}

// add puts an entry into the job, whose lock the caller has.
func (s *Sink) add(e snapshot.Entry) error {
	s.count(&e)
	s.job.add(e, New)
	if s.job.full() {
		return s.flush()
	}
	return nil
}

// count tells the observer of an entry that came.
func (s *Sink) count(e *snapshot.Entry) {
	seen := s.opts.Observer.Progress
	if e.Type == snapshot.Directory {
		seen.Dirs.Add(1)
		return
	}
	seen.Files.Add(1)
	seen.Bytes.Add(int64(e.Size))
}

// flush sends the job off and begins another. The caller has the lock, or is the last.
func (s *Sink) flush() error {
	if len(s.job.entries) == 0 {
		return nil
	}
	j := s.job
	s.job = s.newJob()
	s.bundle.reset()
	return s.fail(s.members.send(j))
}

// fail notes an error that is not the source's.
func (s *Sink) fail(err error) error {
	if s.failed == nil {
		s.failed = err
	}
	return err
}

// broken returns why the sink took something no more, nil if it took all.
func (s *Sink) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}
