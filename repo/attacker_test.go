package repo_test

import (
	"context"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// createOnly is a storage as credentials see it that can create, read and list.
type createOnly struct{ *mem.Mem }

func (c createOnly) Delete(context.Context, string) error               { return fs.ErrPermission }
func (c createOnly) Swap(context.Context, string, []byte, []byte) error { return fs.ErrPermission }

// attacker has a write-only key, all that derives from it, and none of the engine's
// scruples. What it forges is whole but for what its key can't give.
type attacker struct {
	*world
	protocol.Sealer
	repo    *repo.Repository
	storage backend.Full
}

// siege is a repository with a host that backs up, and an attacker.
type siege struct {
	*world
	evil  *attacker
	cache string // of the host
	files files
	id    snapshot.ID // of the host's snapshot
}

// The keys of a siege, beside admin.
const (
	honest = "honest"
	evil   = "evil"
)

// besieged runs a test with an attacker whose credentials for the storage let it
// create objects only, and with one who can do everything there.
func besieged(t *testing.T, test func(t *testing.T, s *siege)) {
	t.Run("creates only", func(t *testing.T) { test(t, newSiege(t, true)) })
	t.Run("overwrites", func(t *testing.T) { test(t, newSiege(t, false)) })
}

func newSiege(t *testing.T, creates bool) *siege {
	w := newRepository(t)
	w.addSlot(honest, seal.WriteOnly)
	w.addSlot(evil, seal.WriteOnly)
	s := &siege{world: w, cache: t.TempDir(), files: w.someFiles()}
	s.id = w.mustBackup(s.host(), "web", s.files)
	var storage backend.Full = w.storage
	if creates {
		storage = createOnly{w.storage}
	}
	r, err := repo.Open(t.Context(), w.options(storage, "", evil))
	w.must(err)
	t.Cleanup(func() { w.must(r.Close()) })
	s.evil = &attacker{world: w, Sealer: w.sealer(r), repo: r, storage: storage}
	return s
}

// host opens the repository as the host that is attacked.
func (s *siege) host() *repo.Repository {
	s.Helper()
	return s.machine(s.cache, honest)
}

// put stores an object by all means that the attacker has, and reports whether it is
// there now.
func (a *attacker) put(name string, object []byte) bool {
	a.Helper()
	if _, err := a.storage.Stat(a.Context(), name); err == nil && a.storage.Delete(a.Context(), name) != nil {
		return false
	}
	a.must(backend.PutBytes(a.Context(), a.storage, name, object))
	return true
}

// manifest returns a manifest by the attacker, changed at will before it is sealed.
func (a *attacker) manifest(change func(*snapshot.Manifest)) (snapshot.ID, []byte) {
	a.Helper()
	wr := a.begin(a.repo)
	root, err := put(a.Context(), a.repo, wr, files{})
	a.must(err)
	a.must(wr.Flush(a.Context()))
	a.must(wr.Abort(a.Context()))
	m := snapshot.Manifest{
		Header: seal.Header{Kind: seal.Manifest, Repository: a.Repository, Place: a.Place},
		Open:   snapshot.Open{Time: a.now(), Host: evil},
		Body:   snapshot.Body{Root: root, Set: evil, Start: a.now(), End: a.now()},
	}
	change(&m)
	keys := a.Keys
	if k, ok := a.repo.Ring().Keys(m.Header.Place); ok {
		keys = k
	}
	object, err := m.Seal(a.Random, keys, a.repo.Config().Public, a.Key)
	a.must(err)
	return snapshot.IDOf(object), object
}

// publish makes a snapshot of the attacker's, as a run does, with an open part changed
// at will.
func (a *attacker) publish(change func(*repo.NewSnapshot)) snapshot.ID {
	a.Helper()
	wr := a.begin(a.repo)
	root, err := put(a.Context(), a.repo, wr, files{"passwd": []byte("root::0:0::/:/bin/sh\n")})
	a.must(err)
	n := repo.NewSnapshot{Time: a.now(), Host: evil, Body: snapshot.Body{Root: root, Set: evil, Start: a.now(), End: a.now()}}
	change(&n)
	id, err := wr.Commit(a.Context(), n)
	a.must(err)
	return id
}

// frame is a chunk for a forged pack, as it is to stand there.
type frame struct {
	pack.Entry
	encoded []byte
}

// junk is a frame with other bytes under a chunk's name.
func junk(ref repo.Ref, p []byte) frame {
	return frame{pack.Entry{ID: ref.ID, Kind: ref.Kind, Encoding: pack.Plain, Raw: uint32(len(p))}, p}
}

// stands fails the test unless the attack cost the host nothing: its snapshot can be
// restored by somebody who was never here, it can make another, and a check names the
// given objects, by the beginnings of their names, and no others.
func (s *siege) stands(named ...string) {
	s.Helper()
	s.has(s.stranger(admin), s.id, s.files)
	f := files{"more": s.random.bytes(100)}
	for name, p := range s.files {
		f[name] = p
	}
	id, err := s.backup(s.host(), "web again", f)
	s.must(err)
	s.has(s.stranger(admin), id, f)
	s.checks(s.check(s.stranger(admin)), named...)
}

// checks fails the test unless a check names just the given objects.
func (s *siege) checks(report *repo.Report, named ...string) {
	s.Helper()
	for _, p := range report.Problems {
		if !slices.ContainsFunc(named, func(name string) bool { return strings.HasPrefix(p.Object, name) }) {
			s.Errorf("the check names %s: %v", p.Object, p.Err)
		}
	}
	for _, name := range named {
		if !slices.ContainsFunc(report.Problems, func(p repo.Problem) bool { return strings.HasPrefix(p.Object, name) }) {
			s.Errorf("the check does not name %s: %+v", name, report.Problems)
		}
	}
}

// problemOf returns what a check says of an object.
func problemOf(report *repo.Report, object string) error {
	for _, p := range report.Problems {
		if strings.HasPrefix(p.Object, object) {
			return p.Err
		}
	}
	return nil
}

// saying fails the test unless err says the words.
func (w *world) saying(err error, words string) {
	w.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		w.Errorf("got %v, want something about %q", err, words)
	}
}

// meddler is a storage in which somebody acts right after an object was put.
type meddler struct {
	*mem.Mem
	after func(name string)
}

func (m *meddler) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	err := m.Mem.Put(ctx, name, body, size)
	if err == nil && m.after != nil {
		m.after(name)
	}
	return err
}

// thief is a storage in which somebody takes the names of packs before they are
// put.
type thief struct{ meddler }

func (f *thief) Stage(ctx context.Context) (backend.Staged, error) {
	s, err := f.meddler.Stage(ctx)
	return stolen{s, f.Mem}, err
}

type stolen struct {
	backend.Staged
	storage *mem.Mem
}

func (s stolen) Commit(ctx context.Context, name string) error {
	if err := backend.PutBytes(ctx, s.storage, name, []byte("junk")); err != nil {
		return err
	}
	return s.Staged.Commit(ctx, name)
}
