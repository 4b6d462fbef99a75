package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Writer adds chunks to a repository and ends with Commit, which publishes a
// manifest, or Abort. Put and Has may be called concurrently. How it keeps
// out of prune's way is in docs/design.md, "Writers without a lock".
type Writer struct {
	// ctx is that of NewWriter: packs outlive the calls that begin them.
	ctx     context.Context
	repo    *Repository
	place   seal.Place
	keys    *seal.Keys
	hasher  *chunk.Hasher
	encoder *pack.Encoder
	host    string
	dry     bool
	similar Similar // nil: no deltas

	lease     *lease
	asked     time.Time // the storage's time, when it was asked last; zero: not known
	condemned map[pack.ID]bool
	stored    map[pack.ID]int64 // sizes of the packs that were listed after condemned was read, and of own ones
	snapshots *SnapshotSet

	data, meta *packer
	uploads    errgroup.Group
	slots      chan struct{} // bounds the packs that wait to become durable

	mu       sync.Mutex
	pending  map[chunk.ID]struct{} // put in this run and not in the local index yet
	used     map[pack.ID]int64     // packs that this snapshot relies on, with their sizes
	finished []pack.Finished       // durable, in no segment yet
	unsaid   int                   // chunks in these
	own      map[pack.ID]ownPack   // durable

	failed   atomic.Pointer[error] // first error of an upload
	newBytes atomic.Int64
	stoBytes atomic.Int64
	deltas   deltaCounts

	scratch chan []byte // space for encoded chunks
}

// WriterOptions say who writes.
type WriterOptions struct {
	Host string
	// Compression replaces the repository's, if it isn't zero.
	Compression pack.Compression
	// Similar, if not nil, finds the bases of deltas.
	Similar Similar
	// DryRun: look up, compress and count, but store nothing.
	DryRun bool
	// After is the writer of an earlier try of the same run, which was fenced and
	// aborted. What it stored and is still there counts as added by the new one.
	After *Writer
}

// segmentPacks is after how many packs a segment is published, if they don't have very many
// chunks: what a killed run leaves is then found by the next.
const segmentPacks = 32

// NewWriter takes a lease and learns what is stored. In this order, since each
// step makes the next one's answer safe to use: lease, condemned, packs, index.
func (r *Repository) NewWriter(ctx context.Context, o WriterOptions) (*Writer, error) {
	place, err := r.writePlace()
	if err != nil {
		return nil, err
	}
	keys, err := r.writeKeys()
	if err != nil {
		return nil, err
	}
	compression := o.Compression
	if compression == 0 {
		compression = r.config.Compression
	}
	encoder, err := pack.NewEncoder(compression, r.opts.Goroutines+1)
	if err != nil {
		return nil, err
	}
	w := &Writer{
		ctx: ctx, repo: r, place: place, keys: keys, hasher: r.hashers[place], encoder: encoder,
		host: o.Host, dry: o.DryRun, similar: o.Similar,
		slots:   make(chan struct{}, 2),
		scratch: make(chan []byte, 2*(r.opts.Goroutines+1)),
		pending: make(map[chunk.ID]struct{}),
		used:    make(map[pack.ID]int64),
		own:     make(map[pack.ID]ownPack),
	}
	w.data = &packer{w: w, kind: seal.DataPack}
	w.meta = &packer{w: w, kind: seal.MetaPack}
	if !o.DryRun {
		if w.lease, err = r.takeLease(ctx, o.Host); err != nil {
			return nil, err
		}
		if err := w.askTime(ctx); err != nil {
			return nil, errors.Join(err, w.Abort(context.WithoutCancel(ctx)))
		}
	}
	if err := w.learn(ctx); err != nil {
		return nil, errors.Join(err, w.Abort(ctx))
	}
	if o.After != nil {
		w.inherit(o.After)
	}
	return w, nil
}

func (w *Writer) learn(ctx context.Context) (err error) {
	if w.condemned, w.stored, err = w.repo.readFences(ctx, !w.dry); err != nil {
		return err
	}
	if err := w.repo.loadIndex(ctx, nil); err != nil {
		return err
	}
	w.snapshots, err = w.repo.Snapshots(ctx)
	return err
}

