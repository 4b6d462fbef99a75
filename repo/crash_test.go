package repo_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// faults are what happens to one operation after the other.
var faults = []string{"crash", "done-but-error", "err EIO"}

// eachFault runs work on copies of the world, each with another fault at another
// operation of the storage, and then looks at what is left. work gets the
// faulty storage, whose fault comes after it was opened or before.
func (w *world) eachFault(work func(w *world, b backend.Interface, cache string) (acked error), after func(w *world, cache string, acked error)) {
	t := w.TB.(*testing.T)
	count := func(rule string) (int, error) {
		in, err := faulty.Parse(rule)
		w.must(err)
		w := w.on(t, w.storage.Clone())
		err = work(w, in.Wrap(w.storage), t.TempDir())
		return in.Ops(), err
	}
	n, err := count("")
	if err != nil || n < 5 {
		t.Fatalf("without a fault: %d operations, %v", n, err)
	}
	for _, fault := range faults {
		var failed atomic.Int32
		t.Run(fault, func(t *testing.T) {
			for k := 1; k <= n; k += step {
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					t.Parallel()
					rule := fmt.Sprintf("* #%d: %s", k, fault)
					in, err := faulty.Parse(rule)
					if err != nil {
						t.Fatal(err)
					}
					w := w.on(t, w.storage.Clone())
					cache := t.TempDir()
					acked := work(w, in.Wrap(w.storage), cache)
					if acked != nil {
						failed.Add(1)
					}
					if acked != nil && !errors.Is(acked, faulty.ErrInjected) {
						t.Errorf("%s: the error does not say why: %v", rule, acked)
					}
					after(w, cache, acked)
				})
			}
		})
		if failed := int(failed.Load()); failed < n/step/3 {
			t.Errorf("%s: only %d of %d faults were noticed", fault, failed, n)
		}
	}
}

// use opens a repository on a faulty storage, works and closes it.
func (w *world) use(b backend.Interface, cache string, work func(*repo.Repository) error) error {
	r, err := repo.Open(w.Context(), w.options(b, cache, admin))
	if err != nil {
		return err
	}
	err = work(r)
	w.must(r.Close()) // of this machine: nothing of the storage
	return err
}

// sets maps the snapshots by what backup called them.
func (w *world) sets(r *repo.Repository) map[string]snapshot.ID {
	w.Helper()
	sets := make(map[string]snapshot.ID)
	for _, s := range w.snapshots(r).Newest() {
		w.must(r.LoadBody(w.Context(), s))
		if _, ok := sets[s.Body.Set]; ok {
			w.Errorf("two snapshots %s", s.Body.Set)
		}
		sets[s.Body.Set] = s.ID
	}
	return sets
}

func TestFaultyBackup(t *testing.T) {
	w := newRepository(t)
	first := files{"small": w.random.bytes(1000), "large": w.random.bytes(3*blockSize + 7)}
	w.mustBackup(w.stranger(admin), "first", first)
	second := files{"small": w.random.bytes(1000), "large": first["large"], "more": w.random.bytes(3 * blockSize)}
	work := func(w *world, b backend.Interface, cache string) error {
		return w.use(b, cache, func(r *repo.Repository) error {
			_, err := w.backup(r, "second", second)
			return err
		})
	}
	w.eachFault(work, func(w *world, cache string, acked error) {
		r := w.machine(cache, admin)
		w.mustBeSound(r)
		sets := w.sets(r)
		id, there := sets["second"]
		if acked == nil && !there {
			w.Fatal("an acknowledged snapshot is lost")
		}
		w.has(r, sets["first"], first)
		if there {
			w.has(r, id, second)
		}
		third := files{"small": second["small"], "large": second["large"], "new": w.random.bytes(100)}
		id = w.mustBackup(r, "third", third)
		stranger := w.stranger(admin)
		w.has(stranger, id, third)
		if sets := w.sets(stranger); there && sets["second"] != w.sets(r)["second"] || len(sets) < 2 {
			w.Errorf("the next run lost snapshots: %v", sets)
		}
		if uncopied := w.snapshots(stranger).Uncopied; len(uncopied) > 0 {
			w.Errorf("the next run did not copy %v", uncopied)
		}
		w.mustBeSound(stranger)
	})
}

