package ingest_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

func noParent(o *ingest.Options) { o.NoParent = true }

// dataPacks returns how many packs of contents there are.
func (w *world) dataPacks() int { return len(w.names("data/")) }

// many makes n small files in directories of 50.
func (w *world) many(n int) {
	w.Helper()
	for i := range n {
		w.write(fmt.Sprintf("dir %03d/file %05d", i/50, i), random(uint64(i), 100+i%700))
	}
}

func TestSameTreeSameRoot(t *testing.T) {
	w := newWorld(t)
	w.zoo()
	w.many(500)
	var roots [4]snapshot.Root
	w.quietly(func() {
		roots[0] = w.snap(noParent).Root
		roots[1] = w.snap().Root
		for i, n := range []int{1, 7} {
			r := w.open("full", w.cache, func(o *repo.Options) { o.Goroutines = n })
			o, err := ingest.Snapshot(t.Context(), r, ingest.Options{Paths: []string{w.src}, NoParent: true, Now: later})
			w.must(err)
			roots[2+i] = o.Root
		}
	})
	for i, r := range roots[1:] {
		if r != roots[0] {
			t.Errorf("root %d is %s, want %s", i+1, r.ID.Short(), roots[0].ID.Short())
		}
	}
}

func TestMovedDirectory(t *testing.T) {
	w := newWorld(t)
	w.write("a/beside", random(99, 5000))
	w.write("z/beside", random(98, 5000))
	for i := range 3000 {
		w.write(fmt.Sprintf("m/dir %03d/%d-%x", i/50, i, random(uint64(i), 3)), random(uint64(i), i*7%10000))
	}
	first := w.clean()
	before := w.view(first.ID).chunks(all)
	w.must(os.Rename(w.path("m"), w.path("a/moved")))
	second := w.clean()
	after := w.view(second.ID).chunks(all)
	t.Logf("%d of %d chunks are new", minus(after, before), len(after))
	// Mostly one or two, until the ends of bundles are the same again; where they
	// are depends on the repository's secret.
	if n := minus(after, before); n > 15 || len(after) < 22 {
		t.Errorf("%d of %d chunks are new after a directory was moved", n, len(after))
	}
	if second.Totals.New != 3000 {
		t.Errorf("%d files are new, want 3000", second.Totals.New)
	}
}

func TestNothingChanged(t *testing.T) {
	w := newWorld(t)
	w.zoo()
	w.write("huge", random(5, 5<<20))
	first := w.snap()
	packs := w.dataPacks()
	second := w.snap()
	if second.Parent != first.ID {
		t.Errorf("the parent is %s, want %s", second.Parent.Short(), first.ID.Short())
	}
	if n := w.dataPacks(); n != packs {
		t.Errorf("%d packs of contents were made for nothing", n-packs)
	}
	got, want := second.Totals, first.Totals
	if got.Unmodified != want.Files || got.New != 0 || got.Changed != 0 || got.Removed != 0 || got.Files != want.Files || got.Bytes != want.Bytes {
		t.Errorf("totals are %+v, first they were %+v", got, want)
	}
	for path, c := range second.changes {
		if strings.HasPrefix(path, w.src) && c != ingest.Unmodified {
			t.Errorf("%s is %s", path, c)
		}
	}
	w.view(second.ID).compare(w.src)
	if n := w.snap(noParent).Totals; n.New != want.Files || n.NewRaw > got.NewRaw+64<<10 {
		t.Errorf("without a parent: %+v", n)
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t)
	w.zoo()
	w.write("huge", random(5, 5<<20))
	for range 2 {
		p := new(ingest.Progress)
		o := w.snap(func(o *ingest.Options) {
			o.Observer.Progress = p
			o.Sources = []ingest.Source{stdin("s", random(6, 1<<20)), &ingest.Tar{Name: "x", Reader: bytes.NewReader(makeTar(t, kind(tar.TypeDir, "d", ""), file("d/f", "x"), file("g", string(random(7, 1<<20)))))}}
		})
		if got, want := p.BytesDone.Load(), int64(o.Totals.Bytes); got != want || p.Bytes.Load() != want {
			t.Errorf("progress ends at %d of %d bytes, want %d", got, p.Bytes.Load(), want)
		}
		if got, want := p.FilesDone.Load(), int64(o.Totals.Files+o.Totals.Dirs+o.Totals.Others); got != want || !p.WalkFinished.Load() {
			t.Errorf("progress ends at %d entries, want %d", got, want)
		}
	}
}

