package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Ref names a chunk to read.
type Ref struct {
	ID   chunk.ID
	Kind chunk.Kind
}

// Frames of one pack that lie close to each other are read at once.
const (
	maxGap  = 128 << 10 // bytes between two frames that are read for nothing
	maxSpan = 4 << 20   // bytes of one read, unless a frame alone is larger
)

// readError tells a missing or cut-off object, which is damage, from a
// storage that can't be reached.
func readError(name string, err error) error {
	if errors.Is(err, backend.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(name, err)
	}
	return fmt.Errorf("read: %w", err)
}

// readWhole reads an object of at most limit bytes. A longer one is damage.
func readWhole(ctx context.Context, b backend.Interface, name string, limit int64) ([]byte, error) {
	p, err := backend.ReadAll(ctx, b, name, limit)
	if errors.Is(err, backend.ErrTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, damaged(name, err)
	}
	return p, err
}

// packKeys holds the keys of packs that were opened, as opening one costs a
// read and a public-key operation.
type packKeys struct {
	mu   sync.Mutex
	keys map[pack.ID]*pack.Key
}

// maxPackKeys bounds packKeys: some 0.5 KB each.
const maxPackKeys = 4096

func (r *Repository) packKey(ctx context.Context, id pack.ID, kind seal.Kind) (*pack.Key, error) {
	r.packs.mu.Lock()
	k, ok := r.packs.keys[id]
	r.packs.mu.Unlock()
	if ok {
		return k, nil
	}
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	name := packName(kind, id)
	prefix := make([]byte, pack.PrefixSize)
	if err := r.storage.ReadAt(ctx, name, prefix, 0); err != nil {
		return nil, readError(name, err)
	}
	k, err := pack.OpenKey(prefix, kind, r.ring, r.private)
	if err != nil {
		return nil, r.unopened(ctx, name, kind, prefix, err)
	}
	r.packs.mu.Lock()
	defer r.packs.mu.Unlock()
	if r.packs.keys == nil || len(r.packs.keys) >= maxPackKeys {
		r.packs.keys = make(map[pack.ID]*pack.Key)
	}
	r.packs.keys[id] = k
	return k, nil
}

// buffers are what one reading goroutine works with.
type buffers struct{ span, encoded, plain []byte }

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// grow returns b with length n, and its old contents undefined.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// openFrame turns a frame into its chunk's plaintext, in b.plain, and checks that it
// is the chunk. An error is of the frame, or of what it hangs on, but for a baseError.
func (r *Repository) openFrame(ctx context.Context, k *pack.Key, frame []byte, e pack.Entry, b *buffers) ([]byte, error) {
	var err error
	if b.encoded, err = k.Open(b.encoded[:0], frame, e); err != nil {
		return nil, err
	}
	bases, err := r.bases(ctx, e)
	if err != nil {
		return nil, err
	}
	return r.makeChunk(k, b.encoded, e, b, bases...)
}

// makeChunk makes a chunk of the contents of a frame and its bases, in b.plain, and checks that it
// is the one.
func (r *Repository) makeChunk(k *pack.Key, encoded []byte, e pack.Entry, b *buffers, bases ...[]byte) ([]byte, error) {
	plain, err := r.decoder.Decode(b.plain[:0], encoded, e, bases...)
	if err != nil {
		return nil, err
	}
	b.plain = plain
	h, ok := r.hashers[k.Header.Place]
	if !ok {
		return nil, fmt.Errorf("%s: %w", k.Header.Place, seal.ErrNoKey)
	}
	if h.Sum(e.Kind, plain) != e.ID {
		return nil, fmt.Errorf("chunk %s is %w: other contents under its name", e.ID.Short(), seal.ErrDamaged)
	}
	return plain, nil
}

// readPlace reads a chunk from one place.
func (r *Repository) readPlace(ctx context.Context, p index.Place, b *buffers) ([]byte, error) {
	name := packName(p.PackKind, p.Pack)
	k, err := r.packKey(ctx, p.Pack, p.PackKind)
	if err != nil {
		return nil, err
	}
	b.span = grow(b.span, int(p.Entry.Stored))
	if err := r.storage.ReadAt(ctx, name, b.span, int64(p.Entry.Offset)); err != nil {
		return nil, readError(name, err)
	}
	plain, err := r.openFrame(ctx, k, b.span, p.Entry, b)
	if err != nil {
		return nil, frameError(name, err)
	}
	return plain, nil
}

