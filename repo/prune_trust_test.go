package repo_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// packOf returns what a segment says of a stored pack, with other entries.
func (w *world) packOf(name string, entries ...pack.Entry) pack.Finished {
	w.Helper()
	info, err := w.storage.Stat(w.Context(), name)
	w.must(err)
	return pack.Finished{ID: w.packID(name), Kind: kindOf(name), Size: info.Size, Entries: entries}
}

// liesToPrune are what whoever has a write-only key can say to make prune delete what the
// host needs.
var liesToPrune = map[string]func(s *siege, ref, other repo.Ref){
	"junk": func(s *siege, ref, _ repo.Ref) {
		for range 3 { // so that some come first in whatever order
			s.evil.forgePack(seal.DataPack, junk(ref, s.random.bytes(1000)))
		}
	},
	"junk, twice in a pack": func(s *siege, ref, other repo.Ref) {
		s.evil.forgePack(seal.DataPack, junk(ref, s.random.bytes(10)), junk(ref, s.random.bytes(5*blockSize)), junk(other, s.random.bytes(10)))
	},
	"in a pack that has it not": func(s *siege, ref, _ repo.Ref) {
		for _, name := range s.names("data/") {
			s.evil.segment(s.packOf(name, pack.Entry{ID: ref.ID, Kind: chunk.Data, Offset: pack.PrefixSize, Raw: 1000, Stored: 1000 + seal.Overhead}))
		}
	},
	"elsewhere in its pack": func(s *siege, ref, _ repo.Ref) {
		s.evil.segment(s.packOf(s.homeOf(ref).name, pack.Entry{ID: ref.ID, Kind: chunk.Data, Offset: pack.PrefixSize + 5, Raw: 1000, Stored: 1000 + seal.Overhead}))
	},
	"not in its pack": func(s *siege, ref, other repo.Ref) {
		s.evil.segment(s.packOf(s.homeOf(ref).name, pack.Entry{ID: chunk.ID{1}, Kind: chunk.Data, Offset: pack.PrefixSize, Raw: 1, Stored: 1 + seal.Overhead}))
	},
	"a pack of another size": func(s *siege, ref, _ repo.Ref) {
		f := s.packOf(s.homeOf(ref).name, pack.Entry{ID: ref.ID, Kind: chunk.Data, Offset: pack.PrefixSize, Raw: 1000, Stored: 1000 + seal.Overhead})
		f.Size++
		s.evil.segment(f)
	},
	"a pack of another kind": func(s *siege, ref, _ repo.Ref) {
		f := s.packOf(s.homeOf(ref).name, pack.Entry{ID: ref.ID, Kind: chunk.Node, Offset: pack.PrefixSize, Raw: 1000, Stored: 1000 + seal.Overhead})
		f.Kind = seal.MetaPack
		s.evil.segment(f)
	},
	"a pack that is not there": func(s *siege, ref, _ repo.Ref) {
		s.evil.segment(pack.Finished{ID: pack.ID(s.random.bytes(32)), Kind: seal.DataPack, Size: 5000,
			Entries: []pack.Entry{{ID: ref.ID, Kind: chunk.Data, Offset: pack.PrefixSize, Raw: 1000, Stored: 1000 + seal.Overhead}}})
	},
	"a delta without a base": func(s *siege, ref, _ repo.Ref) {
		s.evil.forgePack(seal.DataPack, s.delta(ref.ID, chunk.ID(s.random.bytes(32))))
	},
	"a delta of a delta": func(s *siege, ref, _ repo.Ref) {
		base := chunk.ID(s.random.bytes(32))
		s.evil.forgePack(seal.DataPack, s.delta(ref.ID, base), s.delta(base, ref.ID))
	},
	"deltas of each other": func(s *siege, ref, other repo.Ref) {
		s.evil.forgePack(seal.DataPack, s.delta(ref.ID, other.ID), s.delta(other.ID, ref.ID))
	},
	"a delta in its pack": func(s *siege, ref, other repo.Ref) {
		s.evil.segment(s.packOf(s.homeOf(ref).name, pack.Entry{ID: ref.ID, Kind: chunk.Data, Encoding: pack.Delta, Bases: pack.Bases{other.ID}, Offset: pack.PrefixSize, Raw: 1000, Stored: 100}))
	},
	"a delta in place of a base": func(s *siege, ref, other repo.Ref) {
		s.evil.segment(s.packOf(s.homeOf(other).name,
			pack.Entry{ID: ref.ID, Kind: chunk.Data, Encoding: pack.Delta, Bases: pack.Bases{other.ID}, Offset: pack.PrefixSize, Raw: 1000, Stored: 100},
			pack.Entry{ID: other.ID, Kind: chunk.Data, Encoding: pack.Delta, Bases: pack.Bases{ref.ID}, Offset: pack.PrefixSize + 100, Raw: 1000, Stored: 100}))
	},
	"times": func(s *siege, _, _ repo.Ref) {
		for _, at := range []time.Time{time.Unix(0, 0), s.now().Add(1000 * time.Hour)} {
			id, object := s.evil.manifest(func(m *snapshot.Manifest) { m.Open.Time = at })
			s.evil.put(manifestName(id), object)
		}
	},
	"dead leases": func(s *siege, _, _ repo.Ref) {
		for range 3 {
			s.must(s.begin(s.evil.repo).Beat(s.Context()))
		}
	},
}

