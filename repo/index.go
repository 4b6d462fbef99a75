package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// maxSegment bounds an index segment: some 4 million chunks.
const maxSegment = 256 << 20

// indexLoads counts how often the segments were listed and absorbed.
type indexLoads struct {
	sync.Mutex // held while it is done: an older listing must not take away what a newer one brought
	begun      atomic.Int64
	done       int64 // number of the last one that came to its end
}

// refreshIndex is loadIndex for one of many readers that miss something at the same
// time: it is content with what another one did, if that began after it was asked.
func (r *Repository) refreshIndex(ctx context.Context) error {
	asked := r.loads.begun.Load()
	r.loads.Lock()
	defer r.loads.Unlock()
	if r.loads.done > asked {
		return nil
	}
	return r.loadIndexOnce(ctx, nil)
}

// loadIndex absorbs the segments that the local index lacks and lets go of
// those that are gone. A segment that is damaged or signed by nobody of
// account is only a hint lost; bad, if it isn't nil, hears of it.
func (r *Repository) loadIndex(ctx context.Context, bad func(name string, err error)) error {
	r.loads.Lock()
	defer r.loads.Unlock()
	return r.loadIndexOnce(ctx, bad)
}

func (r *Repository) loadIndexOnce(ctx context.Context, bad func(name string, err error)) error {
	number := r.loads.begun.Add(1)
	stored, err := r.listSegments(ctx, bad)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		l, err := r.index()
		if err != nil {
			return err
		}
		err = r.absorb(ctx, l, stored, bad)
		var own indexError
		switch {
		case errors.As(err, &own) && diskFails(err):
			if err := r.moveIndex(l, err); err != nil {
				return err
			}
		case errors.Is(err, index.ErrLost) && try < 2:
			// It was found damaged and emptied: fill it again.
		case err == nil:
			r.loads.done = number
			return nil
		default:
			return err
		}
	}
}

func (r *Repository) listSegments(ctx context.Context, bad func(name string, err error)) (map[index.SegmentID]bool, error) {
	stored := make(map[index.SegmentID]bool)
	for info, err := range r.storage.List(ctx, indexPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list index segments: %w", err)
		}
		id, err := index.ParseSegmentID(info.Name[len(indexPrefix):])
		if err != nil {
			if bad != nil {
				bad(info.Name, err)
			}
			continue
		}
		stored[id] = true
	}
	return stored, nil
}

// How many segments, and about how many chunks, are absorbed at once: each time
// costs synced writes of the local index and makes a run, and all of them lie in
// memory for it, 56 bytes a chunk. A single segment can have more chunks.
const (
	absorbBatch  = 1024
	absorbChunks = 1 << 18
	// mergeChunks is how many chunks are much to absorb, after which the index is merged.
	mergeChunks = 1 << 13
)