func TestOneChanged(t *testing.T) {
	w := newWorld(t)
	w.many(5000)
	first := w.clean()
	before := w.view(first.ID)
	const name = "dir 050/file 02512"
	w.write(name, []byte("other contents"))
	second := w.clean()
	v := w.view(second.ID)
	if got := second.Totals; got.Changed != 1 || got.Unmodified != 4999 || got.New != 0 || got.Removed != 0 {
		t.Errorf("totals are %+v", got)
	}
	if c := second.changes[w.path(name)]; c != ingest.Changed {
		t.Errorf("the changed file is %s", c)
	}
	added := minus(v.chunks(all), before.chunks(all))
	if added != 1 || second.Totals.NewRaw > 300<<10 {
		t.Errorf("%d chunks of contents and %d bytes in all are new", added, second.Totals.NewRaw)
	}
	v.wantContents(w.path(name), []byte("other contents"))
	v.compare(w.src)
}

func TestTouched(t *testing.T) {
	w := newWorld(t)
	w.write("a", []byte("small"))
	w.write("b", random(1, 500<<10))
	w.write("c", []byte("mode"))
	w.write("d", []byte("written with the same"))
	first := w.view(w.clean().ID)
	at := time.Unix(1e9, 5)
	w.must(os.Chtimes(w.path("a"), at, at))
	w.must(os.Chtimes(w.path("b"), at, at))
	w.must(os.Chmod(w.path("c"), 0o600))
	w.write("d", []byte("written with the same"))
	second := w.clean()
	v := w.view(second.ID)
	v.compare(w.src)
	if got := second.Totals; got.Changed != 4 {
		t.Errorf("totals are %+v, want 4 changed", got)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if first.entry(w.path(name)).Hash != v.entry(w.path(name)).Hash {
			t.Errorf("%s: another content hash", name)
		}
	}
}

func TestAddedAndRemoved(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b/1", "b/2", "c", "d", "e/x"} {
		w.write(name, []byte(name))
	}
	w.clean()
	w.must(os.Remove(w.path("a")))
	w.must(os.RemoveAll(w.path("b")))
	w.must(os.Remove(w.path("d")))
	w.must(os.Mkdir(w.path("d"), 0o755)) // a file before
	w.must(os.RemoveAll(w.path("e")))
	w.write("e", []byte("a directory before"))
	w.write("f/new", []byte("new"))
	o := w.clean()
	v := w.view(o.ID)
	v.want("c", "d", "e", "f", "f/new")
	v.compare(w.src)
	// a, b, b/1, b/2 and e/x are gone.
	if got := o.Totals; got.Removed != 5 || got.New != 1 || got.Changed != 1 || got.Unmodified != 1 {
		t.Errorf("totals are %+v, want 5 removed, 1 new, 1 changed, 1 unmodified", got)
	}
}

// TestRacy changes a file without a trace: with the same size and the same
// times. That can happen within the tick of the kernel's clock.
func TestRacy(t *testing.T) {
	w := newWorld(t)
	now := func(o *ingest.Options) { o.Now = time.Now }
	for i := range 8 {
		// A new file, right before and right after the snapshot.
		name := fmt.Sprint("file", i)
		old, changed := []byte("old contents"), []byte("new contents")
		w.write(name, old)
		w.clean(now)
		f, err := os.OpenFile(w.path(name), os.O_WRONLY, 0)
		w.must(err)
		_, err = f.Write(changed)
		w.must(err)
		w.must(f.Close())
		w.view(w.clean(now).ID).wantContents(w.path(name), changed)
	}
}

// TestRacyTicks pretends that the parent began at just the time at which a
// file was last changed: then it can't be relied on, whatever its contents are
// now.
func TestRacyTicks(t *testing.T) {
	w := newWorld(t)
	w.write("file", []byte("x"))
	var st unix.Stat_t
	w.must(unix.Lstat(w.path("file"), &st))
	changed := time.Unix(st.Ctim.Unix())
	for _, test := range []struct {
		after time.Duration
		want  ingest.Change
	}{
		{-time.Second, ingest.Changed}, {0, ingest.Changed}, {time.Millisecond, ingest.Changed},
		{5 * time.Second, ingest.Unmodified},
	} {
		w.clean(noParent, func(o *ingest.Options) {
			o.Now = func() time.Time { return changed.Add(test.after) }
			o.Time = time.Now()
		})
		o := w.clean(func(o *ingest.Options) { o.Time = time.Now() })
		if got := o.changes[w.path("file")]; got != test.want {
			t.Errorf("a file that was changed %v before its snapshot is %s, want %s", test.after, got, test.want)
		}
	}
}

func TestLostPacksHeal(t *testing.T) {
	w := newWorld(t)
	w.many(300)
	w.write("large", random(1, 600<<10))
	w.write("list", random(2, 5<<20))
	w.write("y/link", random(3, 2000))
	w.must(os.Link(w.path("y/link"), w.path("y/other")))
	w.clean()
	for _, prefix := range []string{"data/", "meta/"} {
		w.deleteAll(prefix)
		o := w.clean()
		if got := o.Totals; got.New != 0 || got.Files != 304 {
			t.Errorf("%s lost: totals are %+v", prefix, got)
		}
		w.view(o.ID).compare(w.src)
	}
}

