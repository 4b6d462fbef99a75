package snapshot_test

import (
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// list returns n extents, whole chunks and holes, and their length.
func (r random) list(n int) (list []snapshot.Extent, size uint64) {
	for range n {
		x := snapshot.Extent{Length: 1 + r.Uint64N(1<<20)}
		if r.IntN(10) > 0 {
			x.Chunk, x.ChunkSize = r.id(), uint32(x.Length)
		}
		list = append(list, x)
		size += x.Length
	}
	return list, size
}

func buildList(t testing.TB, s *store, list []snapshot.Extent) snapshot.ListRef {
	t.Helper()
	b := snapshot.NewListBuilder(cutKey, s.sink)
	for _, x := range list {
		if err := b.Add(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := b.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func readList(t testing.TB, next func() (snapshot.Extent, error)) (list []snapshot.Extent, err error) {
	for {
		x, err := next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, x)
	}
}

func TestListRoundTrip(t *testing.T) {
	r := newRandom(t)
	for _, n := range []int{1, 63, 64, 3000, 50_000} {
		list, size := r.list(n)
		s := newStore()
		ref := buildList(t, s, list)
		e := &snapshot.Entry{Key: "x", Type: snapshot.File, Size: size, List: &ref}
		got, err := readList(t, snapshot.Extents(t.Context(), s, e))
		if err != nil || !reflect.DeepEqual(got, list) {
			t.Fatalf("%d extents came back as %d: %v", n, len(got), err)
		}
		if s.reads != len(s.nodes) {
			t.Errorf("read %d nodes of %d", s.reads, len(s.nodes))
		}
		if again := buildList(t, newStore(), list); again != ref {
			t.Errorf("the same %d extents have another root", n)
		}
		was := len(s.nodes)
		list[n/2].Length++
		if !list[n/2].IsHole() {
			list[n/2].ChunkSize++
		}
		buildList(t, s, list)
		if added := len(s.nodes) - was; added > 3*(int(ref.Level)+1) {
			t.Errorf("one extent of %d changed, %d new nodes", n, added)
		}
	}
}

func TestListSeek(t *testing.T) {
	r := newRandom(t)
	list, size := r.list(20_000)
	s := newStore()
	ref := buildList(t, s, list)
	l := snapshot.NewListReader(ref, size, s)
	starts := make([]uint64, len(list))
	for i, at := 0, uint64(0); i < len(list); i++ {
		starts[i] = at
		at += list[i].Length
	}
	for range 300 {
		i := r.IntN(len(list))
		s.reads = 0
		at, err := l.Seek(t.Context(), starts[i]+r.Uint64N(list[i].Length))
		if err != nil || at != starts[i] {
			t.Fatalf("seek into extent %d: at %d, want %d: %v", i, at, starts[i], err)
		}
		for j := i; j < min(i+200, len(list)); j++ {
			if x, err := l.Next(t.Context()); err != nil || x != list[j] {
				t.Fatalf("extent %d is %v, want %v: %v", j, x, list[j], err)
			}
		}
		if s.reads > int(ref.Level)+5 {
			t.Errorf("%d reads for one place", s.reads)
		}
	}
	for _, offset := range []uint64{size, size + 1} {
		if at, err := l.Seek(t.Context(), offset); err != nil || at != size {
			t.Errorf("seek to %d of %d: %d, %v", offset, size, at, err)
		}
		if _, err := l.Next(t.Context()); err != io.EOF {
			t.Errorf("behind the end: %v", err)
		}
	}
}

func TestListErrors(t *testing.T) {
	b := snapshot.NewListBuilder(cutKey, newStore().sink)
	if _, err := b.Finish(t.Context()); err == nil {
		t.Error("a list without extents is finished")
	}
	for _, x := range []snapshot.Extent{{}, {Chunk: chunk.ID{1}, ChunkSize: 10, Length: 5}, {Length: 1 << 63}} {
		b := snapshot.NewListBuilder(cutKey, newStore().sink)
		err := b.Add(t.Context(), x)
		if err == nil {
			_, err = b.Finish(t.Context())
		}
		if err == nil {
			t.Errorf("a list takes %+v", x)
		}
	}
	r := newRandom(t)
	list, size := r.list(1000)
	s := newStore()
	ref := buildList(t, s, list)
	for name, l := range map[string]*snapshot.ListReader{
		"size":       snapshot.NewListReader(ref, size+1, s),
		"level":      snapshot.NewListReader(snapshot.ListRef{Root: ref.Root, Level: ref.Level + 1}, size, s),
		"huge level": snapshot.NewListReader(snapshot.ListRef{Root: ref.Root, Level: 255}, size, s),
	} {
		if _, err := l.Next(t.Context()); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	if _, err := snapshot.NewListReader(snapshot.ListRef{}, size, s).Next(t.Context()); err == nil {
		t.Error("a list is read without its root")
	}
}