// readFences reads condemned and then lists the packs, with their sizes. hold is for those
// that will rely on it.
func (r *Repository) readFences(ctx context.Context, hold bool) (condemned map[pack.ID]bool, stored map[pack.ID]int64, err error) {
	if !r.does(stepOrder) {
		if stored, err = r.packSizes(ctx); err != nil {
			return nil, nil, err
		}
	}
	if r.does(stepSee) {
		if hold {
			condemned, err = r.holdCondemned(ctx)
		} else {
			condemned, err = r.readCondemned(ctx)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if stored == nil {
		stored, err = r.packSizes(ctx)
	}
	return condemned, stored, err
}

// packSizes lists the packs, with their sizes.
func (r *Repository) packSizes(ctx context.Context) (map[pack.ID]int64, error) {
	packs, err := r.listPacks(ctx, nil)
	if err != nil {
		return nil, err
	}
	sizes := make(map[pack.ID]int64, len(packs))
	for id, info := range packs {
		sizes[id] = info.Size
	}
	return sizes, nil
}

// Snapshots returns the snapshots as they were after the lease was taken.
func (w *Writer) Snapshots() *SnapshotSet { return w.snapshots }

// Mine reports whether this writer or the admin made a snapshot: only of those
// may parts be taken over.
func (w *Writer) Mine(s *Snapshot) bool {
	return s.Signer == seal.SignerOf(w.repo.signing) || s.Signer == w.repo.config.Admin
}

// Place returns where the writer's chunks belong. A parent of another place
// shares no chunk with the new snapshot.
func (w *Writer) Place() seal.Place { return w.place }

// Has reports whether a chunk is stored such that this snapshot may rely on
// it.
func (w *Writer) Has(ref Ref) (bool, error) {
	w.mu.Lock()
	_, ok := w.pending[ref.ID]
	w.mu.Unlock()
	if ok {
		return true, nil
	}
	return w.isStored(ref)
}

// isStored looks a chunk up in the index. An entry counts if its pack was in
// the listing, whole by its size, and is not condemned, and if this writer or the
// admin says so: another writer might have put junk under the ID. A delta counts if each of its
// bases is stored whole.
func (w *Writer) isStored(ref Ref) (bool, error) {
	var buf [4]index.Place
	places, err := w.repo.lookup(buf[:0], ref.ID)
	if err != nil {
		return false, fmt.Errorf("look up chunk %s: %w", ref.ID.Short(), err)
	}
	w.mu.Lock()
	places = slices.DeleteFunc(places, func(p index.Place) bool { return !w.counts(p, ref.Kind) })
	whole := slices.IndexFunc(places, func(p index.Place) bool { return p.Entry.Encoding != pack.Delta })
	if whole >= 0 {
		w.used[places[whole].Pack] = places[whole].PackSize
	}
	w.mu.Unlock()
	if whole >= 0 {
		return true, nil
	}
	for _, p := range places {
		if ok, err := w.relyOnDelta(p); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// stays reports whether the snapshot may rely on a pack: it was listed, whole by its
// size, and is not condemned.
func (w *Writer) stays(id pack.ID, size int64) bool {
	isListed := w.stored[id] == size || !w.repo.does(stepList)
	return isListed && !w.condemned[id]
}

// store finishes a pack and makes it durable in the background. It waits
// while too many packs are on their way.
func (w *Writer) store(o *openPack) error {
	f, err := o.writer.Finish()
	if err != nil {
		return errors.Join(err, o.staged.Abort())
	}
	select {
	case w.slots <- struct{}{}:
	case <-w.ctx.Done():
		return errors.Join(w.ctx.Err(), o.staged.Abort())
	}
	w.uploads.Go(func() error {
		defer func() { <-w.slots }()
		if err := w.commitPack(o, f); err != nil {
			w.fail(err)
		}
		return nil
	})
	return nil
}

func (w *Writer) commitPack(o *openPack, f pack.Finished) error {
	name := packName(f.Kind, f.ID)
	if err := commitPack(w.ctx, w.repo.storage, o.staged, name, f.ID); err != nil {
		return err
	}
	w.repo.opts.Observer.packStored(name, f.Size)
	w.mu.Lock()
	w.own[f.ID] = ownPackOf(f)
	w.finished = append(w.finished, f)
	var ready []pack.Finished
	w.unsaid += len(f.Entries)
	if len(w.finished) >= segmentPacks || w.unsaid >= segmentEntries {
		ready, w.finished, w.unsaid = w.finished, nil, 0
	}
	w.mu.Unlock()
	if ready == nil {
		return nil
	}
	return w.publish(w.ctx, ready)
}

// publish stores an index segment that names packs, and takes it into the
// local index.
func (w *Writer) publish(ctx context.Context, packs []pack.Finished) error {
	r := w.repo
	b := index.NewBuilder()
	for _, f := range packs {
		if err := b.AddPack(f); err != nil {
			return err
		}
	}
	if err := r.storeSegment(ctx, b, w.place, w.keys); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range packs {
		w.stored[f.ID] = f.Size
		w.used[f.ID] = f.Size
		for _, e := range f.Entries {
			delete(w.pending, e.ID)
		}
	}
	return nil
}

func (w *Writer) fail(err error) { w.failed.CompareAndSwap(nil, &err) }

func (w *Writer) failure() error {
	if p := w.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// flush makes everything put so far durable, and findable.
func (w *Writer) flush(ctx context.Context) error {
	if err := errors.Join(w.data.flush(), w.meta.flush()); err != nil {
		w.fail(err)
	}
	w.uploads.Wait()
	if err := w.failure(); err != nil {
		return err
	}
	w.mu.Lock()
	rest := w.finished
	w.finished = nil
	w.mu.Unlock()
	if len(rest) == 0 {
		return nil
	}
	return w.publish(ctx, rest)
}

// Abort gives up: nothing of the run becomes visible. What was uploaded stays
// until prune, and later runs may use it.
func (w *Writer) Abort(ctx context.Context) error {
	w.data.abort()
	w.meta.abort()
	w.uploads.Wait()
	if w.failure() == nil && len(w.finished) > 0 {
		// So that the next run finds what this one stored.
		if err := w.publish(ctx, w.finished); err != nil {
			w.repo.opts.Observer.warn(err)
		}
	}
	return w.lease.abandon(ctx)
}
