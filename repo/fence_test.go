package repo_test

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// fence ends a writer's lease, as a prune does that has lost patience.
func (w *world) fence(wr *repo.Writer) {
	w.Helper()
	end := protocol.End{Lease: wr.LeaseID(), Time: w.now(), Outcome: protocol.Fenced}
	object, err := end.Seal(w.sealer(w.stranger(admin)))
	w.must(err)
	w.must(backend.PutBytes(w.Context(), w.storage, repo.LeaseName(wr.LeaseID(), "end"), object))
}

// condemn puts packs on the list of those that prune may delete.
func (w *world) condemn(names ...string) {
	w.Helper()
	var packs []protocol.CondemnedPack
	for _, name := range names {
		packs = append(packs, protocol.CondemnedPack{Kind: kindOf(name), ID: w.packID(name)})
	}
	w.must(w.stranger(admin).Condemn(w.Context(), packs...))
}

func kindOf(name string) seal.Kind {
	if name[0] == 'm' {
		return seal.MetaPack
	}
	return seal.DataPack
}

func (w *world) packID(name string) pack.ID {
	w.Helper()
	id, err := pack.ParseID(name[len("data/ab/"):])
	w.must(err)
	return id
}

// used begins a run that relies on packs of an earlier one.
func (w *world) used() (*repo.Repository, *repo.Writer, files) {
	w.Helper()
	f := files{"a": w.random.bytes(1000)}
	w.mustBackup(w.stranger(admin), "first", f)
	r := w.stranger(admin)
	wr := w.begin(r)
	if _, isNew, err := wr.Put(chunk.Data, f["a"]); err != nil || isNew {
		w.Fatalf("the chunk should be known: %v", err)
	}
	return r, wr, f
}

