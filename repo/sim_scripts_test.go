package repo_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// withRepository is a script that opens the repository and works on it.
func withRepository(fn func(ctx context.Context, p *process, r *repo.Repository) error) script {
	return func(p *process) error {
		ctx := context.Background()
		r, err := p.open(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		return fn(ctx, p, r)
	}
}

// backupOf is a script that makes a snapshot of files. The oracle knows it by its set.
func backupOf(set string, f files) script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		// As ingest does: if what it relied on was taken from it, it begins anew.
		for try := 1; ; try++ {
			err := backupOnce(ctx, p, r, set, f)
			if !errors.Is(err, repo.ErrFenced) || try == 2 {
				return err
			}
			p.say("fenced")
		}
	})
}

func backupOnce(ctx context.Context, p *process, r *repo.Repository, set string, f files) error {
	o := repo.WriterOptions{Host: p.name}
	if p.kin != nil {
		o.Similar = p.kin
	}
	w, err := r.NewWriter(ctx, o)
	if err != nil {
		return err
	}
	root, err := put(ctx, r, w, f)
	if err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	now := p.now()
	id, err := w.Commit(ctx, repo.NewSnapshot{Time: now, Host: p.name, Body: snapshot.Body{Root: root, Set: set, Start: now, End: now}})
	if err != nil {
		return errors.Join(err, w.Abort(ctx))
	}
	p.say("committed %s", id)
	return nil
}

// pruneOf is a script that prunes some times, one after the other.
func pruneOf(o repo.PruneOptions, times int) script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		for range times {
			report, err := r.Prune(ctx, o)
			if err != nil {
				return err
			}
			if p.say("pruned"); report.Freed.Packs > 0 {
				p.say("freed %d packs", report.Freed.Packs)
			}
		}
		return nil
	})
}

// forgetSets is a script that forgets the snapshots of some sets.
func forgetSets(sets ...string) script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		ids, err := findSets(ctx, r, sets...)
		if err != nil {
			return err
		}
		return forgetAll(ctx, p, r, ids)
	})
}

// findSets returns the snapshots of some sets.
func findSets(ctx context.Context, r *repo.Repository, sets ...string) (found []*repo.Snapshot, err error) {
	set, err := r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range set.Newest() {
		if err := r.LoadBody(ctx, s); err != nil {
			return nil, err
		}
		for _, name := range sets {
			if s.Body.Set == name {
				found = append(found, s)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("there is nothing to forget")
	}
	return found, nil
}

// forgetSome is a script that forgets each snapshot with odds of one half.
func forgetSome(seed uint64) script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		rng := rand.New(rand.NewPCG(seed, 2))
		set, err := r.Snapshots(ctx)
		if err != nil {
			return err
		}
		var some []*repo.Snapshot
		for _, s := range set.Newest() {
			if rng.IntN(2) == 0 {
				some = append(some, s)
			}
		}
		if len(some) == 0 {
			return nil
		}
		return forgetAll(ctx, p, r, some)
	})
}

// readAll is a script that restores all snapshots. Those that were forgotten since may
// be gone, and nothing else.
func readAll(b *book) script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		set, err := r.Snapshots(ctx)
		if err != nil {
			return err
		}
		for _, s := range set.Newest() {
			if err := r.LoadBody(ctx, s); err != nil {
				return err
			}
			got, err := restore(ctx, r, s)
			if err == nil {
				if want := b.sets[s.Body.Set]; !maps.EqualFunc(got, want, bytes.Equal) {
					p.say("hole: %s came back otherwise: %s", s.ID.Short(), describe(got))
				}
				continue
			}
			if !errors.Is(err, repo.ErrDamage) {
				return err
			}
			now, serr := r.Snapshots(ctx)
			if serr != nil {
				return serr
			}
			if _, forgotten := now.Forgotten[s.ID]; !forgotten {
				p.say("hole: %s: %v", s.ID.Short(), err)
			}
		}
		return nil
	})
}

// checkAll is a script that checks, and finds nothing, whatever others do meanwhile.
func checkAll() script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		report, err := r.Check(ctx, repo.CheckOptions{})
		if err != nil {
			return err
		}
		for _, problem := range report.Problems {
			p.say("hole: check says of %s: %v", problem.Object, problem.Err)
		}
		return nil
	})
}

// repairAll is a script that repairs what needs no repair, or at most new segments for what
// killed runs left.
func repairAll() script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		report, err := r.Repair(ctx, repo.RepairOptions{Host: p.name, Read: all.Read})
		if err != nil {
			return err
		}
		for _, f := range report.Fixes {
			p.say("repaired %s: %s", f.Object, f.What)
		}
		return nil
	})
}

func forgetAll(ctx context.Context, p *process, r *repo.Repository, all []*repo.Snapshot) error {
	var ids []snapshot.ID
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	if _, err := r.Forget(ctx, ids); err != nil {
		return err
	}
	for _, id := range ids {
		p.say("forgot %s", id)
	}
	return nil
}

// undoSome is a script that brings back each forgotten snapshot with odds of one half.
func undoSome(seed uint64) script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		rng := rand.New(rand.NewPCG(seed, 4))
		set, err := r.Snapshots(ctx)
		if err != nil {
			return err
		}
		var ids []snapshot.ID
		for _, id := range slices.SortedFunc(maps.Keys(set.Forgotten), snapshot.ID.Compare) {
			if rng.IntN(2) == 0 {
				ids = append(ids, id)
			}
		}
		return undo(ctx, p, r, ids)
	})
}

// undoAll is a script that brings back all forgotten snapshots.
func undoAll() script {
	return withRepository(func(ctx context.Context, p *process, r *repo.Repository) error {
		set, err := r.Snapshots(ctx)
		if err != nil {
			return err
		}
		return undo(ctx, p, r, slices.SortedFunc(maps.Keys(set.Forgotten), snapshot.ID.Compare))
	})
}

func undo(ctx context.Context, p *process, r *repo.Repository, ids []snapshot.ID) error {
	done, err := r.Unforget(ctx, repo.UnforgetOptions{IDs: ids, Host: p.name})
	for _, d := range done {
		if d.Err != nil {
			p.say("not undone: %v", d.Err)
		} else {
			p.say("undone %s", d.New)
		}
	}
	return err
}

// direct runs a script on a storage with nobody in between, and returns what it said.
func (b *book) direct(m *mem.Mem, name string, do script) ([]string, error) {
	p := &process{actor: actor{name: name, kin: b.kin}, random: seeded(name), storage: m, clock: b.clock}
	err := do(p)
	return p.said, err
}

// mustDirect is direct for what must succeed.
func (b *book) mustDirect(m *mem.Mem, name string, do script) []string {
	b.Helper()
	said, err := b.direct(m, name, do)
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return said
}
