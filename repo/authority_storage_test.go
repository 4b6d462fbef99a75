package repo_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// These tests are of an attacker who has the storage and no key. See also
// TestFlippedBytes, TestLostPack and chain_test.go.

// seen says how a machine takes a storage: what opening it, or else a check, finds.
func seen(w *world, b backend.Interface, cache string) []error {
	w.Helper()
	o := w.options(b, cache, admin)
	r, err := repo.Open(w.Context(), o)
	if err != nil {
		return []error{err}
	}
	defer r.Close()
	report, err := r.Check(w.Context(), all)
	w.must(err)
	var errs []error
	for _, p := range report.Problems {
		errs = append(errs, p.Err)
	}
	return errs
}

// everyKind returns a world that has an object of each kind, and is sound, and
// a snapshot in it.
func everyKind(t *testing.T) (*world, snapshot.ID, files) {
	w := newWhole(t)
	first := w.made[0]
	return w.world, first.id, first.files
}

// An object in the place of another of its kind is noticed.
func TestStorageSwapsObjects(t *testing.T) {
	w, id, f := everyKind(t)
	forgotten := w.snapshots(w.stranger(admin)).Forgotten // nothing is said of their manifests
	byKind := make(map[string][]string)
	for _, name := range w.names("") {
		id, _ := snapshot.ParseID(strings.TrimPrefix(name, "snapshots/"))
		if _, ok := forgotten[id]; !ok {
			byKind[kindOfName(name)] = append(byKind[kindOfName(name)], name)
		}
	}
	for kind, names := range byKind {
		if len(names) < 2 {
			continue
		}
		w := w.on(t, w.storage.Clone())
		a, b := w.object(names[0]), w.object(names[1])
		w.replace(names[0], b)
		w.replace(names[1], a)
		if errs := seen(w, w.storage, ""); len(errs) < 2 && kind != "keys" || len(errs) == 0 {
			t.Errorf("%s: %v", kind, errs)
		}
		if kind != "keys" && kind != "snapshots" && kind != "data" && kind != "meta" {
			w.has(w.stranger(admin), id, f)
		}
	}
	for _, kind := range []string{"keys", "data", "index", "snapshots"} {
		if len(byKind[kind]) < 2 {
			t.Errorf("only %q of %s", byKind[kind], kind)
		}
	}
}

// A copy under a second name counts for nothing, and is named.
func TestStorageDuplicatesObjects(t *testing.T) {
	w, id, f := everyKind(t)
	other := strings.Repeat("ab", 32)
	before := w.snapshots(w.stranger(admin)).Len()
	for from, to := range map[string]string{
		"snapshots/": "snapshots/" + other, "tombstones/": "tombstones/" + other, "index/": "index/" + other,
		"data/": "data/ab/" + other, "meta/": "meta/ab/" + other, "leases/": "leases/" + other + "/begin",
	} {
		w := w.on(t, w.storage.Clone())
		w.replace(to, w.object(w.names(from)[0]))
		report := w.check(w.stranger(admin))
		if err := problemOf(report, to); err == nil {
			t.Errorf("nothing is said of %s: %+v", to, report.Problems)
		}
		if n := w.snapshots(w.stranger(admin)).Len(); n != before {
			t.Errorf("%s: %d snapshots", to, n)
		}
		w.has(w.stranger(admin), id, f)
	}
}

// Each object, deleted: a check on the machine that made it names the loss, or it costs
// nothing.
func TestStorageDeletesObjects(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	r := w.machine(cache, admin)
	f := w.someFiles()
	w.mustBackup(r, "first", files{"a": f["small"]})
	id := w.mustBackup(r, "second", f)
	costless := map[string]bool{"index": true, "condemned": true}
	for _, name := range w.names("") {
		w := w.on(t, w.storage.Clone())
		w.delete(name)
		errs := seen(w, w.storage, cache)
		if costless[kindOfName(name)] {
			w.has(w.stranger(admin), id, f)
			if len(errs) > 0 {
				t.Errorf("%s: %v", name, errs)
			}
		} else if len(errs) == 0 {
			t.Errorf("the loss of %s goes unseen", name)
		}
	}
}

// The storage shows an old state. A machine that saw a newer one notices; one that comes for
// the first time can't (docs/threat-model.md, Rollback).
func TestStorageRollsBack(t *testing.T) {
	for name, change := range map[string]func(w *world, r *repo.Repository){
		"a snapshot": func(w *world, r *repo.Repository) { w.mustBackup(r, "second", w.someFiles()) },
		"a key":      func(w *world, r *repo.Repository) { w.addSlot("new", seal.WriteOnly); w.machine("", admin) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRepository(t)
			cache := t.TempDir()
			w.mustBackup(w.machine(cache, admin), "first", w.someFiles())
			old := w.storage.Clone()
			change(w, w.machine(cache, admin))
			w.machine(cache, admin) // sees it
			if errs := seen(w, old, cache); len(errs) == 0 {
				t.Error("the machine does not notice")
			}
			if errs := seen(w, old, ""); len(errs) > 0 {
				t.Errorf("a machine without a memory can't know: %v", errs)
			}
		})
	}
}

