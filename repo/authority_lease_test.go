package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/snapshot"
)

// withMeddler opens the repository as the host, on a storage in which after is called
// when an object has been put.
func (s *siege) withMeddler(after func(name string)) *repo.Repository {
	s.Helper()
	r, err := repo.Open(s.Context(), s.options(&meddler{s.storage, after}, s.cache, honest))
	s.must(err)
	s.Cleanup(func() { s.must(r.Close()) })
	return r
}

// The end of a lease shows the ID of the manifest in it, so its name can be taken before
// the host copies it there. The snapshot stays in the end of the lease.
func TestAttackManifestName(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		var taken string
		r := s.withMeddler(func(name string) {
			if !strings.HasSuffix(name, "/end") {
				return
			}
			end, _, err := protocol.OpenEnd(s.object(name), s.evil.repo.Ring())
			s.must(err)
			taken = manifestName(snapshot.IDOf(end.Manifest))
			s.must(backend.PutBytes(t.Context(), s.evil.storage, taken, []byte("junk")))
		})
		id := s.mustBackup(r, "second", s.files)
		if taken != manifestName(id) || string(s.object(taken)) != "junk" {
			t.Fatalf("took %s of %s", taken, id)
		}
		s.has(s.stranger(admin), id, s.files)
		s.finds(s.snapshots(s.stranger(admin)).Damage, id.String())
		s.stands(taken)
		// Once the junk is gone, the next run puts the manifest in its place.
		s.delete(taken)
		s.mustBackup(s.host(), "third", s.files)
		if got := snapshot.IDOf(s.object(taken)); got != id {
			t.Errorf("the manifest is %s", got)
		}
		s.isSound()
	})
}

// The name of a pack shows only when it is being put. Whoever takes it makes the run fail,
// rather than count as stored what is not.
func TestAttackPackName(t *testing.T) {
	s := newSiege(t, false)
	r, err := repo.Open(t.Context(), s.options(&thief{meddler{Mem: s.storage}}, s.cache, honest))
	s.must(err)
	defer r.Close()
	_, err = s.backup(r, "second", files{"new": s.random.bytes(1000)})
	s.wants(err, repo.ErrDamage)
	s.saying(err, "something else was put under its name")
	if n := s.snapshots(s.stranger(admin)).Len(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	s.stands("data/", "meta/")
}

// Anybody who can create objects can take the name of the end of another's lease. That
// commits nothing and is named. The host takes a new lease, and gives up after the third:
// nothing is lost but the run.
func TestAttackLease(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		own, manifest := s.evil.manifest(func(*snapshot.Manifest) {})
		ends := map[string]protocol.End{
			"fenced":                    {Outcome: protocol.Fenced},
			"abandoned":                 {Outcome: protocol.Abandoned},
			"committed by the attacker": {Outcome: protocol.Committed, Manifest: manifest},
		}
		for name, end := range ends {
			for _, times := range []int{1, 9} {
				w := s.on(t, s.storage.Clone())
				ended := 0
				storage := &meddler{Mem: w.storage}
				storage.after = func(name string) {
					if lease, ok := strings.CutSuffix(name, "/begin"); ok && ended < times {
						ended++
						id := w.leaseOf(lease)
						e := end
						e.Lease, e.Time = id, w.now()
						object, err := e.Seal(s.evil.Sealer)
						w.must(err)
						w.must(backend.PutBytes(t.Context(), w.storage, lease+"/end", object))
					}
				}
				r, err := repo.Open(t.Context(), w.options(storage, s.cache, honest))
				w.must(err)
				id, err := w.backup(r, "second", s.files)
				if times == 1 {
					w.must(err)
					w.has(w.stranger(admin), id, s.files)
				} else {
					w.wants(err, repo.ErrFenced)
				}
				w.must(r.Close())
				w.has(w.stranger(admin), s.id, s.files)
				if _, ok := w.snapshots(w.stranger(admin)).Get(own); ok {
					t.Errorf("%s: a manifest counts by a lease of another", name)
				}
				report := w.check(w.stranger(admin))
				for _, p := range report.Problems {
					w.saying(p.Err, "but the lease is that of")
				}
				if len(report.Problems) != ended {
					t.Errorf("%s: of %d ends the check says %+v", name, ended, report.Problems)
				}
			}
		}
	})
}

func (w *world) leaseOf(name string) protocol.LeaseID {
	w.Helper()
	id, err := pack.ParseID(strings.TrimPrefix(name, "leases/")) // as long as any
	w.must(err)
	return protocol.LeaseID(id)
}

