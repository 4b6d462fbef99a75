package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// small are chunks small enough that a file of a few megabytes has a list tree.
var small = chunk.Params{Algorithm: chunk.FastCDC, Min: 16 << 10, Avg: 32 << 10, Max: 512 << 10}

// world is a repository in memory and a directory to make snapshots of.
type world struct {
	*testing.T
	storage *storage
	cache   string
	repo    *repo.Repository
	src     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, repo.Params{Chunker: small})
}

func newWorldOf(t *testing.T, p repo.Params) *world {
	t.Helper()
	w := &world{T: t, storage: &storage{Mem: mem.New(time.Now), reads: make(map[string]int)}, cache: t.TempDir(), src: t.TempDir()}
	p.Lock = passphrase("full")
	r, err := repo.Init(t.Context(), w.options(w.cache), p)
	w.must(err)
	w.repo = r
	t.Cleanup(func() { r.Close() })
	return w
}

func passphrase(text string) seal.Passphrase {
	return seal.Passphrase{Text: []byte(text), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}}
}

func (w *world) options(cache string, secrets ...seal.Unlocker) repo.Options {
	return repo.Options{
		Storage: w.storage, Cache: cache, Secrets: secrets,
		Observer: repo.Observer{Warning: func(err error) { w.Errorf("repository warns: %v", err) }},
	}
}

