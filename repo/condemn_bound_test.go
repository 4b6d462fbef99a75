package repo_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/repo"
)

// What is too much for one condemned list waits for the next prune, which gets it.
func TestPruneTooMuchAtOnce(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	kept := files{"x": w.random.bytes(1000)}
	w.mustBackup(r, "kept", kept)
	for range 3 {
		w.forget(w.mustBackup(r, "gone", files{"x": w.random.bytes(1000)}))
	}
	const dead = 6 // a pack of data and one of nodes each
	left := dead
	for left > 0 {
		r := w.stranger(admin)
		r.CondemnAtOnce(4)
		report, err := r.Prune(t.Context(), repo.PruneOptions{})
		w.must(err)
		w.frees(report)
		most := min(left, 4)
		left -= most
		if report.Dead.Packs != most || report.Later.Packs != left {
			t.Fatalf("%d are left: %+v", left, report)
		}
	}
	w.isSound()
}

// So do damaged packs for the next repair. What nobody condemned is named as before.
func TestRepairTooMuchAtOnce(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	for range 3 {
		w.mustBackup(r, "a", files{"x": w.random.bytes(1000)})
	}
	for _, name := range w.names("data/") {
		object := w.object(name)
		w.replace(name, flipped(object, 200))
	}
	for n := range 3 {
		before := w.contents("index/")
		o := w.options(w.storage, "", admin)
		warned := false
		o.Observer.Warning = func(err error) { warned = warned || strings.Contains(err.Error(), "repair again") }
		r, err := repo.Open(t.Context(), o)
		w.must(err)
		r.CondemnAtOnce(1)
		report := w.repair(r)
		w.must(r.Close())
		condemned := 0
		for _, f := range report.Fixes {
			if strings.Contains(f.What, "condemned") {
				condemned++
			}
		}
		if condemned != 1 || warned != (n < 2) || maps.Equal(before, w.contents("index/")) {
			t.Errorf("%d: %v, warned %v", n, report.Fixes, warned)
		}
	}
}
