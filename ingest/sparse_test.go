package ingest_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/snapshot"
)

// span is a run of data, or of a hole if length is negative, in KiB.
type span int64

// sparse makes a file of spans.
func (w *world) sparse(name string, spans ...span) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	f, err := os.Create(w.path(name))
	w.must(err)
	at := int64(0)
	for i, s := range spans {
		if s > 0 {
			_, err := f.WriteAt(random(uint64(i), int(s)<<10), at)
			w.must(err)
			at += int64(s) << 10
		} else {
			at += -int64(s) << 10
		}
	}
	w.must(f.Truncate(at))
	w.must(f.Close())
}

// spans is what the snapshot says of a file.
func (v *view) spans(path string) (spans []span) {
	v.w.Helper()
	next := snapshot.Extents(v.w.Context(), v.repo, v.entry(path))
	var sizes []int64 // negative for holes
	for x, err := next(); err != io.EOF; x, err = next() {
		v.w.must(err)
		last := len(sizes) - 1
		switch {
		case x.IsHole() && last >= 0 && sizes[last] < 0:
			v.w.Errorf("%s has two holes in a row", path)
		case x.IsHole():
			sizes = append(sizes, -int64(x.Length))
		case last >= 0 && sizes[last] > 0:
			sizes[last] += int64(x.Length)
		default:
			sizes = append(sizes, int64(x.Length))
		}
	}
	for _, n := range sizes {
		if n%1024 != 0 {
			v.w.Errorf("%s has a run of %d bytes", path, n)
		}
		spans = append(spans, span(n/1024))
	}
	return spans
}

// needHoles ends a test where holes of 4 KiB can't be made or found.
func (w *world) needHoles() {
	w.Helper()
	w.sparse("probe", 4, -4, 4)
	f, err := os.Open(w.path("probe"))
	w.must(err)
	defer f.Close()
	if at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE); err != nil || at != 4<<10 {
		need.Missing(w.T, "the file system of %s tells no holes of 4 KiB: %d, %v", w.src, at, err)
	}
	w.must(os.Remove(w.path("probe")))
}

func TestSparse(t *testing.T) {
	w := newWorld(t)
	w.needHoles()
	const terabyte = 1 << 30 // in KiB
	files := map[string][]span{
		"small hole":    {-100},
		"small begins":  {4, -100},
		"small ends":    {-100, 4},
		"small middle":  {-8, 4, -200, 8, -4},
		"largest small": {-4, 4, -244, 3},
		"just large":    {-256},
		"large hole":    {-4096},
		"large begins":  {1000, -64},
		"large ends":    {-300, 1000},
		"large middle":  {-64, 700, -4, 4, -512, 8, -4},
		"terabyte":      {-terabyte, 4, -terabyte},
		"a terabyte":    {-terabyte},
		"dense":         {300},
	}
	var comb []span // of as many extents as a small file can have
	for range 31 {
		comb = append(comb, -4, 4)
	}
	files["small comb"] = append(comb, -4)
	var list []span // more than an entry holds
	for range 200 {
		list = append(list, 4, -8)
	}
	files["list"] = list
	for name, spans := range files {
		w.sparse(name, spans...)
	}
	// Zeros that are stored are data.
	w.write("zeros", make([]byte, 64<<10))
	w.write("many zeros", make([]byte, 1<<20))

	o := w.clean()
	v := w.view(o.ID)
	for name, spans := range files {
		if got := v.spans(w.path(name)); !slices.Equal(got, spans) {
			t.Errorf("%s is stored as %v, want %v", name, got, spans)
		}
		e := v.entry(w.path(name))
		if e.Size > 1<<30 {
			if e.Hash != v.contentHash(e, make([]byte, 1<<18)) { // large ones have a hash of extents
				t.Errorf("%s has another hash", name)
			}
			continue
		}
		v.compareFile(w.path(name), e)
	}
	for name, size := range map[string]span{"zeros": 64, "many zeros": 1024} {
		if got := v.spans(w.path(name)); !slices.Equal(got, []span{size}) {
			t.Errorf("%s is stored as %v", name, got)
		}
	}
	if e := v.entry(w.path("list")); e.List == nil {
		t.Errorf("a file of 400 extents has %d in its entry", len(e.Extents))
	}
	if added := o.Totals.NewRaw; added > 8<<20 {
		t.Errorf("%d bytes were stored", added)
	}

	// They are taken over from the parent, and read again as they were.
	skip := func(o *ingest.Options) { o.SkipIfUnchanged = true }
	if o := w.clean(skip); !o.Skipped || o.Totals.Unmodified != uint64(len(files)+2) {
		t.Errorf("skipped %t, totals are %+v", o.Skipped, o.Totals)
	}
	w.view(w.clean(func(o *ingest.Options) { o.NoParent = true }).ID)
	if o := w.clean(skip); !o.Skipped {
		t.Error("read again, the tree is another")
	}
}

// TestSparseTwins: of equal small files in a bundle, only those without holes
// share their bytes, as each is to come back as it was.
func TestSparseTwins(t *testing.T) {
	w := newWorld(t)
	w.needHoles()
	w.sparse("a", 8, -8, 8)
	w.sparse("c", 8, -8, 8)
	dense, err := os.ReadFile(w.path("a"))
	w.must(err)
	w.write("b", dense)
	w.write("d", dense)
	v := w.view(w.clean().ID)
	for name, want := range map[string][]span{"a": {8, -8, 8}, "b": {24}, "c": {8, -8, 8}, "d": {24}} {
		if got := v.spans(w.path(name)); !slices.Equal(got, want) {
			t.Errorf("%s is stored as %v, want %v", name, got, want)
		}
		v.wantContents(w.path(name), dense)
		if v.entry(w.path(name)).Hash != v.entry(w.path("a")).Hash {
			t.Errorf("%s has another hash than a", name)
		}
	}
}

// TestManyHoles: a file like a comb is not cut into a chunk for each tooth.
func TestManyHoles(t *testing.T) {
	w := newWorld(t)
	w.needHoles()
	var spans []span
	for range 1100 {
		spans = append(spans, 4, -4)
	}
	spans = append(spans, 4, -64, 4) // this one is worth it
	w.sparse("comb", spans...)
	v := w.view(w.clean().ID)
	got := v.spans(w.path("comb"))
	want := slices.Clone(spans[:2*1024])
	want = append(want, 8*(1100-1024)+4, -64, 4)
	if !slices.Equal(got, want) {
		t.Errorf("stored as %d spans that end with %v, want %d that end with %v", len(got), got[max(0, len(got)-4):], len(want), want[len(want)-4:])
	}
	v.compareFile(w.path("comb"), v.entry(w.path("comb")))
}

// TestSparseTmpfs reads sparse files of another file system.
func TestSparseTmpfs(t *testing.T) {
	w := newWorld(t)
	w.must(os.Mkdir(w.path("tmpfs"), 0o755))
	w.mount("tmpfs", "tmpfs", "size=8m")
	for i, spans := range [][]span{{-64, 64, -64}, {64, -1024}, {-1024, 512, -64, 64}} {
		name := fmt.Sprintf("tmpfs/%d", i)
		w.sparse(name, spans...)
		v := w.view(w.clean().ID)
		if got := v.spans(w.path(name)); !slices.Equal(got, spans) {
			t.Errorf("%v is stored as %v", spans, got)
		}
		v.compare(w.src)
	}
}