// open opens the repository anew.
func (w *world) open(secret, cache string, edit ...func(*repo.Options)) *repo.Repository {
	w.Helper()
	o := w.options(cache, passphrase(secret))
	for _, f := range edit {
		f(&o)
	}
	r, err := repo.Open(w.Context(), o)
	w.must(err)
	w.Cleanup(func() { r.Close() })
	return r
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(name string) string { return w.src + "/" + name }

// write makes a file, and the directories above it.
func (w *world) write(name string, contents []byte) {
	w.Helper()
	w.must(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	w.must(os.WriteFile(w.path(name), contents, 0o644))
}

// random returns n bytes that are the same for the same seed.
func random(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// problem is one call of Observer.Problem.
type problem struct {
	path  string
	err   error
	fatal bool
}

// outcome is what a snapshot became and what was reported meanwhile.
type outcome struct {
	*ingest.Result
	problems []problem
	changes  map[string]ingest.Change
}

// problem returns the only problem of a path.
func (o *outcome) problem(t *testing.T, path string) problem {
	t.Helper()
	var found []problem
	for _, p := range o.problems {
		if p.path == path {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d problems of %s, want one; all: %v", len(found), path, o.problems)
	}
	return found[0]
}

// later is a clock an hour ahead, so that no file looks as if it might have
// been changed since its snapshot began.
func later() time.Time { return time.Now().Add(time.Hour) }

// try makes a snapshot of w.src, if edit does not say otherwise.
func (w *world) try(ctx context.Context, edit ...func(*ingest.Options)) (*outcome, error) {
	opts := ingest.Options{Paths: []string{w.src}, Host: "here", Now: later}
	o := &outcome{changes: make(map[string]ingest.Change)}
	var mu sync.Mutex
	opts.Observer.Problem = func(path string, err error, fatal bool) {
		mu.Lock()
		defer mu.Unlock()
		o.problems = append(o.problems, problem{path, err, fatal})
	}
	opts.Observer.Entry = func(path string, c ingest.Change, _ uint64) {
		mu.Lock()
		defer mu.Unlock()
		o.changes[path] = c
	}
	r := w.repo
	for _, f := range edit {
		f(&opts)
	}
	var err error
	o.Result, err = ingest.Snapshot(ctx, r, opts)
	return o, err
}

// snap makes a snapshot that must succeed.
func (w *world) snap(edit ...func(*ingest.Options)) *outcome {
	w.Helper()
	o, err := w.try(w.Context(), edit...)
	w.must(err)
	return o
}

// clean makes a snapshot that must have no problems.
func (w *world) clean(edit ...func(*ingest.Options)) *outcome {
	w.Helper()
	o := w.snap(edit...)
	for _, p := range o.problems {
		w.Errorf("problem with %s: %v", p.path, p.err)
	}
	if o.Partial || o.Totals.Unreadable != 0 {
		w.Errorf("partial %t, %d unreadable", o.Partial, o.Totals.Unreadable)
	}
	return o
}

// view is a snapshot read back from the storage.
type view struct {
	w       *world
	repo    *repo.Repository
	info    *repo.Snapshot
	entries map[string]snapshot.Entry
	plain   map[chunk.ID][]byte // chunks that were read
}

// view reads a snapshot with a repository of its own, so that no cache of the
// writer helps.
func (w *world) view(id snapshot.ID) *view {
	w.Helper()
	v := &view{w: w, repo: w.open("full", ""), entries: make(map[string]snapshot.Entry), plain: make(map[chunk.ID][]byte)}
	set, err := v.repo.Snapshots(w.Context())
	w.must(err)
	w.must(errors.Join(set.Damage...))
	var ok bool
	if v.info, ok = set.Get(id); !ok {
		w.Fatalf("snapshot %s is not in the repository", id.Short())
	}
	w.must(v.repo.LoadBody(w.Context(), v.info))
	last := snapshot.Key("")
	for e, err := range v.tree().All(w.Context()) {
		w.must(err)
		if len(v.entries) > 0 && e.Key <= last {
			w.Fatalf("%q stands behind %q", e.Key, last)
		}
		last = e.Key
		w.must(e.Validate())
		if up, ok := e.Key.Parent(); ok && v.entries[up.Path()].Type != snapshot.Directory {
			w.Fatalf("%s has no directory", e.Key.Path())
		}
		v.entries[e.Key.Path()] = *e
	}
	return v
}

func (v *view) tree() snapshot.Tree {
	return snapshot.Tree{Root: v.info.Body.Root, Source: v.repo}
}

// below returns the paths inside of dir, relative to it, sorted.
func (v *view) below(dir string) []string {
	var names []string
	for p := range v.entries {
		if rest, ok := strings.CutPrefix(p, dir+"/"); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

// want fails unless the paths below w.src are names.
func (v *view) want(names ...string) {
	v.w.Helper()
	slices.Sort(names)
	if got := v.below(v.w.src); !slices.Equal(got, names) {
		v.w.Errorf("the snapshot has\n%q, want\n%q", got, names)
	}
}

func (v *view) entry(path string) *snapshot.Entry {
	v.w.Helper()
	e, ok := v.entries[path]
	if !ok {
		v.w.Fatalf("%s is not in the snapshot", path)
	}
	return &e
}

func (v *view) contents(path string) []byte {
	v.w.Helper()
	if len(v.entries) > 200 {
		return v.manyContents(v.entry(path))
	}
	b, err := io.ReadAll(repo.NewFile(v.w.Context(), v.repo, v.entry(path)))
	v.w.must(err)
	return b
}

// manyContents reads each bundle only once.
func (v *view) manyContents(e *snapshot.Entry) (b []byte) {
	v.w.Helper()
	next := snapshot.Extents(v.w.Context(), v.repo, e)
	for x, err := next(); err != io.EOF; x, err = next() {
		v.w.must(err)
		if x.IsHole() {
			b = append(b, make([]byte, x.Length)...)
			continue
		}
		p, ok := v.plain[x.Chunk]
		if !ok {
			p, err = v.repo.Chunk(v.w.Context(), repo.Ref{ID: x.Chunk, Kind: chunk.Data})
			v.w.must(err)
			v.plain[x.Chunk] = p
		}
		if len(p) != int(x.ChunkSize) {
			v.w.Fatalf("%q: a chunk of %d bytes, want %d", e.Key, len(p), x.ChunkSize)
		}
		b = append(b, p[x.Offset:][:x.Length]...)
	}
	return b
}

func (v *view) wantContents(path string, want []byte) {
	v.w.Helper()
	if got := v.contents(path); !bytes.Equal(got, want) {
		v.w.Errorf("%s has other contents: %d bytes %.40q, want %d bytes %.40q", path, len(got), got, len(want), want)
	}
}

// chunks returns the data chunks of the paths that fit.
func (v *view) chunks(fits func(path string) bool) map[chunk.ID]bool {
	ids := make(map[chunk.ID]bool)
	for p, e := range v.entries {
		if !fits(p) {
			continue
		}
		next := snapshot.Extents(v.w.Context(), v.repo, &e)
		for x, err := next(); err != io.EOF; x, err = next() {
			v.w.must(err)
			if !x.IsHole() {
				ids[x.Chunk] = true
			}
		}
	}
	return ids
}

func all(string) bool { return true }

// minus returns how many of a are not in b.
func minus(a, b map[chunk.ID]bool) (n int) {
	for id := range a {
		if !b[id] {
			n++
		}
	}
	return n
}

// quietly calls f until the directories above w.src did not change meanwhile:
// they are in the tree, and others work in them.
func (w *world) quietly(f func()) {
	w.Helper()
	state := func() (s string) {
		for p := w.src; p != "/"; {
			p = filepath.Dir(p)
			var st unix.Stat_t
			w.must(unix.Lstat(p, &st))
			s += fmt.Sprint(st.Mtim, st.Ctim)
		}
		return s
	}
	for range 100 {
		before := state()
		if f(); state() == before {
			return
		}
	}
	w.Fatalf("the directories above %s do not come to rest", w.src)
}

// storage counts the reads of each kind of objects, and can be told to call a
// hook before each new object.
type storage struct {
	*mem.Mem
	mu    sync.Mutex
	reads map[string]int    // first component of the name -> calls
	ends  func(name string) // called before the end of a lease is put
	full  error             // what staging an object ends with, if not nil
}

func (s *storage) count(name string) {
	kind, _, _ := strings.Cut(name, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads[kind]++
}

// resetReads sets the counters back and returns what they were.
func (s *storage) resetReads() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := maps.Clone(s.reads)
	clear(s.reads)
	return old
}

func (s *storage) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	s.count(name)
	return s.Mem.Open(ctx, name)
}

func (s *storage) Stage(ctx context.Context) (backend.Staged, error) {
	if s.full != nil {
		return nil, s.full
	}
	return s.Mem.Stage(ctx)
}

func (s *storage) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	s.count(name)
	return s.Mem.ReadAt(ctx, name, p, off)
}

// names lists the objects whose names begin with prefix.
func (w *world) names(prefix string) []string {
	w.Helper()
	var names []string
	for info, err := range w.storage.List(w.Context(), prefix) {
		w.must(err)
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return names
}

// deleteAll deletes all objects whose names begin with prefix.
func (w *world) deleteAll(prefix string) {
	w.Helper()
	for _, name := range w.names(prefix) {
		w.must(w.storage.Delete(w.Context(), name))
	}
}

var _ backend.Interface = (*storage)(nil)