func TestFaultyInit(t *testing.T) {
	w := newWorld(t)
	for _, fault := range faults {
		for k := 1; k <= 3; k++ { // stat, put, swap
			rule := fmt.Sprintf("* #%d: %s", k, fault)
			t.Run(rule, func(t *testing.T) {
				in, err := faulty.Parse(rule)
				if err != nil {
					t.Fatal(err)
				}
				w := w.on(t, w.storage.Clone())
				r, acked := repo.Init(t.Context(), w.options(in.Wrap(w.storage), "", ""), params())
				if acked == nil {
					w.must(r.Close())
				} else {
					w.wants(acked, faulty.ErrInjected)
				}
				r, err = repo.Init(t.Context(), w.options(w.storage, "", ""), params())
				if err == nil {
					if acked == nil {
						t.Error("made again what was acknowledged")
					}
					w.must(r.Close())
				} else {
					w.wants(err, repo.ErrExists)
				}
				w.isSound()
			})
		}
	}
}

func TestFaultyAddSlot(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "first", f)
	for _, access := range []seal.Access{seal.Full, seal.WriteOnly} {
		t.Run(access.String(), func(t *testing.T) {
			w := w.on(t, w.storage.Clone())
			work := func(w *world, b backend.Interface, cache string) error {
				return w.use(b, cache, func(r *repo.Repository) error {
					_, err := r.AddSlot(w.Context(), repo.NewSlot{Lock: secret("new"), Access: access})
					return err
				})
			}
			w.eachFault(work, func(w *world, cache string, acked error) {
				w.has(w.machine(cache, admin), id, f)
				r, err := repo.Open(w.Context(), w.options(w.storage, "", "new"))
				if err == nil {
					_, err = w.backup(r, "third", f)
					w.must(errors.Join(err, r.Close()))
				} else if acked == nil {
					w.Errorf("the slot was acknowledged: %v", err)
				} else {
					w.wants(err, seal.ErrWrongSecret)
				}
				_, err = w.machine(cache, admin).AddSlot(w.Context(), repo.NewSlot{Lock: secret("newer"), Access: access})
				w.must(err)
				w.stranger("newer")
				w.isSound()
			})
		})
	}
}

func TestFaultyRemoveSlot(t *testing.T) {
	for _, access := range []seal.Access{seal.Full, seal.WriteOnly} {
		t.Run(access.String(), func(t *testing.T) {
			w := newRepository(t)
			slot := w.addSlot("old", access)
			f := files{"x": w.random.bytes(1000)}
			id := w.mustBackup(w.stranger("old"), "first", f)
			work := func(w *world, b backend.Interface, cache string) error {
				return w.use(b, cache, func(r *repo.Repository) error { return r.RemoveSlot(w.Context(), slot) })
			}
			w.eachFault(work, func(w *world, cache string, acked error) {
				r := w.machine(cache, admin)
				w.has(r, id, f)
				old, err := repo.Open(w.Context(), w.options(w.storage, "", "old"))
				if err == nil {
					w.must(old.Close())
					if acked == nil {
						w.Error("a removed slot opens the repository")
					}
					w.must(r.RemoveSlot(w.Context(), slot))
				} else {
					w.wants(err, seal.ErrWrongSecret)
				}
				again := w.mustBackup(r, "second", f)
				stranger := w.stranger(admin)
				w.has(stranger, again, f)
				w.mustBeSound(stranger)
			})
		})
	}
}

// A storage that is full or read-only spoils nothing that is there.
func TestNothingCanBeWritten(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "first", f)
	in, err := faulty.Parse("put *: err ENOSPC\ncommit *: err ENOSPC\nswap *: err ENOSPC\nwrite: err ENOSPC\nstage: err ENOSPC\ndelete *: err EROFS")
	w.must(err)
	w.must(w.use(in.Wrap(w.storage), "", func(r *repo.Repository) error {
		_, err := w.backup(r, "second", w.someFiles())
		w.wants(err, faulty.ErrInjected)
		w.has(r, id, f)
		w.mustBeSound(r)
		return nil
	}))
	w.isSound()
}

// A key that may not delete makes snapshots all the same; it leaves its leases
// to others.
func TestNothingCanBeDeleted(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	in, err := faulty.Parse("delete *: err EACCES")
	w.must(err)
	w.must(w.use(in.Wrap(w.storage), "", func(r *repo.Repository) error {
		for _, set := range []string{"a", "b"} {
			id, err := w.backup(r, set, f)
			w.must(err)
			w.has(r, id, f)
		}
		return nil
	}))
	if n := len(w.names("leases/")); n != 4 {
		t.Errorf("%d objects of two leases", n)
	}
	w.isSound()
}
