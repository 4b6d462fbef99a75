package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// TestMain puts the machines' caches into memory where that is possible: there
// are hundreds, and each would wait for the disk.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("/dev/shm", "cairn-repo-test-")
	if err != nil {
		os.Exit(m.Run())
	}
	os.Setenv("TMPDIR", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// secret returns a passphrase that costs next to nothing.
func secret(text string) seal.Passphrase {
	return seal.Passphrase{Text: []byte(text), Cost: seal.Cost{Passes: 1, Memory: 64, Lanes: 1}}
}

// admin is the passphrase of the first slot.
const admin = "admin"

// source gives the same bytes in each run of a test, to many goroutines.
type source struct {
	mu  sync.Mutex
	rng *rand.ChaCha8
}

func newSource(t testing.TB) *source {
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	t.Logf("seed %d, from the test's name", h.Sum64())
	var seed [32]byte
	h.Sum(seed[:0])
	return &source{rng: rand.NewChaCha8(seed)}
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Read(p)
}

// bytes returns n bytes that don't compress.
func (s *source) bytes(n int) []byte {
	p := make([]byte, n)
	s.Read(p)
	return p
}

// world is a storage and the machines that use it.
type world struct {
	testing.TB
	random  *source
	storage *mem.Mem

	mu   sync.Mutex
	time time.Time
}

// now is a clock that goes on a second whenever it is asked.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(time.Second)
	return w.time
}

// newWorld returns a world with an empty storage.
func newWorld(t testing.TB) *world {
	w := &world{TB: t, random: newSource(t), time: time.Unix(1_700_000_000, 0)}
	w.storage = mem.New(w.now)
	return w
}

// params make packs small, so that a few chunks fill several.
func params() repo.Params {
	return repo.Params{Lock: secret(admin), Label: "first", PackSize: 1 << 16}
}

