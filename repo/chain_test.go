package repo_test

import (
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/snapshot"
)

// chain makes n snapshots, one after the other, from a machine.
func (w *world) chain(cache string, n int) []snapshot.ID {
	w.Helper()
	r := w.machine(cache, admin)
	var ids []snapshot.ID
	for range n {
		ids = append(ids, w.mustBackup(r, "chain", files{"x": w.random.bytes(100)}))
	}
	return ids
}

func manifestName(id snapshot.ID) string { return "snapshots/" + id.String() }

func TestChainLinks(t *testing.T) {
	w := newRepository(t)
	ids := w.chain(t.TempDir(), 3)
	set := w.snapshots(w.stranger(admin))
	for i, id := range ids {
		s, ok := set.Get(id)
		if !ok {
			t.Fatalf("snapshot %d is missing", i)
		}
		var want []snapshot.ID
		if i > 0 {
			want = ids[i-1 : i]
		}
		if !slices.Equal(s.Open.Links, want) {
			t.Errorf("snapshot %d links to %v", i, s.Open.Links)
		}
	}
	newest := set.Newest()
	if len(newest) != 3 || newest[0].ID != ids[2] || newest[2].ID != ids[0] {
		t.Error("the newest does not come first")
	}
	if len(set.Damage) > 0 {
		t.Errorf("damage %v", set.Damage)
	}
}

// Two heads, of writers that did not see each other, are both linked to.
func TestChainJoins(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	a, b := w.begin(r), w.begin(w.stranger(admin))
	root, err := put(t.Context(), r, a, files{})
	w.must(err)
	var heads []snapshot.ID
	for _, wr := range []*repo.Writer{a, b} {
		_, err := put(t.Context(), r, wr, files{})
		w.must(err)
		id, err := commit(t.Context(), wr, root, "head", w.now())
		w.must(err)
		heads = append(heads, id)
	}
	slices.SortFunc(heads, snapshot.ID.Compare)
	id := w.mustBackup(r, "join", files{})
	s, _ := w.snapshots(r).Get(id)
	if !slices.Equal(s.Open.Links, heads) {
		t.Errorf("links are %v, heads were %v", s.Open.Links, heads)
	}
}

func TestVanishedOldManifest(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	ids := w.chain(cache, 3)
	for _, i := range []int{0, 1} {
		w := w.on(t, w.storage.Clone())
		w.delete(manifestName(ids[i]))
		for _, r := range []*repo.Repository{w.machine(cache, admin), w.stranger(admin)} {
			set := w.snapshots(r)
			if len(set.Damage) != 1 || set.Len() != 2 {
				t.Errorf("%d snapshots, damage %v", set.Len(), set.Damage)
			}
			w.finds(set.Damage, ids[i].String())
			if report := w.check(r); len(report.Problems) != 1 || report.Problems[0].Object != manifestName(ids[i]) {
				t.Errorf("the check says %+v", report.Problems)
			}
		}
	}
}

// Nothing links to the newest: only a machine that saw it knows that it is gone. It
// says so each time, also after new snapshots, until a tombstone explains it.
func TestVanishedNewestManifest(t *testing.T) {
	for name, machine := range map[string]func(w *world, made, read string) string{
		"that made it": func(_ *world, made, _ string) string { return made },
		"that read it": func(w *world, _, read string) string {
			w.snapshots(w.machine(read, admin))
			return read
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRepository(t)
			made := t.TempDir()
			ids := w.chain(made, 3)
			cache := machine(w, made, t.TempDir())
			lost := ids[2]
			w.delete(manifestName(lost))
			for range 3 {
				r := w.machine(cache, admin)
				w.finds(w.snapshots(r).Damage, lost.String())
				w.mustBackup(r, "more", files{"x": w.random.bytes(10)})
			}
			if len(w.snapshots(w.stranger(admin)).Damage) > 0 {
				t.Error("a machine that never saw it can't know; does a new snapshot link to it?")
			}
			w.must(w.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: lost, Links: []snapshot.ID{ids[1]}}))
			w.mustBeSound(w.machine(cache, admin))
		})
	}
}

func TestForgottenManifests(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	ids := w.chain(cache, 4)
	for i, id := range ids[1:] {
		w.must(w.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: id, Links: ids[i : i+1]}))
		for range 2 { // before prune takes the manifest away, and after
			for _, r := range []*repo.Repository{w.machine(cache, admin), w.stranger(admin)} {
				w.mustBeSound(r)
				if set := w.snapshots(r); set.Len() != 2-i+1 {
					t.Errorf("%d snapshots after forgetting %d", set.Len(), i+1)
				}
			}
			if slices.Contains(w.names("snapshots/"), manifestName(id)) {
				w.delete(manifestName(id))
			}
		}
	}
	// The links of what is forgotten go on to be watched.
	w.delete(manifestName(ids[0]))
	w.finds(w.snapshots(w.stranger(admin)).Damage, ids[0].String())
}

func TestDamagedManifest(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	ids := w.chain(cache, 3)
	for _, i := range []int{0, 2} {
		w := w.on(t, w.storage.Clone())
		name := manifestName(ids[i])
		object := w.object(name)
		for _, at := range []int{0, 7, 20, 45, 50, 60, len(object) / 2, len(object) - 80, len(object) - 1} {
			w.replace(name, flipped(object, at))
			set := w.snapshots(w.stranger(admin))
			if len(set.Damage) != 1 || set.Len() != 2 {
				t.Errorf("byte %d: %d snapshots, damage %v", at, set.Len(), set.Damage)
			}
			w.finds(set.Damage, ids[i].String())
		}
		w.replace(name, object[:len(object)-1])
		w.finds(w.snapshots(w.stranger(admin)).Damage, ids[i].String())
		// A machine that has a good copy sees it when it checks.
		r := w.machine(cache, admin)
		if set := w.snapshots(r); set.Len() != 3 {
			t.Errorf("%d snapshots from the cache", set.Len())
		}
		if report := w.check(r); len(report.Problems) != 1 || report.Problems[0].Object != name {
			t.Errorf("the check says %+v", report.Problems)
		}
	}
}

// Another snapshot under a snapshot's name is not that snapshot.
func TestSwappedManifests(t *testing.T) {
	w := newRepository(t)
	ids := w.chain(t.TempDir(), 2)
	w.replace(manifestName(ids[0]), w.object(manifestName(ids[1])))
	w.replace("snapshots/not-an-id", w.object(manifestName(ids[1])))
	set := w.snapshots(w.stranger(admin))
	if set.Len() != 1 || len(set.Damage) != 2 {
		t.Errorf("%d snapshots, damage %v", set.Len(), set.Damage)
	}
	w.finds(set.Damage, ids[0].String())
	w.finds(set.Damage, "not-an-id")
}
