package crash_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// scenario is a command, with what was before.
type scenario struct {
	name   string
	before func(w *world)
	// run does what the command does, on a storage with faults, and returns what
	// the user would be told. What it acknowledges is in w.promises and w.keys.
	run func(w *world, b backend.Interface) error
	// damaged: before leaves damage, of which run may speak.
	damaged bool
	// after looks at more than world.holds; err is of run.
	after func(w *world, err error)
}

var scenarios = []scenario{
	{
		name:  "init",
		run:   func(w *world, b backend.Interface) error { return w.init(b) },
		after: afterInit,
	},
	{
		name:   "first snapshot",
		before: func(w *world) { w.must(w.init(w.storage)) },
		run:    func(w *world, b backend.Interface) error { return w.snapshot(b, admin) },
	},
	{
		name: "incremental snapshot",
		before: func(w *world) {
			w.must(w.init(w.storage))
			w.must(w.snapshot(w.storage, admin))
			w.edit()
		},
		run: func(w *world, b backend.Interface) error { return w.snapshot(b, admin) },
	},
	{
		name:   "snapshot of a stream over several packs",
		before: func(w *world) { w.must(w.init(w.storage)) },
		run: func(w *world, b backend.Interface) error {
			return w.snapshot(b, admin, stream{"dump", noise(9, 250<<10)})
		},
	},
	{
		name: "snapshot by a write-only key",
		before: func(w *world) {
			w.must(w.init(w.storage))
			w.must(w.addKey(w.storage, "host", seal.WriteOnly))
			w.must(w.snapshot(w.storage, "host"))
			w.edit()
		},
		run: func(w *world, b backend.Interface) error { return w.snapshot(b, "host") },
	},
	{
		name: "snapshot after another that died uncopied",
		before: func(w *world) {
			w.must(w.init(w.storage))
			in, err := faulty.Parse("put snapshots/*: crash")
			w.must(err)
			w.must(w.snapshot(in.Wrap(w.storage), admin)) // acknowledged, as it is committed
			w.edit()
		},
		run: func(w *world, b backend.Interface) error { return w.snapshot(b, admin) },
	},
	{
		name:   "key add",
		before: withSnapshot,
		run:    func(w *world, b backend.Interface) error { return w.addKey(b, "new", seal.Full) },
		after:  afterAdd(seal.Full),
	},
	{
		name:   "key add, write-only",
		before: withSnapshot,
		run:    func(w *world, b backend.Interface) error { return w.addKey(b, "new", seal.WriteOnly) },
		after:  afterAdd(seal.WriteOnly),
	},
	{
		name: "key remove, which begins an epoch",
		before: func(w *world) {
			withSnapshot(w)
			w.must(w.addKey(w.storage, "old", seal.WriteOnly))
			w.must(w.snapshot(w.storage, "old"))
		},
		run:   func(w *world, b backend.Interface) error { return w.removeKey(b, "old") },
		after: afterRemove,
	},
	{
		name: "key passwd",
		before: func(w *world) {
			withSnapshot(w)
			w.must(w.addKey(w.storage, "old", seal.Full))
		},
		run: func(w *world, b backend.Interface) error { // as the command does it
			if err := w.addKey(b, "new", seal.Full); err != nil {
				return err
			}
			return w.removeKey(b, "old")
		},
		after: func(w *world, err error) {
			afterAdd(seal.Full)(w, err)
			afterRemove(w, err)
		},
	},
	{
		name:    "repair",
		before:  withDamage,
		damaged: true,
		run:     repair,
		after:   afterRepair,
	},
	{
		name:   "check",
		before: withSnapshot,
		run:    runCheck,
	},
	{
		name:   "restore",
		before: withSnapshot,
		run:    runRestore,
	},
}

// withSnapshot is a repository with two snapshots.
func withSnapshot(w *world) {
	w.must(w.init(w.storage))
	w.must(w.snapshot(w.storage, admin))
	w.edit()
	w.must(w.snapshot(w.storage, admin))
}