// TestReadAgainIsNotChanged: what is only bundled anew counts as unmodified.
func TestReadAgainIsNotChanged(t *testing.T) {
	w := newWorld(t)
	w.many(300)
	w.clean()
	// Most of the bundle dies. The snapshot that sees it leaves the rest
	// alone, the next one bundles it anew.
	for i := range 300 {
		if i%50 > 5 {
			w.must(os.Remove(w.path(fmt.Sprintf("dir %03d/file %05d", i/50, i))))
		}
	}
	second := w.clean()
	third := w.clean()
	before, after := w.view(second.ID).chunks(all), w.view(third.ID)
	if minus(after.chunks(all), before) == 0 {
		t.Error("a thin bundle was not made anew")
	}
	if got := third.Totals; got.Unmodified != 36 || got.Changed != 0 {
		t.Errorf("totals are %+v, want 36 unmodified", got)
	}
	after.compare(w.src)
	fourth := w.clean()
	if n := minus(w.view(fourth.ID).chunks(all), after.chunks(all)); n != 0 {
		t.Errorf("%d chunks are new, but there was no thin bundle", n)
	}
}

func TestWhichParent(t *testing.T) {
	w := newWorld(t)
	w.write("a/x", []byte("x"))
	w.write("b/y", []byte("y"))
	on := func(host string, names ...string) func(*ingest.Options) {
		return func(o *ingest.Options) {
			o.Host, o.Paths = host, nil
			for _, n := range names {
				o.Paths = append(o.Paths, w.path(n))
			}
		}
	}
	parentOf := func(want snapshot.ID, edit ...func(*ingest.Options)) snapshot.ID {
		t.Helper()
		o := w.clean(edit...)
		if o.Parent != want {
			t.Errorf("the parent is %s, want %s", o.Parent.Short(), want.Short())
		}
		if got := w.view(o.ID).info.Open.Parent; got != want {
			t.Errorf("the manifest says the parent is %s, want %s", got.Short(), want.Short())
		}
		return o.ID
	}
	none := snapshot.ID{}
	a1 := parentOf(none, on("here", "a"))
	parentOf(none, on("there", "a"))
	parentOf(none, on("here", "b"))
	parentOf(none, on("here", "a", "b"))
	a2 := parentOf(a1, on("here", "a"))
	parentOf(none, on("here", "a"), noParent)
	parentOf(a1, on("elsewhere", "b"), func(o *ingest.Options) { o.Parent = &a1 })
	// A stream is a source too.
	parentOf(none, on("here", "a"), func(o *ingest.Options) {
		o.Sources = []ingest.Source{ingest.Stream{Name: "s", Reader: strings.NewReader("s")}}
	})
	// The newest one is that of the greatest time.
	late := parentOf(a2, on("here", "a"), func(o *ingest.Options) { o.Parent = &a2 })
	parentOf(late, on("here", "a"), func(o *ingest.Options) { o.Time = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) })
	parentOf(late, on("here", "a"))
	unknown := snapshot.IDOf([]byte("unknown"))
	if _, err := w.try(t.Context(), func(o *ingest.Options) { o.Parent = &unknown }); err == nil {
		t.Error("an unknown parent was accepted")
	}
}

func TestWriteOnly(t *testing.T) {
	w := newWorld(t)
	_, err := w.repo.AddSlot(t.Context(), repo.NewSlot{Lock: passphrase("writer"), Access: seal.WriteOnly, Label: "w"})
	w.must(err)
	w.many(1000)
	w.write("large", random(1, 600<<10))
	w.write("list", random(2, 5<<20))
	cache := t.TempDir()
	quiet := func(o *repo.Options) { o.Observer = repo.Observer{} }

	w.repo = w.open("writer", cache, quiet)
	first := w.clean()
	w.storage.resetReads()
	w.repo = w.open("writer", cache, quiet)
	second := w.clean()
	if got := second.Totals; got.Unmodified != 1002 || second.Parent != first.ID {
		t.Errorf("the second snapshot is not incremental: %+v", got)
	}
	if reads := w.storage.resetReads(); reads["data"]+reads["meta"] != 0 {
		t.Errorf("a write-only key read back: %v", reads)
	}
	w.view(second.ID).compare(w.src)

	// Without its cache it can only begin anew. But what is stored is known.
	w.storage.resetReads()
	packs := w.dataPacks()
	w.repo = w.open("writer", t.TempDir(), quiet)
	third := w.clean()
	if got := third.Totals; got.New != 1002 || !bytes.Equal(third.Parent[:], make([]byte, 32)) {
		t.Errorf("without its cache: %+v", got)
	}
	if reads := w.storage.resetReads(); reads["data"]+reads["meta"] != 0 {
		t.Errorf("a write-only key read back: %v", reads)
	}
	if n := w.dataPacks() - packs; n != 0 {
		t.Errorf("%d packs were stored again", n)
	}
	w.view(third.ID).compare(w.src)
}
