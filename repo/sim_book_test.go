package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// book is the oracle of what a repository must have: it knows what each set of files
// needs, from the files alone, and looks into the storage's objects by itself. The
// index and the cache, and what package repo makes of them, don't matter to it.
type book struct {
	testing.TB
	storage *mem.Mem         // the repository as it was before anything began
	clock   *clock           // of all storages
	reader  *repo.Repository // opens what is sealed

	kin *kin // by which writers store deltas

	mu    sync.Mutex
	sets  map[string]files
	needs map[string][]chunk.ID // of sets
	packs map[string][]pack.Entry
	says  map[string]*saying
}

// saying is what an object says of snapshots.
type saying struct {
	commits   snapshot.ID // zero if nothing
	set       string
	forgotten []snapshot.ID
}

// newBook makes a repository.
func newBook(t *testing.T) *book {
	settle(t)
	b := &book{
		TB: t, clock: &clock{simStart}, sets: make(map[string]files), needs: make(map[string][]chunk.ID), kin: newKin(),
		packs: make(map[string][]pack.Entry), says: make(map[string]*saying),
	}
	b.storage = mem.New(b.clock.now)
	o := repo.Options{Storage: b.storage, Random: seeded("init"), Now: b.clock.now, Goroutines: 1}
	r, err := repo.Init(context.Background(), o, params())
	b.must(err)
	t.Cleanup(func() { r.Close() })
	b.reader = r
	return b
}

func (b *book) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// fork returns a book that knows the same, and notes what it learns for itself.
func (b *book) fork() *book {
	return &book{
		TB: b.TB, storage: b.storage, clock: b.clock, reader: b.reader,
		sets: maps.Clone(b.sets), needs: maps.Clone(b.needs), kin: b.kin.clone(), packs: maps.Clone(b.packs), says: maps.Clone(b.says),
	}
}

// scribe counts instead of storing.
type scribe struct {
	hasher *chunk.Hasher
	ids    []chunk.ID
}

func (s *scribe) Put(kind chunk.Kind, plaintext []byte) (chunk.ID, bool, error) {
	id := s.hasher.Sum(kind, plaintext)
	s.ids = append(s.ids, id)
	return id, true, nil
}

func (s *scribe) PutNode(kind chunk.Kind, plaintext []byte) (chunk.ID, error) {
	id, _, err := s.Put(kind, plaintext)
	return id, err
}