// otherChunk is another chunk of the host than ownChunk.
func (s *siege) otherChunk() repo.Ref {
	s.Helper()
	keys := s.evil.Keys
	hasher := chunk.NewHasher(chunk.Keys{Data: keys.ChunkData, Node: keys.ChunkNode, List: keys.ChunkList})
	return repo.Ref{ID: hasher.Sum(chunk.Data, s.files["large"][:blockSize]), Kind: chunk.Data}
}

// Whatever a stolen key says of packs, prune deletes nothing that the host needs: whether
// it may read the packs or not, and whether the admin has signed for the host's or not.
func TestAttackPrune(t *testing.T) {
	options := map[string]repo.PruneOptions{
		"reads nothing": {MaxVerify: 1}, "reads some": {MaxVerify: 60 << 10}, "reads all": {}, "impatient": {Patience: -1},
	}
	for name, lie := range liesToPrune {
		for _, vouched := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", vouched for"}[vouched], func(t *testing.T) {
				t.Parallel()
				s := newSiege(t, true)
				gone := s.mustBackup(s.host(), "gone", files{"gone": s.random.bytes(3 * blockSize), "block": s.files["block"]})
				if vouched {
					s.prune(repo.PruneOptions{})
				}
				lie(s, s.ownChunk(), s.otherChunk())
				s.forget(gone)
				for how, o := range options {
					c := s.on(t, s.storage.Clone())
					for n := range 2 {
						if _, err := c.stranger(admin).Prune(t.Context(), o); err != nil {
							t.Fatalf("%s, prune %d: %v", how, n, err)
						}
						c.has(c.stranger(admin), s.id, s.files)
						o.Patience = time.Second
					}
					if c.phase() != protocol.Empty {
						t.Errorf("%s: the list is not empty", how)
					}
					more := c.mustBackup(c.stranger(honest), "more", s.files)
					c.has(c.stranger(admin), more, s.files)
					// What is said to be damaged is the attacker's.
					for _, p := range c.check(c.stranger(admin)).Problems {
						if slices.Contains(p.Snapshots, s.id) {
							t.Errorf("%s: %s: %v", how, p.Object, p.Err)
						}
					}
				}
			})
		}
	}
}

// While a list waits, a run that began before it comes to need what is on it, and an
// attacker says to have that too. The true copy stays: and what makes that so is that only
// the admin is believed.
func TestAttackPruneWaiting(t *testing.T) {
	for _, believe := range []bool{true, false} {
		s := newSiege(t, true)
		s.prune(repo.PruneOptions{}) // signs for all that the host has
		r := s.host()
		wr := s.begin(r)
		small := files{"block": s.files["block"]}
		if _, isNew, err := wr.Put(chunk.Data, small["block"]); err != nil || isNew {
			t.Fatal(err)
		}
		s.forget(s.id)
		if report := s.prune(repo.PruneOptions{}); len(report.Waiting) != 1 || report.Freed.Packs > 0 {
			t.Fatalf("did not wait: %+v", report)
		}
		for range 3 {
			s.evil.forgePack(seal.DataPack, junk(s.ownChunk(), s.random.bytes(30<<10)))
		}
		id, err := s.finish(r, wr, "second", small)
		s.must(err)
		p := s.stranger(admin)
		if !believe {
			p.Omit(repo.StepVouched)
		}
		if _, err := p.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		info, _ := s.snapshots(s.stranger(admin)).Get(id)
		if _, err := restore(t.Context(), s.stranger(admin), info); (err == nil) != believe {
			t.Errorf("only the admin is believed: %v; the restore says %v", believe, err)
		}
	}
}

// Junk that was read is reported, stays, and goes with a repair.
func TestPruneReportsJunk(t *testing.T) {
	s := newSiege(t, true)
	name := s.evil.forgePack(seal.DataPack, junk(s.ownChunk(), s.random.bytes(1000)))
	for range 2 {
		report := s.prune(repo.PruneOptions{})
		if len(report.Damaged) > 1 {
			t.Errorf("damaged are %v", report.Damaged)
		}
	}
	s.has(s.stranger(admin), s.id, s.files)
	s.repair(s.stranger(admin))
	s.prune(repo.PruneOptions{})
	if slices.Contains(s.names("data/"), name) {
		t.Error("the junk is still there")
	}
	s.has(s.stranger(admin), s.id, s.files)
	s.isSound()
}