// newRepository returns a world with a repository in it.
func newRepository(t testing.TB) *world {
	w := newWorld(t)
	r, err := repo.Init(t.Context(), w.options(w.storage, "", ""), params())
	w.must(err)
	w.must(r.Close())
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// wants fails the test unless err matches target.
func (w *world) wants(err, target error) {
	w.Helper()
	if !errors.Is(err, target) {
		w.Fatalf("got %v, want %v", err, target)
	}
}

func (w *world) options(b backend.Interface, cache, pass string) repo.Options {
	o := repo.Options{Storage: b, Cache: cache, Now: w.now, Random: w.random, Goroutines: 2}
	if pass != "" {
		o.Secrets = []seal.Unlocker{secret(pass)}
	}
	return o
}

// machine opens the repository with a cache that stays, and closes it in the end.
func (w *world) machine(cache, pass string) *repo.Repository {
	w.Helper()
	r, err := repo.Open(w.Context(), w.options(w.storage, cache, pass))
	w.must(err)
	w.Cleanup(func() { w.must(r.Close()) })
	return r
}

// stranger opens the repository from a machine that never saw it.
func (w *world) stranger(pass string) *repo.Repository {
	w.Helper()
	return w.machine("", pass)
}

// addSlot adds a slot that the passphrase opens.
func (w *world) addSlot(pass string, access seal.Access) seal.SlotID {
	w.Helper()
	id, err := w.stranger(admin).AddSlot(w.Context(), repo.NewSlot{Lock: secret(pass), Access: access, Label: pass})
	w.must(err)
	return id
}

// on returns a copy of the world that has another storage. That of a subtest
// has its own source, so that subtests may run beside each other.
func (w *world) on(t testing.TB, storage *mem.Mem) *world {
	random := w.random
	if t != w.TB {
		random = newSource(t)
	}
	return &world{TB: t, random: random, storage: storage, time: w.now()}
}

// names lists the storage.
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

func (w *world) delete(names ...string) {
	w.Helper()
	for _, name := range names {
		w.must(w.storage.Delete(w.Context(), name))
	}
}

func (w *world) object(name string) []byte {
	w.Helper()
	p, err := backend.ReadAll(w.Context(), w.storage, name, 1<<30)
	w.must(err)
	return p
}

// replace sets an object, as who owns the storage can.
func (w *world) replace(name string, object []byte) {
	w.Helper()
	if _, err := w.storage.Stat(w.Context(), name); err == nil {
		w.delete(name)
	}
	w.must(backend.PutBytes(w.Context(), w.storage, name, object))
}

// files are the files of a snapshot, below "/".
type files map[string][]byte

// blockSize is where these tests cut contents.
const blockSize = 24 << 10

// maxInline is from how many extents on these tests give a file a list.
const maxInline = 8

// putter is what put needs of a repo.Writer.
type putter interface {
	Put(kind chunk.Kind, plaintext []byte) (chunk.ID, bool, error)
	PutNode(kind chunk.Kind, plaintext []byte) (chunk.ID, error)
}

// putList moves a file's extents into a list tree.
func putList(ctx context.Context, cut [32]byte, w putter, e *snapshot.Entry) error {
	l := snapshot.NewListBuilder(cut, func(_ context.Context, p []byte) (chunk.ID, error) { return w.PutNode(chunk.List, p) })
	for _, x := range e.Extents {
		if err := l.Add(ctx, x); err != nil {
			return err
		}
	}
	root, err := l.Finish(ctx)
	e.Extents, e.List = nil, &root
	return err
}

// put writes files as a tree.
func put(ctx context.Context, r *repo.Repository, w putter, f files) (snapshot.Root, error) {
	keys, err := r.WriteKeys()
	if err != nil {
		return snapshot.Root{}, err
	}
	b := snapshot.NewBuilder(keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) {
		return w.PutNode(chunk.Node, p)
	})
	if err := b.Add(ctx, &snapshot.Entry{Key: "", Type: snapshot.Directory, Mode: 0o755}); err != nil {
		return snapshot.Root{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		sum := blake3.Sum256(f[name])
		e := &snapshot.Entry{Key: snapshot.Key("").Child(name), Type: snapshot.File, Mode: 0o644, Size: uint64(len(f[name]))}
		if e.Size > 0 {
			e.Hash = [16]byte(sum[:16])
		}
		for block := range slices.Chunk(f[name], blockSize) {
			id, _, err := w.Put(chunk.Data, block)
			if err != nil {
				return snapshot.Root{}, err
			}
			e.Extents = append(e.Extents, snapshot.Extent{Chunk: id, ChunkSize: uint32(len(block)), Length: uint64(len(block))})
		}
		if len(e.Extents) > maxInline {
			if err := putList(ctx, keys.TreeCut, w, e); err != nil {
				return snapshot.Root{}, err
			}
		}
		if err := b.Add(ctx, e); err != nil {
			return snapshot.Root{}, err
		}
	}
	return b.Finish(ctx)
}

// commit publishes a tree. set is what tests find the snapshot by.
func commit(ctx context.Context, w *repo.Writer, root snapshot.Root, set string, now time.Time) (snapshot.ID, error) {
	return w.Commit(ctx, repo.NewSnapshot{Time: now, Host: "host", Body: snapshot.Body{Root: root, Set: set, Start: now, End: now}})
}

// backup makes a snapshot, or says why not and aborts.
func (w *world) backup(r *repo.Repository, set string, f files) (snapshot.ID, error) {
	ctx := w.Context()
	wr, err := r.NewWriter(ctx, repo.WriterOptions{Host: "host"})
	if err != nil {
		return snapshot.ID{}, err
	}
	id, err := w.finish(r, wr, set, f)
	if err != nil {
		return id, errors.Join(err, wr.Abort(ctx))
	}
	return id, nil
}

// finish puts and commits.
func (w *world) finish(r *repo.Repository, wr *repo.Writer, set string, f files) (snapshot.ID, error) {
	root, err := put(w.Context(), r, wr, f)
	if err != nil {
		return snapshot.ID{}, err
	}
	return commit(w.Context(), wr, root, set, w.now())
}

// mustBackup makes a snapshot from a machine.
func (w *world) mustBackup(r *repo.Repository, set string, f files) snapshot.ID {
	w.Helper()
	id, err := w.backup(r, set, f)
	w.must(err)
	return id
}

// begin opens a writer.
func (w *world) begin(r *repo.Repository) *repo.Writer {
	w.Helper()
	wr, err := r.NewWriter(w.Context(), repo.WriterOptions{Host: "host"})
	w.must(err)
	return wr
}

// someFiles returns files of several sizes, that differ from call to call.
func (w *world) someFiles() files {
	return files{
		"empty": nil, "one": w.random.bytes(1), "small": w.random.bytes(1000), "block": w.random.bytes(blockSize),
		"large": w.random.bytes(5*blockSize + 7), "text": bytes.Repeat(w.random.bytes(40), 500),
	}
}

// snapshots lists the snapshots.
func (w *world) snapshots(r *repo.Repository) *repo.SnapshotSet {
	w.Helper()
	set, err := r.Snapshots(w.Context())
	w.must(err)
	return set
}

// restore reads a snapshot's files.
func restore(ctx context.Context, r *repo.Repository, s *repo.Snapshot) (files, error) {
	if err := r.LoadBody(ctx, s); err != nil {
		return nil, err
	}
	f := make(files)
	c := snapshot.NewCursor(snapshot.Tree{Root: s.Body.Root, Source: r})
	for {
		e, err := c.Next(ctx)
		if err != nil {
			return nil, err
		}
		if e == nil {
			return f, nil
		}
		if e.Type != snapshot.File {
			continue
		}
		p, err := io.ReadAll(repo.NewFile(ctx, r, e))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Key.Path(), err)
		}
		f[e.Key.Base()] = p
	}
}

