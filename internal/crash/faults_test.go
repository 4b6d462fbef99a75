package crash_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// changing are the operations that change what is stored under a name.
var changing = []string{"put", "swap", "commit", "delete"}

// faults are what may happen at an operation: "%s" is its site, such as "put data/*
// #3", and "%f" the same from there on.
var faults = []struct {
	rule string
	only []string // operations, all if nil
}{
	{rule: "%s: crash"},
	{rule: "%s: done-and-crash", only: changing},
	{rule: "%s: done-but-error ETIMEDOUT", only: changing},
	{rule: "%s: err EIO"},
	{rule: "%f: err EIO"},
	{rule: "%s: err ENOSPC", only: []string{"put", "swap", "stage", "write", "commit"}},
	{rule: "%f: err ENOSPC", only: []string{"put", "swap", "stage", "write", "commit"}},
}

// cases returns the rules for the operations of a run: each fault at each
// operation, and permission that is lost from each operation on. A short run has all
// at the operations that change something, and of the others, which are many, one
// of thinning, so that neighbours get different faults.
func cases(sites []string, ops int) []string {
	var rules []string
	n := 0
	add := func(always bool, rule string) {
		n++
		if always || soak > 0 || n%thinning == 0 {
			rules = append(rules, rule)
		}
	}
	for _, site := range sites {
		op, _, _ := strings.Cut(site, " ")
		for _, f := range faults {
			if f.only == nil || slices.Contains(f.only, op) {
				add(slices.Contains(changing, op) && !racing, strings.NewReplacer("%s", site, "%f", site+"-").Replace(f.rule))
			}
		}
	}
	for k := range ops {
		add(false, fmt.Sprintf("* #%d-: err EACCES", k+1))
	}
	return rules
}

// TestFaults runs each scenario with each fault at each operation.
func TestFaults(t *testing.T) {
	for _, s := range slices.Concat(scenarios, keeping) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			storage := mem.New(clock)
			base := newWorld(t, storage)
			if s.before != nil {
				s.before(base)
			}
			in := parse(t, "")
			undisturbed := storage.Clone()
			if err := s.run(base.on(t, undisturbed), in.Wrap(undisturbed)); err != nil {
				t.Fatal(err)
			}
			rules := cases(in.Sites(), in.Ops())
			t.Logf("%d operations, %d cases", in.Ops(), len(rules))
			for _, rule := range rules {
				t.Run(strings.ReplaceAll(rule, "/", "|"), func(t *testing.T) {
					storage := storage.Clone()
					w := base.on(t, storage)
					in := parse(t, rule)
					err := s.run(w, in.Wrap(storage))
					honest(t, err, s.damaged)
					if s.after != nil {
						s.after(w, err)
					}
					if t.Failed() {
						t.Fatalf("it said: %v", err)
					}
					w.holds()
				})
			}
		})
	}
}

func parse(t testing.TB, rules string) *faulty.Injector {
	t.Helper()
	in, err := faulty.Parse(rules)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// honest fails the test if an error does not say that it comes from the storage, or
// passes for something else that scripts tell apart by the exit status: all these
// faults are "failed", status 1. Beside damage that was there before, it may be said too.
func honest(t testing.TB, err error, damaged bool) {
	t.Helper()
	if err == nil {
		return
	}
	if !errors.Is(err, faulty.ErrInjected) {
		t.Errorf("the error does not say why: %v", err)
	}
	for _, other := range []error{repo.ErrDamage, repo.ErrNoRepository, repo.ErrExists, repo.ErrFenced, repo.ErrNoSnapshot, repo.ErrWriteOnly, seal.ErrWrongSecret} {
		if errors.Is(err, other) && !(damaged && other == repo.ErrDamage) {
			t.Errorf("a fault of the storage passes for %q: %v", other, err)
		}
	}
}