// Only a manifest's own writer commits it.
func TestAttackCommitOfAnother(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		manifest := s.object(manifestName(s.id))
		s.must(s.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: s.id}))
		other, object := s.resealed(s.stranger(admin), s.sealer(s.host()), "host") // of the host, committed by nobody
		for _, m := range [][]byte{manifest, object} {
			end := protocol.End{Lease: protocol.LeaseID(s.random.bytes(32)), Time: s.now(), Outcome: protocol.Committed, Manifest: m}
			sealed, err := end.Seal(s.evil.Sealer)
			s.must(err)
			s.evil.put(repo.LeaseName(end.Lease, "end"), sealed)
			s.saying(problemOf(s.check(s.stranger(admin)), "leases/"+end.Lease.String()), "but the manifest in it by")
		}
		if set := s.snapshots(s.stranger(admin)); set.Len() != 0 {
			_, ok := set.Get(other)
			t.Errorf("%d snapshots; the uncommitted one %v", set.Len(), ok)
		}
	})
}

// Objects of leases that were over, put there again, bring nothing back.
func TestAttackReplay(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		seen := make(map[string][]byte)
		r := s.withMeddler(func(name string) {
			if strings.HasPrefix(name, "leases/") {
				seen[name] = s.object(name)
			}
		})
		wr := s.begin(r)
		s.must(wr.Beat(t.Context()))
		id, err := s.finish(r, wr, "second", s.files)
		s.must(err)
		if len(seen) != 3 || len(s.names("leases/")) > 0 {
			t.Fatalf("saw %d objects, %q are left", len(seen), s.names("leases/"))
		}
		replay := func() {
			for name, object := range seen {
				s.evil.put(name, object)
			}
		}
		replay()
		if set := s.snapshots(s.stranger(admin)); set.Len() != 2 || len(set.Uncopied) > 0 {
			t.Errorf("%d snapshots, %d not copied", set.Len(), len(set.Uncopied))
		}
		s.stands()
		s.must(s.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: id}))
		s.delete(manifestName(id))
		replay()
		s.mustBackup(s.host(), "third", s.files)
		set := s.snapshots(s.stranger(admin))
		if _, ok := set.Get(id); ok || slices.Contains(s.names("snapshots/"), manifestName(id)) {
			t.Error("a forgotten snapshot is back")
		}
		s.stands()
		// As an object of another lease they are no objects at all.
		for name, object := range seen {
			_, what, _ := strings.Cut(strings.TrimPrefix(name, "leases/"), "/")
			moved := "leases/" + strings.Repeat("ab", 32) + "/" + what
			s.evil.put(moved, object)
			if err := problemOf(s.check(s.stranger(admin)), moved); err == nil {
				t.Errorf("%s counts for another lease", what)
			}
		}
	})
}

// Whoever takes the names of a host's beats does not make it look dead.
func TestAttackBeats(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		wr := s.begin(s.host())
		for _, n := range []string{"beat-1", "beat-2", "beat-4"} {
			s.must(backend.PutBytes(t.Context(), s.evil.storage, repo.LeaseName(wr.LeaseID(), n), []byte("junk")))
		}
		for _, n := range []string{"beat-3", "beat-5"} {
			s.must(wr.Beat(t.Context()))
			if _, _, err := protocol.OpenBeat(s.object(repo.LeaseName(wr.LeaseID(), n)), s.evil.repo.Ring()); err != nil {
				t.Errorf("%s: %v", n, err)
			}
		}
		for _, n := range []string{"beat-1", "beat-2", "beat-4"} {
			if err := problemOf(s.check(s.stranger(admin)), repo.LeaseName(wr.LeaseID(), n)); err == nil {
				t.Errorf("nothing is said of %s", n)
			}
		}
		s.must(wr.Abort(t.Context()))
		s.stands()
	})
}

// An attacker that stores what the host has before the host does makes it store it again.
func TestAttackerIsFirst(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		p := s.random.bytes(1000)
		theirs := s.begin(s.evil.repo)
		_, isNew, err := theirs.Put(chunk.Data, p)
		s.must(errors.Join(err, theirs.Flush(t.Context()), theirs.Abort(t.Context())))
		wr := s.begin(s.host())
		if _, again, err := wr.Put(chunk.Data, p); err != nil || !isNew || !again {
			t.Errorf("new to the attacker %v, to the host %v: %v", isNew, again, err)
		}
		s.must(wr.Abort(t.Context()))
		s.stands()
	})
}
