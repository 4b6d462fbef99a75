package repo_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// list returns the condemned list.
func (w *world) list() *protocol.Condemned {
	w.Helper()
	c, _, err := protocol.OpenCondemned(w.object("condemned"), w.stranger(admin).ID())
	w.must(err)
	return c
}

// setList puts another list in the place of the condemned one.
func (w *world) setList(c *protocol.Condemned) {
	w.Helper()
	r := w.stranger(admin)
	c.Generation = w.list().Generation + 1
	w.must(w.storage.Swap(w.Context(), "condemned", w.object("condemned"), c.Sign(r.ID(), w.sealer(r).Key)))
}

// killedAfter prunes, and is killed after the given swap of the list.
func (w *world) killedAfter(swap int) {
	w.Helper()
	r := w.through(w.faulted(fmt.Sprintf("swap condemned #%d: done-and-crash", swap)), admin)
	if _, err := r.Prune(w.Context(), repo.PruneOptions{}); err == nil {
		w.Fatal("it was not killed")
	}
}

// The list goes through its phases one by one, each of the next generation.
func TestPrunePhases(t *testing.T) {
	w, _, _ := halfNeeded(t, admin)
	var lists []*protocol.Condemned
	r := w.through(&swaps{Mem: w.storage, after: func(int) error {
		lists = append(lists, w.list())
		return nil
	}}, admin)
	wr := w.begin(w.stranger(admin))
	w.must(wr.Abort(t.Context()))
	was := w.list().Generation
	report, err := r.Prune(t.Context(), repo.PruneOptions{})
	w.must(err)
	var phases []protocol.Phase
	for n, c := range lists {
		phases = append(phases, c.Phase)
		if c.Generation != was+uint64(n)+1 {
			t.Errorf("list %d is of generation %d after %d", n, c.Generation, was)
		}
		if packs := len(c.Packs); packs != report.Freed.Packs && c.Phase != protocol.Empty {
			t.Errorf("list %d has %d packs of %d", n, packs, report.Freed.Packs)
		}
		if len(c.Leases) > 0 {
			t.Errorf("list %d waits for %v", n, c.Leases)
		}
	}
	if want := []protocol.Phase{protocol.Announced, protocol.Waiting, protocol.Final, protocol.Empty}; !slices.Equal(phases, want) {
		t.Errorf("phases are %v", phases)
	}
}

// Another prune, on another machine, goes on from each phase.
func TestPruneAdopts(t *testing.T) {
	for n, phase := range []protocol.Phase{protocol.Announced, protocol.Waiting, protocol.Final} {
		w, id, rest := halfNeeded(t, admin)
		before := w.packBytes()
		w.killedAfter(n + 1)
		if w.phase() != phase {
			t.Fatalf("phase %d", w.phase())
		}
		list := w.list()
		if phase == protocol.Waiting { // and some are waited for that are gone
			list.Leases = append(list.Leases, protocol.LeaseID(w.random.bytes(32)), protocol.LeaseID(w.random.bytes(32)))
			slices.SortFunc(list.Leases, func(a, b protocol.LeaseID) int { return strings.Compare(a.String(), b.String()) })
			w.setList(list)
		}
		mid := w.packBytes()
		dry := w.prune(repo.PruneOptions{DryRun: true})
		report := w.prune(repo.PruneOptions{})
		if report.Adopted.Packs != len(list.Packs) || mid-w.packBytes() != report.Frees() || w.packBytes() >= before {
			t.Errorf("phase %d: %d of %d packs, freed %d: %+v", phase, report.Adopted.Packs, len(list.Packs), mid-w.packBytes(), report)
		}
		if dry.Adopted != report.Adopted || dry.Frees() != report.Frees() {
			t.Errorf("phase %d: a dry run says %+v, and the run %+v", phase, dry, report)
		}
		w.isEmpty()
		w.has(w.stranger(admin), id, rest)
		w.prune(repo.PruneOptions{})
		w.isIndexed()
		w.isSound()
	}
}

func (w *world) isEmpty() {
	w.Helper()
	if c := w.list(); c.Phase != protocol.Empty || len(c.Packs)+len(c.Leases) > 0 {
		w.Errorf("the list is %+v", c)
	}
}

// A prune goes on from a repair's list, also one that grew while it waited.
func TestPruneAdoptsRepair(t *testing.T) {
	for _, waits := range []bool{false, true} {
		w, id, rest := halfNeeded(t, admin)
		wr := w.begin(w.stranger(admin))
		if waits {
			w.prune(repo.PruneOptions{})
		}
		more := w.someFiles()
		twice := w.mustBackup(w.stranger(admin), "more", more)
		bad := w.homeOf(w.dataChunk(twice))
		w.mustBackup(w.stranger(admin), "rescued", files{"x": more["one"]})
		object := w.object(bad.name)
		object[len(object)-30] ^= 1 // of the directory
		w.replace(bad.name, object)
		w.repair(w.stranger(admin))
		list := w.list()
		if list.Phase != protocol.Announced || len(list.Packs) == 0 || waits != (len(list.Leases) > 0) {
			t.Fatalf("the list is %+v", list)
		}
		w.must(wr.Abort(t.Context()))
		report := w.prune(repo.PruneOptions{})
		if report.Adopted.Packs != len(list.Packs) || slices.Contains(w.names("data/"), bad.name) {
			t.Errorf("%+v", report)
		}
		w.isEmpty()
		w.has(w.stranger(admin), id, rest)
		w.has(w.stranger(admin), twice, more)
		w.isSound()
	}
}

