// Package crash_test kills whole commands (snapshots, changes of keys, forget, prune, restores) at
// each operation of the storage, fails each of them, and cuts the power, and then
// looks at what is left: what was acknowledged must be there, everything that is
// listed must be whole, check must find nothing, and the next snapshot must
// succeed.
//
// A short run takes some of the cases, chosen by their number; with SOAK set to a
// number of rounds (make soak) all of them are taken, and that many random ones.
package crash_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// soak is how many rounds of random work to do, 0 in a short run.
var soak, _ = strconv.Atoi(os.Getenv("SOAK"))

// TestMain puts sources, targets and caches into memory where that is possible:
// there are hundreds, and each would wait for the disk.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("/dev/shm", "cairn-crash-test-")
	if err != nil {
		os.Exit(m.Run())
	}
	os.Setenv("TMPDIR", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// world is a storage, with what was promised about it, and a source.
type world struct {
	testing.TB
	storage backend.Interface // without faults
	cache   string            // of the machine
	src     string

	promises  map[snapshot.ID]tree // acknowledged snapshots
	forgotten map[snapshot.ID]int  // those of them that are to be forgotten, and whether that is acknowledged
	keys      []string             // acknowledged passphrases
	removed   []string             // passphrases whose removal was acknowledged
	tries     []tree               // what snapshots were of, acknowledged or not
}

// tree is what is in a snapshot: paths below the source, each with all that matters
// of it, and streams as "stdin/NAME".
type tree map[string]string

const admin = "admin"

func newWorld(t testing.TB, storage backend.Interface) *world {
	w := &world{TB: t, storage: storage, cache: t.TempDir(), src: filepath.Join(t.TempDir(), "src"), promises: map[snapshot.ID]tree{}, forgotten: map[snapshot.ID]int{}}
	w.write("a/one", []byte("one\n"))
	w.write("a/two", bytes.Repeat([]byte("two\n"), 5000))
	w.write("a/empty", nil)
	w.write("a/b/deep", noise(1, 3000))
	w.write("gone", noise(2, 500))
	w.write("large", noise(3, 150<<10))
	w.must(os.Symlink("a/one", filepath.Join(w.src, "link")))
	w.must(os.Link(filepath.Join(w.src, "a/two"), filepath.Join(w.src, "a/again")))
	return w
}

// edit changes the source, so that a snapshot has something of each kind to do.
func (w *world) edit() {
	w.write("a/one", []byte("another one\n"))
	w.write("a/new", noise(4, 2000))
	w.must(os.Remove(filepath.Join(w.src, "gone")))
	p := noise(3, 150<<10)
	copy(p[70<<10:], noise(5, 8<<10))
	w.write("large", p)
}

// on returns the world with another storage, and a copy of the machine's cache.
func (w *world) on(t testing.TB, storage backend.Interface) *world {
	c := &world{
		TB: t, storage: storage, cache: t.TempDir(), src: w.src,
		promises: maps.Clone(w.promises), forgotten: maps.Clone(w.forgotten), keys: slices.Clone(w.keys), removed: slices.Clone(w.removed), tries: slices.Clone(w.tries),
	}
	c.must(os.CopyFS(c.cache, os.DirFS(w.cache)))
	return c
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) write(name string, contents []byte) {
	w.Helper()
	p := filepath.Join(w.src, name)
	w.must(os.MkdirAll(filepath.Dir(p), 0o755))
	w.must(os.WriteFile(p, contents, 0o644))
}

// noise returns n bytes that don't compress.
func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func secret(text string) seal.Passphrase {
	return seal.Passphrase{Text: []byte(text), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}}
}

// One goroutine encodes and stores. The others of the pipeline still run beside it,
// so operations of different kinds may change places from run to run: cases
// are numbered by kind.
func options(b backend.Interface, cache, pass string) repo.Options {
	return repo.Options{Storage: b, Cache: cache, Secrets: []seal.Unlocker{secret(pass)}, Goroutines: 1}
}

// params make packs and chunks small, so that a small tree fills several packs.
func params() repo.Params {
	return repo.Params{
		Lock: secret(admin), PackSize: 1 << 16,
		Chunker: chunk.Params{Algorithm: chunk.FastCDC, Min: 8 << 10, Avg: 16 << 10, Max: 64 << 10},
	}
}

// init makes the repository.
func (w *world) init(b backend.Interface) error {
	r, err := repo.Init(w.Context(), options(b, w.cache, admin), params())
	if err != nil {
		return err
	}
	w.keys = []string{admin}
	return r.Close()
}

// with opens the repository on b, works, and closes it.
func (w *world) with(b backend.Interface, cache, pass string, work func(*repo.Repository) error) error {
	r, err := repo.Open(w.Context(), options(b, cache, pass))
	if err != nil {
		return err
	}
	return errors.Join(work(r), r.Close())
}

// snapshot makes a snapshot of the source and of streams.
func (w *world) snapshot(b backend.Interface, pass string, streams ...stream) error {
	return w.with(b, w.cache, pass, func(r *repo.Repository) error {
		opts := ingest.Options{Paths: []string{w.src}, Host: "host"}
		is := w.describe(w.src)
		for _, s := range streams {
			opts.Sources = append(opts.Sources, ingest.Stream{Name: s.name, Reader: bytes.NewReader(s.contents)})
			is["stdin/"+s.name] = string(s.contents)
		}
		w.tries = append(w.tries, is)
		res, err := ingest.Snapshot(w.Context(), r, opts)
		if err != nil {
			return err
		}
		if res.Partial {
			w.Errorf("a snapshot is incomplete: %+v", res)
		}
		w.promises[res.ID] = is
		return nil
	})
}

