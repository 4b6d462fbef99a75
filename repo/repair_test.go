package repo_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// repair repairs, reading all packs.
func (w *world) repair(r *repo.Repository) *repo.RepairReport {
	w.Helper()
	report, err := r.Repair(w.Context(), repo.RepairOptions{Read: all.Read, Host: "host"})
	w.must(err)
	return report
}

func (w *world) isFixed(report *repo.RepairReport, object, what string) {
	w.Helper()
	if !slices.ContainsFunc(report.Fixes, func(f repo.Fix) bool { return f.Object == object && strings.Contains(f.What, what) }) {
		w.Errorf("nothing was done to %s (%s): %v", object, what, report.Fixes)
	}
}

// problems are the names of what a report finds.
func problems(report *repo.Report) (names []string) {
	for _, p := range report.Problems {
		names = append(names, p.Object)
	}
	return names
}

// Nothing is wrong: nothing is done.
func TestRepairOfASoundRepository(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	w.mustBackup(r, "first", w.someFiles())
	before := w.names("")
	for range 2 {
		if report := w.repair(r); len(report.Fixes) > 0 || len(report.Left.Problems) > 0 {
			t.Errorf("%+v", report)
		}
	}
	if after := w.names(""); !slices.Equal(before, after) {
		t.Errorf("objects are %v, were %v", after, before)
	}
}

// Whatever becomes of the segments, a repair makes others, and the next snapshot
// finds all that is stored.
func TestRepairIndex(t *testing.T) {
	for name, harm := range map[string]func(w *world, segment string){
		"lost":    func(w *world, segment string) { w.delete(segment) },
		"damaged": func(w *world, segment string) { w.replace(segment, flipped(w.object(segment), 200)) },
		"emptied": func(w *world, segment string) { w.replace(segment, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newRepository(t)
			f := w.someFiles()
			id := w.mustBackup(w.stranger(admin), "first", f)
			for _, segment := range w.names("index/") {
				harm(w, segment)
			}
			dry, err := w.stranger(admin).Repair(t.Context(), repo.RepairOptions{DryRun: true})
			w.must(err)
			before := w.names("")
			report := w.repair(w.stranger(admin))
			if len(report.Left.Problems) > 0 {
				t.Errorf("left: %+v", report.Left.Problems)
			}
			w.isFixed(report, "index", "a new segment")
			w.isFixed(dry, "index", "a new segment")
			if len(dry.Fixes) != len(report.Fixes) {
				t.Errorf("the plan was %v, done was %v", dry.Fixes, report.Fixes)
			}
			if after := w.names(""); len(after) != len(before)+1 {
				t.Errorf("objects are %v, were %v", after, before)
			}
			w.isSound()
			packs := w.names("data/")
			w.has(w.stranger(admin), id, f)
			w.mustBackup(w.stranger(admin), "second", f)
			if !slices.Equal(packs, w.names("data/")) {
				t.Error("the next snapshot did not find what is stored")
			}
		})
	}
}

// A damaged pack: what is good in it is saved, what is lost is said, and the next
// snapshot stores it again. Another repair has nothing to do.
func TestRepairPack(t *testing.T) {
	places := map[string]func(p []byte) []byte{
		"header":        func(p []byte) []byte { return flipped(p, 10) },
		"key":           func(p []byte) []byte { return flipped(p, 500) },
		"first frame":   func(p []byte) []byte { return flipped(p, pack.PrefixSize+3) },
		"directory":     func(p []byte) []byte { return flipped(p, len(p)-20) },
		"footer":        func(p []byte) []byte { return flipped(p, len(p)-1) },
		"cut in frames": func(p []byte) []byte { return p[:pack.PrefixSize+2000] },
		"cut by a byte": func(p []byte) []byte { return p[:len(p)-1] },
		"emptied":       func([]byte) []byte { return nil },
	}
	for name, harm := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRepository(t)
			f := w.someFiles()
			id := w.mustBackup(w.stranger(admin), "first", f)
			victims := append(w.names("data/"), w.names("meta/")...)
			for n, victim := range victims {
				if (len(victims)-1-n)%step != 0 {
					continue
				}
				w := w.on(t, w.storage.Clone())
				w.replace(victim, harm(w.object(victim)))
				report := w.repair(w.stranger(admin))
				w.isFixed(report, victim, "condemned")
				again := w.repair(w.stranger(admin))
				if len(again.Fixes) > 0 {
					t.Errorf("repairing again did %v", again.Fixes)
				}
				// Only what was lost is, and all that was not can be read.
				isMeta := strings.HasPrefix(victim, "meta/")
				got := w.readable(w.stranger(admin), id)
				for file, p := range got {
					if !bytes.Equal(p, f[file]) {
						t.Errorf("%s came back false", file)
					}
				}
				named := make(map[string]bool)
				for _, p := range report.Left.Problems {
					for _, x := range p.Files {
						named[strings.TrimPrefix(x.Path, "/")] = true
					}
				}
				if !isMeta {
					for file := range f {
						if _, ok := got[file]; ok == named[file] {
							t.Errorf("%s: named as lost %v, read %v", file, named[file], ok)
						}
					}
				}
				if isMeta && (len(got) == 0) != (len(report.Left.Problems) > 0) {
					t.Errorf("pack %d: %d files could be read, left are %v", n, len(got), problems(report.Left))
				}
				// The contents are met again.
				w.mustBackup(w.stranger(admin), "again", f)
				w.isSound()
				w.has(w.stranger(admin), id, f)
			}
		})
	}
}