func (r *Repository) absorb(ctx context.Context, l *index.Local, stored map[index.SegmentID]bool, bad func(name string, err error)) error {
	if err := l.Retain(ctx, func(id index.SegmentID) bool { return stored[id] }); err != nil {
		return indexError{err}
	}
	have, err := l.Absorbed()
	if err != nil {
		return indexError{fmt.Errorf("read the local index: %w", err)}
	}
	left := make(map[index.SegmentID]error)
	var batch []*index.Segment
	chunks, absorbed := 0, 0
	flush := func() error {
		if err := l.Absorb(ctx, r.config.Admin, batch...); err != nil {
			return indexError{err}
		}
		clear(batch)
		batch, chunks, absorbed = batch[:0], 0, absorbed+chunks
		return nil
	}
	for _, id := range slices.SortedFunc(maps.Keys(stored), index.SegmentID.Compare) {
		if have[id] {
			continue
		}
		s, err := r.readSegment(ctx, id)
		switch {
		case errors.Is(err, ErrDamage), errors.Is(err, seal.ErrNoKey):
			left[id] = err
			continue
		case errors.Is(err, backend.ErrNotExist):
			continue // superseded since the listing
		case err != nil:
			return err
		}
		batch = append(batch, s)
		if chunks += s.Len(); len(batch) == absorbBatch || chunks >= absorbChunks {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	if absorbed >= mergeChunks {
		if err := l.Merge(ctx); err != nil {
			return indexError{err}
		}
	}
	return r.leftOut(l, left, bad)
}

// leftOut tells of segments that could not be absorbed, unless another one has
// taken their place meanwhile.
func (r *Repository) leftOut(l *index.Local, segments map[index.SegmentID]error, bad func(name string, err error)) error {
	for id, err := range segments {
		if errors.Is(err, seal.ErrNoKey) {
			continue // of a place that is not for this key to see, or began after it was opened
		}
		if superseded, err := l.Superseded(id); superseded || err != nil {
			if err != nil {
				return indexError{fmt.Errorf("read the local index: %w", err)}
			}
			continue
		}
		if bad != nil {
			bad(indexPrefix+id.String(), err)
		} else {
			r.opts.Observer.warn(fmt.Errorf("index segment %s is left out: %w", id.Short(), err))
		}
	}
	return nil
}

// readSegment reads a segment and checks that its signer may write one.
func (r *Repository) readSegment(ctx context.Context, id index.SegmentID) (*index.Segment, error) {
	name := indexPrefix + id.String()
	object, err := readWhole(ctx, r.storage, name, maxSegment)
	if err != nil {
		return nil, fmt.Errorf("read index segment: %w", err)
	}
	if err := checkDigest(id, object); err != nil {
		return nil, damaged(name, err)
	}
	s, err := index.Open(object, r.ring)
	if err != nil {
		return nil, r.unopened(ctx, name, seal.Segment, object, err)
	}
	if !r.config.MayWrite(s.Signer, s.Header.Place) {
		return nil, damaged(name, fmt.Errorf("signed by %s, who may not write in %s", s.Signer.Short(), s.Header.Place))
	}
	return s, nil
}

// storeSegment stores an index segment, and takes it into the local index.
func (r *Repository) storeSegment(ctx context.Context, b *index.Builder, place seal.Place, keys *seal.Keys) error {
	h := seal.Header{Kind: seal.Segment, Repository: r.id, Place: place}
	object, id, err := b.Encode(r.opts.Random, h, keys, r.signing)
	if err != nil {
		return err
	}
	if err := create(ctx, r.storage, indexPrefix+id.String(), object); err != nil {
		return fmt.Errorf("store index segment: %w", err)
	}
	s, err := index.Open(object, r.ring)
	if err != nil {
		return fmt.Errorf("read own index segment: %w", err)
	}
	if err := r.absorbOwn(ctx, s); err != nil {
		return fmt.Errorf("absorb own index segment: %w", err)
	}
	return nil
}

// listPacks returns the packs that the storage has, with their sizes.
func (r *Repository) listPacks(ctx context.Context, bad func(name string, err error)) (map[pack.ID]backend.Info, error) {
	packs := make(map[pack.ID]backend.Info)
	for _, prefix := range []string{dataPrefix, metaPrefix} {
		for info, err := range r.storage.List(ctx, prefix) {
			if err != nil {
				return nil, fmt.Errorf("list packs: %w", err)
			}
			id, err := parsePackName(info.Name, prefix)
			if err != nil {
				if bad != nil {
					bad(info.Name, err)
				}
				continue
			}
			packs[id] = info
		}
	}
	return packs, nil
}

// readDirectory reads the directory at the end of a pack.
func (r *Repository) readDirectory(ctx context.Context, info backend.Info) ([]pack.Entry, error) {
	const guess = 64 << 10 // holds the directory of most packs
	kind := packKindOf(info.Name)
	if info.Size < pack.PrefixSize+pack.FooterSize {
		return nil, damaged(info.Name, fmt.Errorf("a pack of %d bytes: too short", info.Size))
	}
	tail := make([]byte, min(guess, info.Size))
	if err := r.storage.ReadAt(ctx, info.Name, tail, info.Size-int64(len(tail))); err != nil {
		return nil, readError(info.Name, err)
	}
	start, err := pack.DirectoryStart(info.Size, tail)
	if err != nil {
		return nil, damaged(info.Name, err)
	}
	if have := info.Size - int64(len(tail)); start < have {
		tail = make([]byte, info.Size-start)
		if err := r.storage.ReadAt(ctx, info.Name, tail, start); err != nil {
			return nil, readError(info.Name, err)
		}
	} else {
		tail = tail[start-have:]
	}
	prefix := make([]byte, pack.PrefixSize)
	if err := r.storage.ReadAt(ctx, info.Name, prefix, 0); err != nil {
		return nil, readError(info.Name, err)
	}
	entries, err := pack.OpenDirectory(prefix, tail[:len(tail)-pack.FooterSize], info.Size, kind, r.ring)
	if err != nil {
		return nil, r.unopened(ctx, info.Name, kind, prefix, err)
	}
	return entries, nil
}

// orphans are the packs that no segment knows, by what they hold.
type orphans struct {
	places map[chunk.ID][]index.Place
	as     pruneState // when they were looked for
}

// findOrphans reads the directories of the packs that no segment knows, unless that was
// done in the same state. It makes the loss of segments cost time instead of data.
func (r *Repository) findOrphans(ctx context.Context, as pruneState) error {
	r.orphansMu.Lock()
	defer r.orphansMu.Unlock()
	if o := r.orphans.Load(); o != nil && o.as == as {
		return nil
	}
	found, err := r.readOrphans(ctx)
	if err != nil {
		return err // and the next who asks tries again
	}
	r.orphans.Store(&orphans{found, as})
	return nil
}

func (r *Repository) readOrphans(ctx context.Context) (map[chunk.ID][]index.Place, error) {
	packs, err := r.listPacks(ctx, nil)
	if err != nil {
		return nil, err
	}
	local, err := r.index()
	if err != nil {
		return nil, err
	}
	for p, err := range local.Packs() {
		if err != nil {
			return nil, err
		}
		delete(packs, p.ID)
	}
	condemned, err := r.readCondemned(ctx)
	if err != nil && !errors.Is(err, ErrDamage) {
		return nil, err
	}
	found := make(map[chunk.ID][]index.Place)
	// An error of the storage ends it: a chunk must not count as lost because of it.
	err = r.eachDirectory(ctx, maps.Values(packs), func(info backend.Info, entries []pack.Entry, err error) {
		id := packIDOf(info)
		if err != nil && !condemned[id] { // and that may be why it is
			r.opts.Observer.warn(fmt.Errorf("pack that no index segment knows: %w", err))
		}
		for _, e := range entries {
			found[e.ID] = append(found[e.ID], index.Place{Pack: id, PackKind: packKindOf(info.Name), PackSize: info.Size, Entry: e})
		}
	})
	return found, err
}

// smallReads is how many directories of packs are read at once. Each is a round trip
// or two and next to no work, so it is the storage's latency that counts.
const smallReads = 32

// eachDirectory reads the directories of packs, many at once, and calls fn for one
// after the other. The error that fn gets is ErrDamage, or seal.ErrNoKey for a pack of a
// place that began after this Repository was opened; any other ends it.
func (r *Repository) eachDirectory(ctx context.Context, packs iter.Seq[backend.Info], fn func(info backend.Info, entries []pack.Entry, err error)) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(smallReads)
	for info := range packs {
		g.Go(func() error {
			entries, err := r.readDirectory(ctx, info)
			if err != nil && !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrNoKey) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			fn(info, entries, err)
			return nil
		})
	}
	return g.Wait()
}

// places returns where a chunk is said to be, the best first.
func (r *Repository) places(dst []index.Place, id chunk.ID) ([]index.Place, error) {
	dst, err := r.lookup(dst, id)
	if err != nil {
		return dst, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	if o := r.orphans.Load(); o != nil {
		dst = append(dst, o.places[id]...)
	}
	return dst, nil
}

// lookup asks the local index. If it was found damaged, it is filled again.
func (r *Repository) lookup(dst []index.Place, id chunk.ID) ([]index.Place, error) {
	n := len(dst)
	for try := 0; ; try++ {
		l, err := r.index()
		if err != nil {
			return dst, err
		}
		dst, err := l.AppendPlaces(dst[:n], id)
		if !errors.Is(err, index.ErrLost) || try == 2 {
			return dst, err
		}
		r.opts.Observer.warn(errors.New("this machine's index was damaged; it is made again from the repository"))
		if err := r.loadIndex(context.Background(), nil); err != nil {
			return dst, err
		}
	}
}