// withDamage is a repository in which all that repair does is to be done: with
// this machine's cache and what is left, nothing of it is lost.
func withDamage(w *world) {
	w.must(w.init(w.storage))
	w.must(w.addKey(w.storage, "other", seal.Full))
	w.must(w.snapshot(w.storage, admin))
	first := w.names("")
	w.edit()
	w.must(w.snapshot(w.storage, admin))
	w.damage("condemned", nil)
	for _, name := range w.names("") {
		folder, _, _ := strings.Cut(name, "/")
		switch isFirst := slices.Contains(first, name); {
		case folder == "index" && !isFirst, folder == "snapshots" && !isFirst:
			w.must(w.storage.Delete(w.Context(), name))
		case folder == "snapshots":
			w.damage(name, func(p []byte) { p[len(p)/2] ^= 1 })
		case folder == "data" && isFirst: // the directory: its segment tells where the frames are
			w.damage(name, func(p []byte) { p[len(p)-100] ^= 1 })
		case folder == "meta" && isFirst: // the frames
			w.damage(name, func(p []byte) { p[pack.PrefixSize+20] ^= 1 })
		}
	}
	slots := w.names("keys/")
	w.must(w.storage.Delete(w.Context(), slots[0]))
	w.must(backend.PutBytes(w.Context(), w.storage, "leases/"+strings.Repeat("ab", 32)+"/begin", []byte("junk")))
}

// damage changes what is stored; without a change there is junk.
func (w *world) damage(name string, change func([]byte)) {
	w.Helper()
	p, err := backend.ReadAll(w.Context(), w.storage, name, 1<<30)
	w.must(err)
	if change == nil {
		p = []byte("junk")
	} else {
		change(p)
	}
	w.must(w.storage.Delete(w.Context(), name))
	w.must(backend.PutBytes(w.Context(), w.storage, name, p))
}

