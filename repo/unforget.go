package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// ErrPruned: a forgotten snapshot can't come back, as prune has passed.
var ErrPruned = errors.New("prune has passed, so it can't be brought back")

// UnforgetOptions say what to bring back.
type UnforgetOptions struct {
	IDs    []snapshot.ID // of forgotten snapshots
	Host   string        // for the lease
	DryRun bool          // only look whether it can be done
}

// Undone is what became of a snapshot that was to come back.
type Undone struct {
	Old snapshot.ID
	New snapshot.ID // zero in a dry run, or if Err is not nil
	// There was nothing to do: it had been brought back before, as New.
	There bool
	Err   error // ErrPruned, ErrNoSnapshot if it was never forgotten, or ErrDamage
}

// Unforget brings forgotten snapshots back. A tombstone holds for ever, so each becomes a
// new snapshot with the old one's time, contents and links, signed by the admin. It is made as any other
// is: under a lease, and after each node and chunk of its tree was found in a pack that
// is listed and not condemned. What can't come back does not keep the others from
// it. To run it again is harmless: what is back is not brought back twice. The error,
// ErrFenced or one of the storage, says that the rest was not tried.
func (r *Repository) Unforget(ctx context.Context, o UnforgetOptions) (done []Undone, err error) {
	if r.private == nil {
		return nil, ErrWriteOnly
	}
	w, err := r.NewWriter(ctx, WriterOptions{Host: o.Host, DryRun: o.DryRun})
	if err != nil {
		return nil, err
	}
	u := &undoer{Writer: w, seed: maphash.MakeSeed(), found: make(map[mention]bool), byTime: make(map[int64][]*Snapshot), state: r.pruneState(ctx)}
	defer func() { err = errors.Join(err, w.Abort(context.WithoutCancel(ctx))) }()
	for _, s := range w.snapshots.byID {
		u.add(s)
	}
	for _, id := range o.IDs {
		if slices.ContainsFunc(done, func(d Undone) bool { return d.Old == id }) {
			continue
		}
		d := Undone{Old: id}
		d.New, d.There, d.Err = u.bringBack(ctx, id)
		if d.Err != nil && !errors.Is(d.Err, ErrPruned) && !errors.Is(d.Err, ErrNoSnapshot) && !errors.Is(d.Err, ErrDamage) {
			return done, d.Err
		}
		done = append(done, d)
	}
	if !o.DryRun {
		_, err = r.Snapshots(ctx) // to remember the new heads
	}
	return done, err
}

// undoer is one run of Unforget.
type undoer struct {
	*Writer
	byTime map[int64][]*Snapshot // all that are there
	state  pruneState            // when it began

	signer seal.Signer // of the snapshot at hand

	// Of trees that were looked through:
	seed    maphash.Seed
	found   map[mention]bool // nodes that are stored, and all below them
	missing int              // nodes and chunks of the one at hand that are not
	last    chunk.ID         // that was found: a bundle has many files
}

func (u *undoer) add(s *Snapshot) {
	at := s.Open.Time.UnixNano()
	u.byTime[at] = append(u.byTime[at], s)
}

func (u *undoer) bringBack(ctx context.Context, id snapshot.ID) (snapshot.ID, bool, error) {
	s, err := u.forgotten(ctx, id)
	if err != nil {
		return snapshot.ID{}, false, err
	}
	again, err := u.isBack(ctx, s)
	if err != nil || again != nil {
		return idOf(again), again != nil, err
	}
	if !u.dry && u.lease == nil {
		// The lease before ended with the snapshot before. This also looks again for
		// all packs that were relied on so far.
		if err := u.renew(ctx); err != nil {
			return snapshot.ID{}, false, err
		}
	}
	if u.signer != s.Signer { // it had others' word on what was found
		u.signer = s.Signer
		u.startOver()
	}
	u.missing = 0
	if err := snapshot.Visit(ctx, snapshot.Tree{Root: s.Body.Root, Source: u}, u); err != nil {
		u.startOver()
		return snapshot.ID{}, false, err
	}
	if u.missing > 0 {
		u.startOver() // what is above the missing ones was taken for whole
		return snapshot.ID{}, false, fmt.Errorf("snapshot %s: %w: chunks that it needs are gone, or about to go (at least %d)", id.Short(), ErrPruned, u.missing)
	}
	if u.dry {
		return snapshot.ID{}, false, nil
	}
	manifest, err := u.sealAgain(s)
	if err != nil {
		return snapshot.ID{}, false, err
	}
	back, err := u.publishManifest(ctx, manifest, s.Body)
	if err != nil {
		return back, false, err
	}
	u.lease = nil
	u.add(&Snapshot{ID: back, Open: s.Open, Body: s.Body})
	return back, false, nil
}

// startOver lets go of what was found so far, and of the packs that it was found in: what is
// back already keeps them, and what can't come back must not bind the others to its own.
func (u *undoer) startOver() {
	clear(u.found)
	u.last = chunk.ID{}
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.used)
}

func idOf(s *Snapshot) snapshot.ID {
	if s == nil {
		return snapshot.ID{}
	}
	return s.ID
}

