package index_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
)

// walkEntries compares all that Entries yields with what the segments say, with n
// records read at a time.
func walkEntries(w *world, l *index.Local, segments []*index.Segment, n int) error {
	want := w.places(segments)
	got := make(map[chunk.ID][]index.Place)
	var last chunk.ID
	sources := make(map[index.Source]*index.Source)
	numbers := make(map[int]bool)
	for e, err := range l.EntriesBy(n) {
		if err != nil {
			return err
		}
		if id := e.Entry.ID; bytes.Compare(id[:], last[:]) < 0 {
			return fmt.Errorf("chunk %s comes after %s", id.Short(), last.Short())
		}
		last = e.Entry.ID
		same := *e.Source
		same.Number = 0
		if sources[same] == nil {
			sources[same] = e.Source
			numbers[e.Source.Number] = true
		}
		if sources[same] != e.Source {
			return fmt.Errorf("pack %s of %s is two sources", same.ID.Short(), same.Signer.Short())
		}
		got[last] = append(got[last], e.Place())
	}
	for id, places := range got {
		if !slices.Equal(places, want[id]) {
			return &wrongAnswer{id, places, want[id]}
		}
	}
	for i := range sources {
		if n := sources[i].Number; n < 0 || n >= len(sources) || len(numbers) != len(sources) {
			return fmt.Errorf("one of %d sources has the number %d", len(sources), n)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d chunks, want %d", len(got), len(want))
	}
	return nil
}

// fewSteps is a context that ends after it was asked so often: after so many
// transactions of an Absorb.
type fewSteps struct {
	context.Context
	left int
}

func (f *fewSteps) Err() error {
	if f.left == 0 {
		return context.Canceled
	}
	f.left--
	return nil
}

// Between two reads, segments come and go, and merges begin and end and move what was
// read and what was not. What is there all the time is yielded once.
func TestEntriesBesideMerges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 60)
	segment := func(n int) *index.Segment { return w.open(w.object(w.admin, epoch1, nil, w.pack(n))) }
	stay, go1, go2 := segment(60_000), segment(30_000), segment(10_000)
	l, _ := w.local()
	w.absorb(l, stay, go1, go2)
	want := w.places([]*index.Segment{stay})
	later := segment(40_000)
	come := []*index.Segment{later, segment(50), segment(60), segment(70), segment(80)}
	steps := []func() error{
		func() error {
			return l.Retain(&fewSteps{t.Context(), 2}, func(id index.SegmentID) bool { return id != go1.ID })
		},
		func() error { return l.Absorb(t.Context(), w.adminSigner(), come[1]) },
		func() error {
			return l.Retain(t.Context(), func(id index.SegmentID) bool { return id != go2.ID })
		},
	}
	for range 12 {
		steps = append(steps, func() error { return l.Absorb(&fewSteps{t.Context(), 2}, w.adminSigner(), come...) })
	}
	n, merging := 0, 0
	for e, err := range l.EntriesBy(1000) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%4000 == 0 && len(steps) > 0 {
			if err := steps[0](); err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			steps = steps[1:]
			if is, err := l.Merging(); err != nil {
				t.Fatal(err)
			} else if is {
				merging++
			}
		}
		places := want[e.Entry.ID]
		if i := slices.Index(places, e.Place()); i >= 0 {
			want[e.Entry.ID] = slices.Delete(places, i, i+1)
		} else if e.Source.ID == stay.Packs[0].ID {
			t.Fatalf("%+v is yielded twice", e)
		}
	}
	for id, places := range want {
		if len(places) > 0 {
			t.Fatalf("places of %s are missing: %+v", id.Short(), places)
		}
	}
	if merging == 0 || len(steps) > 0 {
		t.Errorf("%d reads beside a merge, %d steps left", merging, len(steps))
	}
}

// What is lost while the loop runs ends it.
func TestEntriesLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 61)
	s := w.open(w.object(w.admin, epoch1, nil, w.pack(3000)))
	l, path := w.local()
	w.absorb(l, s)
	n := 0
	var last error
	for _, err := range l.EntriesBy(100) {
		if last != nil {
			t.Fatal("it goes on after an error")
		}
		if last = err; err != nil {
			continue
		}
		if n++; n == 500 {
			if err := os.Truncate(path, 20_000); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(last, index.ErrLost) || n < 500 || n > 510 {
		t.Errorf("%d entries, %v", n, last)
	}
	for _, err := range l.Entries() {
		if !errors.Is(err, index.ErrLost) {
			t.Errorf("nobody asked what is left: %v", err)
		}
	}
	if _, err := l.Absorbed(); err != nil {
		t.Fatal(err)
	}
	if err := walkEntries(w, l, nil, 100); err != nil {
		t.Error(err)
	}
	w.absorb(l, s)
	if err := walkEntries(w, l, []*index.Segment{s}, 100); err != nil {
		t.Error(err)
	}
}
