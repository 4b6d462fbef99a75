package repo_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/snapshot"
)

// meanwhile is a storage on which things happen before operations of a reader, which
// may write nothing.
type meanwhile struct {
	*mem.Mem
	mu   sync.Mutex
	done int              // operations
	at   map[int][]func() // what happens before an operation
}

func (m *meanwhile) step() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, what := range m.at[m.done] {
		what()
	}
	m.done++
}

func (m *meanwhile) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	m.step()
	return m.Mem.Open(ctx, name)
}

func (m *meanwhile) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	m.step()
	return m.Mem.ReadAt(ctx, name, p, off)
}

func (m *meanwhile) Stat(ctx context.Context, name string) (backend.Info, error) {
	m.step()
	return m.Mem.Stat(ctx, name)
}

// List is no picture of one moment: what comes or goes meanwhile may be in it or not.
func (m *meanwhile) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		m.step()
		early := slices.Collect(maps.Keys(maps.Collect(m.Mem.List(ctx, prefix))))
		m.step()
		late := slices.Collect(maps.Keys(maps.Collect(m.Mem.List(ctx, prefix))))
		for n, half := range [][]backend.Info{early, late} {
			for _, info := range half {
				if int(info.Name[len(info.Name)-1])%2 == n && !yield(info, nil) {
					return
				}
			}
		}
	}
}

func (m *meanwhile) refuse(name string) error {
	return fmt.Errorf("%s: a reader writes to the storage", name)
}

func (m *meanwhile) Put(_ context.Context, name string, _ io.ReaderAt, _ int64) error {
	return m.refuse(name)
}

func (m *meanwhile) Delete(_ context.Context, name string) error { return m.refuse(name) }

func (m *meanwhile) Swap(_ context.Context, name string, _, _ []byte) error { return m.refuse(name) }

func (m *meanwhile) Stage(context.Context) (backend.Staged, error) { return nil, m.refuse("a pack") }

var _ backend.Full = (*meanwhile)(nil)

// besides is a repository with something to move, to forget and to store.
type besides struct {
	*world
	keep, drop snapshot.ID
	nodes      []string // packs with what only the dropped one needs
	files      files
}

func newBesides(t *testing.T) *besides {
	w := &besides{world: newRepository(t)}
	w.files = w.someFiles()
	w.files["listed"] = w.random.bytes((maxInline + 2) * blockSize)
	w.drop = w.mustBackup(w.stranger(admin), "dropped", files{"only here": w.random.bytes(3 * blockSize), "block": w.files["block"], "small": w.files["small"]})
	w.nodes = w.names("meta/")
	w.keep = w.mustBackup(w.stranger(admin), "kept", w.files)
	return w
}

// happens returns what may happen beside a reader, in steps.
func (w *besides) happens(what string) (steps []func()) {
	r := w.stranger(admin)
	move := func() {
		m := &repo.HarshPrune{Repository: r}
		for _, step := range m.Steps() {
			steps = append(steps, func() { w.must(step(context.Background())) })
		}
	}
	switch what {
	case "prune":
		move()
	case "two prunes":
		move()
		move()
	case "forget":
		steps = append(steps, func() { w.must(r.Bury(context.Background(), protocol.Forgotten{ID: w.drop})) })
		move()
	case "forget alone":
		steps = append(steps, func() { w.must(r.Bury(context.Background(), protocol.Forgotten{ID: w.drop})) },
			func() { w.delete(w.nodes...) }, func() { w.delete("snapshots/" + w.drop.String()) })
	case "real prune":
		steps = append(steps, func() { w.must(r.Bury(context.Background(), protocol.Forgotten{ID: w.drop})) })
		steps = append(steps, func() {
			report, err := r.Prune(context.Background(), repo.PruneOptions{})
			w.must(err)
			if report.Freed.Packs == 0 || report.Repacked.Packs == 0 {
				w.Errorf("the prune did %+v", report)
			}
		})
	case "snapshot", "snapshot alone":
		for _, name := range []string{"new", "newer"} {
			steps = append(steps, func() { w.mustBackup(r, name, files{name: w.random.bytes(2 * blockSize), "small": w.files["small"]}) })
		}
		if what == "snapshot" {
			move()
		}
	}
	return steps
}

// beside lets a reader read, with things happening at its operations: all at one, and
// each at a random one. With SOAK set it tries every operation, else some.
func (w *besides) beside(t *testing.T, what string, read func(w *besides, b backend.Interface)) {
	plain := &meanwhile{Mem: w.storage.Clone()}
	read(&besides{w.on(t, plain.Mem), w.keep, w.drop, w.nodes, w.files}, plain)
	total := plain.done
	rng := rand.New(rand.NewPCG(1, 2))
	stride := 4 * step
	if os.Getenv("SOAK") != "" {
		stride = 1
	}
	for n := 0; n < 2*total; n += stride {
		m := &meanwhile{Mem: w.storage.Clone(), at: make(map[int][]func())}
		w := &besides{w.on(t, m.Mem), w.keep, w.drop, w.nodes, w.files}
		steps := w.happens(what)
		when := make([]int, len(steps))
		for i := range when {
			if when[i] = n; n >= total {
				when[i] = rng.IntN(total)
			}
		}
		slices.Sort(when)
		for i, step := range steps {
			m.at[when[i]] = append(m.at[when[i]], step)
		}
		read(w, m)
		if t.Failed() {
			t.Fatalf("steps were at %d of %d operations", when, total)
		}
	}
}

