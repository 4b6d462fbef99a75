package repo

import (
	"context"
	"errors"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/snapshot"
)

// HarshPrune is the harshest prune that there can be for those who read: it moves all chunks
// that snapshots need to new packs, and deletes all packs, segments, and forgotten
// manifests that were there.
type HarshPrune struct {
	*Repository
	packs    map[pack.ID]backend.Info
	segments map[index.SegmentID]bool
	moved    *rescue
}

// Steps are what a HarshPrune does, in this order. Readers may do anything in between.
func (m *HarshPrune) Steps() []func(context.Context) error {
	return []func(context.Context) error{
		m.learn, m.copy, m.publish(nil), m.condemn(protocol.Waiting), m.condemn(protocol.Final),
		func(ctx context.Context) error { return m.publish(m.segments)(ctx) },
		m.deletePacks, m.condemn(protocol.Empty), m.deleteRest,
	}
}

func (m *HarshPrune) learn(ctx context.Context) (err error) {
	if m.packs, err = m.listPacks(ctx, nil); err != nil {
		return err
	}
	m.segments, err = m.listSegments(ctx, nil)
	return err
}

// live are the chunks that snapshots need.
type live map[chunk.ID]bool

func (l live) Enter(n snapshot.Mention, _ *snapshot.Entry) bool {
	was := l[n.ID]
	l[n.ID] = true
	return !was
}

func (l live) Extent(_ *snapshot.Entry, x snapshot.Extent) error { l[x.Chunk] = true; return nil }

func (l live) Bad(_ chunk.ID, _ *snapshot.Entry, err error) error { return err }

func (m *HarshPrune) copy(ctx context.Context) error {
	set, err := m.Snapshots(ctx)
	if err != nil {
		return err
	}
	needed := make(live)
	for _, s := range set.Newest() {
		if err := m.LoadBody(ctx, s); err != nil {
			return err
		}
		if err := snapshot.Visit(ctx, snapshot.Tree{Root: s.Body.Root, Source: m}, needed); err != nil {
			return err
		}
	}
	m.moved = newRescue(&repairer{Repository: m.Repository})
	for _, info := range m.packs {
		entries, err := m.readDirectory(ctx, info)
		if err != nil {
			return err
		}
		_, err = m.scan(ctx, info, entries, func(k *pack.Key, e pack.Entry, encoded, _ []byte) error {
			if !needed[e.ID] {
				return nil
			}
			return m.moved.add(ctx, k.Header.Place, e, encoded)
		})
		if err != nil {
			return err
		}
	}
	return m.moved.flush(ctx)
}

// publish says where the chunks are now, or, to supersede others, says it again.
func (m *HarshPrune) publish(supersede map[index.SegmentID]bool) func(context.Context) error {
	return func(ctx context.Context) error {
		place, err := m.writePlace()
		if err != nil {
			return err
		}
		keys, err := m.writeKeys()
		if err != nil {
			return err
		}
		b := index.NewBuilder()
		for _, f := range m.moved.finished[place] {
			if err := b.AddPack(f); err != nil {
				return err
			}
		}
		for id := range supersede {
			b.Supersede(id)
		}
		return m.storeSegment(ctx, b, place, keys)
	}
}

func (m *HarshPrune) condemn(phase protocol.Phase) func(context.Context) error {
	return func(ctx context.Context) error {
		c, old, err := m.loadCondemned(ctx)
		if err != nil {
			return err
		}
		c.Generation++
		c.Phase, c.Packs = phase, nil
		for id, info := range m.packs {
			if phase != protocol.Empty {
				c.Packs = append(c.Packs, protocol.CondemnedPack{Kind: packKindOf(info.Name), ID: id})
			}
		}
		return swap(ctx, m.storage, condemnedName, old, c.Sign(m.id, m.signing))
	}
}

func (m *HarshPrune) deletePacks(ctx context.Context) (err error) {
	for _, info := range m.packs {
		err = errors.Join(err, m.storage.Delete(ctx, info.Name))
	}
	return err
}

func (m *HarshPrune) deleteRest(ctx context.Context) (err error) {
	for id := range m.segments {
		err = errors.Join(err, m.storage.Delete(ctx, indexPrefix+id.String()))
	}
	set, serr := m.Snapshots(ctx)
	if serr != nil {
		return serr
	}
	for id := range set.Forgotten {
		if derr := m.storage.Delete(ctx, snapshotsPrefix+id.String()); !errors.Is(derr, backend.ErrNotExist) {
			err = errors.Join(err, derr)
		}
	}
	return err
}