func TestFencedWriterRenews(t *testing.T) {
	w := newRepository(t)
	r, wr, f := w.used()
	f["b"] = w.random.bytes(100_000)
	before := wr.LeaseID()
	w.fence(wr)
	id, err := w.finish(r, wr, "second", f)
	w.must(err)
	if wr.LeaseID() == before {
		t.Error("committed under a lease that was ended")
	}
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

// Whoever is fenced again and again gives up.
func TestFencedWriterGivesUp(t *testing.T) {
	w := newRepository(t)
	r, wr, f := w.used()
	root, err := put(t.Context(), r, wr, f)
	w.must(err)
	end := protocol.End{Time: w.now(), Outcome: protocol.Fenced}
	eager := &fencer{Mem: w.storage, end: func(name string) {
		object, err := end.Seal(w.sealer(r))
		w.must(err)
		if err := backend.PutBytes(t.Context(), w.storage, name, object); err != nil {
			w.wants(err, backend.ErrExist)
		}
	}}
	other, err := repo.Open(t.Context(), w.options(eager, "", admin))
	w.must(err)
	defer other.Close()
	w.must(wr.Abort(t.Context()))
	wr = w.begin(other)
	if _, err := put(t.Context(), other, wr, f); err != nil {
		t.Fatal(err)
	}
	_, err = commit(t.Context(), wr, root, "second", w.now())
	w.wants(err, repo.ErrFenced)
	w.must(wr.Abort(t.Context()))
	if n := w.snapshots(w.stranger(admin)).Len(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

func TestFencedWriterMissesPack(t *testing.T) {
	for name, lose := range map[string]func(*world, string){
		"deleted":   func(w *world, pack string) { w.delete(pack) },
		"condemned": func(w *world, pack string) { w.condemn(pack) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRepository(t)
			r, wr, f := w.used()
			data := w.names("data/")
			w.fence(wr)
			lose(w, data[0])
			_, err := w.finish(r, wr, "second", f)
			w.wants(err, repo.ErrFenced)
			w.must(wr.Abort(t.Context()))
			if n := w.snapshots(w.stranger(admin)).Len(); n != 1 {
				t.Errorf("%d snapshots: what can't be restored was committed", n)
			}
			// The next run stores it anew.
			id := w.mustBackup(r, "third", f)
			w.has(w.stranger(admin), id, f)
			if n := len(w.names("data/")); name == "condemned" && n != 2 || name == "deleted" && n != 1 {
				t.Errorf("%d packs of data", n)
			}
		})
	}
}

func TestCondemnedIsNotUsed(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	w.mustBackup(w.stranger(admin), "first", f)
	condemned := append(w.names("data/"), w.names("meta/")...)
	w.condemn(condemned...)
	r := w.stranger(admin)
	id := w.mustBackup(r, "second", f)
	for _, name := range condemned {
		w.delete(name) // the prune goes on
	}
	w.has(w.stranger(admin), id, f)
	report := w.check(w.stranger(admin))
	if len(report.Problems) > 0 {
		t.Errorf("the new packs should do for both: %+v", report.Problems)
	}
}

// What is not the admin's list stops the run: to go on without it could lose data.
func TestBadCondemned(t *testing.T) {
	w := newRepository(t)
	w.addSlot("host", seal.WriteOnly)
	w.mustBackup(w.stranger(admin), "first", w.someFiles())
	w.condemn(w.names("data/")...)
	good := w.object("condemned")
	for name, bad := range map[string]func(){
		"flipped": func() { w.replace("condemned", flipped(good, len(good)/2)) },
		"empty":   func() { w.replace("condemned", nil) },
		"by a writer": func() {
			w.delete("condemned")
			w.must(w.stranger("host").Condemn(t.Context()))
		},
	} {
		bad()
		r := w.stranger(admin)
		_, err := r.NewWriter(t.Context(), repo.WriterOptions{})
		w.wants(err, repo.ErrDamage)
		if names := w.names("leases/"); len(names) > 0 {
			t.Errorf("%s: left %q", name, names)
		}
		if report := w.check(r); len(report.Problems) != 1 || report.Problems[0].Object != "condemned" {
			t.Errorf("%s: the check says %+v", name, report.Problems)
		}
	}
}

// The index may name packs that are gone: segments can arrive late.
func TestPackNotInListing(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	r := w.machine(cache, admin)
	f := w.someFiles()
	w.mustBackup(r, "first", f)
	lost := append(w.names("data/"), w.names("meta/")...)
	w.delete(lost...)
	for _, r := range []*repo.Repository{r, w.machine(cache, admin), w.stranger(admin)} {
		id := w.mustBackup(r, "again", f)
		w.has(w.stranger(admin), id, f)
		w.isSound()
	}
	if names := w.names("data/"); slices.Contains(names, lost[0]) || len(names) == 0 {
		t.Errorf("packs are %q", names)
	}
}

// halfCommitted makes a snapshot whose writer died before it copied the
// manifest.
func (w *world) halfCommitted(set string, f files) snapshot.ID {
	w.Helper()
	broken := &fencer{Mem: w.storage, noSnapshots: true}
	r, err := repo.Open(w.Context(), w.options(broken, "", admin))
	w.must(err)
	id, err := w.backup(r, set, f)
	w.must(err) // it is committed
	w.must(r.Close())
	if len(w.names("leases/")) == 0 {
		w.Fatal("no lease is left")
	}
	return id
}

func TestCommittedLease(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.halfCommitted("first", f)
	if names := w.names("snapshots/"); len(names) > 0 {
		t.Fatalf("%q were copied", names)
	}
	r := w.stranger(admin)
	w.has(r, id, f)
	if set := w.snapshots(r); !slices.Equal(set.Uncopied, []snapshot.ID{id}) || len(set.Damage) > 0 {
		t.Errorf("uncopied %v, damage %v", set.Uncopied, set.Damage)
	}
	report := w.check(r)
	if len(report.Problems) > 0 || report.Snapshots != 1 || report.Chunks == 0 {
		t.Errorf("the check says %+v", report)
	}
	second := w.mustBackup(r, "second", files{"x": f["small"]})
	if names := w.names("snapshots/"); len(names) != 2 {
		t.Errorf("%q are copied", names)
	}
	set := w.snapshots(w.stranger(admin))
	if s, _ := set.Get(second); !slices.Equal(s.Open.Links, []snapshot.ID{id}) {
		t.Errorf("the second links to %v", s.Open.Links)
	}
	w.delete(w.names("leases/")...)
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

func TestTombstoneWins(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	cache := t.TempDir()
	r := w.machine(cache, admin)
	f := w.someFiles()
	copied := w.mustBackup(r, "first", f)
	leased := w.halfCommitted("second", f)
	name := "snapshots/" + copied.String()
	manifest := w.object(name)
	w.must(r.Bury(ctx, protocol.Forgotten{ID: copied}, protocol.Forgotten{ID: leased}))
	for range 2 {
		for _, r := range []*repo.Repository{w.machine(cache, admin), w.stranger(admin)} {
			set := w.snapshots(r)
			if set.Len() != 0 || len(set.Uncopied) > 0 || len(set.Forgotten) != 2 || len(set.Damage) > 0 {
				t.Errorf("%d snapshots, uncopied %v, forgotten %v, damage %v", set.Len(), set.Uncopied, set.Forgotten, set.Damage)
			}
		}
		w.delete(name)
		w.mustBeSound(w.machine(cache, admin))
		w.replace(name, manifest) // as from a writer that stalled
	}
	w.mustBackup(r, "third", f)
	if slices.Contains(w.names("snapshots/"), "snapshots/"+leased.String()) {
		t.Error("what is forgotten was copied")
	}
	if sets := w.sets(w.stranger(admin)); len(sets) != 1 {
		t.Errorf("snapshots are %v", sets)
	}
	w.isSound()
}

// A lost answer to the one write that commits is no failure.
func TestLostAnswerToCommit(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	lossy := &fencer{Mem: w.storage, loseEnd: true}
	r, err := repo.Open(t.Context(), w.options(lossy, "", admin))
	w.must(err)
	defer r.Close()
	id := w.mustBackup(r, "first", f)
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

// An end that is there, but that the storage never acknowledges, is no commit: it
// may vanish with the power.
func TestUnacknowledgedCommit(t *testing.T) {
	w := newRepository(t)
	in, err := faulty.Parse("put leases/*/end: done-but-error EIO")
	w.must(err)
	r, err := repo.Open(t.Context(), w.options(in.Wrap(w.storage), "", admin))
	w.must(err)
	defer r.Close()
	if _, err := w.backup(r, "first", w.someFiles()); !errors.Is(err, syscall.EIO) || errors.Is(err, repo.ErrFenced) {
		t.Errorf("got %v", err)
	}
	w.isSound()
}

// Beats count up, and go with the lease.
func TestBeats(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	for range 3 {
		w.must(wr.Beat(t.Context()))
	}
	lease := wr.LeaseID()
	for n, name := range []string{"beat-1", "beat-2", "beat-3"} {
		b, by, err := protocol.OpenBeat(w.object(repo.LeaseName(lease, name)), r.Ring())
		w.must(err)
		if b.Number != uint64(n+1) || b.Lease != lease || by.Signer != r.Config().Admin {
			t.Errorf("beat is %+v by %v", b, by)
		}
	}
	b, _, err := protocol.OpenBegin(w.object(repo.LeaseName(lease, "begin")), r.Ring())
	w.must(err)
	if b.Host != "host" || b.Lease != lease {
		t.Errorf("begin is %+v", b)
	}
	if report := w.check(r); len(report.Leftovers) != 1 || len(report.Problems) > 0 {
		t.Errorf("the check says %+v", report)
	}
	_, err = w.finish(r, wr, "a", files{})
	w.must(err)
	if names := w.names("leases/"); len(names) > 0 {
		t.Errorf("left %q", names)
	}
}
