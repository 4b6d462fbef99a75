package index_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Random segments come and go; all answers must be those of the model.
func TestLocalModel(t *testing.T) {
	for seed := range byte(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 20+seed)
			all := w.segments(40, 100)
			l, path := w.local()
			for range 6 {
				var listed []*index.Segment
				for _, s := range all {
					if w.rng.IntN(3) > 0 {
						listed = append(listed, s)
					}
				}
				w.rng.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
				if err := l.Retain(context.Background(), func(id index.SegmentID) bool {
					return slices.ContainsFunc(listed, func(s *index.Segment) bool { return s.ID == id })
				}); err != nil {
					t.Fatal(err)
				}
				for rest := listed; len(rest) > 0; {
					n := 1 + w.rng.IntN(len(rest))
					w.absorb(l, rest[:n]...)
					rest = rest[n:]
				}
				w.absorb(l, listed...) // what a later one brought back
				w.mustCompare(l, listed, 0)
				checkAbsorbed(t, l, listed)
				checkPacks(t, w, l, listed)
				for _, n := range []int{1, 100, 1 << 20} {
					if err := walkEntries(w, l, listed, n); err != nil {
						t.Fatalf("%d at a time: %v", n, err)
					}
				}
				if err := index.CheckFile(path); err != nil {
					t.Fatal(err)
				}
			}
			st, err := l.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if st.Runs > 8 || st.Dead*4 > st.Chunks+st.Dead {
				t.Errorf("not tidy: %+v", st)
			}
			if err := l.Retain(context.Background(), func(index.SegmentID) bool { return false }); err != nil {
				t.Fatal(err)
			}
			if st, err = l.Stats(); err != nil || st.Segments+st.Packs+st.Chunks+st.Dead != 0 || st.Runs != 0 {
				t.Errorf("something is left: %+v, %v", st, err)
			}
		})
	}
}

func checkAbsorbed(t *testing.T, l *index.Local, listed []*index.Segment) {
	t.Helper()
	have, err := l.Absorbed()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range listed {
		if !have[s.ID] {
			t.Fatalf("segment %s is not absorbed", s.ID.Short())
		}
		if ok, err := l.Has(s.ID); !ok || err != nil {
			t.Fatalf("Has says %v, %v", ok, err)
		}
	}
	if ok, err := l.Has(index.SegmentID{1, 2, 3}); ok || err != nil {
		t.Fatalf("Has says %v, %v of a segment that does not exist", ok, err)
	}
}

func checkPacks(t *testing.T, w *world, l *index.Local, listed []*index.Segment) {
	t.Helper()
	want := make(map[pack.ID]map[index.SignerAt]bool)
	for _, s := range w.live(listed) {
		for _, p := range s.Packs {
			if want[p.ID] == nil {
				want[p.ID] = make(map[index.SignerAt]bool)
			}
			want[p.ID][index.SignerAt{Signer: s.Signer, Place: s.Header.Place}] = true
		}
	}
	var last pack.ID
	n := 0
	for k, err := range l.Packs() {
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && last.Compare(k.ID) >= 0 {
			t.Fatal("packs are not sorted")
		}
		got := make(map[index.SignerAt]bool)
		for _, s := range k.Signers {
			got[s] = true
		}
		if !maps.Equal(got, want[k.ID]) || len(got) != len(k.Signers) || k.Size == 0 {
			t.Fatalf("pack %+v, want signers %v", k, want[k.ID])
		}
		last = k.ID
		n++
	}
	if n != len(want) {
		t.Fatalf("%d packs, want %d", n, len(want))
	}
}

// More than a transaction's worth: runs are built and merged in several.
func TestLocalLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30)
	var all []*index.Segment
	for range 3 {
		all = append(all, w.open(w.object(w.admin, epoch1, nil, w.pack(18_000), w.pack(22_000))))
	}
	l, path := w.local()
	for _, s := range all {
		w.absorb(l, s)
	}
	w.mustCompare(l, all, 500)
	if err := l.Retain(context.Background(), func(id index.SegmentID) bool { return id != all[1].ID }); err != nil {
		t.Fatal(err)
	}
	w.mustCompare(l, []*index.Segment{all[0], all[2]}, 500)
	st, err := l.Stats()
	if err != nil || st.Dead != 0 || st.Chunks != 80_000 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := index.CheckFile(path); err != nil {
		t.Fatal(err)
	}
}

// One chunk in so many places that they fill several blocks.
func TestLocalManyPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 31)
	f := w.pack(5000)
	chunk := w.id()
	for i := range 4000 {
		f.Entries[500+i].ID = chunk
	}
	s := w.open(w.object(w.admin, epoch1, nil, f))
	l, _ := w.local()
	w.absorb(l, s)
	w.mustCompare(l, []*index.Segment{s}, 0)
	if err := walkEntries(w, l, []*index.Segment{s}, 300); err != nil {
		t.Error(err)
	}
	w.chunks = nil                                                    // the next has other chunks
	w.absorb(l, w.open(w.object(w.admin, epoch1, nil, w.pack(4000)))) // alike in size: they merge
	if got, err := l.Lookup(chunk); err != nil || len(got) != 4000 {
		t.Errorf("%d places, %v", len(got), err)
	}
}