// frameError is what is wrong with a pack because of an error of openFrame.
func frameError(name string, err error) error {
	var of baseError
	if errors.As(err, &of) {
		return of.error
	}
	return damaged(name, err)
}

// Chunk returns a chunk's plaintext, which is the caller's. The error is
// ErrDamage if the chunk is nowhere to be had in good condition.
func (r *Repository) Chunk(ctx context.Context, ref Ref) ([]byte, error) {
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	p, err := r.readSomewhere(ctx, ref, b, nil)
	if err != nil {
		return nil, err
	}
	return slices.Clone(p), nil
}

// pruneState tells the times before, in and after a prune apart: the condemned list
// changes before it deletes the first pack and after the last. It is the zero value while
// that can't be read, which is no reason not to go on reading chunks.
type pruneState [pruneStateSize]byte

// pruneStateSize is the header, which has no salt, with the generation and the phase. The
// rest can be many megabytes.
const pruneStateSize = seal.HeaderSize + 8 + 1

func (r *Repository) pruneState(ctx context.Context) (s pruneState) {
	if r.storage.ReadAt(ctx, condemnedName, s[:], 0) != nil {
		return pruneState{}
	}
	return s
}

// maxRounds is how often readers begin anew because a prune goes on beside them.
// Each of its steps takes longer than a round.
const maxRounds = 10

// errNowhere: no place that is known, and was not tried before, has the chunk.
var errNowhere = errors.New("the chunk is nowhere")

// search is the reading of one chunk from wherever it is.
type search struct {
	*Repository
	ref    Ref
	whole  bool // from where it hangs on no other chunk
	buf    *buffers
	tried  map[index.Place]bool
	failed error
}

// try tries the places that are known.
func (s *search) try(ctx context.Context) ([]byte, error) {
	places, err := s.places(nil, s.ref.ID)
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		if p.Entry.Kind != s.ref.Kind || s.tried[p] || s.whole && p.Entry.Encoding == pack.Delta {
			continue
		}
		s.tried[p] = true
		plain, err := s.readPlace(ctx, p, s.buf)
		if err == nil || !errors.Is(err, ErrDamage) {
			return plain, err
		}
		s.failed = errors.Join(s.failed, err)
	}
	return nil, errNowhere
}

// round looks for new places, and tries them: first those that segments name, as prune
// may have moved the chunk, then those in packs that no segment knows.
func (s *search) round(ctx context.Context, in pruneState) ([]byte, error) {
	if err := s.refreshIndex(ctx); err != nil {
		return nil, err
	}
	if plain, err := s.try(ctx); !errors.Is(err, errNowhere) {
		return plain, err
	}
	if err := s.findOrphans(ctx, in); err != nil {
		return nil, err
	}
	return s.try(ctx)
}

// readSomewhere tries all places of a chunk, then looks for others: twice, and again
// while prunes go on. A segment can be superseded, and deleted, between its listing and its
// reading, and another program that uses this machine's index can take from it what
// that has not yet seen. failed is an error met before.
func (r *Repository) readSomewhere(ctx context.Context, ref Ref, b *buffers, failed error) ([]byte, error) {
	return r.find(ctx, &search{ref: ref, buf: b, failed: failed})
}

func (r *Repository) find(ctx context.Context, s *search) ([]byte, error) {
	s.Repository, s.tried = r, make(map[index.Place]bool)
	plain, err := s.try(ctx)
	if !errors.Is(err, errNowhere) {
		return plain, err
	}
	was := r.pruneState(ctx)
	for n := 1; n <= maxRounds; n++ {
		if plain, err := s.round(ctx, was); !errors.Is(err, errNowhere) {
			return plain, err
		}
		is := r.pruneState(ctx)
		if n > 1 && is == was {
			break
		}
		was = is
	}
	if s.failed == nil {
		s.failed = errors.New("no pack has it")
	}
	return nil, damaged(fmt.Sprintf("%s chunk %s", s.ref.Kind, s.ref.ID.Short()), s.failed)
}

// located is a wanted chunk with the place to read it from.
type located struct {
	want  int // position in the caller's list
	place index.Place
}