var meanwhiles = []string{"prune", "two prunes", "forget", "real prune", "snapshot"}

// A check says nothing of what only moves, goes rightfully, or is not yet there.
func TestCheckBeside(t *testing.T) {
	for _, what := range meanwhiles {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newBesides(t)
			for _, read := range []repo.Sample{{}, {Percent: 100}} {
				w.beside(t, what, func(w *besides, b backend.Interface) {
					report, err := w.through(b, admin).Check(t.Context(), repo.CheckOptions{Read: read})
					w.must(err)
					for _, p := range report.Problems {
						t.Errorf("problem with %s: %v (%v)", p.Object, p.Err, p.Chunks)
					}
				})
			}
		})
	}
}

// What is lost is found all the same, and nothing else.
func TestCheckBesideFindsDamage(t *testing.T) {
	for _, what := range []string{"forget alone", "snapshot alone"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newBesides(t)
			lost := w.homeOf(w.dataChunk(w.keep)).name
			w.delete(lost)
			w.beside(t, what, func(w *besides, b backend.Interface) {
				report, err := w.through(b, admin).Check(t.Context(), all)
				w.must(err)
				if len(report.Problems) != 1 || report.Problems[0].Object != lost || !slices.Contains(report.Problems[0].Snapshots, w.keep) {
					t.Errorf("without %s the check says %+v", lost, report.Problems)
				}
			})
		})
	}
}

// A restore goes on while all that it reads moves.
func TestRestoreBeside(t *testing.T) {
	for _, what := range meanwhiles {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newBesides(t)
			w.beside(t, what, func(w *besides, b backend.Interface) {
				r := w.through(b, admin)
				w.has(r, w.keep, w.files)
			})
		})
	}
}

// So does one that reads many chunks at once.
func TestChunksBeside(t *testing.T) {
	for _, what := range meanwhiles {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newBesides(t)
			w.beside(t, what, func(w *besides, b backend.Interface) {
				r := w.through(b, admin)
				s, ok := w.snapshots(r).Get(w.keep)
				if !ok {
					t.Fatal("the snapshot is gone")
				}
				w.must(r.LoadBody(t.Context(), s))
				found := &refs{}
				w.must(snapshot.Visit(t.Context(), snapshot.Tree{Root: s.Body.Root, Source: r}, found))
				if len(found.refs) < 10 {
					t.Fatalf("only %d chunks", len(found.refs))
				}
				w.must(r.Chunks(t.Context(), found.refs, func(i int, p []byte, err error) error {
					if err == nil && !r.IsChunk(found.refs[i], p) {
						err = fmt.Errorf("other contents")
					}
					return err
				}))
			})
		})
	}
}

// refs collects the data chunks of a tree.
type refs struct{ refs []repo.Ref }

func (r *refs) Enter(snapshot.Mention, *snapshot.Entry) bool { return true }

func (r *refs) Extent(_ *snapshot.Entry, x snapshot.Extent) error {
	r.refs = append(r.refs, repo.Ref{ID: x.Chunk, Kind: chunk.Data})
	return nil
}

func (r *refs) Bad(_ chunk.ID, _ *snapshot.Entry, err error) error { return err }

// between is a storage in which something happens once before a segment is read, which
// is after it was listed.
type between struct {
	*mem.Mem
	what func()
}

func (b *between) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if what := b.what; what != nil && strings.HasPrefix(name, "index/") {
		b.what = nil
		what()
	}
	return b.Mem.Open(ctx, name)
}

// A reader that has looked everywhere before does not rely on what it found then.
func TestReadBetweenPrunes(t *testing.T) {
	w := newBesides(t)
	prune := func() {
		for _, step := range w.happens("prune") {
			step()
		}
	}
	b := &between{Mem: w.storage}
	r := w.through(b, admin)
	s, _ := w.snapshots(r).Get(w.keep)
	w.must(r.LoadBody(t.Context(), s))
	_, err := r.Chunk(t.Context(), repo.Ref{ID: chunk.ID{1}, Kind: chunk.Data})
	w.wants(err, repo.ErrDamage)
	prune()
	b.what = prune
	_, err = r.Chunk(t.Context(), repo.Ref{ID: s.Body.Root.ID, Kind: chunk.Node})
	w.must(err)
	if b.what != nil {
		t.Error("nothing happened")
	}
}
