package repo_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// A write-only key can give its snapshots the name of another host. That is
// noticed, and the host itself takes nothing over from them.
func TestAttackHostName(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		if rivals := s.snapshots(s.stranger(admin)).Rivals(); len(rivals) > 0 {
			t.Fatalf("rivals without an attack: %+v", rivals)
		}
		posed := s.evil.publish(func(n *repo.NewSnapshot) { n.Host = "host" })
		for _, who := range []string{admin, honest} {
			r := s.stranger(who)
			rivals := s.snapshots(r).Rivals()
			want := []seal.Signer{seal.SignerOf(s.sealer(s.host()).Key), seal.SignerOf(s.evil.Key)}
			if len(rivals) != 1 || rivals[0].Host != "host" || len(rivals[0].Signers) != 2 ||
				!slices.Contains(want, rivals[0].Signers[0]) || !slices.Contains(want, rivals[0].Signers[1]) {
				t.Fatalf("%s is told of %+v", who, rivals)
			}
			text, err := r.Rivalry(rivals[0])
			s.must(err)
			for _, label := range []string{`"host"`, `"honest"`, `"evil"`} {
				if !strings.Contains(text, label) {
					t.Errorf("%s is not named in %q", label, text)
				}
			}
		}
		if report := s.check(s.stranger(admin)); len(report.Rivals) != 1 {
			t.Errorf("the check tells of %+v", report.Rivals)
		}
		wr := s.begin(s.host())
		if info, ok := wr.Snapshots().Get(posed); !ok || wr.Mine(info) {
			t.Error("the host would take parts over from the attacker's snapshot")
		}
		s.must(wr.Abort(t.Context()))
		s.stands()
	})
}

// Keys of which one took the other's place do not claim a host side by side; a revoked
// one that goes on with its old epoch does.
func TestSuccessorIsNoRival(t *testing.T) {
	w := newRepository(t)
	slot := w.addSlot("old", seal.WriteOnly)
	old := w.stranger("old")
	w.mustBackup(old, "first", w.someFiles())
	s := w.sealer(old)
	w.must(w.stranger(admin).RemoveSlot(t.Context(), slot))
	w.addSlot("new", seal.WriteOnly)
	w.mustBackup(w.stranger("new"), "second", w.someFiles())
	if rivals := w.snapshots(w.stranger(admin)).Rivals(); len(rivals) > 0 {
		t.Errorf("a successor counts as %+v", rivals[0])
	}
	id, object := w.resealed(w.stranger(admin), s, "host")
	w.replace(manifestName(id), object)
	set := w.snapshots(w.stranger(admin))
	if rivals := set.Rivals(); len(rivals) != 1 || len(rivals[0].Signers) != 2 {
		t.Errorf("the revoked key is back with its old epoch, and the rivals are %+v", rivals)
	}
}

// Nobody signs for another key.
func TestAttackSignature(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		victim := seal.SignerOf(s.sealer(s.host()).Key)
		_, object := s.evil.manifest(func(m *snapshot.Manifest) { m.Open.Host = "host" })
		signer := object[len(object)-seal.SignatureSize:][:len(victim)]
		copy(signer, victim[:])
		s.evil.put(manifestName(snapshot.IDOf(object)), object)

		// The host's own signature, on a manifest with another time.
		theirs := s.object(manifestName(s.id))
		object = append(slices.Clone(object[:len(object)-seal.SignatureSize]), theirs[len(theirs)-seal.SignatureSize:]...)
		s.evil.put(manifestName(snapshot.IDOf(object)), object)

		set := s.snapshots(s.stranger(admin))
		if set.Len() != 1 || len(set.Damage) != 2 {
			t.Errorf("%d snapshots, damage %v", set.Len(), set.Damage)
		}
		for _, err := range set.Damage {
			s.saying(err, "signature")
		}
		s.stands("snapshots/")
	})
}

// places are where the attacker may not write, with what is said of that.
var places = map[string]struct {
	seal.Place
	says string
}{
	"an epoch to come": {seal.Place{Epoch: 9}, "does not exist"},
	"another domain":   {seal.Place{Epoch: 1, Domain: 7}, "section is damaged"},
	"no domain":        {seal.Place{Epoch: 1, Domain: 8}, "does not exist"},
}