// Chunks reads many chunks, each once, in the order in which they are stored,
// several at a time, and calls fn for each with its position in refs. The plaintext is
// valid until fn returns. fn is called concurrently; an error of fn ends the
// reading and is returned. A chunk that can't be had is given to fn with an
// error that matches ErrDamage.
func (r *Repository) Chunks(ctx context.Context, refs []Ref, fn func(i int, plaintext []byte, err error) error) error {
	found := make([]located, 0, len(refs))
	var lost []int
	var places []index.Place
	for i, ref := range refs {
		var err error
		if places, err = r.places(places[:0], ref.ID); err != nil {
			return err
		}
		n := slices.IndexFunc(places, func(p index.Place) bool { return p.Entry.Kind == ref.Kind })
		if n < 0 {
			lost = append(lost, i)
			continue
		}
		found = append(found, located{want: i, place: places[n]})
	}
	slices.SortFunc(found, func(a, b located) int {
		return cmp.Or(a.place.Pack.Compare(b.place.Pack), cmp.Compare(a.place.Entry.Offset, b.place.Entry.Offset))
	})

	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.opts.Goroutines)
	for len(found) > 0 && gctx.Err() == nil {
		n := spanLength(found)
		span := found[:n]
		found = found[n:]
		g.Go(func() error { return r.readSpan(gctx, span, refs, fn) })
	}
	for _, i := range lost {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.readLost(gctx, i, refs[i], nil, fn) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err() // the loops may have ended early without an error of their own
}

// readLost gives fn a chunk that was not at the place first thought of.
func (r *Repository) readLost(ctx context.Context, i int, ref Ref, failed error, fn func(int, []byte, error) error) error {
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	plain, err := r.readSomewhere(ctx, ref, b, failed)
	if err != nil && !errors.Is(err, ErrDamage) {
		return err
	}
	return fn(i, plain, err)
}

// spanLength returns how many of the first sorted chunks to read at once.
func spanLength(found []located) int {
	first := found[0].place
	end := int64(first.Entry.Offset) + int64(first.Entry.Stored)
	for n := 1; n < len(found); n++ {
		p := found[n].place
		stop := int64(p.Entry.Offset) + int64(p.Entry.Stored)
		if p.Pack != first.Pack || int64(p.Entry.Offset)-end > maxGap || stop-int64(first.Entry.Offset) > maxSpan {
			return n
		}
		end = max(end, stop)
	}
	return len(found)
}

// readSpan reads the chunks of one range of a pack.
func (r *Repository) readSpan(ctx context.Context, span []located, refs []Ref, fn func(int, []byte, error) error) error {
	first, last := span[0].place, span[len(span)-1].place
	name := packName(first.PackKind, first.Pack)
	start := int64(first.Entry.Offset)
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)

	k, err := r.packKey(ctx, first.Pack, first.PackKind)
	if err == nil {
		b.span = grow(b.span, int(int64(last.Entry.Offset)+int64(last.Entry.Stored)-start))
		if err = r.storage.ReadAt(ctx, name, b.span, start); err != nil {
			err = readError(name, err)
		}
	}
	if err != nil && !errors.Is(err, ErrDamage) {
		return err
	}
	for _, l := range span {
		if err := ctx.Err(); err != nil {
			return err
		}
		var plain []byte
		bad := err
		if bad == nil {
			at := int64(l.place.Entry.Offset) - start
			plain, bad = r.openFrame(ctx, k, b.span[at:at+int64(l.place.Entry.Stored)], l.place.Entry, b)
			var of baseError
			if errors.As(bad, &of) {
				return of.error
			}
		}
		if bad != nil {
			// The whole range may be gone while single chunks have other homes.
			if err := r.readLost(ctx, l.want, refs[l.want], damaged(name, bad), fn); err != nil {
				return err
			}
			continue
		}
		if err := fn(l.want, plain, nil); err != nil {
			return err
		}
	}
	return nil
}

// Node returns the plaintext of a node of a tree or list: from this machine's
// cache, else from the storage. It implements snapshot.Source.
func (r *Repository) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	if p, ok := r.cache.Get(nodeClass, id); ok && r.IsChunk(Ref{id, kind}, p) {
		return p, nil
	}
	p, err := r.Chunk(ctx, Ref{id, kind})
	if err != nil {
		return nil, err
	}
	r.cache.Put(nodeClass, id, p)
	return p, nil
}

// nodeClass is the class of the cache that holds nodes.
const nodeClass = "nodes"

// IsChunk reports whether p is the plaintext of a chunk under any of the keys
// known. So bytes from elsewhere, such as a cache or an old file, can serve instead
// of the stored ones without being trusted.
func (r *Repository) IsChunk(ref Ref, p []byte) bool {
	for _, h := range r.hashers {
		if h.Sum(ref.Kind, p) == ref.ID {
			return true
		}
	}
	return false
}
