package repo_test

import (
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

func (w *world) undo(r *repo.Repository, ids ...snapshot.ID) []repo.Undone {
	w.Helper()
	done, err := r.Unforget(w.Context(), repo.UnforgetOptions{IDs: ids, Host: "host"})
	w.must(err)
	return done
}

func TestUnforget(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	var ids []snapshot.ID
	var contents []files
	for range 4 {
		contents = append(contents, w.someFiles())
		ids = append(ids, w.mustBackup(r, "set", last(contents)))
	}
	w.forget(ids[0])
	w.forget(ids[1], ids[3])
	r = w.stranger(admin)
	if lastRun := w.snapshots(r).LastForgotten(); len(lastRun) != 2 || !slices.Contains(lastRun, ids[1]) || !slices.Contains(lastRun, ids[3]) {
		t.Errorf("the last run forgot %v", lastRun)
	}
	if done, err := r.Unforget(t.Context(), repo.UnforgetOptions{IDs: ids[:2], DryRun: true}); err != nil || len(done) != 2 || done[0].Err != nil || done[1].Err != nil {
		t.Errorf("it could be undone: %+v, %v", done, err)
	}
	if set := w.snapshots(r); set.Len() != 1 || len(w.names("leases/")) > 0 {
		t.Errorf("a dry run did something: %d snapshots", set.Len())
	}
	done := w.undo(r, ids[3], ids[0], ids[3], ids[2], snapshot.ID{1})
	if len(done) != 4 {
		t.Fatalf("done %+v", done)
	}
	w.wants(done[2].Err, repo.ErrNoSnapshot)
	w.wants(done[3].Err, repo.ErrNoSnapshot)
	set := w.snapshots(w.stranger(admin))
	for i, n := range []int{3, 0} {
		d := done[i]
		if d.Err != nil || d.There || d.Old != ids[n] || d.New == d.Old {
			t.Fatalf("done %+v", d)
		}
		was, _ := w.snapshots(r).Gone(d.Old)
		s, ok := set.Get(d.New)
		if !ok || !s.Open.Time.Equal(was.Open.Time) || s.Open.Flags != snapshot.Restored || !slices.Equal(s.Open.Links, was.Open.Links) {
			t.Errorf("it came back as %+v", s)
		}
		w.has(w.stranger(admin), d.New, contents[n])
	}
	for n, d := range w.undo(w.stranger(admin), ids[0], ids[3]) {
		if !d.There || d.New != done[1-n].New {
			t.Errorf("again: %+v", d)
		}
	}
	if set := w.snapshots(r); set.Len() != 3 || len(set.Uncopied) > 0 || len(w.names("leases/")) > 0 {
		t.Errorf("%d snapshots, uncopied %v, leases %v", set.Len(), set.Uncopied, w.names("leases/"))
	}
	w.isSound()
	// It can be forgotten again, and come back again.
	w.forget(done[0].New)
	w.has(w.stranger(admin), w.undo(w.stranger(admin), done[0].New)[0].New, contents[3])
	w.mustBackup(r, "next", contents[0])
	w.isSound()
}

func last[T any](s []T) T { return s[len(s)-1] }

func TestFaultyUnforget(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	contents := map[string]files{"a": {"x": w.random.bytes(1000)}, "b": {"x": w.random.bytes(2*blockSize + 9)}}
	ids := []snapshot.ID{w.mustBackup(r, "a", contents["a"]), w.mustBackup(r, "b", contents["b"])}
	w.forget(ids...)
	work := func(w *world, b backend.Interface, cache string) error {
		return w.use(b, cache, func(r *repo.Repository) error {
			done, err := r.Unforget(w.Context(), repo.UnforgetOptions{IDs: ids, Host: "host"})
			for _, d := range done {
				if d.Err != nil {
					w.Errorf("a fault was taken for a loss: %v", d.Err)
				}
			}
			return err
		})
	}
	w.eachFault(work, func(w *world, cache string, acked error) {
		r := w.machine(cache, admin)
		w.mustBeSound(r)
		if sets := w.sets(r); acked == nil && len(sets) != 2 {
			w.Fatalf("an acknowledged snapshot is not back: %v", sets)
		}
		w.undo(r, ids...)
		sets := w.sets(w.stranger(admin)) // it fails if one is there twice
		for name, f := range contents {
			w.has(w.stranger(admin), sets[name], f)
		}
		w.mustBackup(r, "next", files{})
		w.isSound()
	})
}

// Prune takes manifests and packs, in any order, or is about to.
func TestUnforgetAfterPrune(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	f := w.someFiles()
	id := w.mustBackup(w.machine(cache, admin), "a", f)
	kept := w.mustBackup(w.machine(cache, admin), "b", files{"x": f["small"]})
	w.forget(id)
	refused := func(w *world, r *repo.Repository) {
		t.Helper()
		done := w.undo(r, id)
		w.wants(done[0].Err, repo.ErrPruned)
		if _, ok := w.snapshots(r).Get(kept); !ok || w.snapshots(r).Len() != 1 || len(w.names("leases/")) > 0 {
			t.Errorf("%d snapshots, leases %v", w.snapshots(r).Len(), w.names("leases/"))
		}
	}
	for _, name := range append(w.names("data/"), w.names("meta/")...) {
		w := w.on(t, w.storage.Clone())
		prefix, kind := "data/", seal.DataPack
		if name[:5] == "meta/" {
			prefix, kind = "meta/", seal.MetaPack
		}
		p, err := repo.ParsePackName(name, prefix)
		w.must(err)
		w.must(w.stranger(admin).Condemn(t.Context(), protocol.CondemnedPack{Kind: kind, ID: p}))
		_, err = w.stranger(admin).Unforget(t.Context(), repo.UnforgetOptions{IDs: []snapshot.ID{id}, DryRun: true})
		w.must(err)
		if done := w.undo(w.machine(cache, admin), id); done[0].Err != nil {
			w.wants(done[0].Err, repo.ErrPruned)
		} else {
			w.has(w.stranger(admin), done[0].New, f) // it had the pack of the other one
			continue
		}
		w.delete(name)
		refused(w, w.machine(cache, admin))
		refused(w, w.stranger(admin))
	}
	w.delete(manifestName(id))
	refused(w.on(t, w.storage.Clone()), w.on(t, w.storage.Clone()).stranger(admin))
	// A machine that has the manifest can still do it, if the contents are there.
	w.has(w.stranger(admin), w.undo(w.machine(cache, admin), id)[0].New, f)
}

// What a write-only key made comes back as the admin's, and raises no alarm. Its packs
// are believed, also without segments.
func TestUnforgetOfWriter(t *testing.T) {
	w := newRepository(t)
	w.addSlot("writer", seal.WriteOnly)
	cache := t.TempDir()
	f := w.someFiles()
	id := w.mustBackup(w.machine(cache, "writer"), "a", f)
	w.mustBackup(w.machine(cache, "writer"), "b", files{})
	w.forget(id)
	w.delete(w.names("index/")...)
	_, err := w.stranger("writer").Unforget(t.Context(), repo.UnforgetOptions{IDs: []snapshot.ID{id}})
	w.wants(err, repo.ErrWriteOnly)
	r := w.stranger(admin)
	done := w.undo(r, id)
	w.must(done[0].Err)
	w.has(w.stranger(admin), done[0].New, f)
	if rivals := w.snapshots(r).Rivals(); len(rivals) > 0 {
		t.Errorf("rivals %+v", rivals[0])
	}
	w.mustBackup(w.machine(cache, "writer"), "c", f)
	if problems := w.check(r).Problems; len(problems) > 0 {
		t.Errorf("problems %+v", problems)
	}
}

// It is of the epoch of the old one, whose keys its tree was made with.
func TestUnforgetOfOldEpoch(t *testing.T) {
	w := newRepository(t)
	slot := w.addSlot("goes", seal.WriteOnly)
	f := w.someFiles()
	id := w.mustBackup(w.stranger("goes"), "a", f)
	w.must(w.stranger(admin).RemoveSlot(t.Context(), slot))
	w.mustBackup(w.stranger(admin), "b", f)
	w.forget(id)
	done := w.undo(w.stranger(admin), id)
	w.must(done[0].Err)
	if s, ok := w.snapshots(w.stranger(admin)).Get(done[0].New); !ok || s.Place.Epoch != 1 {
		t.Errorf("it is of %v", s.Place)
	}
	w.has(w.stranger(admin), done[0].New, f)
	w.isSound()
}

// Who is fenced between two of them goes on under a new lease.
func TestUnforgetFenced(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	f := w.someFiles()
	ids := []snapshot.ID{w.mustBackup(r, "a", f), w.mustBackup(r, "b", f)}
	w.forget(ids...)
	ends := 0
	hasty := &fencer{Mem: w.storage, end: func(name string) {
		if ends++; ends%2 == 0 {
			return
		}
		lease, _, _ := repo.SplitLeaseName(name)
		id, err := protocol.ParseLeaseID(lease)
		w.must(err)
		end := protocol.End{Lease: id, Time: w.now(), Outcome: protocol.Fenced}
		object, err := end.Seal(w.sealer(r))
		w.must(err)
		w.must(backend.PutBytes(t.Context(), w.storage, name, object))
	}}
	other, err := repo.Open(t.Context(), w.options(hasty, "", admin))
	w.must(err)
	defer other.Close()
	for _, d := range w.undo(other, ids...) {
		w.must(d.Err)
		w.has(w.stranger(admin), d.New, f)
	}
	if ends != 4 {
		t.Errorf("%d ends", ends)
	}
	w.isSound()
}

// Only the admin brings back: the flag would spare a forger's snapshot a rule.
func TestAttackRestored(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		id, object := s.evil.manifest(func(m *snapshot.Manifest) { m.Open.Flags = snapshot.Restored })
		s.evil.put(manifestName(id), object)
		s.finds(s.snapshots(s.stranger(admin)).Damage, id.String())
		if _, ok := s.snapshots(s.stranger(admin)).Get(id); ok {
			t.Error("it is listed")
		}
	})
}