// Who shows signs of life for ever holds prune up until its key is removed, or the admin
// has no patience.
func TestAttackBeatsForEver(t *testing.T) {
	for _, way := range []string{"removed", "impatient"} {
		w := newRepository(t)
		slot := w.addSlot(evil, seal.WriteOnly)
		wr := w.begin(w.stranger(evil))
		f := w.someFiles()
		stays := w.mustBackup(w.stranger(admin), "stays", f)
		gone := w.mustBackup(w.stranger(admin), "gone", w.someFiles())
		old := w.mustBackup(w.stranger(admin), "old", f)
		w.forget(gone)
		for range 3 {
			w.mu.Lock()
			w.time = w.time.Add(2 * time.Hour)
			w.mu.Unlock()
			w.must(wr.Beat(t.Context()))
			if report := w.prune(repo.PruneOptions{}); report.Fenced > 0 || report.Freed.Packs > 0 {
				t.Fatalf("%s: did not wait: %+v", way, report)
			}
		}
		o := repo.PruneOptions{}
		if way == "removed" {
			w.must(w.stranger(admin).RemoveSlot(t.Context(), slot))
		} else {
			o.Patience = -1
		}
		report := w.prune(o)
		if report.Fenced != 1 || report.Freed.Packs == 0 || w.phase() != protocol.Empty {
			t.Errorf("%s: %+v", way, report)
		}
		for _, id := range []snapshot.ID{stays, old} {
			w.has(w.stranger(admin), id, f)
		}
		w.isSound()
	}
}

// A snapshot whose chunks never were stops prune, which says which one it is. Forgotten, it
// is no hindrance.
func TestAttackPruneLostChunks(t *testing.T) {
	hostile := map[string]func(s *siege) snapshot.ID{
		"chunk": func(s *siege) snapshot.ID { return s.snapshotOf(s.evil.repo, chunk.ID(s.random.bytes(32))) },
		"root": func(s *siege) snapshot.ID {
			return s.evil.publish(func(n *repo.NewSnapshot) { n.Body.Root.ID = chunk.ID(s.random.bytes(32)) })
		},
		"node": func(s *siege) snapshot.ID {
			wr := s.begin(s.evil.repo)
			id, err := wr.PutNode(chunk.Node, make([]byte, 1<<20))
			s.must(err)
			got, err := commit(s.Context(), wr, snapshot.Root{ID: id}, "hostile", s.now())
			s.must(err)
			return got
		},
		"level": func(s *siege) snapshot.ID {
			return s.evil.publish(func(n *repo.NewSnapshot) { n.Body.Root.Level++ })
		},
	}
	for name, publish := range hostile {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t, true)
			gone := s.mustBackup(s.host(), "gone", s.someFiles())
			id := publish(s)
			s.forget(gone)
			before := s.names("data/")
			_, err := s.stranger(admin).Prune(t.Context(), repo.PruneOptions{Patience: -1})
			s.wants(err, repo.ErrDamage)
			s.saying(err, id.Short())
			s.saying(err, "forget the snapshot")
			if !slices.Equal(before, s.names("data/")) {
				t.Error("it deleted something")
			}
			s.forget(id)
			if report := s.prune(repo.PruneOptions{Patience: -1}); report.Freed.Packs == 0 {
				t.Errorf("%+v", report)
			}
			s.has(s.stranger(admin), s.id, s.files)
			s.isSound()
		})
	}
}

// An end that is not its owner's stops prune until a repair; the run that it was about loses
// nothing, and nothing that it needs goes.
func TestAttackPruneEnds(t *testing.T) {
	for _, outcome := range []protocol.Outcome{protocol.Fenced, protocol.Abandoned} {
		s := newSiege(t, true)
		gone := s.mustBackup(s.host(), "gone", files{"x": s.random.bytes(3 * blockSize), "block": s.files["block"]})
		r := s.host()
		wr := s.begin(r)
		if _, isNew, err := wr.Put(chunk.Data, s.files["block"]); err != nil || isNew {
			t.Fatal(err)
		}
		end := protocol.End{Lease: wr.LeaseID(), Time: s.now(), Outcome: outcome}
		object, err := end.Seal(s.evil.Sealer)
		s.must(err)
		if !s.evil.put(repo.LeaseName(wr.LeaseID(), "end"), object) {
			t.Fatal("it is taken")
		}
		s.forget(gone)
		_, err = s.stranger(admin).Prune(t.Context(), repo.PruneOptions{})
		s.wants(err, repo.ErrDamage)
		s.saying(err, "the lease is that of")
		s.saying(err, "cairn repair --forget-lost")
		id, err := s.finish(r, wr, "second", s.files)
		s.must(err)
		_, err = s.stranger(admin).Repair(t.Context(), repo.RepairOptions{ForgetLost: true})
		s.must(err)
		if report := s.prune(repo.PruneOptions{}); report.Freed.Packs == 0 {
			t.Errorf("after a repair: %+v", report)
		}
		s.has(s.stranger(admin), id, s.files)
		s.has(s.stranger(admin), s.id, s.files)
		s.isSound()
	}
}
