package repo_test

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// said is what the segments that are stored and that count say of each pack, by who says it.
func (w *world) said() map[string]map[seal.Signer][]pack.Entry {
	w.Helper()
	r := w.stranger(admin)
	var segments []*index.Segment
	superseded := make(map[index.SegmentID]bool)
	for _, name := range w.names("index/") {
		s, err := index.Open(w.object(name), r.Ring())
		w.must(err)
		segments = append(segments, s)
		for _, id := range s.Supersedes {
			superseded[id] = true
		}
	}
	said := make(map[string]map[seal.Signer][]pack.Entry)
	for _, s := range segments {
		if superseded[s.ID] {
			continue
		}
		by := make(map[string][]pack.Entry)
		for e := range s.Entries() {
			name := repo.PackName(s.Packs[e.Pack].Kind, s.Packs[e.Pack].ID)
			by[name] = append(by[name], e.Entry)
		}
		for name, entries := range by {
			slices.SortFunc(entries, func(a, b pack.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
			if said[name] == nil {
				said[name] = make(map[seal.Signer][]pack.Entry)
			}
			said[name][s.Signer] = entries
		}
	}
	return said
}

// isIndexed fails the test unless segments name just the packs that are stored, each with
// what it has.
func (w *world) isIndexed() {
	w.Helper()
	said := w.said()
	stored := append(w.names("data/"), w.names("meta/")...)
	for _, name := range stored {
		if len(said[name]) == 0 {
			w.Errorf("no segment names %s", name)
		}
		for _, entries := range said[name] {
			if !reflect.DeepEqual(entries, w.directory(name)) {
				w.Errorf("of %s is said %v", name, entries)
			}
		}
		delete(said, name)
	}
	for name := range said {
		w.Errorf("a segment names %s, which is gone", name)
	}
}

// What goes vanishes from the index, and all that is said of what stays is said again.
func TestPruneIndex(t *testing.T) {
	for _, pass := range []string{admin, honest} {
		w, id, rest := halfNeeded(t, pass)
		more := w.someFiles()
		kept := w.mustBackup(w.stranger(pass), "more", more)
		before := w.said()
		report := w.prune(repo.PruneOptions{})
		if report.Freed.Packs == 0 || report.Segments == 0 {
			t.Errorf("%+v", report)
		}
		w.isIndexed()
		after := w.said()
		stay := 0
		for name, by := range before {
			if after[name] == nil {
				continue
			}
			stay++
			for _, entries := range by {
				if got := after[name][w.stranger(admin).Config().Admin]; !reflect.DeepEqual(got, entries) {
					t.Errorf("of %s was said %v, and now %v", name, entries, got)
				}
			}
		}
		if stay == 0 {
			t.Error("no pack stays")
		}
		// Nothing is left to do.
		objects := w.names("")
		if again := w.prune(repo.PruneOptions{}); again.Freed.Packs+again.Segments+again.Verified.Packs+again.Repacked.Packs > 0 {
			t.Errorf("%+v", again)
		}
		if !slices.Equal(objects, w.names("")) {
			t.Errorf("%v became %v", objects, w.names(""))
		}
		w.has(w.stranger(admin), id, rest)
		w.has(w.stranger(admin), kept, more)
		w.isSound()
	}
}

// Many small segments become few, if there is any reason to write one.
func TestPruneJoinsSegments(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	gone := w.mustBackup(r, "gone", files{"gone": w.random.bytes(blockSize)})
	ids := make(map[snapshot.ID]files)
	for n := range 70 {
		f := files{"own": fmt.Append(nil, n)}
		ids[w.mustBackup(r, fmt.Sprint(n), f)] = f
	}
	w.forget(gone)
	if n := len(w.names("index/")); n < 71 {
		t.Fatalf("%d segments", n)
	}
	w.prune(repo.PruneOptions{MaxUnused: repo.Sample{Percent: 100}})
	if n := len(w.names("index/")); n > 2 {
		t.Errorf("%d segments", n)
	}
	w.isIndexed()
	for id, f := range ids {
		w.has(r, id, f)
	}
	w.isSound()
}

// What a run has stored and not yet committed stays, and so do its segments.
func TestPruneLeavesRunning(t *testing.T) {
	for _, pass := range []string{admin, honest} {
		w, id, rest := halfNeeded(t, pass)
		r := w.stranger(pass)
		before := append(w.names("data/"), w.names("meta/")...)
		wr := w.begin(r)
		f := w.someFiles()
		root, err := put(t.Context(), r, wr, f)
		w.must(err)
		w.must(wr.Flush(t.Context()))
		packs := append(w.names("data/"), w.names("meta/")...)
		was := w.said()
		report := w.prune(repo.PruneOptions{})
		if report.Recent.Packs == 0 || len(report.Waiting) != 1 {
			t.Errorf("%+v", report)
		}
		now := w.said()
		for _, name := range packs {
			if !slices.Contains(before, name) && !reflect.DeepEqual(was[name], now[name]) {
				t.Errorf("of %s was said %v, and now %v", name, was[name], now[name])
			}
		}
		// Even one that takes it for dead: it is only fenced, and begins again.
		c := w.on(t, w.storage.Clone())
		c.prune(repo.PruneOptions{Patience: -1})
		c.prune(repo.PruneOptions{Patience: -1})
		c.isIndexed()
		c.has(c.stranger(admin), id, rest)
		second, err := commit(t.Context(), wr, root, "second", w.now())
		w.must(err)
		w.prune(repo.PruneOptions{})
		w.prune(repo.PruneOptions{})
		w.isIndexed()
		w.has(w.stranger(admin), second, f)
		w.has(w.stranger(admin), id, rest)
	}
}

// Segments that arrive late, or come back with the power, name what is gone. Nobody relies
// on that, and the next prune that has reason to write deletes them again.
func TestPruneLateSegments(t *testing.T) {
	w, id, rest := halfNeeded(t, admin)
	objects := make(map[string][]byte)
	for _, name := range w.names("index/") {
		objects[name] = w.object(name)
	}
	late := files{"again": w.random.bytes(1)} // what was only in a pack that goes
	cache := t.TempDir()
	old := w.machine(cache, admin)
	w.has(old, id, rest)
	w.prune(repo.PruneOptions{})
	n := 0
	for name, object := range objects {
		if !slices.Contains(w.names("index/"), name) {
			w.must(backend.PutBytes(t.Context(), w.storage, name, object))
			n++
		}
	}
	if n == 0 {
		t.Fatal("no segment went")
	}
	w.has(w.stranger(admin), id, rest)
	w.isSound()
	for k, p := range rest {
		late[k] = p
	}
	for _, r := range []*repo.Repository{old, w.stranger(admin)} {
		second := w.mustBackup(r, "second", late)
		w.has(w.stranger(admin), second, late)
	}
	w.prune(repo.PruneOptions{})
	w.isIndexed()
	w.has(w.stranger(admin), id, rest)
	w.isSound()
}

// Machines that know the repository from before a prune go on reading and writing.
func TestPruneOldCaches(t *testing.T) {
	w, id, rest := halfNeeded(t, honest)
	writes, reads := t.TempDir(), t.TempDir()
	open := w.machine(reads, admin) // and is not opened anew
	w.has(open, id, rest)
	all := files{"new": w.random.bytes(5000)}
	for k, p := range rest {
		all[k] = p
	}
	first := w.mustBackup(w.machine(writes, honest), "first", all)
	w.forget(first)
	w.prune(repo.PruneOptions{})
	w.has(open, id, rest)
	w.has(w.machine(reads, admin), id, rest)
	second := w.mustBackup(w.machine(writes, honest), "second", all)
	w.has(open, second, all)
	w.prune(repo.PruneOptions{})
	w.isIndexed()
	w.isSound()
}

// Each of several epochs and domains keeps its own: what goes in one has segments there, and
// what is written anew stays where it was.
func TestPrunePlaces(t *testing.T) {
	w := newRepository(t)
	slot := w.addSlot(honest, seal.WriteOnly)
	w.must(w.stranger(admin).AddSlotIn(t.Context(), repo.NewSlot{Lock: secret("far"), Access: seal.WriteOnly, Label: "far"}, 7))
	stay := make(map[snapshot.ID]files)
	var gone []snapshot.ID
	shared := w.random.bytes(10_000)
	backup := func(pass string) {
		f := files{"shared": shared, "own": w.random.bytes(10_000), "dead": w.random.bytes(20_000)}
		gone = append(gone, w.mustBackup(w.stranger(pass), pass, f))
		delete(f, "dead")
		stay[w.mustBackup(w.stranger(pass), pass, f)] = f
	}
	for _, pass := range []string{admin, honest, "far"} {
		backup(pass)
	}
	w.must(w.stranger(admin).RemoveSlot(t.Context(), slot)) // a new epoch
	for _, pass := range []string{admin, "far"} {
		backup(pass)
	}
	w.forget(gone...)
	places := w.places()
	for range 2 {
		w.prune(repo.PruneOptions{})
	}
	if got := w.places(); len(got) < 3 || !reflect.DeepEqual(got, places) {
		t.Errorf("places are %v, were %v", got, places)
	}
	w.isIndexed()
	for id, f := range stay {
		w.has(w.stranger(admin), id, f)
	}
	w.isSound()
	again := w.prune(repo.PruneOptions{})
	if again.Unused > 0 || again.Freed.Packs > 0 {
		t.Errorf("%+v", again)
	}
}

// places are those that packs are of.
func (w *world) places() map[seal.Place]bool {
	w.Helper()
	places := make(map[seal.Place]bool)
	for _, prefix := range []string{"data/", "meta/"} {
		for _, name := range w.names(prefix) {
			h, err := seal.ParseHeader(w.object(name), kindOf(name))
			w.must(err)
			places[h.Place] = true
		}
	}
	return places
}

// An epoch that begins while a prune runs is not the prune's to judge.
func TestPruneEpochBegins(t *testing.T) {
	w, id, rest := halfNeeded(t, admin)
	slot := w.addSlot("old", seal.WriteOnly)
	f := w.someFiles()
	var second snapshot.ID
	for at := 1; at <= 3; at++ { // the swap before which it begins
		c := w.on(t, w.storage.Clone())
		r := c.through(&swaps{Mem: c.storage, before: func(n int) error {
			if n == at {
				c.must(c.stranger(admin).RemoveSlot(t.Context(), slot))
				second = c.mustBackup(c.stranger(admin), "second", f)
			}
			return nil
		}}, admin)
		_, err := r.Prune(t.Context(), repo.PruneOptions{})
		t.Logf("before swap %d: %v", at, err)
		c.has(c.stranger(admin), second, f)
		c.has(c.stranger(admin), id, rest)
		c.prune(repo.PruneOptions{})
		c.prune(repo.PruneOptions{})
		if c.phase() != protocol.Empty {
			t.Error("the list is not empty")
		}
		c.isIndexed()
		c.has(c.stranger(admin), second, f)
		c.isSound()
	}
}

// Packs whose write-only writers died before a segment named them: what is not needed goes,
// and what is needed, as segments were lost, is found, signed for and named.
func TestPruneOrphans(t *testing.T) {
	w := newRepository(t)
	w.addSlot(honest, seal.WriteOnly)
	w.addSlot("other", seal.WriteOnly)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(honest), "stays", f)
	w.delete(w.names("index/")...)
	needed := append(w.names("data/"), w.names("meta/")...)
	r := w.stranger("other")
	wr := w.begin(r)
	_, err := put(t.Context(), r, wr, files{"x": w.random.bytes(100_000)})
	w.must(err)
	w.must(wr.Flush(t.Context()))
	w.delete(w.names("index/")...)
	report := w.prune(repo.PruneOptions{Patience: -1})
	if report.Verified.Packs != len(needed) || report.Freed.Packs == 0 {
		t.Errorf("%+v", report)
	}
	if got := append(w.names("data/"), w.names("meta/")...); !slices.Equal(got, needed) {
		t.Errorf("%v became %v", needed, got)
	}
	w.isIndexed()
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

// A pack of another writer is read once, and that is remembered as a verification. One that is
// damaged stays, and is reported.
func TestPruneVerifiesOnce(t *testing.T) {
	w := newRepository(t)
	w.addSlot(honest, seal.WriteOnly)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(honest), "first", f)
	bad := w.homeOf(w.dataChunk(id))
	sound := w.object(bad.name)
	broken := slices.Clone(sound)
	broken[bad.at+5] ^= 1
	w.replace(bad.name, broken)
	cache := t.TempDir()
	packs := append(w.names("data/"), w.names("meta/")...)
	prune := func() (*repo.PruneReport, []string) {
		s := &reads{Mem: w.storage}
		r, err := repo.Open(t.Context(), w.options(s, cache, admin))
		w.must(err)
		defer func() { w.must(r.Close()) }()
		report, err := r.Prune(t.Context(), repo.PruneOptions{})
		w.must(err)
		return report, s.packs
	}
	report, read := prune()
	slices.Sort(read)
	if !slices.Equal(read, packs) || report.Verified.Packs != len(packs)-1 || len(report.Damaged) != 1 || repo.PackName(seal.DataPack, report.Damaged[0]) != bad.name {
		t.Errorf("read %v of %v: %+v", read, packs, report)
	}
	_, checked, err := w.read(cache, repo.CheckOptions{}, nil)
	w.must(err)
	if v := checked.Verified; v.Never != 1 || v.Oldest.IsZero() {
		t.Errorf("of %d packs is known %+v", len(packs), v)
	}
	if report, read = prune(); !slices.Equal(read, []string{bad.name}) || report.Freed.Packs > 0 {
		t.Errorf("read again %v: %+v", read, report)
	}
	w.replace(bad.name, sound)
	if report, _ = prune(); report.Verified.Packs != 1 || len(report.Damaged) > 0 {
		t.Errorf("%+v", report)
	}
	w.has(w.stranger(admin), id, f)
	w.isSound()
}
