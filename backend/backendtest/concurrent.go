package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cairn-backup/cairn/backend"
)

// cases are the promises that a script can't state.
var cases = []struct {
	name string
	run  func(t *testing.T, b backend.Interface)
}{
	{"ManyCallersManyObjects", manyCallers},
	{"OneOfManyPutsWins", racingPuts},
	{"ListInsideList", listInsideList},
	{"DeleteDuringList", deleteDuringList},
	{"ListStopsWhenTold", listStops},
	{"OpenSurvivesDelete", openSurvivesDelete},
	{"DoneContext", doneContext},
	{"Swap", swap},
	{"SwapRace", swapRace},
	{"SwapIsSeenWhole", swapIsSeenWhole},
	{"SwapRacesPut", swapRacesPut},
	{"Stage", stage},
	{"StagePiecewise", stagePiecewise},
	{"StagesRace", stagesRace},
	{"StageDoneContext", stageDoneContext},
}

const callers = 16

// parallel runs f(0) to f(callers-1) at once and reports their errors.
func parallel(t *testing.T, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range callers {
		wg.Go(func() {
			<-start
			if err := f(i); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
}

// manyCallers has 16 callers put, read, list and delete 16 objects each.
func manyCallers(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	const each = 16
	name := func(i, j int) string { return fmt.Sprintf("data/%02x/%d", j, i) }
	parallel(t, func(i int) error {
		for j := range each {
			if err := backend.PutBytes(ctx, b, name(i, j), noise(i*each+j, 100*j)); err != nil {
				return err
			}
			if _, err := listAll(ctx, b, fmt.Sprintf("data/%02x/", j)); err != nil {
				return err
			}
		}
		return nil
	})
	if names, err := listAll(ctx, b, ""); err != nil || len(names) != callers*each {
		t.Fatalf("%d objects listed, error %v", len(names), err)
	}
	parallel(t, func(i int) error {
		for j := range each {
			other := (i + 1) % callers // what somebody else has put
			if err := holds(ctx, b, name(other, j), noise(other*each+j, 100*j)); err != nil {
				return err
			}
		}
		return nil
	})
	parallel(t, func(i int) error {
		for j := range each {
			if err := b.Delete(ctx, name(i, j)); err != nil {
				return err
			}
		}
		return nil
	})
	if names, err := listAll(ctx, b, ""); err != nil || len(names) != 0 {
		t.Fatalf("%q are left, error %v", names, err)
	}
}

// racingPuts has 16 callers put the same names with different contents. All of
// them, winner and losers, find the winner's object afterwards, whole.
func racingPuts(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	for round := range 8 {
		name := fmt.Sprintf("data/%02x/x", round)
		bodies := make([][]byte, callers)
		for i := range bodies {
			bodies[i] = noise(round*callers+i, 1000+i)
		}
		var winner atomic.Int64
		winner.Store(-1)
		parallel(t, func(i int) error {
			err := backend.PutBytes(ctx, b, name, bodies[i])
			if err == nil && !winner.CompareAndSwap(-1, int64(i)) {
				return fmt.Errorf("a second Put of %s succeeded", name)
			}
			if err != nil && !errors.Is(err, backend.ErrExist) {
				return err
			}
			got, err := backend.ReadAll(ctx, b, name, 1<<20)
			if err != nil {
				return fmt.Errorf("read after Put: %w", err)
			}
			if !slices.ContainsFunc(bodies, func(p []byte) bool { return bytes.Equal(got, p) }) {
				return errors.New("read after Put: what nobody has put")
			}
			return nil
		})
		if winner.Load() < 0 {
			t.Fatal("no Put succeeded")
		}
		if err := holds(ctx, b, name, bodies[winner.Load()]); err != nil {
			t.Fatal("the winner's object:", err)
		}
	}
}

// fill puts n objects and returns their sorted names.
func fill(t *testing.T, b backend.Interface, n int) []string {
	t.Helper()
	var names []string
	for i := range n {
		name := fmt.Sprintf("data/%x/%02d", i%3, i)
		if err := backend.PutBytes(t.Context(), b, name, nil); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func listInsideList(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	want := fill(t, b, 12)
	var outer []string
	for info, err := range b.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		outer = append(outer, info.Name)
		inner, err := listAll(ctx, b, "data/")
		if err != nil || !slices.Equal(inner, want) {
			t.Fatalf("inner list: %q, %v", inner, err)
		}
		if _, err := b.Stat(ctx, info.Name); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(outer)
	if !slices.Equal(outer, want) {
		t.Errorf("outer list: %q, want %q", outer, want)
	}
}

// deleteDuringList deletes every second object that is listed and puts others.
// What was neither deleted nor new is listed, once.
func deleteDuringList(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	want := fill(t, b, 60)
	var got []string
	n := 0
	for info, err := range b.List(ctx, "data/") {
		if err != nil {
			t.Fatal(err)
		}
		if err := backend.PutBytes(ctx, b, fmt.Sprintf("data/0/new-%d", n), nil); err != nil {
			t.Fatal(err)
		}
		if n++; n > 200 {
			t.Fatal("the listing does not end")
		}
		if slices.Contains(want, info.Name) {
			got = append(got, info.Name)
			if n%2 == 0 {
				if err := b.Delete(ctx, info.Name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func listStops(t *testing.T, b backend.Interface) {
	fill(t, b, 6)
	n := 0
	for _, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	// A second walk over the same sequence begins anew.
	seq := b.List(t.Context(), "")
	for range 2 {
		n = 0
		for range seq {
			n++
		}
		if n != 6 {
			t.Errorf("%d objects, want 6", n)
		}
	}
}

// openSurvivesDelete reads on after the object is gone and its name has another
// object: the old bytes come to their end, or there is an error.
func openSurvivesDelete(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	old := noise(1, 1<<20)
	if err := backend.PutBytes(ctx, b, "x", old); err != nil {
		t.Fatal(err)
	}
	r, err := b.Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := backend.PutBytes(ctx, b, "x", noise(2, 1<<20)); err != nil {
		t.Fatal(err)
	}
	tail, err := io.ReadAll(r)
	if got := append(head, tail...); err == nil && !bytes.Equal(got, old) {
		t.Error("read other bytes than were there at Open")
	}
}

// doneContext calls everything with a context that is done.
func doneContext(t *testing.T, b backend.Interface) {
	if err := backend.PutBytes(t.Context(), b, "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opened, err := b.Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	cancel()
	_, rerr := io.ReadAll(opened)
	_, oerr := b.Open(ctx, "x")
	_, serr := b.Stat(ctx, "x")
	_, lerr := listAll(ctx, b, "")
	for method, err := range map[string]error{
		"Put":    backend.PutBytes(ctx, b, "y", []byte("1")),
		"Read":   rerr,
		"Open":   oerr,
		"Stat":   serr,
		"List":   lerr,
		"ReadAt": b.ReadAt(ctx, "x", make([]byte, 1), 0),
		"Delete": b.Delete(ctx, "x"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", method, err, context.Canceled)
		}
	}
	if names, err := listAll(t.Context(), b, ""); err != nil || !slices.Equal(names, []string{"x"}) {
		t.Errorf("afterwards: %q, %v", names, err)
	}
}