// readable reads what can be read of a snapshot.
func (w *world) readable(r *repo.Repository, id snapshot.ID) files {
	w.Helper()
	s, ok := w.snapshots(r).Get(id)
	if !ok {
		return nil
	}
	if err := r.LoadBody(w.Context(), s); err != nil {
		w.wants(err, repo.ErrDamage)
		return nil
	}
	f := make(files)
	c := snapshot.NewCursor(snapshot.Tree{Root: s.Body.Root, Source: r})
	for {
		e, err := c.Next(w.Context())
		if err != nil {
			w.wants(err, repo.ErrDamage)
			return f
		}
		if e == nil {
			return f
		}
		if e.Type != snapshot.File {
			continue
		}
		var b bytes.Buffer
		_, err = b.ReadFrom(repo.NewFile(w.Context(), r, e))
		if err == nil {
			f[e.Key.Base()] = b.Bytes()
		} else {
			w.wants(err, repo.ErrDamage)
		}
	}
}

// A writer's key may not repair.
func TestRepairNeedsAdmin(t *testing.T) {
	w := newRepository(t)
	w.addSlot("writer", seal.WriteOnly)
	_, err := w.stranger("writer").Repair(t.Context(), repo.RepairOptions{})
	w.wants(err, repo.ErrWriteOnly)
}

// What a writer published is read before the admin vouches for it: junk under a
// known ID would else take the place of the contents.
func TestRepairDoesNotVouchForJunk(t *testing.T) {
	w := newRepository(t)
	w.addSlot("writer", seal.WriteOnly)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "a", f)
	evil := w.stranger("writer")
	p, _ := w.forge(evil, w.sealer(evil), w.dataChunk(id), w.random.bytes(1000))
	junk := repo.PackName(seal.DataPack, p)
	w.delete(w.names("index/")...)
	report, err := w.stranger(admin).Repair(t.Context(), repo.RepairOptions{}) // which reads no more than it must
	w.must(err)
	w.isFixed(report, junk, "condemned")
	if len(report.Left.Problems) > 0 {
		t.Errorf("left are %v", problems(report.Left))
	}
	w.isSound()
	w.has(w.stranger(admin), id, f)
}

// A prune that has come to deleting is not disturbed.
func TestRepairBesidePrune(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	w.mustBackup(w.stranger(admin), "a", f)
	victim := w.names("data/")[0]
	w.replace(victim, flipped(w.object(victim), 2000))
	id := w.packID(victim)
	list := protocol.Condemned{Generation: 7, Phase: protocol.Final, Packs: []protocol.CondemnedPack{{Kind: seal.DataPack, ID: pack.ID{1}}}}
	w.replace("condemned", list.Sign(w.stranger(admin).ID(), w.sealer(w.stranger(admin)).Key))
	_, err := w.stranger(admin).Repair(t.Context(), repo.RepairOptions{Read: all.Read})
	w.wants(err, repo.ErrFenced)

	// While it waits it gets more packs, and is announced anew, as the writers of now may
	// not have seen these. What it waited for it still does.
	list.Phase, list.Generation, list.Leases = protocol.Waiting, 8, []protocol.LeaseID{{1}}
	w.replace("condemned", list.Sign(w.stranger(admin).ID(), w.sealer(w.stranger(admin)).Key))
	w.repair(w.stranger(admin))
	object, err := backend.ReadAll(t.Context(), w.storage, "condemned", 1<<20)
	w.must(err)
	got, _, err := protocol.OpenCondemned(object, w.stranger(admin).ID())
	w.must(err)
	if len(got.Packs) != 2 || !slices.Contains(got.Packs, protocol.CondemnedPack{Kind: seal.DataPack, ID: id}) || !slices.Equal(got.Leases, list.Leases) || got.Phase != protocol.Announced || got.Generation != 9 {
		t.Errorf("the list is %+v", got)
	}
	w.mustBackup(w.stranger(admin), "again", f)
	w.isSound()
}

// dataChunk returns a chunk of a file of a snapshot.
func (w *world) dataChunk(id snapshot.ID) repo.Ref {
	w.Helper()
	r := w.stranger(admin)
	s, _ := w.snapshots(r).Get(id)
	w.must(r.LoadBody(w.Context(), s))
	c := snapshot.NewCursor(snapshot.Tree{Root: s.Body.Root, Source: r})
	for {
		e, err := c.Next(w.Context())
		w.must(err)
		if len(e.Extents) > 0 {
			return repo.Ref{ID: e.Extents[0].Chunk, Kind: chunk.Data}
		}
	}
}
