package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// mover puts chunks of other packs into new ones, each of the epoch and domain that
// its chunk's ID is of. It works under a lease, since its packs stand in no segment for
// a while. Not for concurrent use.
type mover struct {
	*Repository
	open     map[packPlace]*openPack
	finished map[seal.Place][]pack.Finished // durable, in no segment yet
	unsaid   int                            // chunks in these
	stored   Amount                         // all that was made durable
}

type packPlace struct {
	place seal.Place
	kind  seal.Kind
}

func (p packPlace) compare(o packPlace) int {
	return cmp.Or(comparePlaces(p.place, o.place), cmp.Compare(p.kind, o.kind))
}

func comparePlaces(a, b seal.Place) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Domain, b.Domain))
}

func newMover(r *Repository) mover {
	return mover{Repository: r, open: make(map[packPlace]*openPack), finished: make(map[seal.Place][]pack.Finished)}
}

// add stores a chunk, given as the contents of a frame, which it overwrites.
func (m *mover) add(ctx context.Context, place seal.Place, e pack.Entry, encoded []byte) error {
	at := packPlace{place, seal.DataPack}
	if e.Kind.IsMeta() {
		at.kind = seal.MetaPack
	}
	o, err := m.pack(ctx, at)
	if err != nil {
		return err
	}
	e.Offset, e.Stored = 0, 0
	if _, err := o.writer.Append(e, encoded); err != nil {
		return err
	}
	if o.writer.Size() < int(m.config.PackSize) && !o.writer.Full() {
		return nil
	}
	return m.store(ctx, at)
}

// pack returns the open pack of a place.
func (m *mover) pack(ctx context.Context, at packPlace) (*openPack, error) {
	if o := m.open[at]; o != nil {
		return o, nil
	}
	keys, ok := m.ring.Keys(at.place)
	if !ok {
		return nil, fmt.Errorf("%s: %w", at.place, seal.ErrNoKey)
	}
	staged, err := stage(ctx, m.storage)
	if err != nil {
		return nil, fmt.Errorf("begin a pack: %w", err)
	}
	h := seal.Header{Kind: at.kind, Repository: m.id, Place: at.place}
	w, err := pack.NewWriter(staged, h, m.config.Public, keys, m.opts.Random)
	if err != nil {
		return nil, errors.Join(err, staged.Abort())
	}
	o := &openPack{staged: staged, writer: w}
	m.open[at] = o
	return o, nil
}

// store makes a pack durable.
func (m *mover) store(ctx context.Context, at packPlace) error {
	o := m.open[at]
	delete(m.open, at)
	f, err := o.writer.Finish()
	if err != nil {
		return errors.Join(err, o.staged.Abort())
	}
	name := packName(f.Kind, f.ID)
	if err := commitPack(ctx, m.storage, o.staged, name, f.ID); err != nil {
		return err
	}
	m.opts.Observer.packStored(name, f.Size)
	m.finished[at.place] = append(m.finished[at.place], f)
	m.unsaid += len(f.Entries)
	m.stored.add(f.Size)
	return nil
}

// flush makes durable what is not yet.
func (m *mover) flush(ctx context.Context) error {
	for _, at := range slices.SortedFunc(maps.Keys(m.open), packPlace.compare) {
		if err := m.store(ctx, at); err != nil {
			return err
		}
	}
	return nil
}

// publish makes all that was added durable, and findable by everybody.
func (m *mover) publish(ctx context.Context) error {
	if err := m.flush(ctx); err != nil {
		return err
	}
	return m.say(ctx)
}

// say makes what is durable findable.
func (m *mover) say(ctx context.Context) error {
	s := newSegments(m.Repository)
	for place, packs := range m.finished {
		for _, f := range packs {
			if err := s.of(place).add(ctx, []pack.Finished{f}); err != nil {
				return err
			}
		}
	}
	clear(m.finished)
	m.unsaid = 0
	return s.flush(ctx)
}

// abort drops the packs that were not stored.
func (m *mover) abort() (err error) {
	for _, o := range m.open {
		err = errors.Join(err, o.staged.Abort())
	}
	clear(m.open)
	return err
}

// segmentWriters publish index segments of several places.
type segmentWriters struct {
	r       *Repository
	byPlace map[seal.Place]*segmentWriter
}

func newSegments(r *Repository) segmentWriters {
	return segmentWriters{r, make(map[seal.Place]*segmentWriter)}
}

// of returns the writer of a place.
func (s segmentWriters) of(place seal.Place) *segmentWriter {
	w := s.byPlace[place]
	if w == nil {
		w = &segmentWriter{Repository: s.r, place: place, builder: index.NewBuilder(), has: make(map[pack.ID]bool)}
		s.byPlace[place] = w
	}
	return w
}

// flush publishes what was added since the last time.
func (s segmentWriters) flush(ctx context.Context) error {
	for _, at := range slices.SortedFunc(maps.Keys(s.byPlace), comparePlaces) {
		if err := s.byPlace[at].flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// segmentWriter publishes index segments of one place, of a size that fits into
// memory several times.
type segmentWriter struct {
	*Repository
	place   seal.Place
	builder *index.Builder
	has     map[pack.ID]bool // in the builder
	replace bool             // so does what it supersedes
}

// segmentEntries is from how many entries on a segment is published: some 8 MB.
const segmentEntries = 1 << 17

// add names packs, all in one segment, which supersedes the segments that are given.
func (s *segmentWriter) add(ctx context.Context, packs []pack.Finished, supersede ...index.SegmentID) error {
	for _, f := range packs {
		if s.has[f.ID] {
			continue
		}
		if err := s.builder.AddPack(f); err != nil {
			return err
		}
		s.has[f.ID] = true
	}
	for _, id := range supersede {
		s.builder.Supersede(id)
		s.replace = true
	}
	if s.builder.Len() < segmentEntries {
		return nil
	}
	return s.flush(ctx)
}

// flush publishes what was added since the last time.
func (s *segmentWriter) flush(ctx context.Context) error {
	if len(s.has) == 0 && !s.replace {
		return nil
	}
	keys, ok := s.ring.Keys(s.place)
	if !ok {
		return fmt.Errorf("%s: %w", s.place, seal.ErrNoKey)
	}
	if err := s.storeSegment(ctx, s.builder, s.place, keys); err != nil {
		return err
	}
	s.builder, s.replace = index.NewBuilder(), false
	clear(s.has)
	return nil
}
