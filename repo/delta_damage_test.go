package repo_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// versions is a repository with two files of which each is stored whole, and a snapshot of
// a third that is stored as a delta of both.
type versions struct {
	*world
	kin    *kin
	files  files       // all three
	old    snapshot.ID // has the first two
	new    snapshot.ID // has the third
	bases  [2]string   // the packs of the first two
	deltas string      // the pack of the third
}

func newVersions(t *testing.T) *versions {
	v := &versions{world: newRepository(t), kin: newKin()}
	a, b := v.random.bytes(blockSize), v.random.bytes(blockSize)
	v.files = files{"a": a, "b": b, "c": across(a, b)}
	r := v.stranger(admin)
	v.mustBackup(r, "a", files{"a": a})
	v.bases[0] = v.names("data/")[0]
	v.old = v.mustBackup(r, "old", files{"a": a, "b": b})
	v.bases[1] = v.newIn("data/", v.bases[0])
	v.forget(v.snapshots(r).Newest()[1].ID)
	v.relate("c", "a", "b")
	v.new = v.putVersion(r, "new", files{"c": v.files["c"]})
	v.deltas = v.newIn("data/", v.bases[:]...)
	return v
}

// id returns the chunk of a file.
func (v *versions) id(name string) chunk.ID {
	v.Helper()
	k, err := v.stranger(admin).WriteKeys()
	v.must(err)
	return chunk.NewHasher(chunk.Keys{Data: k.ChunkData, Node: k.ChunkNode, List: k.ChunkList}).Sum(chunk.Data, v.files[name])
}

// relate makes a file similar to others.
func (v *versions) relate(name string, to ...string) {
	v.Helper()
	var ids []chunk.ID
	for _, base := range to {
		id := v.id(base)
		v.kin.contents[id] = v.files[base]
		ids = append(ids, id)
	}
	v.kin.near[string(v.files[name])] = ids
}

// putVersion makes a snapshot, with deltas.
func (v *versions) putVersion(r *repo.Repository, set string, f files) snapshot.ID {
	v.Helper()
	wr, err := r.NewWriter(v.Context(), repo.WriterOptions{Host: "host", Similar: v.kin})
	v.must(err)
	id, err := v.finish(r, wr, set, f)
	v.must(err)
	return id
}

// newIn returns the object below a prefix that is none of those.
func (w *world) newIn(prefix string, old ...string) string {
	w.Helper()
	some := slices.DeleteFunc(w.names(prefix), func(name string) bool { return slices.Contains(old, name) })
	if len(some) != 1 {
		w.Fatalf("new are %v", some)
	}
	return some[0]
}

// stores fails the test unless a file is stored so many times whole and as a delta.
func (v *versions) stores(name string, whole, deltas int) {
	v.Helper()
	r := v.stranger(admin)
	v.must(r.LoadIndex(v.Context()))
	places, err := r.Places(v.id(name))
	v.must(err)
	for _, p := range places {
		if len(p.Entry.Bases.IDs()) > 0 {
			deltas--
		} else {
			whole--
		}
	}
	if whole != 0 || deltas != 0 {
		v.Errorf("%s is not stored as it should be, but at %v", name, places)
	}
}

// problemOf returns what a check says of an object, and fails the test if that is not all.
func (v *versions) problemOf(object string) repo.Problem {
	v.Helper()
	problems := v.check(v.stranger(admin)).Problems
	if len(problems) != 1 || problems[0].Object != object {
		v.Fatalf("not one problem with %s: %+v", object, problems)
	}
	return problems[0]
}

// A base stays for what hangs on it, whole, through all that prune does; and goes with it.
func TestPruneVersions(t *testing.T) {
	v := newVersions(t)
	v.stores("c", 0, 1)
	v.isSound()
	v.forget(v.old)
	for range 2 {
		v.prune(repo.PruneOptions{})
		v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
		v.stores("a", 1, 0)
		v.stores("b", 1, 0)
		v.stores("c", 0, 1)
		v.isSound()
	}
	v.forget(v.new)
	v.prune(repo.PruneOptions{})
	if left := v.names("data/"); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	v.isSound()
}

