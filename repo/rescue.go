package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// rescue puts chunks that were saved into new packs.
type rescue struct {
	mover
	p     *repairer
	lease string            // under which this repair works
	done  map[chunk.ID]bool // whether it is whole
}

func newRescue(p *repairer) *rescue {
	return &rescue{mover: newMover(p.Repository), p: p, done: make(map[chunk.ID]bool)}
}

// isSaved reports whether a chunk is in the new packs.
func (s *rescue) isSaved(id chunk.ID) bool { _, ok := s.done[id]; return ok }

// add keeps a chunk, given as the contents of a frame, which it overwrites.
func (s *rescue) add(ctx context.Context, place seal.Place, e pack.Entry, encoded []byte) error {
	if s.done[e.ID] || e.Encoding == pack.Delta && s.isSaved(e.ID) {
		return nil
	}
	s.done[e.ID] = e.Encoding != pack.Delta
	if s.p.opts.DryRun {
		return nil
	}
	return s.mover.add(ctx, place, e, encoded)
}

// keep is add for a chunk that was made of a frame's contents. A delta stays one if a pack
// that stays, or one of the new ones, has each of its bases whole. Else it is stored whole: it
// would hang on a pack that is about to go.
func (s *rescue) keep(ctx context.Context, place seal.Place, e pack.Entry, encoded, plaintext []byte) error {
	for _, id := range e.Bases.IDs() {
		isWhole, err := s.p.isHousedWhole(Ref{id, e.Kind})
		if err != nil {
			return err
		}
		if !isWhole && !s.done[id] {
			encoder, err := s.p.newEncoder()
			if err != nil {
				return err
			}
			encoded, encoding := encoder.Encode(nil, plaintext)
			return s.add(ctx, place, pack.Entry{ID: e.ID, Kind: e.Kind, Encoding: encoding, Raw: e.Raw}, encoded)
		}
	}
	return s.add(ctx, place, e, encoded)
}

// newEncoder returns what chunks are stored with that need to be encoded anew.
func (p *repairer) newEncoder() (_ *pack.Encoder, err error) {
	if p.encoder == nil {
		p.encoder, err = pack.NewEncoder(p.config.Compression, 1)
	}
	return p.encoder, err
}

// walkTrees reads all nodes of all snapshots. Those that can't be read from the
// storage are taken from this machine's cache, if it has them.
func (p *repairer) walkTrees(ctx context.Context) error {
	encoder, err := p.newEncoder()
	if err != nil {
		return err
	}
	nodes := &mendingNodes{p: p, encoder: encoder}
	seen := make(seenNodes)
	for _, info := range p.set.Newest() {
		if err := p.LoadBody(ctx, info); errors.Is(err, ErrDamage) {
			continue
		} else if err != nil {
			return err
		}
		if err := snapshot.Visit(ctx, snapshot.Tree{Root: info.Body.Root, Source: nodes}, seen); err != nil {
			return err
		}
	}
	return nil
}

// mendingNodes reads nodes from the storage, and else from the cache.
type mendingNodes struct {
	p       *repairer
	encoder *pack.Encoder
}

// Node implements snapshot.NodeSource.
func (m *mendingNodes) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	p := m.p
	plain, err := p.Chunk(ctx, Ref{id, kind})
	if !errors.Is(err, ErrDamage) {
		return plain, err
	}
	// The packs that should have it are not what they seem.
	places, perr := p.places(nil, id)
	if perr != nil {
		return nil, perr
	}
	for _, x := range places {
		p.suspects[x.Pack] = true
	}
	plain, ok := p.cache.Get(nodeClass, id)
	if !ok {
		return nil, err
	}
	for place, h := range p.hashers {
		if h.Sum(kind, plain) != id {
			continue
		}
		encoded, encoding := m.encoder.Encode(nil, plain)
		e := pack.Entry{ID: id, Kind: kind, Encoding: encoding, Raw: uint32(len(plain))}
		p.fixed("tree node "+id.Short(), "stored again, from this machine's cache")
		return plain, p.saved.add(ctx, place, e, encoded)
	}
	return nil, err
}

// seenNodes is a visitor that goes everywhere once.
type seenNodes map[chunk.ID]bool

// Enter implements snapshot.Visitor.
func (s seenNodes) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	was := s[n.ID]
	s[n.ID] = true
	return !was
}

// Extent implements snapshot.Visitor.
func (seenNodes) Extent(*snapshot.Entry, snapshot.Extent) error { return nil }

// Bad implements snapshot.Visitor: the check afterwards tells of it.
func (seenNodes) Bad(_ chunk.ID, _ *snapshot.Entry, err error) error {
	if errors.Is(err, ErrDamage) || errors.Is(err, seal.ErrDamaged) {
		return nil
	}
	return err
}

// publish names the packs that no segment names, or none that goes on to count,
// and supersedes those that must not count.
func (p *repairer) publish(ctx context.Context) error {
	if err := p.saved.flush(ctx); err != nil {
		return err
	}
	builders := make(map[seal.Place]*index.Builder)
	packs := make(map[seal.Place]int)
	add := func(place seal.Place, f pack.Finished) error {
		b := builders[place]
		if b == nil || b.Len() >= segmentEntries {
			if err := p.publishSegment(ctx, place, b, packs[place]); err != nil {
				return err
			}
			b = index.NewBuilder()
			builders[place], packs[place] = b, 0
		}
		packs[place]++
		return b.AddPack(f)
	}
	for place, saved := range p.saved.finished {
		for _, f := range saved {
			if err := add(place, f); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(p.packs), pack.ID.Compare) {
		info := p.packs[id]
		if p.condemned[id] || p.bad[id] != nil || p.spared[id] || p.isNamed(id) {
			continue
		}
		k, err := p.packKey(ctx, id, packKindOf(info.Name))
		if err != nil {
			return err
		}
		entries, err := p.readDirectory(ctx, info)
		if err != nil {
			return err
		}
		if err := add(k.Header.Place, pack.Finished{ID: id, Kind: packKindOf(info.Name), Size: info.Size, Entries: entries}); err != nil {
			return err
		}
	}
	// What supersedes comes last, when all that is still true is said anew.
	place, err := p.writePlace()
	if err != nil {
		return err
	}
	last := builders[place]
	delete(builders, place)
	for at, b := range builders {
		if err := p.publishSegment(ctx, at, b, packs[at]); err != nil {
			return err
		}
	}
	for id, why := range p.segments {
		if last == nil {
			last = index.NewBuilder()
		}
		last.Supersede(id)
		for _, was := range p.replaced[id] {
			last.Supersede(was) // or else it would count again
		}
		p.fixed(indexPrefix+id.String(), "superseded: %s", firstLine(why))
	}
	return p.publishSegment(ctx, place, last, packs[place])
}

func (p *repairer) publishSegment(ctx context.Context, place seal.Place, b *index.Builder, packs int) error {
	if b == nil {
		return nil
	}
	if packs > 0 {
		p.fixed("index", "a new segment says where the chunks of packs are (%d)", packs)
	}
	if p.opts.DryRun {
		return nil
	}
	keys, ok := p.ring.Keys(place)
	if !ok {
		return fmt.Errorf("%s: %w", place, seal.ErrNoKey)
	}
	return p.storeSegment(ctx, b, place, keys)
}