// The attacker claims an epoch or domain that is not its own, whose keys it does not know.
func TestAttackPlace(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		s.must(s.stranger(admin).AddSlotIn(t.Context(), repo.NewSlot{Lock: secret("other"), Access: seal.WriteOnly}, 7))
		for name, p := range places {
			forged := s.evil.Sealer
			forged.Place = p.Place
			id, manifest := s.evil.manifest(func(m *snapshot.Manifest) { m.Header.Place = p.Place })
			begin := protocol.Begin{Lease: protocol.LeaseID(s.random.bytes(32)), Time: s.now(), Host: "host"}
			beginObject, err := begin.Seal(forged)
			s.must(err)
			end := protocol.End{Lease: protocol.LeaseID(s.random.bytes(32)), Time: s.now(), Outcome: protocol.Abandoned}
			endObject, err := end.Seal(forged)
			s.must(err)
			for object, p2 := range map[string][]byte{
				manifestName(id):                     manifest,
				repo.LeaseName(begin.Lease, "begin"): beginObject,
				repo.LeaseName(end.Lease, "end"):     endObject,
				"leases/" + evil + "/end":            endObject, // of no lease
			} {
				w := s.on(t, s.storage.Clone())
				w.replace(object, p2)
				report := w.check(w.stranger(admin))
				if len(report.Problems) != 1 || report.Problems[0].Object != object {
					t.Errorf("%s: the check says %+v of %s", name, report.Problems, object)
				}
				if object == manifestName(id) {
					w.saying(problemOf(report, object), p.says)
				}
				// A key that does not know the place is told too.
				if set := w.snapshots(w.stranger(honest)); object == manifestName(id) && len(set.Damage) != 1 {
					t.Errorf("%s: a host is told %v", name, set.Damage)
				}
				w.has(w.stranger(admin), s.id, s.files)
			}
		}
		s.stands()
	})
}

// Who opened the repository before an epoch began takes what is of it for nothing worse
// than unreadable.
func TestNewEpochIsNoDamage(t *testing.T) {
	w := newRepository(t)
	slot := w.addSlot("goes", seal.WriteOnly)
	w.addSlot("stays", seal.WriteOnly)
	early := []*repo.Repository{w.stranger(admin), w.stranger("stays")}
	w.must(w.stranger(admin).RemoveSlot(t.Context(), slot))
	id := w.mustBackup(w.stranger(admin), "of the new epoch", w.someFiles())
	for _, r := range early {
		set := w.snapshots(r)
		if _, ok := set.Get(id); ok || len(set.Damage) > 0 {
			t.Errorf("seen %v, damage %v", ok, set.Damage)
		}
	}
}

// The attacker gives its own snapshots any time. What others made keeps its order, and
// what a lie can do is put its own first.
func TestAttackTime(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		second := s.mustBackup(s.host(), "second", s.files)
		for _, at := range []time.Time{time.Unix(0, -1<<63), time.Unix(0, 0), time.Unix(0, 1<<63-1)} {
			id, object := s.evil.manifest(func(m *snapshot.Manifest) { m.Open.Time = at })
			s.evil.put(manifestName(id), object)
		}
		var hosts []snapshot.ID
		for _, info := range s.snapshots(s.stranger(admin)).Newest() {
			if info.Open.Host == "host" {
				hosts = append(hosts, info.ID)
			}
		}
		if !slices.Equal(hosts, []snapshot.ID{second, s.id}) {
			t.Errorf("the host's snapshots are %v", hosts)
		}
		s.stands()
	})
}

// A manifest that links to nothing, or forks, is one more head; one that links to what
// never was is named, itself. Very many links cost no more than the time to read them.
func TestAttackLinks(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		var lost []snapshot.ID
		for range 30_000 {
			lost = append(lost, snapshot.ID(s.random.bytes(32)))
		}
		slices.SortFunc(lost, snapshot.ID.Compare)
		for name, links := range map[string][]snapshot.ID{"none": nil, "a fork": {s.id}, "what never was": lost} {
			id, object := s.evil.manifest(func(m *snapshot.Manifest) { m.Open.Links = links })
			w := s.on(t, s.storage.Clone())
			w.replace(manifestName(id), object)
			set := w.snapshots(w.stranger(admin))
			if set.Len() != 2 {
				t.Errorf("%s: %d snapshots", name, set.Len())
			}
			if name != "what never was" {
				w.mustBeSound(w.stranger(admin))
			} else if len(set.Damage) != len(lost) {
				t.Errorf("%d links lead nowhere, and %d are named", len(lost), len(set.Damage))
			} else {
				w.saying(set.Damage[0], "snapshot "+id.Short()+" links to it")
			}
			w.has(w.stranger(admin), s.id, s.files)
			next := w.mustBackup(w.machine(s.cache, honest), "second", s.files)
			w.has(w.stranger(admin), next, s.files)
		}
	})
}

// Another writer's segment in a writer's name, or one that names what is not the
// attacker's to name, changes nothing for the writer.
func TestAttackSegment(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		ref := repo.Ref{ID: chunk.ID(s.random.bytes(32)), Kind: chunk.Data}
		_, name := s.forge(s.evil.repo, s.evil.Sealer, ref, s.random.bytes(100))
		object := s.object(name)
		victim := seal.SignerOf(s.sealer(s.host()).Key)
		copy(object[len(object)-seal.SignatureSize:], victim[:])
		id := seal.Sum[any](object)
		s.evil.put("index/"+id.String(), object)
		if _, err := index.Open(object, s.stranger(admin).Ring()); err == nil {
			t.Error("a signature of another key is good")
		}
		s.must(backend.PutBytes(t.Context(), s.storage, "index/"+seal.Sum[any](nil).String(), nil))
		s.stands("index/"+id.String(), "index/"+seal.Sum[any](nil).String(), "data/")
	})
}