// A tombstone that the storage hides brings a snapshot back whose objects it kept: that is
// not noticed, and loses nothing.
func TestStorageHidesTombstone(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "first", f)
	w.must(w.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: id}))
	if n := w.snapshots(w.stranger(admin)).Len(); n != 0 {
		t.Fatalf("%d snapshots", n)
	}
	w.delete(w.names("tombstones/")...)
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

// Another repository in the place of one that the machine knows is refused, and its objects
// count for nothing in this one, even if both have the same passphrase.
func TestStorageServesAnotherRepository(t *testing.T) {
	w, id, f := everyKind(t)
	cache := t.TempDir()
	w.machine(cache, admin)
	foreign := w.on(t, mem.New(w.now))
	r, err := repo.Init(t.Context(), foreign.options(foreign.storage, "", ""), params())
	w.must(err)
	foreign.mustBackup(r, "foreign", foreign.someFiles())
	w.must(foreign.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: snapshot.ID{1}}))
	running := foreign.begin(r)
	t.Cleanup(func() { running.Abort(t.Context()); r.Close() })

	errs := seen(w, foreign.storage, cache)
	if len(errs) != 1 {
		t.Fatalf("another repository is opened: %v", errs)
	}
	w.saying(errs[0], "this machine knows repository")
	for _, name := range foreign.names("") {
		w := w.on(t, w.storage.Clone())
		kind := kindOfName(name)
		w.replace(name, foreign.object(name))
		if kind == "config" {
			_, err := repo.Open(t.Context(), w.options(w.storage, cache, admin))
			w.wants(err, repo.ErrDamage)
			continue
		}
		report := w.check(w.stranger(admin))
		if kind == "keys" { // opens nothing
			if len(report.Problems) > 0 || !slices.ContainsFunc(report.Leftovers, func(l string) bool { return strings.HasPrefix(l, name) }) {
				t.Errorf("of %s the check says %+v, %q", name, report.Problems, report.Leftovers)
			}
		} else if err := problemOf(report, name); err == nil {
			t.Errorf("nothing is said of %s: %+v", name, report.Problems)
		}
		w.has(w.stranger(admin), id, f)
	}
}

// hiding is a storage whose listings leave objects out that it has.
type hiding struct {
	*mem.Mem
	prefix string
}

func (h *hiding) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		for info, err := range h.Mem.List(ctx, prefix) {
			if err == nil && strings.HasPrefix(info.Name, h.prefix) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// What listings hide is missed where it matters, or stored again.
func TestStorageHidesFromListings(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	w.mustBackup(w.stranger(admin), "first", f)
	before := w.names("data/")
	for prefix, missed := range map[string]bool{
		"data/": true, "snapshots/": true, // by a check
		"meta/": false, "index/": false, "keys/": false, // by nobody: what is in them was read, or is elsewhere
	} {
		w := w.on(t, w.storage.Clone())
		cache := t.TempDir()
		w.snapshots(w.machine(cache, admin)) // sees all of it once
		b := &hiding{w.storage, prefix}
		if errs := seen(w, b, cache); (len(errs) > 0) != missed {
			t.Errorf("%s: %v", prefix, errs)
		}
		// A writer relies on no pack that it was not shown.
		r, err := repo.Open(t.Context(), w.options(b, cache, admin))
		w.must(err)
		second := w.mustBackup(r, "second", f)
		w.must(r.Close())
		w.has(w.stranger(admin), second, f)
		if prefix == "data/" {
			w.delete(before...)
			w.has(w.stranger(admin), second, f)
		}
	}
}

// The storage gives two machines two configs of different times.
func TestStorageForks(t *testing.T) {
	w := newRepository(t)
	first, second := t.TempDir(), t.TempDir()
	w.machine(first, admin)
	old := w.storage.Clone()
	w.addSlot("new", seal.WriteOnly)
	w.machine(second, admin)
	if errs := seen(w, old, first); len(errs) > 0 {
		t.Errorf("the machine that is kept in the past can't know: %v", errs)
	}
	w.machine(first, admin)
	for name, cache := range map[string]string{"first": first, "second": second} {
		if errs := seen(w, old, cache); len(errs) == 0 {
			t.Errorf("the %s machine takes the past for the present", name)
		}
	}
}

// The storage can end leases by junk. The host says that it was fenced, and loses nothing.
func TestStorageFences(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "first", f)
	b := &meddler{Mem: w.storage}
	b.after = func(name string) {
		if lease, ok := strings.CutSuffix(name, "/begin"); ok {
			w.must(backend.PutBytes(t.Context(), w.storage, lease+"/end", []byte("junk")))
		}
	}
	r, err := repo.Open(t.Context(), w.options(b, "", admin))
	w.must(err)
	defer r.Close()
	_, err = w.backup(r, "second", f)
	w.wants(err, repo.ErrFenced)
	w.has(w.stranger(admin), id, f)
	report := w.check(w.stranger(admin))
	if problemOf(report, "leases/") == nil {
		t.Errorf("nothing is said of the junk: %+v", report.Problems)
	}
}