// Packs in which little is needed are written anew: deltas as deltas, their bases whole.
func TestPruneMovesDeltas(t *testing.T) {
	v := newVersions(t)
	r := v.stranger(admin)
	v.files["d"] = altered(v.files["c"])
	v.files["e"] = v.random.bytes(blockSize)
	v.relate("d", "a", "b")
	more := v.putVersion(r, "more", files{"d": v.files["d"], "e": v.files["e"]})
	d := v.putVersion(r, "d", files{"d": v.files["d"]})
	v.stores("d", 0, 1)
	v.forget(more)
	v.forget(v.old)
	report := v.prune(repo.PruneOptions{})
	if report.Repacked.Packs != 1 {
		t.Errorf("%+v", report)
	}
	v.stores("d", 0, 1)
	v.stores("e", 0, 0)
	v.has(v.stranger(admin), d, files{"d": v.files["d"]})
	v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
	v.isSound()
	if again := v.prune(repo.PruneOptions{}); again.Freed.Packs > 0 || again.Repacked.Packs > 0 {
		t.Errorf("again: %+v", again)
	}
}

// What a host with a write-only key stores as deltas the admin reads, and vouches for.
func TestPruneVouchesForDeltas(t *testing.T) {
	v := newVersions(t)
	v.addSlot(honest, seal.WriteOnly)
	v.files["d"] = altered(v.files["a"])
	v.relate("d", "a")
	id := v.putVersion(v.stranger(honest), "d", files{"d": v.files["d"]})
	v.stores("d", 0, 1)
	v.forget(v.old)
	v.forget(v.new)
	report := v.prune(repo.PruneOptions{})
	if report.Verified.Packs == 0 || len(report.Damaged) > 0 {
		t.Errorf("%+v", report)
	}
	v.has(v.stranger(admin), id, files{"d": v.files["d"]})
	v.stores("b", 0, 0)
	wr := v.begin(v.stranger(admin))
	if ok, err := wr.Has(repo.Ref{ID: v.id("d"), Kind: chunk.Data}); !ok || err != nil {
		t.Errorf("others don't share it: %v", err)
	}
	v.must(wr.Abort(t.Context()))
	v.isSound()
}

// Whatever happens to a base, check says which one it is, and names all that hangs on it.
func TestCheckLostBase(t *testing.T) {
	for n := range 2 {
		for _, how := range []string{"deleted", "altered", "cut off"} {
			v := newVersions(t)
			v.forget(v.old)
			v.prune(repo.PruneOptions{})
			name, base := v.bases[n], v.id([]string{"a", "b"}[n])
			object := v.object(name)
			switch how {
			case "deleted":
				v.delete(name)
			case "altered":
				v.replace(name, flipped(object, 1300))
			case "cut off":
				v.replace(name, object[:len(object)/2])
			}
			p := v.problemOf(name)
			if !slices.Contains(p.Chunks, v.id("c")) || len(p.Files) != 1 || p.Files[0].Path != "/c" || !slices.Equal(p.Snapshots, []snapshot.ID{v.new}) {
				t.Errorf("%s: %+v", how, p)
			}
			if !strings.Contains(p.Err.Error(), base.Short()) {
				t.Errorf("%s: it does not name chunk %s: %v", how, base.Short(), p.Err)
			}
			s, _ := v.snapshots(v.stranger(admin)).Get(v.new)
			_, err := restore(t.Context(), v.stranger(admin), s)
			v.wants(err, repo.ErrDamage)
			v.saying(err, base.Short())

			// It is stored anew by the next run, and then all is well.
			v.repair(v.stranger(admin))
			v.mustBackup(v.stranger(admin), "again", v.files)
			v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
			v.repair(v.stranger(admin))
			v.prune(repo.PruneOptions{})
			v.isSound()
		}
	}
}