func (w *world) names(prefix string) (names []string) {
	w.Helper()
	for info, err := range w.storage.List(w.Context(), prefix) {
		w.must(err)
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return names
}

func openWithOther(w *world, b backend.Interface) (*repo.Repository, error) {
	o := options(b, w.cache, admin)
	o.Secrets = append(o.Secrets, secret("other"))
	return repo.Open(w.Context(), o)
}

// repair repairs, with a key whose slot is left.
func repair(w *world, b backend.Interface) error {
	r, err := openWithOther(w, b)
	if err != nil {
		return err
	}
	defer r.Close()
	report, err := r.Repair(w.Context(), repo.RepairOptions{Read: repo.Sample{Percent: 100}, Host: "host"})
	if err != nil {
		return err
	}
	for _, p := range report.Left.Problems {
		w.Errorf("repair leaves %s: %v", p.Object, p.Err)
	}
	return nil
}

// afterRepair: whatever it came to, no chunk is further away than it was; and
// another one ends what it began.
func afterRepair(w *world, err error) {
	r, oerr := openWithOther(w, w.storage)
	w.must(oerr)
	set, serr := r.Snapshots(w.Context())
	w.must(serr)
	for _, s := range set.Newest() {
		dir := w.TempDir()
		w.must(w.restore(r, s, dir))
		w.same("snapshot "+s.ID.Short()+" before the second repair", w.restored(dir), w.promises[s.ID])
	}
	w.must(r.Close())
	w.must(repair(w, w.storage))
}

// afterInit makes the repository if it is not there.
func afterInit(w *world, err error) {
	there := w.with(w.storage, w.TempDir(), admin, func(*repo.Repository) error { return nil })
	switch {
	case there == nil:
	case err == nil:
		w.Fatalf("the repository was acknowledged, and now: %v", there)
	case !errors.Is(there, repo.ErrNoRepository):
		w.Fatalf("neither a repository nor none: %v", there)
	default:
		w.must(w.init(w.storage))
	}
}

func (w *world) addKey(b backend.Interface, pass string, access seal.Access) error {
	err := w.with(b, w.cache, admin, func(r *repo.Repository) error {
		_, err := r.AddSlot(w.Context(), repo.NewSlot{Lock: secret(pass), Access: access, Label: pass})
		return err
	})
	if err == nil {
		w.keys = append(w.keys, pass)
	}
	return err
}

// removeKey removes the keys of a label.
func (w *world) removeKey(b backend.Interface, label string) error {
	w.keys = slices.DeleteFunc(w.keys, func(k string) bool { return k == label }) // from now on it may go
	err := w.with(b, w.cache, admin, func(r *repo.Repository) error {
		slots, err := r.Slots()
		if err != nil {
			return err
		}
		for _, s := range slots {
			if s.Label == label {
				return r.RemoveSlot(w.Context(), s.ID)
			}
		}
		return fmt.Errorf("there is no key %s", label)
	})
	if err == nil {
		w.removed = append(w.removed, label)
	}
	return err
}

// opens reports whether a passphrase opens the repository.
func (w *world) opens(pass string) bool {
	w.Helper()
	err := w.with(w.storage, w.TempDir(), pass, func(*repo.Repository) error { return nil })
	if err != nil && !errors.Is(err, seal.ErrWrongSecret) {
		w.Errorf("key %s: %v", pass, err)
	}
	return err == nil
}

// afterAdd: the key opens the repository or does not, and another can be added.
func afterAdd(access seal.Access) func(*world, error) {
	return func(w *world, err error) {
		switch opens := w.opens("new"); {
		case opens:
			w.must(w.snapshot(w.storage, "new"))
		case err == nil:
			w.Error("the key was acknowledged and opens nothing")
		}
		w.must(w.addKey(w.storage, "newer", access))
		w.must(w.snapshot(w.storage, "newer"))
	}
}

// afterRemove: the key is removed, or can be.
func afterRemove(w *world, err error) {
	if w.opens("old") {
		if err == nil {
			w.Error("a removed key opens the repository")
		}
		w.must(w.removeKey(w.storage, "old"))
	}
	if !w.opens(admin) {
		w.Error("another key is gone too")
	}
}

// runCheck finds nothing, or says why it can't tell.
func runCheck(w *world, b backend.Interface) error {
	return w.with(b, w.cache, admin, func(r *repo.Repository) error {
		report, err := r.Check(w.Context(), repo.CheckOptions{Read: repo.Sample{Percent: 100}})
		if err != nil {
			return err
		}
		var errs []error
		for _, p := range report.Problems {
			errs = append(errs, p.Err)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if report.ReadPacks != report.Packs || report.Snapshots != len(w.promises) {
			w.Errorf("check says that all is well, but read %d packs of %d, and %d snapshots of %d",
				report.ReadPacks, report.Packs, report.Snapshots, len(w.promises))
		}
		return nil
	})
}

// runRestore restores the newest snapshot, or says what is missing and leaves
// nothing that is not whole.
func runRestore(w *world, b backend.Interface) error {
	dir := w.TempDir()
	err := w.with(b, w.TempDir(), admin, func(r *repo.Repository) error {
		set, err := r.Snapshots(w.Context())
		if err != nil {
			return err
		}
		if err := errors.Join(set.Damage...); err != nil {
			return err
		}
		return w.restore(r, set.Newest()[0], dir)
	})
	want := w.describe(w.src)
	if err == nil {
		w.same("restored", w.restored(dir), want)
		return nil
	}
	if _, serr := os.Stat(filepath.Join(dir, w.src)); serr != nil {
		return err
	}
	for p, is := range w.restored(dir) {
		// Directories get their times last; files must be whole.
		if want[p] != is && !strings.HasPrefix(is, "d") {
			w.Errorf("after %v, %s is left as %.60q", err, p, is)
		}
	}
	w.must(w.with(w.storage, w.TempDir(), admin, func(r *repo.Repository) error { // the same again goes on
		set, err := r.Snapshots(w.Context())
		w.must(err)
		w.must(w.restore(r, set.Newest()[0], dir))
		w.same("restored again", w.restored(dir), want)
		return nil
	}))
	return err
}
