package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// pipeline moves entries from the walk to the tree:
//
//	walk ──jobs──┬─ small ──> workers ────────────┐
//	             ├─ large ──> reader ──> workers ─┤ (job done)
//	             └─ ordered ──────────────────────┴─> sequencer ──> tree
//
// A job is a run of neighbouring entries, with the small files among them that
// make one bundle. Jobs are finished in any order; the sequencer waits for each
// in turn, so that the tree gets its entries sorted.
type pipeline struct {
	*session
	ctx     context.Context
	keys    *seal.Keys
	split   chunk.Splitter
	small   chan *job
	large   chan largeFile
	chunks  chan *chunkTask
	ordered chan *job
	free    chan *job // finished jobs, to be used again

	inFlight int             // chunks of one file that are on their way at once
	spare    chan *chunkTask // for those; not a sync.Pool, which the collector would empty

	owners   *fsmeta.Owners
	queued   *budget // of the cost of jobs that are on their way
	dirs     *openDirs
	maxLinks int                                 // the constant, but in tests
	sysRead  func(fd int, p []byte) (int, error) // read(2), but in tests

	unreadable atomic.Int64
	trees      []captured // all sources in key order
	members    *members   // of the source that is captured, if one is
	// buffersLeft are those that the sink of that source, or the one before, does not use now.
	buffersLeft []*sinkBuffers
}

// Queue lengths. Long enough that nobody waits for a neighbour that is only a
// little slower, short enough to bound memory and open directories.
const (
	queuedJobs   = 24
	jobEntries   = 256      // entries of a job at most
	jobDirs      = 64       // directories that a job's files stand in, at most
	jobLarge     = 16       // large files of a job, at most
	jobCost      = 4 << 20  // of a job at most, see cost
	queuedCost   = 16 << 20 // of all jobs that are on their way
	spareBuffers = 2        // chunks on their way more than workers
	largeReaders = 2        // so that the workers have something to do while a file's last chunks are awaited
)

// job is a run of entries in key order.
type job struct {
	entries []snapshot.Entry
	changes []Change
	small   []smallWork
	large   []largeWork
	links   []linkWork
	dirs    int           // different directories of small
	cost    int           // of all entries
	parts   atomic.Int32  // what is still to do: the bundle, and each large file
	done    chan struct{} // closed when all parts are done; nil if there were none

	// Of a source's members, which come in any order:
	members *members      // where the entries go instead of the tree, if not nil
	read    []byte        // contents of the small files
	taken   chan struct{} // closed when the sequencer took the job, if not nil
}

// partDone notes that the bundle or a large file is done.
func (j *job) partDone() {
	if j.parts.Add(-1) == 0 {
		close(j.done)
	}
}

// largeFile is a large file of a job.
type largeFile struct {
	job  *job
	work *largeWork
}

// cost is about what an entry takes in memory until the sequencer has it, with
// the work that belongs to it. What a file's attributes will take is not known
// before it is read.
func cost(e *snapshot.Entry) int {
	n := 700 + len(e.Key) + len(e.Target) + 64*len(e.Extents)
	for _, x := range e.Xattrs {
		n += 64 + len(x.Name) + len(x.Value)
	}
	return n
}

// add adds an entry.
func (j *job) add(e snapshot.Entry, c Change) {
	j.cost += cost(&e)
	j.entries = append(j.entries, e)
	j.changes = append(j.changes, c)
}

// full reports whether it is time to send the job off. One that has small files goes
// on until its bundle is complete, unless too much else comes between.
func (j *job) full() bool {
	n := len(j.entries)
	return n >= jobEntries && (len(j.small) == 0 || n >= 16*jobEntries) || j.cost >= jobCost
}

func (p *pipeline) newJob() *job {
	select {
	case j := <-p.free:
		clear(j.entries)
		j.entries, j.changes, j.links = j.entries[:0], j.changes[:0], j.links[:0]
		j.small, j.large, j.dirs, j.cost, j.done = j.small[:0], j.large[:0], 0, 0, nil
		j.members, j.read, j.taken = nil, j.read[:0], nil
		return j
	default:
		return new(job)
	}
}