// A delta whose base is gone is no problem of a snapshot that does not need it.
func TestCheckDeadDelta(t *testing.T) {
	v := newVersions(t)
	r := v.stranger(admin)
	e := v.random.bytes(blockSize)
	v.files["d"] = altered(v.files["a"])
	v.relate("d", "a")
	both := v.putVersion(r, "both", files{"d": v.files["d"], "e": e})
	id := v.putVersion(r, "e", files{"e": e})
	for _, dead := range []snapshot.ID{both, v.old, v.new} {
		v.forget(dead)
	}
	lazy := repo.PruneOptions{}
	lazy.MaxUnused.Percent = 100
	v.prune(lazy)
	v.stores("d", 0, 1)
	v.stores("a", 0, 0)
	v.isSound()
	before := v.contents("data/")
	if fixes := v.repair(v.stranger(admin)).Fixes; len(fixes) > 0 {
		t.Errorf("repair did something: %v", fixes)
	}
	if len(v.contents("data/")) != len(before) {
		t.Error("there are other packs now")
	}
	// Who needs it again stores it again.
	again := v.putVersion(v.stranger(admin), "again", files{"d": v.files["d"]})
	v.has(v.stranger(admin), again, files{"d": v.files["d"]})
	v.prune(repo.PruneOptions{})
	v.has(v.stranger(admin), again, files{"d": v.files["d"]})
	v.has(v.stranger(admin), id, files{"e": e})
	v.isSound()
}

// The index comes back from the packs' directories, bases and all.
func TestRepairIndexOfDeltas(t *testing.T) {
	v := newVersions(t)
	v.delete(v.names("index/")...)
	v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
	v.repair(v.stranger(admin))
	v.stores("c", 0, 1)
	v.isSound()
	v.forget(v.old)
	v.prune(repo.PruneOptions{})
	v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
	wr := v.begin(v.stranger(admin))
	if ok, err := wr.Has(repo.Ref{ID: v.id("c"), Kind: chunk.Data}); !ok || err != nil {
		t.Errorf("writers don't rely on it: %v", err)
	}
	v.must(wr.Abort(t.Context()))
}

// What is good in damaged packs is saved: deltas as deltas, if their bases stay.
func TestRepairSavesDeltas(t *testing.T) {
	for _, damaged := range []string{"delta", "delta and base"} {
		v := newVersions(t)
		v.replace(v.deltas, flipped(v.object(v.deltas), len(v.object(v.deltas))-20))
		if damaged != "delta" {
			v.replace(v.bases[0], flipped(v.object(v.bases[0]), len(v.object(v.bases[0]))-20))
		}
		report := v.repair(v.stranger(admin))
		if len(report.Left.Problems) > 0 {
			t.Errorf("%s: left are %v", damaged, report.Left.Problems)
		}
		v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
		v.forget(v.old)
		v.prune(repo.PruneOptions{})
		v.has(v.stranger(admin), v.new, files{"c": v.files["c"]})
		v.isSound()
		if slices.Contains(v.names("data/"), v.deltas) {
			t.Errorf("%s: the damaged pack is still there", damaged)
		}
	}
}

// A damaged pack with deltas of lost bases: repair says what is lost, and because of what.
func TestRepairNamesLostBase(t *testing.T) {
	v := newVersions(t)
	v.delete(v.bases[1])
	v.replace(v.deltas, flipped(v.object(v.deltas), len(v.object(v.deltas))-20))
	report := v.repair(v.stranger(admin))
	v.isFixed(report, v.deltas, v.id("b").Short())
	if !slices.ContainsFunc(report.Left.Problems, func(p repo.Problem) bool { return slices.Contains(p.Chunks, v.id("c")) }) {
		t.Errorf("left are %v", report.Left.Problems)
	}
}

// Damage to a base is found by prune before it moves what hangs on it, and then nothing goes.
func TestPruneFindsDamagedBase(t *testing.T) {
	v := newVersions(t)
	r := v.stranger(admin)
	v.files["d"] = altered(v.files["a"])
	v.relate("d", "a")
	both := v.putVersion(r, "both", files{"d": v.files["d"], "e": v.random.bytes(blockSize)})
	v.putVersion(r, "d", files{"d": v.files["d"]})
	v.forget(both)
	v.replace(v.bases[0], flipped(v.object(v.bases[0]), 1300))
	report := v.prune(repo.PruneOptions{})
	if len(report.Damaged) != 1 || report.Damaged[0] != v.packID(v.bases[0]) || report.Repacked.Packs > 0 {
		t.Errorf("%+v", report)
	}
	v.stores("d", 0, 1)
	// What was lost comes back with whoever has the contents.
	v.replace(v.bases[0], flipped(v.object(v.bases[0]), 1300))
	v.prune(repo.PruneOptions{})
	v.isSound()
}
