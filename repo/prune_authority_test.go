package repo_test

import (
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// Prune says again what a segment says that names packs which are gone. But it does not
// lend its signature to another's claim to supersede.
func TestAttackSupersedeByPrune(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		s.prune(repo.PruneOptions{})
		gone := s.evil.publish(func(*repo.NewSnapshot) {})
		s.prune(repo.PruneOptions{}) // now the admin's segments name all, one what stays
		packs := s.namedPacks()
		b := index.NewBuilder()
		for _, name := range s.names("index/") {
			id, err := index.ParseSegmentID(name[len("index/"):])
			s.must(err)
			b.Supersede(id)
		}
		e := pack.Entry{ID: chunk.ID{1}, Kind: chunk.Data, Encoding: pack.Plain, Raw: 10, Stored: 10 + seal.Overhead, Offset: pack.PrefixSize}
		s.must(b.AddPack(pack.Finished{ID: pack.ID{1}, Kind: seal.DataPack, Size: 1 << 12, Entries: []pack.Entry{e}})) // is nowhere
		h := seal.Header{Kind: seal.Segment, Repository: s.evil.Repository, Place: s.evil.Place}
		object, id, err := b.Encode(s.random, h, s.evil.Keys, s.evil.Key)
		s.must(err)
		s.evil.put("index/"+id.String(), object)
		s.forget(gone)
		if r := s.prune(repo.PruneOptions{}); r.Freed.Packs == 0 {
			t.Fatal("nothing was dead")
		}
		for name := range s.namedPacks() {
			delete(packs, name)
		}
		for name := range packs {
			if _, err := s.storage.Stat(t.Context(), name); err == nil {
				t.Errorf("no segment names %s any more", name)
			}
		}
		s.stands()
	})
}

// A snapshot that was brought back in an epoch that began after the prune did is
// perhaps of one before, and needs what that has.
func TestPruneBesideANewEpoch(t *testing.T) {
	w := newRepository(t)
	old := w.addSlot("old", seal.WriteOnly)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "a", f)
	w.forget(gone)
	early := w.stranger(admin)
	w.must(w.stranger(admin).RemoveSlot(t.Context(), old))
	done := w.undo(w.through(w.faulted("put snapshots/*: err EIO"), admin), gone)
	w.must(done[0].Err)
	before := w.packBytes()
	if report, err := early.Prune(t.Context(), repo.PruneOptions{}); err == nil || w.packBytes() != before {
		t.Errorf("%v: %+v", err, report)
	}
	w.has(w.stranger(admin), done[0].New, f)
	w.prune(repo.PruneOptions{})
	w.has(w.stranger(admin), done[0].New, f)
	w.isSound()
}

// A stolen key that says of junk that it is what a forgotten snapshot needs does not bring
// about that this comes back with a hole.
func TestAttackUndo(t *testing.T) {
	besieged(t, func(t *testing.T, s *siege) {
		old := s.names("data/")
		id := s.mustBackup(s.host(), "one chunk", files{"x": s.random.bytes(100)})
		home := slices.DeleteFunc(s.names("data/"), func(name string) bool { return slices.Contains(old, name) })
		s.forge(s.evil.repo, s.evil.Sealer, s.dataChunk(id), s.random.bytes(100))
		s.forget(id)
		if done := s.undo(s.stranger(admin), id); done[0].Err != nil {
			t.Fatal(done[0].Err)
		} else {
			s.forget(done[0].New)
		}
		s.condemn(home...)
		done := s.undo(s.stranger(admin), id)
		if done[0].Err == nil {
			t.Error("it came back, without what it needs")
		}
		s.wants(done[0].Err, repo.ErrPruned)
	})
}