func newPipeline(s *session) (*pipeline, error) {
	keys, err := s.repo.WriteKeys()
	if err != nil {
		return nil, err
	}
	split := s.opts.Splitter
	if split == nil {
		if split, err = s.repo.Splitter(); err != nil {
			return nil, err
		}
	}
	p := &pipeline{
		session: s, keys: keys, split: split,
		small:   make(chan *job, queuedJobs),
		large:   make(chan largeFile, queuedJobs),
		chunks:  make(chan *chunkTask),
		ordered: make(chan *job, queuedJobs),
		free:    make(chan *job, queuedJobs),

		inFlight: s.repo.Goroutines() + spareBuffers,
		owners:   fsmeta.NewOwners(),
		dirs:     newOpenDirs(),
		queued:   newBudget(queuedCost),
		maxLinks: maxLinks,
		sysRead:  unix.Read,
	}
	for _, path := range s.targets.paths {
		key, err := snapshot.KeyOf(path)
		if err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		p.trees = append(p.trees, captured{kind: fileSource, name: path, key: key})
	}
	p.trees = append(p.trees, s.sources...)
	slices.SortFunc(p.trees, func(a, b captured) int { return cmp.Compare(a.key, b.key) })
	p.spare = make(chan *chunkTask, p.inFlight)
	return p, nil
}

// run takes all sources through the pipeline and returns the tree's root.
func (p *pipeline) run(ctx context.Context) (root snapshot.Root, err error) {
	g, ctx := errgroup.WithContext(ctx)
	p.ctx = ctx
	g.Go(func() error {
		defer close(p.ordered)
		defer close(p.large)
		defer close(p.small)
		return p.produce()
	})
	var readers sync.WaitGroup
	readers.Add(largeReaders)
	for range largeReaders {
		g.Go(func() error {
			defer readers.Done()
			return p.readLarge()
		})
	}
	g.Go(func() error {
		readers.Wait()
		close(p.chunks)
		return nil
	})
	for range p.repo.Goroutines() {
		g.Go(p.work)
	}
	g.Go(func() error {
		var err error
		root, err = p.sequence()
		return err
	})
	err = g.Wait()
	p.dirs.closeAll()
	if p.members != nil { // the run ended early
		err = errors.Join(err, p.members.close())
	}
	if err != nil {
		return root, err
	}
	return root, nil
}

// reports is what the manifest says of the sources.
func (p *pipeline) reports() []snapshot.Source {
	var all []snapshot.Source
	for _, t := range p.trees {
		all = append(all, snapshot.Source{Kind: t.kind, Name: []byte(t.name), Status: t.status, Totals: t.totals, Attributes: t.attributes})
	}
	return all
}

// work is one worker: it bundles small files and stores chunks.
func (p *pipeline) work() error {
	w := newWorker(p)
	small, chunks := p.small, p.chunks
	for small != nil || chunks != nil {
		select {
		case t, ok := <-chunks:
			if !ok {
				chunks = nil
				continue
			}
			if err := w.put(t); err != nil {
				return err
			}
		case j, ok := <-small:
			if !ok {
				small = nil
				continue
			}
			if err := w.bundle(j); err != nil {
				return err
			}
			j.partDone()
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	return nil
}

// dispatch sends a job on its way. It is the walk's only way out, and blocks
// while the queues are full.
func (p *pipeline) dispatch(j *job) error {
	if err := p.queued.take(p.ctx, j.cost); err != nil {
		return err
	}
	parts := len(j.large)
	if len(j.small) > 0 {
		parts++
	}
	if parts > 0 {
		j.done = make(chan struct{})
		j.parts.Store(int32(parts))
	}
	if len(j.small) > 0 {
		if err := send(p.ctx, p.small, j); err != nil {
			return err
		}
	}
	for i := range j.large {
		if err := send(p.ctx, p.large, largeFile{j, &j.large[i]}); err != nil {
			return err
		}
	}
	return send(p.ctx, p.ordered, j)
}

// send sends to a queue unless the pipeline is stopped meanwhile.
func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// contentHasher returns a hasher for content hashes.
func (p *pipeline) contentHasher() *blake3.Hasher {
	h, err := blake3.NewKeyed(p.keys.ContentHash[:])
	if err != nil {
		panic("internal error: " + err.Error()) // the key size is fixed
	}
	return h
}
