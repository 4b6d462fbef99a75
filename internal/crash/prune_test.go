package crash_test

import (
	"maps"
	"slices"
	"strings"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// keeping are the scenarios of what makes snapshots and their contents go.
var keeping = []scenario{
	{
		name:   "forget",
		before: withSnapshot,
		run:    func(w *world, b backend.Interface) error { return w.forget(b, w.oldest(1)...) },
		after:  afterForget,
	},
	{
		name: "undo of forget",
		before: func(w *world) {
			withSnapshot(w)
			w.must(w.forget(w.storage, w.oldest(1)...))
		},
		run:   func(w *world, b backend.Interface) error { return w.unforget(b) },
		after: afterUndo,
	},
	{
		name:   "prune of garbage",
		before: withGarbage,
		run:    prune,
		after:  afterPrune,
	},
	{
		name: "prune that moves what is still needed",
		before: func(w *world) {
			withSnapshot(w)
			w.must(w.forget(w.storage, w.oldest(1)...))
		},
		run:   prune,
		after: afterPrune,
	},
	{
		name: "prune that only begins, as a run goes on",
		before: func(w *world) {
			withGarbage(w)
			w.killRun(w.storage)
		},
		run: func(w *world, b backend.Interface) error {
			report, err := w.prune(b, repo.PruneOptions{})
			if err == nil && len(report.Waiting) == 0 {
				w.Errorf("it waits for nobody: %+v", report)
			}
			return err
		},
		after: afterPrune,
	},
	{
		name: "prune that goes on where another waited",
		before: func(w *world) {
			withGarbage(w)
			w.killRun(w.storage)
			if report, err := w.prune(w.storage, repo.PruneOptions{}); err != nil || len(report.Waiting) == 0 {
				w.Fatalf("it waits for nobody: %+v (%v)", report, err)
			}
		},
		run:   prune,
		after: afterPrune,
	},
	{
		name: "prune that goes on where another was killed while it deleted",
		before: func(w *world) {
			withGarbage(w)
			in, err := faulty.Parse("delete data/* #2: crash")
			w.must(err)
			if _, err := w.prune(in.Wrap(w.storage), repo.PruneOptions{}); err == nil {
				w.Fatal("it was not killed")
			}
		},
		run:   prune,
		after: afterPrune,
	},
	{
		name: "prune that verifies what a write-only key has stored",
		before: func(w *world) {
			w.must(w.init(w.storage))
			w.must(w.addKey(w.storage, "host", seal.WriteOnly))
			w.must(w.snapshot(w.storage, "host"))
			w.edit()
			w.must(w.snapshot(w.storage, "host"))
			w.must(w.forget(w.storage, w.oldest(1)...))
		},
		run:   prune,
		after: afterPrune,
	},
}

// withGarbage is a repository of three snapshots, with packs of which all, some, or nothing
// is needed by the one that was not forgotten.
func withGarbage(w *world) {
	w.must(w.init(w.storage))
	w.must(w.snapshot(w.storage, admin, stream{"dump", noise(9, 300<<10)}))
	w.edit()
	w.must(w.snapshot(w.storage, admin, stream{"dump", noise(10, 200<<10)}))
	w.must(w.snapshot(w.storage, admin))
	w.must(w.forget(w.storage, w.oldest(2)...))
}

// killRun begins a run, in which it stores something and relies on what is stored, and
// kills it.
func (w *world) killRun(b backend.Interface) {
	w.Helper()
	in, err := faulty.Parse("put leases/*/end: crash")
	w.must(err)
	promises := len(w.promises)
	if err := w.snapshot(in.Wrap(b), admin, stream{"killed", noise(11, 100<<10)}); err == nil || len(w.promises) != promises {
		w.Fatalf("the run was not killed (%v)", err)
	}
}

// oldest returns the n snapshots that are the oldest of those that are listed.
func (w *world) oldest(n int) (ids []snapshot.ID) {
	w.Helper()
	w.must(w.with(w.storage, w.cache, admin, func(r *repo.Repository) error {
		set, err := r.Snapshots(w.Context())
		if err != nil {
			return err
		}
		newest := set.Newest()
		slices.Reverse(newest)
		for _, s := range newest[:n] {
			ids = append(ids, s.ID)
		}
		return nil
	}))
	return ids
}

// forget forgets snapshots. From when it is asked to on they may be gone, and once that is
// acknowledged they must be.
func (w *world) forget(b backend.Interface, ids ...snapshot.ID) error {
	for _, id := range ids {
		w.forgotten[id] = max(w.forgotten[id], asked)
	}
	err := w.with(b, w.cache, admin, func(r *repo.Repository) error {
		_, err := r.Forget(w.Context(), ids)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		w.forgotten[id] = acknowledged
	}
	return nil
}

// unforget brings back what is forgotten.
func (w *world) unforget(b backend.Interface) error {
	ids := slices.Collect(maps.Keys(w.forgotten))
	return w.with(b, w.cache, admin, func(r *repo.Repository) error {
		done, err := r.Unforget(w.Context(), repo.UnforgetOptions{IDs: ids, Host: "host"})
		for _, d := range done {
			if d.Err != nil {
				w.Errorf("snapshot %s can't be brought back: %v", d.Old.Short(), d.Err)
				continue
			}
			w.promises[d.New] = w.promises[d.Old]
		}
		return err
	})
}

// afterUndo: what is forgotten is back, or can be brought back, once; and prune
// leaves it alone.
func afterUndo(w *world, _ error) {
	w.must(w.unforget(w.storage))
	w.must(w.unforget(w.storage))
	w.must(prune(w, w.storage))
	w.must(w.with(w.storage, w.TempDir(), admin, func(r *repo.Repository) error {
		set, err := r.Snapshots(w.Context())
		if err == nil && set.Len() != 2 {
			w.Errorf("%d snapshots after one of two was forgotten and brought back", set.Len())
		}
		return err
	}))
}

// How far the forgetting of a snapshot has come.
const (
	asked = iota + 1
	acknowledged
)

// afterForget: the snapshot is forgotten, or can be.
func afterForget(w *world, _ error) {
	for id := range w.forgotten {
		w.must(w.with(w.storage, w.TempDir(), admin, func(r *repo.Repository) error {
			set, err := r.Snapshots(w.Context())
			if err != nil {
				return err
			}
			if _, ok := set.Get(id); !ok {
				w.forgotten[id] = acknowledged // what was seen must stay
			}
			return nil
		}))
		if w.forgotten[id] == asked {
			w.must(w.forget(w.storage, id))
		}
	}
}

func (w *world) prune(b backend.Interface, o repo.PruneOptions) (report *repo.PruneReport, err error) {
	err = w.with(b, w.cache, admin, func(r *repo.Repository) error {
		report, err = r.Prune(w.Context(), o)
		return err
	})
	return report, err
}

// all is a prune that leaves nothing, and takes every run for dead.
var all = repo.PruneOptions{Patience: -1}

func prune(w *world, b backend.Interface) error {
	_, err := w.prune(b, all)
	return err
}

// afterPrune: whatever it came to, nothing is lost before another one has worked; that
// one finishes, whoever began, and then nothing is left to be freed.
func afterPrune(w *world, _ error) {
	w.must(w.with(w.storage, w.TempDir(), admin, func(r *repo.Repository) error {
		w.clean(r)
		return w.whole(r)
	}))
	if w.Failed() {
		return
	}
	for range 2 { // the first may only finish the list of the one before
		if _, err := w.prune(w.storage, all); err != nil {
			w.Fatalf("the next prune: %v", err)
		}
	}
	w.must(w.with(w.storage, w.TempDir(), admin, func(r *repo.Repository) error {
		report, err := r.Prune(w.Context(), repo.PruneOptions{DryRun: true})
		w.must(err)
		if report.Dead.Packs > 0 || report.Adopted.Packs > 0 || report.Unused > 0 || report.Stored.Packs == 0 {
			w.Errorf("two prunes later there is garbage: %+v", report)
		}
		found, err := r.Check(w.Context(), repo.CheckOptions{})
		w.must(err)
		for _, l := range found.Leftovers {
			// The ends of runs that did not commit stay for ever.
			if !strings.Contains(l, "an ended lease") {
				w.Errorf("two prunes later %s is left", l)
			}
		}
		return nil
	}))
}