// forgotten returns a forgotten snapshot with its body, from the storage or from
// this machine's cache.
func (u *undoer) forgotten(ctx context.Context, id snapshot.ID) (*Snapshot, error) {
	if _, ok := u.snapshots.Forgotten[id]; !ok {
		if _, ok := u.snapshots.Get(id); ok {
			return nil, fmt.Errorf("snapshot %s is not forgotten: %w that was", id.Short(), ErrNoSnapshot)
		}
		return nil, u.snapshots.missing(id)
	}
	s, ok := u.snapshots.Gone(id)
	if !ok {
		object, ok := u.repo.cache.Get(manifestClass, id)
		if !ok || checkDigest(id, object) != nil {
			return nil, fmt.Errorf("snapshot %s: %w: its manifest is gone", id.Short(), ErrPruned)
		}
		var err error
		if s, err = u.repo.openManifest(id, object); err != nil {
			return nil, err
		}
	}
	return s, u.repo.LoadBody(ctx, s)
}

// isBack returns the snapshot that was made when s was brought back before, nil if there
// is none.
func (u *undoer) isBack(ctx context.Context, s *Snapshot) (*Snapshot, error) {
	body := s.Body.Encode()
	for _, x := range u.byTime[s.Open.Time.UnixNano()] {
		if x.Open.Host != s.Open.Host {
			continue
		}
		if err := u.repo.LoadBody(ctx, x); err != nil {
			if errors.Is(err, ErrDamage) {
				continue
			}
			return nil, err
		}
		if bytes.Equal(x.Body.Encode(), body) {
			return x, nil
		}
	}
	return nil, nil
}

// sealAgain returns a new manifest of an old snapshot. It is of the old one's place,
// as the content hashes in the tree are.
func (u *undoer) sealAgain(s *Snapshot) ([]byte, error) {
	r := u.repo
	keys, ok := r.ring.Keys(s.Place)
	if !ok {
		return nil, fmt.Errorf("%s: %w", s.Place, seal.ErrNoKey)
	}
	m := snapshot.Manifest{Header: seal.Header{Kind: seal.Manifest, Repository: r.id, Place: s.Place}, Open: s.Open, Body: *s.Body}
	m.Open.Flags |= snapshot.Restored
	return m.Seal(r.opts.Random, keys, r.config.Public, r.signing)
}

// Node implements snapshot.NodeSource, for nodes that the snapshot may rely on.
func (u *undoer) Node(ctx context.Context, id chunk.ID, kind chunk.Kind) ([]byte, error) {
	if ok, err := u.rely(ctx, Ref{id, kind}, false); !ok {
		return nil, cmp.Or(err, damaged("node "+id.Short(), ErrPruned))
	}
	return u.repo.Node(ctx, id, kind)
}

// Enter implements snapshot.Visitor.
func (u *undoer) Enter(n snapshot.Mention, e *snapshot.Entry) bool {
	m := mention{n.ID, n.Level, maphash.String(u.seed, string(n.Key)), n.Entries, n.Bytes}
	if u.found[m] {
		return false
	}
	u.found[m] = true
	return true
}

// Extent implements snapshot.Visitor.
func (u *undoer) Extent(_ *snapshot.Entry, x snapshot.Extent) error {
	if x.Chunk == u.last {
		return nil
	}
	ok, err := u.rely(u.ctx, Ref{x.Chunk, chunk.Data}, false)
	if !ok {
		u.missing++
		return err
	}
	u.last = x.Chunk
	return nil
}

// Bad implements snapshot.Visitor.
func (u *undoer) Bad(_ chunk.ID, _ *snapshot.Entry, err error) error {
	if !errors.Is(err, ErrDamage) && !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	u.missing++
	return nil
}

// rely reports whether a chunk is stored, and notes the pack that the snapshot needs for it.
// It believes the admin, and the snapshot's own signer, who relied on nobody else either.
// What others say, and packs that no segment names, it reads. whole: only a home that hangs on
// no other chunk will do, as for a base.
func (u *undoer) rely(ctx context.Context, ref Ref, whole bool) (bool, error) {
	for try := range 2 {
		if try == 1 { // in no segment: perhaps in a pack that none names
			if err := u.repo.findOrphans(ctx, u.state); err != nil {
				return false, err
			}
		}
		places, err := u.repo.places(nil, ref.ID)
		if err != nil {
			return false, err
		}
		isTrusted := func(p index.Place) bool { return p.Signer == u.signer || p.Signer == u.repo.config.Admin }
		sorted := slices.SortedStableFunc(slices.Values(places), func(a, b index.Place) int { return boolRank(isTrusted(b)) - boolRank(isTrusted(a)) })
		for _, p := range sorted {
			if whole && p.Entry.Encoding == pack.Delta {
				continue
			}
			if ok, err := u.relyOn(ctx, ref, p, isTrusted(p)); ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
}

// relyOn is rely for one place.
func (u *undoer) relyOn(ctx context.Context, ref Ref, p index.Place, isTrusted bool) (bool, error) {
	u.mu.Lock()
	ok := p.Entry.Kind == ref.Kind && u.stays(p.Pack, p.PackSize)
	u.mu.Unlock()
	if !ok {
		return false, nil
	}
	for _, base := range u.repo.hangsOn(&p.Entry) {
		if ok, err := u.rely(ctx, Ref{base, chunk.Data}, true); !ok || err != nil {
			return false, err
		}
	}
	if !isTrusted {
		b := bufferPool.Get().(*buffers)
		defer bufferPool.Put(b)
		if _, err := u.repo.readPlace(ctx, p, b); errors.Is(err, ErrDamage) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used[p.Pack] = p.PackSize
	return true, nil
}