// What could not come back does not bind what can.
func TestUnforgetBesideWhatIsGone(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	f := files{"a": w.random.bytes(1000)}
	before := w.mustBackup(r, "before", f)
	goes := last(w.names("data/"))
	bad := w.mustBackup(r, "bad", files{"a": f["a"], "b": w.random.bytes(1000)})
	for _, name := range w.names("data/") {
		if name != goes {
			w.delete(name)
		}
	}
	good := files{"c": w.random.bytes(1000)}
	id := w.mustBackup(r, "good", good)
	w.forget(before, bad, id)
	hasty := &fencer{Mem: w.storage}
	hasty.end = func(name string) {
		hasty.end = nil
		lease, _, _ := repo.SplitLeaseName(name)
		of, err := protocol.ParseLeaseID(lease)
		w.must(err)
		object, err := (&protocol.End{Lease: of, Time: w.now(), Outcome: protocol.Fenced}).Seal(w.sealer(r))
		w.must(err)
		w.must(backend.PutBytes(t.Context(), w.storage, name, object))
		p, err := repo.ParsePackName(goes, "data/")
		w.must(err)
		w.must(r.Condemn(t.Context(), protocol.CondemnedPack{Kind: seal.DataPack, ID: p}))
	}
	other, err := repo.Open(t.Context(), w.options(hasty, "", admin))
	w.must(err)
	defer other.Close()
	done := w.undo(other, bad, id)
	w.wants(done[0].Err, repo.ErrPruned)
	w.must(done[1].Err)
	if hasty.end != nil {
		t.Error("nobody was fenced")
	}
	w.has(w.stranger(admin), done[1].New, good)
}
