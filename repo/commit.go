package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// NewSnapshot is what Commit publishes.
type NewSnapshot struct {
	Time   time.Time
	Flags  snapshot.Flags
	Host   string
	Parent snapshot.ID
	Body   snapshot.Body
}

// commitTries is how often a writer that was fenced takes a new lease.
const commitTries = 3

// Commit makes all chunks durable and publishes a manifest. Each chunk that the
// tree needs must have been given to Put, or found by Has, in this run: that
// is what the lease protects, and what a renewed one compares. When it returns
// nil, the snapshot is in the repository for good. The error is ErrFenced if
// somebody ended this writer's lease and it can't be sure that all it relied on is
// still there.
func (w *Writer) Commit(ctx context.Context, n NewSnapshot) (snapshot.ID, error) {
	if err := w.flush(ctx); err != nil {
		return snapshot.ID{}, err
	}
	if w.dry {
		return snapshot.ID{}, nil
	}
	if err := w.fitTime(ctx, &n); err != nil {
		return snapshot.ID{}, err
	}
	manifest, err := w.sealManifest(n)
	if err != nil {
		return snapshot.ID{}, err
	}
	id, err := w.publishManifest(ctx, manifest, &n.Body)
	if err != nil {
		return id, err
	}
	w.finishOthers(ctx)
	if err := w.rememberOwn(id); err != nil {
		w.repo.opts.Observer.warn(err)
	}
	if err := w.repo.cache.Trim(nodeClass, nodeCacheLimit); err != nil {
		w.repo.opts.Observer.warn(err)
	}
	return id, nil
}

// publishManifest commits a manifest under the writer's lease, or under a new one if
// that was fenced, and puts it in its place.
func (w *Writer) publishManifest(ctx context.Context, manifest []byte, body *snapshot.Body) (snapshot.ID, error) {
	id := snapshot.IDOf(manifest)
	for try := 1; ; try++ {
		err := w.lease.end(ctx, protocol.Committed, manifest)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFenced) || try == commitTries {
			return id, err
		}
		if err := w.renew(ctx); err != nil {
			return id, err
		}
	}
	// From here on the snapshot is committed; what follows only makes it
	// quicker to find, and anyone may do it.
	w.repo.cache.Put(bodyClass, id, body.Encode())
	w.repo.cache.Put(manifestClass, id, manifest)
	if err := w.repo.copyManifest(ctx, id, manifest); err != nil {
		w.repo.opts.Observer.warn(fmt.Errorf("the snapshot is committed, but its manifest could not be copied to its place; the next run will: %w", err))
		return id, nil
	}
	w.lease.clean(ctx, false)
	return id, nil
}

// nodeCacheLimit bounds the cache of nodes, in bytes: enough for the trees of
// some 20 million files.
const nodeCacheLimit = 2 << 30

func (w *Writer) sealManifest(n NewSnapshot) ([]byte, error) {
	r := w.repo
	m := snapshot.Manifest{
		Header: seal.Header{Kind: seal.Manifest, Repository: r.id, Place: w.place},
		Open:   snapshot.Open{Time: n.Time, Flags: n.Flags, Host: n.Host, Parent: n.Parent, Links: w.snapshots.heads()},
		Body:   n.Body,
	}
	return m.Seal(r.opts.Random, w.keys, r.config.Public, r.signing)
}

// copyManifest puts a committed manifest under its name. As long as it can't, the
// end of the lease has to stay, which holds the only copy.
func (r *Repository) copyManifest(ctx context.Context, id snapshot.ID, manifest []byte) error {
	return create(ctx, r.storage, snapshotsPrefix+id.String(), manifest)
}

// finishOthers copies the manifests of writers that died between their commit
// and the copy.
func (w *Writer) finishOthers(ctx context.Context) {
	for _, id := range w.snapshots.Uncopied {
		if info, ok := w.snapshots.Get(id); ok {
			if err := w.repo.copyManifest(ctx, id, info.object); err != nil {
				w.repo.opts.Observer.warn(fmt.Errorf("copy the manifest of snapshot %s: %w", id.Short(), err))
			}
		}
	}
}

// rememberOwn makes the new snapshot the head that this machine saw.
func (w *Writer) rememberOwn(id snapshot.ID) error {
	lines := []string{id.String()}
	heads := make(map[string]bool)
	for _, h := range w.snapshots.heads() {
		heads[h.String()] = true // now linked to
	}
	for _, line := range w.repo.cache.Lines(headsFile) {
		if !heads[line] {
			lines = append(lines, line)
		}
	}
	return w.repo.cache.SetLines(headsFile, lines)
}

// renew takes a new lease after this one was fenced, and then looks whether
// every pack that the snapshot relies on is still there and not condemned. If so,
// the snapshot can be committed under the new lease.
func (w *Writer) renew(ctx context.Context) error {
	l, err := w.repo.takeLease(ctx, w.host)
	if err != nil {
		return err
	}
	w.lease = l
	condemned, stored, err := w.repo.readFences(ctx, true)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.condemned, w.stored = condemned, stored
	for id, size := range w.used {
		if w.repo.does(stepRenewCheck) && !w.stays(id, size) {
			return fmt.Errorf("%w: pack %s that it needs is going away", ErrFenced, id.Short())
		}
	}
	return nil
}

// thinClass is the class of the cache that holds lists of thin bundles.
const thinClass = "thin"

// RememberThin keeps, on this machine, which bundles of a snapshot are mostly
// dead, for the next snapshot to bundle anew.
func (r *Repository) RememberThin(id snapshot.ID, bundles [][32]byte) {
	b := make([]byte, 0, 32*len(bundles))
	for _, x := range bundles {
		b = append(b, x[:]...)
	}
	r.cache.Put(thinClass, id, b)
}

// Thin returns what RememberThin kept.
func (r *Repository) Thin(id snapshot.ID) []chunk.ID {
	b, _ := r.cache.Get(thinClass, id)
	var ids []chunk.ID
	for ; len(b) >= 32; b = b[32:] {
		ids = append(ids, chunk.ID(b[:32]))
	}
	return ids
}