type stream struct {
	name     string
	contents []byte
}

// describe says all that matters of what is in a directory.
func (w *world) describe(dir string) tree {
	w.Helper()
	is := make(tree)
	w.must(filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %d ", info.Mode(), info.ModTime().UnixNano())
		switch info.Mode().Type() {
		case 0:
			b, err := os.ReadFile(p)
			is[rel] = line + string(b)
			return err
		case fs.ModeSymlink:
			to, err := os.Readlink(p)
			is[rel] = line + to
			return err
		}
		is[rel] = line
		return nil
	}))
	return is
}

// restore restores a snapshot into a directory.
func (w *world) restore(r *repo.Repository, s *repo.Snapshot, dir string) error {
	_, err := restore.Directory(w.Context(), r, restore.Options{Snapshot: s, Target: dir, Overwrite: restore.IfChanged})
	return err
}

// restored describes what restore made.
func (w *world) restored(dir string) tree {
	w.Helper()
	is := w.describe(filepath.Join(dir, w.src))
	streams, _ := os.ReadDir(filepath.Join(dir, "stdin"))
	for _, s := range streams {
		b, err := os.ReadFile(filepath.Join(dir, "stdin", s.Name()))
		w.must(err)
		is["stdin/"+s.Name()] = string(b)
	}
	return is
}

// same fails the test unless two trees are equal.
func (w *world) same(what string, got, want tree) {
	w.Helper()
	for p := range want {
		if got[p] != want[p] {
			w.Errorf("%s: %s is %.60q, want %.60q", what, p, got[p], want[p])
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			w.Errorf("%s: %s should not be there", what, p)
		}
	}
}

// holds fails the test unless everything that was promised is so: acknowledged
// snapshots are there, each listed one is whole and of the source, check finds nothing,
// and another snapshot can be made. It looks from the machine, with its cache, or
// from one that never saw the repository.
func (w *world) holds() {
	w.Helper()
	look := func(cache string) {
		w.Helper()
		w.must(w.with(w.storage, cache, admin, func(r *repo.Repository) error {
			w.clean(r)
			return w.whole(r)
		}))
	}
	look(w.cache)
	for _, k := range w.keys {
		if !w.opens(k) {
			w.Errorf("key %s was acknowledged and opens nothing", k)
		}
	}
	for _, k := range w.removed {
		if w.opens(k) {
			w.Errorf("key %s was removed and opens the repository", k)
		}
	}
	if w.Failed() {
		return
	}
	before := len(w.promises)
	w.must(w.snapshot(w.storage, admin))
	if len(w.promises) == before {
		w.Error("the next snapshot is none")
	}
	look(w.TempDir())
}

// clean fails the test if check, which reads all, finds anything but left-overs.
func (w *world) clean(r *repo.Repository) {
	w.Helper()
	report, err := r.Check(w.Context(), repo.CheckOptions{Read: repo.Sample{Percent: 100}})
	w.must(err)
	for _, p := range report.Problems {
		w.Errorf("check: %s: %v", p.Object, p.Err)
	}
	for _, l := range report.Leftovers {
		if !slices.ContainsFunc(leftovers, func(s string) bool { return strings.Contains(l, s) }) {
			w.Errorf("check: %s is left", l)
		}
	}
}

// leftovers are what killed runs may leave.
var leftovers = []string{
	"a key slot that config does not list", "a pack of a run that did not finish", "committed, but not yet copied",
	"still going on, or was killed", "an ended lease", "a pack that is condemned", "that another one supersedes",
}

// whole fails the test unless all promised snapshots are listed, and all that are
// listed can be restored. One that nobody was promised is of something that was tried.
func (w *world) whole(r *repo.Repository) error {
	w.Helper()
	set, err := r.Snapshots(w.Context())
	if err != nil {
		return err
	}
	for _, err := range set.Damage {
		w.Errorf("snapshots: %v", err)
	}
	for id := range w.promises {
		_, ok := set.Get(id)
		if !ok && w.forgotten[id] == 0 {
			w.Errorf("snapshot %s was acknowledged and is lost", id.Short())
		}
		if ok && w.forgotten[id] == acknowledged {
			w.Errorf("snapshot %s was forgotten and is back", id.Short())
		}
	}
	for _, s := range set.Newest() {
		dir := w.TempDir()
		w.must(w.restore(r, s, dir))
		got := w.restored(dir)
		want, ok := w.promises[s.ID]
		if !ok {
			want = w.tryLike(got)
			w.promises[s.ID] = want // what was seen must stay
		}
		w.same("snapshot "+s.ID.Short(), got, want)
		w.must(os.RemoveAll(dir))
	}
	return nil
}

// tryLike returns what was tried and is like got, or else the last that was tried.
func (w *world) tryLike(got tree) tree {
	for _, is := range w.tries {
		if maps.Equal(is, got) {
			return is
		}
	}
	if len(w.tries) == 0 {
		return nil
	}
	return w.tries[len(w.tries)-1]
}

// clock is that of storages: the same as the machine's.
func clock() time.Time { return time.Now() }
