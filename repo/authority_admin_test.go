package repo_test

import (
	"crypto/ed25519"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/config"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// Only the admin forgets.
func TestAttackTombstone(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		tombstone := protocol.Tombstone{Time: s.now(), Forgotten: []protocol.Forgotten{{ID: s.id}}}
		object := tombstone.Sign(s.evil.Repository, s.evil.Key)
		name := "tombstones/" + seal.Sum[any](object).String()
		s.evil.put(name, object)
		s.saying(problemOf(s.check(s.stranger(admin)), name), "not by the admin")
		s.stands(name)
	})
}

// Only the admin condemns. Who can overwrite the list stops the writers, who say so, and
// loses nothing; who can only create does not even that.
func TestAttackCondemned(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		list := protocol.Condemned{Generation: 9, Phase: protocol.Final}
		for _, name := range append(s.names("data/"), s.names("meta/")...) {
			list.Packs = append(list.Packs, protocol.CondemnedPack{Kind: kindOf(name), ID: s.packID(name)})
		}
		good := s.object("condemned")
		if s.evil.put("condemned", list.Sign(s.evil.Repository, s.evil.Key)) {
			_, err := s.backup(s.host(), "second", s.files)
			s.wants(err, repo.ErrDamage)
			s.saying(err, "condemned: signed by")
			s.has(s.stranger(admin), s.id, s.files)
			s.checks(s.check(s.stranger(admin)), "condemned")
			s.replace("condemned", good)
		}
		s.stands()
	})
}

// Only the admin takes another's segments back.
func TestAttackSupersede(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		b := index.NewBuilder()
		for _, name := range s.names("index/") {
			id, err := index.ParseSegmentID(name[len("index/"):])
			s.must(err)
			b.Supersede(id)
		}
		h := seal.Header{Kind: seal.Segment, Repository: s.evil.Repository, Place: s.evil.Place}
		object, id, err := b.Encode(s.random, h, s.evil.Keys, s.evil.Key)
		s.must(err)
		s.evil.put("index/"+id.String(), object)
		wr := s.begin(s.host())
		if _, isNew, err := wr.Put(chunk.Data, s.files["block"]); err != nil || isNew {
			t.Errorf("another writer's segment replaced the host's: %v", err)
		}
		s.must(wr.Abort(t.Context()))
		s.stands()
	})
}

// A host whose segments were deleted finds its packs by their directories.
func TestAttackerDeletesSegments(t *testing.T) {
	s := newSiege(t, false)
	s.delete(s.names("index/")...)
	s.stands()
}

// configs are what an attacker may put in place of config. The first word of a
// name is old if it is of another time, and else forged.
func (s *siege) configs(old []byte) map[string][]byte {
	s.Helper()
	change := func(key ed25519.PrivateKey, edit func(c *config.Config)) []byte {
		c, err := config.Parse(s.object("config"))
		s.must(err)
		c.Generation++
		edit(c)
		return c.Seal(key)
	}
	me := seal.SignerOf(s.evil.Key)
	spliced := slices.Clone(s.object("config"))
	spliced[seal.HeaderSize]++ // the generation
	return map[string][]byte{
		"old":                  old,
		"forged by a writer":   change(s.evil.Key, func(*config.Config) {}),
		"forged: no signature": spliced,
		"forged: writer for ever and everywhere": change(s.evil.Key, func(c *config.Config) {
			for i := range c.Writers {
				c.Writers[i].First, c.Writers[i].Last = 0, config.Forever
			}
		}),
		"forged: writer is the admin": change(s.evil.Key, func(c *config.Config) {
			for i := range c.Slots {
				if c.Slots[i].Signer == c.Admin {
					c.Slots[i].Signer = me
				}
			}
			c.Admin = me
		}),
	}
}

// Only the admin says who may do what. A machine that saw a later config refuses an
// earlier one; one that saw none can't tell.
func TestAttackConfig(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		old := s.object("config")
		s.addSlot("later", seal.WriteOnly)
		s.host() // sees the new one
		good := s.object("config")
		for name, object := range s.configs(old) {
			if !s.evil.put("config", object) {
				continue
			}
			_, err := repo.Open(t.Context(), s.options(s.storage, s.cache, honest))
			s.wants(err, repo.ErrDamage)
			s.saying(err, "config")
			r, err := repo.Open(t.Context(), s.options(s.storage, "", admin))
			if name == "old" {
				s.must(err)
				s.must(r.Close())
			} else {
				s.wants(err, repo.ErrDamage)
			}
			s.replace("config", good)
		}
		s.stands()
	})
}

// A Repository that is open changes keys in the config that it opened or a later one,
// whatever lies there meanwhile.
func TestAttackConfigWhileOpen(t *testing.T) {
	s := newSiege(t, false)
	old := s.object("config")
	s.addSlot("later", seal.WriteOnly)
	r := s.stranger(admin)
	good := s.object("config")
	for _, object := range s.configs(old) {
		s.replace("config", object)
		_, err := r.AddSlot(t.Context(), repo.NewSlot{Lock: secret("x"), Access: seal.WriteOnly})
		s.wants(err, repo.ErrDamage)
		if string(s.object("config")) != string(object) {
			t.Error("the admin signed what lay there")
		}
	}
	s.replace("config", good)
	s.stands()
}

