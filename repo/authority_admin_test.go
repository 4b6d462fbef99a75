package repo_test

import (
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

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