// add notes a set of files, which a snapshot is to have, and what that needs.
func (b *book) add(set string, f files) {
	b.Helper()
	k, err := b.reader.WriteKeys()
	b.must(err)
	s := &scribe{hasher: chunk.NewHasher(chunk.Keys{Data: k.ChunkData, Node: k.ChunkNode, List: k.ChunkList})}
	_, err = put(context.Background(), b.reader, s, f)
	b.must(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sets[set], b.needs[set] = maps.Clone(f), s.ids
}

// entries returns what a pack has, by its own directory.
func (b *book) entries(name string, object []byte) ([]pack.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.packs[name]; ok {
		return e, nil
	}
	kind := seal.DataPack
	if strings.HasPrefix(name, "meta/") {
		kind = seal.MetaPack
	}
	start, err := pack.DirectoryStart(int64(len(object)), object)
	if err != nil {
		return nil, err
	}
	dir := object[start : len(object)-pack.FooterSize]
	e, err := pack.OpenDirectory(object[:pack.PrefixSize], dir, int64(len(object)), kind, b.reader.Ring())
	if err == nil {
		b.packs[name] = e
	}
	return e, err
}

// saying returns what an object that is no pack says of snapshots.
func (b *book) saying(name string, object []byte) (*saying, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := name + "\x00" + string(object)
	if s, ok := b.says[key]; ok {
		return s, nil
	}
	s := new(saying)
	switch {
	case strings.HasPrefix(name, "tombstones/"):
		t, _, err := protocol.OpenTombstone(object, b.reader.ID())
		if err != nil {
			return nil, err
		}
		for _, f := range t.Forgotten {
			s.forgotten = append(s.forgotten, f.ID)
		}
	case strings.HasSuffix(name, "/end"):
		end, _, err := protocol.OpenEnd(object, b.reader.Ring())
		if err != nil {
			return nil, err
		}
		if end.Outcome != protocol.Committed {
			break
		}
		object = end.Manifest
		fallthrough
	case strings.HasPrefix(name, "snapshots/"):
		m, err := b.reader.OpenManifest(context.Background(), object)
		if err != nil {
			return nil, err
		}
		s.commits, s.set = m.ID, m.Body.Set
	}
	b.says[key] = s
	return s, nil
}

// view is what the oracle sees in a storage.
type view struct {
	committed map[snapshot.ID]string // their sets, forgotten or not
	forgotten map[snapshot.ID]bool
	full      map[chunk.ID]bool         // stored as they are
	delta     map[chunk.ID][]pack.Bases // stored as differences to these
	packs     map[string][]pack.Entry
}

// look reads all that matters of a storage.
func (b *book) look(m *mem.Mem) (*view, error) {
	v := &view{
		committed: make(map[snapshot.ID]string), forgotten: make(map[snapshot.ID]bool),
		full: make(map[chunk.ID]bool), delta: make(map[chunk.ID][]pack.Bases), packs: make(map[string][]pack.Entry),
	}
	all := request{op: "list"}
	for _, info := range all.serve(m).infos {
		name := info.Name
		kind, _, _ := strings.Cut(name, "/")
		switch kind {
		case "data", "meta":
			entries, known := b.packs[name]
			if !known {
				var err error
				if entries, err = b.entries(name, b.object(m, name)); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
			v.packs[name] = entries
			for _, e := range entries {
				if e.Encoding == pack.Delta {
					v.delta[e.ID] = append(v.delta[e.ID], e.Bases)
				} else {
					v.full[e.ID] = true
				}
			}
		case "snapshots", "tombstones", "leases":
			if kind == "leases" && !strings.HasSuffix(name, "/end") {
				continue
			}
			s, err := b.saying(name, b.object(m, name))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if s.commits != (snapshot.ID{}) {
				v.committed[s.commits] = s.set
			}
			for _, id := range s.forgotten {
				v.forgotten[id] = true
			}
		}
	}
	return v, nil
}

func (b *book) object(m *mem.Mem, name string) []byte {
	q := request{op: "open", name: name}
	return q.serve(m).data
}

// has reports whether a chunk can be had.
func (v *view) has(id chunk.ID) bool {
	if v.full[id] {
		return true
	}
	return slices.ContainsFunc(v.delta[id], func(of pack.Bases) bool {
		return !slices.ContainsFunc(of.IDs(), func(base chunk.ID) bool { return !v.full[base] })
	})
}

// holds reports, as an error, what a storage should have and lacks: something that a
// snapshot needs which is committed and not forgotten, or one of those which must be
// there, as their commit was acknowledged.
func (b *book) holds(m *mem.Mem, acknowledged []snapshot.ID) error {
	v, err := b.look(m)
	if err != nil {
		return err
	}
	for _, id := range acknowledged {
		if _, ok := v.committed[id]; !ok && !v.forgotten[id] {
			return fmt.Errorf("snapshot %s was acknowledged and is gone", id.Short())
		}
	}
	for id, set := range v.committed {
		if v.forgotten[id] {
			continue
		}
		needs, ok := b.needs[set]
		if !ok {
			return fmt.Errorf("snapshot %s is of set %q, which nobody made", id.Short(), set)
		}
		for _, c := range needs {
			if !v.has(c) {
				return fmt.Errorf("snapshot %s of set %q lacks chunk %s", id.Short(), set, c.Short())
			}
		}
	}
	return nil
}

// onStorage calls fn with the repository on a storage, as a machine that never saw it.
func (b *book) onStorage(m *mem.Mem, name string, fn func(ctx context.Context, r *repo.Repository) error) error {
	ctx := context.Background()
	r, err := repo.Open(ctx, repo.Options{
		Storage: m, Now: b.clock.now, Random: seeded(name), Goroutines: 1, Secrets: []seal.Unlocker{secret(admin)},
	})
	if err != nil {
		return err
	}
	defer r.Close()
	return fn(ctx, r)
}

// isWhole reports, as an error, what a machine that never saw a repository finds wrong
// with it: a snapshot that it can't restore to the byte, or anything that check says.
func (b *book) isWhole(m *mem.Mem, acknowledged []snapshot.ID) error {
	return b.onStorage(m, "oracle", func(ctx context.Context, r *repo.Repository) error {
		set, err := r.Snapshots(ctx)
		if err != nil {
			return err
		}
		for _, id := range acknowledged {
			_, there := set.Get(id)
			_, forgotten := set.Forgotten[id]
			if !there && !forgotten {
				return fmt.Errorf("snapshot %s was acknowledged and is not listed", id.Short())
			}
		}
		for _, s := range set.Newest() {
			if err := r.LoadBody(ctx, s); err != nil {
				return err
			}
			got, err := restore(ctx, r, s)
			if err != nil {
				return fmt.Errorf("restore %s: %w", s.ID.Short(), err)
			}
			if want := b.sets[s.Body.Set]; !maps.EqualFunc(got, want, bytes.Equal) {
				return fmt.Errorf("snapshot %s came back otherwise: %s, want %s", s.ID.Short(), describe(got), describe(want))
			}
		}
		report, err := r.Check(ctx, all)
		if err != nil {
			return err
		}
		for _, p := range report.Problems {
			return fmt.Errorf("check says of %s: %w", p.Object, p.Err)
		}
		return nil
	})
}

// warmCache returns the cache of a machine that has seen the repository as it is.
func (b *book) warmCache(m *mem.Mem) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "sim-")
	b.must(err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	ctx := context.Background()
	r, err := repo.Open(ctx, repo.Options{
		Storage: m.Clone(), Cache: dir, Now: b.clock.now, Random: seeded("warm"), Goroutines: 1, Secrets: []seal.Unlocker{secret(admin)},
	})
	b.must(err)
	w, err := r.NewWriter(ctx, repo.WriterOptions{Host: "warm", DryRun: true})
	b.must(err)
	b.must(w.Abort(ctx))
	b.must(r.Close())
	return dir
}
