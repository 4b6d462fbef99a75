package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/cairn-backup/cairn/backend"
)

func swapper(t *testing.T, b backend.Interface) backend.Swapper {
	t.Helper()
	s, ok := b.(backend.Swapper)
	if !ok {
		t.Skipf("%T is no Swapper", b)
	}
	return s
}

func stager(t *testing.T, b backend.Interface) backend.Stager {
	t.Helper()
	s, ok := b.(backend.Stager)
	if !ok {
		t.Skipf("%T is no Stager", b)
	}
	return s
}

// swap walks one object through its life. Each step changes its contents from
// one to another, or must not.
func swap(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	s := swapper(t, b)
	none := []byte(nil)
	empty := []byte{}
	for i, step := range []struct {
		old, new []byte
		conflict bool
		then     []byte // contents afterwards, nil for no object
	}{
		{empty, []byte("a"), true, none},
		{[]byte("a"), []byte("b"), true, none},
		{none, empty, false, empty},
		{none, []byte("a"), true, empty},
		{empty, []byte("a"), false, []byte("a")},
		{none, []byte("b"), true, []byte("a")},
		{empty, []byte("b"), true, []byte("a")},
		{[]byte("ab"), []byte("b"), true, []byte("a")},
		{[]byte("b"), []byte("c"), true, []byte("a")},
		{[]byte("a"), []byte("a"), false, []byte("a")},
		{[]byte("a"), noise(1, 100000), false, noise(1, 100000)},
		{noise(2, 100000), []byte("x"), true, noise(1, 100000)},
		{noise(1, 100000), none, false, empty},
	} {
		err := s.Swap(ctx, "meta/object", step.old, step.new)
		var want error
		if step.conflict {
			want = backend.ErrConflict
		}
		if err := expect(b, "meta/object", err, want); err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
		if step.then == nil {
			if err := missing("meta/object").do(ctx, b); err != nil {
				t.Fatalf("step %d: %v", i+1, err)
			}
		} else if err := holds(ctx, b, "meta/object", step.then); err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
	}

	// Put and Swap make the same kind of object.
	for _, o := range []op{
		putErr("meta/object", "x", backend.ErrExist),
		list("", "meta/object"),
		put("put", "1"),
	} {
		if err := o.do(ctx, b); err != nil {
			t.Fatalf("%s: %v", o.text, err)
		}
	}
	if err := s.Swap(ctx, "put", []byte("1"), []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := holds(ctx, b, "put", []byte("2")); err != nil {
		t.Fatal(err)
	}

	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Swap(done, "put", []byte("2"), []byte("3")); !errors.Is(err, context.Canceled) {
		t.Errorf("context done: %v", err)
	}
	if err := holds(ctx, b, "put", []byte("2")); err != nil {
		t.Error("context done:", err)
	}
}

// swapRace counts to 16 x 4 in one object, by 16 callers. A lost or doubled step
// shows in the sum.
func swapRace(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	s := swapper(t, b)
	const each = 4
	parallel(t, func(int) error {
		for done := 0; done < each; {
			old, err := backend.ReadAll(ctx, b, "counter", 100)
			n := 0
			switch {
			case errors.Is(err, backend.ErrNotExist):
				old = nil
			case err != nil:
				return err
			default:
				if n, err = strconv.Atoi(string(old)); err != nil {
					return err
				}
			}
			err = s.Swap(ctx, "counter", old, []byte(strconv.Itoa(n+1)))
			switch {
			case err == nil:
				done++
			case !errors.Is(err, backend.ErrConflict):
				return err
			}
		}
		return nil
	})
	if err := holds(ctx, b, "counter", []byte(strconv.Itoa(callers*each))); err != nil {
		got, _ := backend.ReadAll(ctx, b, "counter", 100)
		t.Errorf("counted to %s, want %d: %v", got, callers*each, err)
	}
}

// swapIsSeenWhole reads while one caller swaps: always one of the two contents.
func swapIsSeenWhole(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	s := swapper(t, b)
	states := [2][]byte{noise(1, 70000), noise(2, 50000)}
	if err := s.Swap(ctx, "x", nil, states[0]); err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	parallel(t, func(i int) error {
		if i == 0 {
			defer over.Store(true)
			for n := range 8 {
				if err := s.Swap(ctx, "x", states[n%2], states[(n+1)%2]); err != nil {
					return err
				}
			}
			return nil
		}
		for i < 4 && !over.Load() { // more readers would only starve the writer
			got, err := backend.ReadAll(ctx, b, "x", 1<<20)
			if err != nil {
				return err
			}
			if !bytes.Equal(got, states[0]) && !bytes.Equal(got, states[1]) {
				return fmt.Errorf("read %d bytes that are neither of the two contents", len(got))
			}
		}
		return nil
	})
}

// swapRacesPut lets Put, Swap and Commit create one object: one of them does.
func swapRacesPut(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	s := swapper(t, b)
	for round := range 4 {
		name := fmt.Sprintf("object-%d", round)
		var winner atomic.Int64
		winner.Store(-1)
		parallel(t, func(i int) error {
			data := noise(i, 500)
			var err error
			if i%2 == 0 {
				err = s.Swap(ctx, name, nil, data)
			} else {
				err = backend.PutBytes(ctx, b, name, data)
			}
			switch {
			case err == nil:
				if !winner.CompareAndSwap(-1, int64(i)) {
					return errors.New("created a second time")
				}
				return nil
			case i%2 == 0 && errors.Is(err, backend.ErrConflict), i%2 == 1 && errors.Is(err, backend.ErrExist):
				return nil
			}
			return err
		})
		if winner.Load() < 0 {
			t.Fatal("nobody created the object")
		}
		if err := holds(ctx, b, name, noise(int(winner.Load()), 500)); err != nil {
			t.Fatal(err)
		}
	}
}

// staged writes data in one piece.
func staged(t *testing.T, b backend.Interface, data string) backend.Staged {
	t.Helper()
	s, err := stager(t, b).Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write([]byte(data)); n != len(data) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	return s
}

func stage(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	check := func(ops ...op) {
		t.Helper()
		for _, o := range ops {
			if err := o.do(ctx, b); err != nil {
				t.Fatalf("%s: %v", o.text, err)
			}
		}
	}
	ended := func(s backend.Staged) {
		t.Helper()
		if _, err := s.Write([]byte("more")); err == nil {
			t.Error("Write after the end succeeded")
		}
		if err := s.Commit(ctx, "late"); err == nil {
			t.Error("Commit after the end succeeded")
		}
		if err := s.Abort(); err != nil {
			t.Error("Abort after the end:", err)
		}
	}

	// Nothing is seen before Commit; Abort after it takes nothing away.
	s := staged(t, b, "hello")
	check(list(""))
	if err := s.Commit(ctx, "data/ab/x"); err != nil {
		t.Fatal(err)
	}
	ended(s)
	check(get("data/ab/x", "hello"), list("", "data/ab/x"))

	s = staged(t, b, "gone")
	if err := s.Abort(); err != nil {
		t.Fatal(err)
	}
	ended(s)
	check(list("", "data/ab/x"))

	s = staged(t, b, "other")
	if err := expect(b, "data/ab/x", s.Commit(ctx, "data/ab/x"), backend.ErrExist); err != nil {
		t.Fatal(err)
	}
	ended(s)
	check(get("data/ab/x", "hello"), putErr("data/ab/x", "put", backend.ErrExist))

	s = staged(t, b, "")
	if err := s.Commit(ctx, "empty"); err != nil {
		t.Fatal(err)
	}
	check(get("empty", ""), list("", "data/ab/x", "empty"), missing("late"))
}

// stagePiecewise has two objects written at the same time, in uneven pieces from
// a buffer that is used again.
func stagePiecewise(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	want := [2][]byte{noise(1, 2<<20+17), noise(2, 1<<20)}
	s := [2]backend.Staged{staged(t, b, ""), staged(t, b, "")}
	rest := want
	buf := make([]byte, 512<<10)
	for size := 1; len(rest[0])+len(rest[1]) > 0; size = size*3 + 1 {
		for i := range s {
			n := copy(buf[:min(size, len(buf))], rest[i])
			rest[i] = rest[i][n:]
			if _, err := s[i].Write(buf[:n]); err != nil {
				t.Fatal(err)
			}
			clear(buf)
		}
	}
	for i := range s {
		name := fmt.Sprintf("data/%d", i)
		if err := s[i].Commit(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := holds(ctx, b, name, want[i]); err != nil {
			t.Error(err)
		}
	}
}

// stagesRace has 16 callers commit under one name.
func stagesRace(t *testing.T, b backend.Interface) {
	ctx := t.Context()
	st := stager(t, b)
	var winner atomic.Int64
	winner.Store(-1)
	parallel(t, func(i int) error {
		s, err := st.Stage(ctx)
		if err != nil {
			return err
		}
		defer s.Abort()
		if _, err := s.Write(noise(i, 10000)); err != nil {
			return err
		}
		switch err := s.Commit(ctx, "data/x"); {
		case err == nil && !winner.CompareAndSwap(-1, int64(i)):
			return errors.New("a second Commit succeeded")
		case err != nil && !errors.Is(err, backend.ErrExist):
			return err
		}
		return nil
	})
	if winner.Load() < 0 {
		t.Fatal("no Commit succeeded")
	}
	if err := holds(ctx, b, "data/x", noise(int(winner.Load()), 10000)); err != nil {
		t.Error(err)
	}
	if names, err := listAll(ctx, b, ""); err != nil || len(names) != 1 {
		t.Errorf("listed %q, %v", names, err)
	}
}

func stageDoneContext(t *testing.T, b backend.Interface) {
	st := stager(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := st.Stage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	cancel()
	if _, err := s.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
	if err := s.Commit(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := st.Stage(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stage: %v", err)
	}
	if err := missing("x").do(t.Context(), b); err != nil {
		t.Error(err)
	}
}