// A snapshot that a prune came to know in the wait is known to it also when the list was
// changed by another before it could act on that.
func TestPruneMarksAgain(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", f)
	small := files{"block": f["block"]}
	writer := w.stranger(admin)
	wr := w.begin(writer)
	if _, isNew, err := wr.Put(chunk.Data, f["block"]); err != nil || isNew {
		t.Fatal(err)
	}
	w.forget(gone)
	var id snapshot.ID
	r := w.through(&swaps{Mem: w.storage,
		after: func(n int) (err error) {
			if n == 2 { // it waits
				id, err = w.finish(writer, wr, "second", small)
			}
			return err
		},
		before: func(n int) error {
			if n == 3 { // it has found out that some are needed; a repair finds them damaged
				list := w.list()
				list.Phase = protocol.Announced
				w.setList(list)
			}
			return nil
		},
	}, admin)
	_, err := r.Prune(t.Context(), repo.PruneOptions{})
	w.must(err)
	w.isEmpty()
	w.has(w.stranger(admin), id, small)
	w.isSound()
}

// copied is what a copy of a storage is that was taken object by object: what was there
// first, with a list and packs that are newer.
func copied(w *world, early, late *mem.Mem) *world {
	c := w.on(w.TB, early.Clone())
	last := w.on(w.TB, late)
	c.replace("condemned", last.object("condemned"))
	for _, prefix := range []string{"index/", "data/", "meta/"} {
		c.delete(c.names(prefix)...)
		for _, name := range last.names(prefix) {
			w.must(backend.PutBytes(w.Context(), c.storage, name, last.object(name)))
		}
	}
	return c
}

// A copy that was taken while a prune went on is pruned without a loss, or prune stops. What
// goes is that only a snapshot needs which was copied before it was forgotten: its chunks, or
// but its tree.
func TestPruneCopy(t *testing.T) {
	for _, what := range []string{"chunks", "tree"} {
		w := newRepository(t)
		f := w.someFiles()
		keep := w.mustBackup(w.stranger(admin), "keep", f)
		other := files{"renamed": f["large"]}
		if what == "chunks" {
			other["more"] = w.random.bytes(3 * blockSize)
		}
		drop := w.mustBackup(w.stranger(admin), "drop", other)
		cache := t.TempDir() // of a machine that has the trees
		w.has(w.machine(cache, admin), drop, other)
		early := w.storage.Clone()
		w.forget(drop)
		for n := range 4 {
			o := w.on(t, w.storage.Clone())
			if n > 0 {
				o.killedAfter(n)
			}
			c := copied(o, early, o.storage)
			before := c.names("")
			for _, r := range []*repo.Repository{c.stranger(admin), c.machine(cache, admin)} {
				_, err := r.Prune(t.Context(), repo.PruneOptions{})
				if final := n == 3; final {
					c.wants(err, repo.ErrDamage)
					c.saying(err, drop.Short())
					if strip(before) != strip(c.names("")) {
						t.Errorf("%s: %v became %v", what, before, c.names(""))
					}
				} else {
					c.must(err)
					c.isEmpty()
				}
				c.has(c.stranger(admin), keep, f)
				c.has(c.stranger(admin), drop, other)
			}
			c.isSound()
			if n < 3 {
				continue
			}
			// Forgotten here too, it goes.
			c.forget(drop)
			c.prune(repo.PruneOptions{})
			c.isEmpty()
			c.has(c.stranger(admin), keep, f)
			c.isSound()
		}
	}
}

// strip is a list of names without leases.
func strip(names []string) string {
	return fmt.Sprint(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, "leases/") }))
}

// A needed node that no pack has stops prune also on a machine that keeps it in its cache.
func TestPruneKnowsMoreThanIsStored(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "stays", f)
	cache := t.TempDir()
	w.has(w.machine(cache, admin), id, f)
	gone := w.mustBackup(w.stranger(admin), "gone", w.someFiles())
	w.forget(gone)
	info, _ := w.snapshots(w.stranger(admin)).Get(id)
	w.must(w.stranger(admin).LoadBody(t.Context(), info))
	for _, name := range w.names("meta/") {
		if slices.ContainsFunc(w.directory(name), func(e pack.Entry) bool { return e.ID == info.Body.Root.ID }) {
			w.delete(name)
		}
	}
	_, err := w.machine(cache, admin).Prune(t.Context(), repo.PruneOptions{})
	w.wants(err, repo.ErrDamage)
	w.saying(err, id.Short())
}

// What only packs on another's final list have is not called lost, as it is still there: the
// error says what helps, and that does.
func TestPruneSaysWhatIsFinal(t *testing.T) {
	for prefix, kind := range map[string]seal.Kind{"data/": seal.DataPack, "meta/": seal.MetaPack} {
		w := newRepository(t)
		f := files{"x": w.random.bytes(1000)}
		id := w.mustBackup(w.stranger(admin), "a", f)
		list := protocol.Condemned{Phase: protocol.Final}
		for _, name := range w.names(prefix) {
			p, err := repo.ParsePackName(name, prefix)
			w.must(err)
			list.Packs = append(list.Packs, protocol.CondemnedPack{Kind: kind, ID: p})
		}
		w.must(w.stranger(admin).SwapCondemned(t.Context(), list))
		before := w.names("")
		_, err := w.stranger(admin).Prune(t.Context(), repo.PruneOptions{})
		w.wants(err, repo.ErrDamage)
		w.saying(err, "condemned for good")
		w.saying(err, id.Short())
		if after := w.names(""); !slices.Equal(after, before) {
			t.Errorf("before %v, after %v", before, after)
		}
		again := w.mustBackup(w.stranger(admin), "again", f)
		w.prune(repo.PruneOptions{})
		w.has(w.stranger(admin), id, f)
		w.has(w.stranger(admin), again, f)
		w.isSound()
	}
}