// has fails the test unless the repository has the snapshot whole.
func (w *world) has(r *repo.Repository, id snapshot.ID, want files) {
	w.Helper()
	s, ok := w.snapshots(r).Get(id)
	if !ok {
		w.Fatalf("snapshot %s is not listed", id.Short())
	}
	got, err := restore(w.Context(), r, s)
	w.must(err)
	if !maps.EqualFunc(got, want, bytes.Equal) {
		w.Fatalf("snapshot %s came back otherwise: %s, want %s", id.Short(), describe(got), describe(want))
	}
}

func describe(f files) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f)) {
		sum := blake3.Sum256(f[name])
		fmt.Fprintf(&b, "%s=%d:%x ", name, len(f[name]), sum[:4])
	}
	return b.String()
}

// all is a check that reads everything.
var all = repo.CheckOptions{Read: repo.Sample{Percent: 100}}

// check runs a check that reads everything.
func (w *world) check(r *repo.Repository) *repo.Report {
	w.Helper()
	report, err := r.Check(w.Context(), all)
	w.must(err)
	return report
}

// isSound fails the test if a machine that never saw the repository finds
// anything wrong with it.
func (w *world) isSound() {
	w.Helper()
	w.mustBeSound(w.stranger(admin))
}

func (w *world) mustBeSound(r *repo.Repository) {
	w.Helper()
	for _, p := range w.check(r).Problems {
		w.Errorf("problem with %s: %v", p.Object, p.Err)
	}
	for _, err := range w.snapshots(r).Damage {
		w.Errorf("damage: %v", err)
	}
}

// sealer is what the holder of a passphrase seals objects with.
func (w *world) sealer(r *repo.Repository) protocol.Sealer {
	w.Helper()
	s, err := r.Sealer()
	w.must(err)
	return s
}

// finds fails the test unless an error names the object.
func (w *world) finds(errs []error, object string) {
	w.Helper()
	for _, err := range errs {
		var d *repo.DamageError
		if errors.As(err, &d) && strings.Contains(d.Object, object) {
			return
		}
	}
	w.Errorf("nothing is said about %s: %v", object, errs)
}
