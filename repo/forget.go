package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/retention"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// maxTombstone bounds what Forget writes, in bytes: readers accept twice as much. A
// million snapshots take less, unless somebody gave theirs very many links.
const maxTombstone = maxCondemned / 2

// Forget gives up snapshots, all of them or none: it stores one tombstone, which says so
// for ever and keeps what they linked to, so that the chain of manifests stays whole.
// Their contents stay until prune finds that nothing else needs them, and until then
// Unforget brings them back. What is forgotten already counts as done, once that is durable. It
// returns how many it forgot. The error is ErrWriteOnly without the admin's key, and ErrNoSnapshot or
// ErrDamage if a snapshot is not there, or can't be read.
func (r *Repository) Forget(ctx context.Context, ids []snapshot.ID) (int, error) {
	if r.private == nil {
		return 0, ErrWriteOnly
	}
	set, err := r.Snapshots(ctx)
	if err != nil {
		return 0, err
	}
	return r.ForgetOf(ctx, set, ids)
}

// ForgetOf is Forget for who has read the chain already, which takes the most of the time
// with thousands of snapshots. What was forgotten since then is forgotten twice, which
// does no harm.
func (r *Repository) ForgetOf(ctx context.Context, set *SnapshotSet, ids []snapshot.ID) (int, error) {
	if r.private == nil {
		return 0, ErrWriteOnly
	}
	t := protocol.Tombstone{Time: r.opts.Now()}
	seen := make(map[snapshot.ID]bool, len(ids))
	var gone []snapshot.ID
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		if _, ok := set.Forgotten[id]; ok {
			gone = append(gone, id)
			continue
		}
		s, ok := set.Get(id)
		if !ok {
			return 0, set.missing(id)
		}
		t.Forgotten = append(t.Forgotten, protocol.Forgotten{ID: id, Links: slices.Clone(s.Open.Links)})
	}
	if err := r.holdTombstones(ctx, gone); err != nil || len(t.Forgotten) == 0 {
		return 0, err
	}
	object := t.Sign(r.id, r.signing)
	if len(object) > maxTombstone {
		return 0, fmt.Errorf("forget %d snapshots: they have too many links for one run; forget some of them at a time", len(t.Forgotten))
	}
	if err := r.putTombstone(ctx, object); err != nil {
		return 0, err
	}
	return len(t.Forgotten), nil
}

// missing is the error for a snapshot that is not in the set.
func (s *SnapshotSet) missing(id snapshot.ID) error {
	for _, err := range s.Damage {
		var d *DamageError
		if errors.As(err, &d) && d.Object == snapshotsPrefix+id.String() {
			return err
		}
	}
	return fmt.Errorf("snapshot %s: %w", id.Short(), ErrNoSnapshot)
}

// putTombstone stores a tombstone.
func (r *Repository) putTombstone(ctx context.Context, object []byte) error {
	id := seal.Sum[any](object)
	name := tombstonesPrefix + id.String()
	err := create(ctx, r.storage, name, object)
	if err != nil && create(ctx, r.storage, name, object) == nil {
		err = nil // only the answer was lost, or the storage has come round
	}
	if err != nil {
		return fmt.Errorf("store tombstone: %w", err)
	}
	r.cache.Put(manifestClass, id, object)
	return nil
}

// holdTombstones makes sure that what was seen as forgotten stays so: of each snapshot a
// tombstone is durable when it returns nil.
func (r *Repository) holdTombstones(ctx context.Context, forgotten []snapshot.ID) error {
	if len(forgotten) == 0 {
		return nil
	}
	left := make(map[snapshot.ID]bool, len(forgotten))
	for _, id := range forgotten {
		left[id] = true
	}
	for info, err := range r.storage.List(ctx, tombstonesPrefix) {
		if err != nil {
			return fmt.Errorf("list tombstones: %w", err)
		}
		id, err := protocol.ParseTombstoneID(strings.TrimPrefix(info.Name, tombstonesPrefix))
		if err != nil {
			return damaged(info.Name, err)
		}
		object, err := r.cached(ctx, manifestClass, info.Name, id, maxCondemned)
		if err != nil {
			return err
		}
		t, err := r.openTombstone(object)
		if err != nil {
			return damaged(info.Name, err)
		}
		n := len(left)
		for _, f := range t.Forgotten {
			delete(left, f.ID)
		}
		if len(left) == n {
			continue
		}
		if err := create(ctx, r.storage, info.Name, object); err != nil {
			return fmt.Errorf("make sure of a tombstone: %w", err)
		}
	}
	for id := range left {
		return fmt.Errorf("the tombstone of snapshot %s has vanished since it was read: run the command again", id.Short())
	}
	return nil
}

// LastForgotten returns what the last run of forget has forgotten, sorted; none if
// nothing ever was.
func (s *SnapshotSet) LastForgotten() []snapshot.ID {
	var last *protocol.Tombstone
	for _, t := range s.tombstones {
		if last == nil || t.Time.After(last.Time) {
			last = t
		}
	}
	if last == nil {
		return nil
	}
	var ids []snapshot.ID
	for _, f := range last.Forgotten {
		ids = append(ids, f.ID)
	}
	return ids
}

// Gone returns a snapshot that is forgotten and whose manifest prune has not
// taken yet.
func (s *SnapshotSet) Gone(id snapshot.ID) (*Snapshot, bool) {
	info, ok := s.gone[id]
	return info, ok
}

// RetentionItem is what retention wants to know of a snapshot, whose body must be
// loaded. sources are the names of its sources.
func (s *Snapshot) RetentionItem(sources []string) retention.Item {
	item := retention.Item{
		ID: retention.ID(s.ID), Time: s.Open.Time, Host: s.Open.Host, Sources: sources, Stored: s.Stored,
		TimeGiven: s.Open.Flags&snapshot.TimeGiven != 0, Imported: s.Open.Flags&snapshot.Imported != 0, Restored: s.Open.Flags&snapshot.Restored != 0,
	}
	if s.Body != nil {
		item.Tags = s.Body.Tags
	}
	for _, l := range s.Open.Links {
		item.Links = append(item.Links, retention.ID(l))
	}
	return item
}

// ForgottenLinks is what retention wants to know of what was forgotten.
func (s *SnapshotSet) ForgottenLinks() map[retention.ID][]retention.ID {
	all := make(map[retention.ID][]retention.ID, len(s.Forgotten))
	for id, links := range s.Forgotten {
		to := make([]retention.ID, len(links))
		for i, l := range links {
			to[i] = retention.ID(l)
		}
		all[retention.ID(id)] = to
	}
	return all
}