// A writer's claim to supersede is ignored, the admin's is not.
func TestLocalSupersede(t *testing.T) {
	w := newWorld(t, 32)
	p, q := w.pack(10), w.pack(10)
	p.Entries[0].ID = w.id() // in p once, and nowhere else
	first := w.open(w.object(w.writers[0], epoch1, nil, p))
	claim := w.open(w.object(w.writers[1], epoch1, []index.SegmentID{first.ID}, q))
	order := w.open(w.object(w.admin, epoch1, []index.SegmentID{first.ID, claim.ID}, q))
	undo := w.open(w.object(w.admin, epoch1, []index.SegmentID{order.ID}, q))
	id := p.Entries[0].ID
	l, _ := w.local()
	places := func() int {
		t.Helper()
		got, err := l.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}

	w.absorb(l, first)
	w.absorb(l, claim)
	if places() != 1 {
		t.Error("a writer superseded another's segment")
	}
	w.absorb(l, order)
	if places() != 0 {
		t.Error("the admin could not supersede")
	}
	for id, want := range map[index.SegmentID]bool{first.ID: true, claim.ID: true, order.ID: false, undo.ID: false} {
		if got, err := l.Superseded(id); got != want || err != nil {
			t.Errorf("segment %s superseded: %v, %v", id.Short(), got, err)
		}
	}
	w.absorb(l, first)
	if places() != 0 {
		t.Error("a superseded segment was absorbed")
	}
	w.absorb(l, undo)
	if ok, _ := l.Has(first.ID); ok {
		t.Error("first counts as absorbed, but nothing live supersedes it")
	}
	w.absorb(l, first)
	if places() != 1 {
		t.Errorf("first did not come back: %d places", places())
	}
}

// A file of another repository, or no database at all, is replaced.
func TestLocalForeign(t *testing.T) {
	w, other := newWorld(t, 33), newWorld(t, 34)
	s := w.open(w.object(w.admin, epoch1, nil, w.pack(10)))
	l, path := w.local()
	w.absorb(l, s)
	l.Close()
	if _, err := l.Lookup(chunk.ID{}); !errors.Is(err, index.ErrClosed) {
		t.Errorf("closed: %v", err)
	}

	o := other.localAt(path)
	if have, err := o.Absorbed(); err != nil || len(have) != 0 {
		t.Fatalf("another repository's segments: %v, %v", have, err)
	}
	o.Close()
	for _, garbage := range []string{"", "x", string(make([]byte, 100_000))} {
		if err := os.WriteFile(path, []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		l = w.localAt(path)
		if have, err := l.Absorbed(); err != nil || len(have) != 0 {
			t.Fatalf("%v, %v", have, err)
		}
		w.absorb(l, s)
		w.mustCompare(l, []*index.Segment{s}, 0)
		l.Close()
	}
}

// A file that vanishes under its users is reported to each of them.
func TestLocalLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 35)
	s := w.open(w.object(w.admin, epoch1, nil, w.pack(3000)))
	l, path := w.local()
	second := w.localAt(path)
	w.absorb(l, s)
	w.mustCompare(second, []*index.Segment{s}, 0)
	if err := os.Truncate(path, 20_000); err != nil { // l may have it open
		t.Fatal(err)
	}
	id := index.Finished(s)[0].Entries[1].ID
	for i, l := range []*index.Local{l, second} {
		if got, err := l.Lookup(id); !errors.Is(err, index.ErrLost) {
			t.Errorf("%d: %v, %v", i, got, err)
		}
		if err := l.Absorb(context.Background(), w.adminSigner(), s); !errors.Is(err, index.ErrLost) {
			t.Errorf("%d: absorb: %v", i, err)
		}
		if _, err := l.Has(s.ID); !errors.Is(err, index.ErrLost) {
			t.Errorf("%d: has: %v", i, err)
		}
	}
	for _, l := range []*index.Local{l, second} {
		if _, err := l.Absorbed(); err != nil {
			t.Fatal(err)
		}
		w.absorb(l, s)
		w.mustCompare(l, []*index.Segment{s}, 0)
	}
}

// Many goroutines look up while others absorb and drop.
func TestLocalConcurrent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 36)
	stable := w.segments(5, 300)
	coming := w.segments(30, 100)
	coming = slices.DeleteFunc(coming, func(s *index.Segment) bool { return len(s.Supersedes) > 0 })
	l, _ := w.local()
	w.absorb(l, stable...)
	ids := make([]chunk.ID, 0, 1000)
	want := w.places(stable)
	for id := range want {
		ids = append(ids, id)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				got, err := l.Lookup(ids[i%len(ids)])
				if err != nil || len(got) < len(want[ids[i%len(ids)]]) {
					t.Errorf("%d places, %v", len(got), err)
					return
				}
			}
		})
	}
	for _, s := range coming {
		w.absorb(l, s)
	}
	if err := l.Retain(context.Background(), func(id index.SegmentID) bool {
		return slices.ContainsFunc(stable, func(s *index.Segment) bool { return s.ID == id })
	}); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	w.mustCompare(l, stable, 0)
}

func TestAbsorbCancelled(t *testing.T) {
	w := newWorld(t, 37)
	l, _ := w.local()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := w.open(w.object(w.admin, epoch1, nil, w.pack(10)))
	if err := l.Absorb(ctx, seal.Signer{}, s); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if ok, err := l.Has(s.ID); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