// A slot opens only if config lists its very bytes: another slot in its place, one with
// other parameters, or one that takes all memory to try, is refused before anything is
// derived from a passphrase.
func TestAttackSlots(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		slots := s.stranger(admin).Config().Slots
		for i, slot := range slots {
			name, other := "keys/"+slot.ID.String(), "keys/"+slots[(i+1)%len(slots)].ID.String()
			good := s.object(name)
			const params = seal.HeaderSize + 2 + seal.SaltSize
			costly := slices.Clone(good[:len(good)-seal.SignatureSize])
			binary.LittleEndian.PutUint32(costly[params:], 64)
			binary.LittleEndian.PutUint32(costly[params+4:], 2<<20) // KiB
			for what, object := range map[string][]byte{
				"another slot": s.object(other), "a costly slot": seal.AppendSignature(costly, s.evil.Key),
			} {
				s.evil.put("keys/"+seal.Sum[any](object).String(), object) // under a name of its own
				if !s.evil.put(name, object) {
					continue
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for _, pass := range []string{admin, honest, evil} {
					r, err := repo.Open(t.Context(), s.options(s.storage, "", pass))
					if err == nil { // by a slot that was left alone
						s.must(r.Close())
						continue
					}
					s.wants(err, repo.ErrDamage)
					s.saying(err, "its contents hash to")
				}
				runtime.ReadMemStats(&after)
				if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 200 {
					t.Errorf("%s: %d MiB to refuse it", what, n)
				}
				s.replace(name, good)
			}
		}
		report := s.check(s.stranger(admin))
		litter := 0
		for _, l := range report.Leftovers {
			if strings.Contains(l, "a key slot that config does not list") {
				litter++
			}
		}
		if litter != len(slots) {
			t.Errorf("%d slots were planted, and %d are named: %q", len(slots), litter, report.Leftovers)
		}
		s.stands()
	})
}

// What a revoked key makes for the new epoch is refused, even if it got the epoch's keys
// from somewhere.
func TestAttackAfterRevocation(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		ctx := t.Context()
		slot := s.evil.repo.SlotID()
		s.must(s.stranger(admin).RemoveSlot(ctx, slot))
		_, err := repo.Open(ctx, s.options(s.storage, "", evil))
		s.wants(err, seal.ErrWrongSecret)
		leaked := s.sealer(s.stranger(admin))
		leaked.Key = s.evil.Key
		if leaked.Place.Epoch != s.evil.Place.Epoch+1 {
			t.Fatalf("the new epoch is %s", leaked.Place)
		}
		id, manifest := s.resealed(s.stranger(admin), leaked, "host")
		s.evil.put(manifestName(id), manifest)
		end := protocol.End{Lease: protocol.LeaseID(s.random.bytes(32)), Time: s.now(), Outcome: protocol.Committed, Manifest: manifest}
		object, err := end.Seal(leaked)
		s.must(err)
		s.evil.put(repo.LeaseName(end.Lease, "end"), object)
		ref := repo.Ref{ID: chunk.ID(s.random.bytes(32)), Kind: chunk.Data}
		_, segment := s.forge(s.stranger(admin), leaked, ref, s.random.bytes(100))
		if set := s.snapshots(s.stranger(admin)); set.Len() != 1 {
			t.Errorf("%d snapshots", set.Len())
		}
		report := s.check(s.stranger(admin))
		for _, name := range []string{manifestName(id), "leases/" + end.Lease.String(), segment} {
			if err := problemOf(report, name); err == nil {
				t.Errorf("nothing is said of %s", name)
			}
		}
		s.stands(manifestName(id), "leases/", segment, "data/")
	})
}

func TestRevokedWriter(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	slot := w.addSlot("host", seal.WriteOnly)
	w.addSlot("stays", seal.WriteOnly)
	cache := t.TempDir()
	f := w.someFiles()
	old := w.stranger("host")
	id := w.mustBackup(old, "of host", f)
	staysID := w.mustBackup(w.machine(cache, "stays"), "of stays", f)

	r := w.stranger(admin)
	w.must(r.RemoveSlot(ctx, slot))
	if place := r.Config().Epochs[len(r.Config().Epochs)-1].Place; place.Epoch != 2 {
		t.Errorf("the newest is %s", place)
	}
	_, err := repo.Open(ctx, w.options(w.storage, "", "host"))
	w.wants(err, seal.ErrWrongSecret)
	// The Repository that did it goes on in the new epoch.
	second := w.mustBackup(r, "second", f)
	for _, r := range []*repo.Repository{r, w.stranger(admin)} {
		w.has(r, id, f)
		w.has(r, staysID, f)
		w.has(r, second, f)
		s, _ := w.snapshots(r).Get(second)
		if s.Place.Epoch != 2 || !slices.Equal(s.Open.Links, []snapshot.ID{staysID}) {
			t.Errorf("the new snapshot is of %s and links to %v", s.Place, s.Open.Links)
		}
	}
	// So does a writer that stays, and sees no damage in what is too old or
	// too new for it.
	stays := w.machine(cache, "stays")
	third := w.mustBackup(stays, "third", f)
	w.has(w.stranger(admin), third, f)
	w.addSlot("new", seal.WriteOnly)
	for _, r := range []*repo.Repository{stays, w.stranger("new")} {
		if set := w.snapshots(r); len(set.Damage) > 0 {
			t.Errorf("damage %v", set.Damage)
		}
	}
	fourth := w.mustBackup(w.stranger("new"), "fourth", f)
	w.has(w.stranger(admin), fourth, f)
	w.isSound()

	// The revoked key signs for the new epoch, whose keys it got from somewhere.
	s := w.sealer(r)
	s.Key = w.sealer(old).Key
	forged, object := w.resealed(r, s, "forged")
	w.replace("snapshots/"+forged.String(), object)
	set := w.snapshots(r)
	if _, ok := set.Get(forged); ok {
		t.Error("the revoked key made a snapshot in the new epoch")
	}
	w.finds(set.Damage, forged.String())
}
