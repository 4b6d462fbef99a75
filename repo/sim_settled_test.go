package repo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// settled looks at a world in which all is over.
func (w *randomWorld) settled() error {
	w.catchUp(w.rng.IntN(len(w.late) + 1))
	if w.replica != nil {
		if err := w.replica.settled(w); err != nil {
			return fmt.Errorf("replica: %w", err)
		}
	}
	if err := w.tidy(w.storage, "first"); err != nil {
		return err
	}
	if len(w.late) > 0 {
		w.catchUp(len(w.late))
		if err := w.tidy(w.storage, "second"); err != nil {
			return err
		}
	}
	if err := w.isWhole(w.storage, w.acknowledged); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	return w.isTidy()
}

// tidy prunes while nothing else runs, long after, until there is nothing to do.
func (w *randomWorld) tidy(m *mem.Mem, name string) error {
	do := withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		for range 5 {
			w.clock.time = w.clock.time.Add(100 * time.Hour)
			report, err := r.Prune(ctx, repo.PruneOptions{})
			w.say("%s prune: freed %d, fenced %d, %v", name, report.Freed.Packs, report.Fenced, err)
			if err != nil {
				return err
			}
			if m != w.storage {
				// A copy may lack something.
			} else if err := w.holds(m, w.acknowledged); err != nil {
				return fmt.Errorf("after the %s prune in the end: %w", name, err)
			}
			if report.Freed.Packs == 0 && len(report.Waiting) == 0 {
				return nil
			}
		}
		return errors.New("there is always something left to prune")
	})
	_, err := w.direct(m, fmt.Sprintf("%s-tidy-%d", name, w.seed), do)
	return err
}

// isTidy reports, as an error, what a prune should have freed.
func (w *randomWorld) isTidy() error {
	v, err := w.look(w.storage)
	if err != nil {
		return err
	}
	for _, id := range w.forgotten {
		if _, there := v.committed[id]; there && !v.forgotten[id] {
			return fmt.Errorf("snapshot %s was forgotten and is there", id.Short())
		}
	}
	needed := make(map[chunk.ID]bool)
	for id, set := range v.committed {
		if !v.forgotten[id] {
			for _, c := range w.needs[set] {
				needed[c] = true
				for _, of := range v.delta[c] {
					for _, base := range of.IDs() {
						needed[base] = needed[base] || !v.full[c]
					}
				}
			}
		}
	}
	for name, entries := range v.packs {
		if !slices.ContainsFunc(entries, func(e pack.Entry) bool { return needed[e.ID] }) {
			return fmt.Errorf("%s is of no use and still there", shortName(name))
		}
	}
	return nil
}

// wholeIn returns the snapshots that are committed, not forgotten, and lack nothing.
func (b *book) wholeIn(v *view) (ids []snapshot.ID) {
	for id, set := range v.committed {
		if !v.forgotten[id] && !slices.ContainsFunc(b.needs[set], func(c chunk.ID) bool { return !v.has(c) }) {
			ids = append(ids, id)
		}
	}
	return ids
}
