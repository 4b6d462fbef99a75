package repo_test

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// through opens the repository on another view of its storage.
func (w *world) through(b backend.Interface, pass string) *repo.Repository {
	w.Helper()
	r, err := repo.Open(w.Context(), w.options(b, "", pass))
	w.must(err)
	w.Cleanup(func() { w.must(r.Close()) })
	return r
}

// faulted returns the storage with faults.
func (w *world) faulted(rules string) backend.Interface {
	w.Helper()
	in, err := faulty.Parse(rules)
	w.must(err)
	return in.Wrap(w.storage)
}

// condemnedNow returns the packs that are condemned.
func (w *world) condemnedNow() []protocol.CondemnedPack {
	w.Helper()
	list, _, err := protocol.OpenCondemned(w.object("condemned"), w.stranger(admin).ID())
	w.must(err)
	return list.Packs
}

// namedPacks returns the packs that segments which count name.
func (w *world) namedPacks() map[string]bool {
	w.Helper()
	r := w.stranger(admin)
	segments := make(map[index.SegmentID]*index.Segment)
	superseded := make(map[index.SegmentID]bool)
	for _, name := range w.names("index/") {
		s, err := index.Open(w.object(name), r.Ring())
		if err != nil {
			continue
		}
		segments[s.ID] = s
		if s.Signer == r.Config().Admin {
			for _, id := range s.Supersedes {
				superseded[id] = true
			}
		}
	}
	named := make(map[string]bool)
	for id, s := range segments {
		for _, p := range s.Packs {
			if !superseded[id] {
				named[repo.PackName(p.Kind, p.ID)] = true
			}
		}
	}
	return named
}

// interrupted is a storage in which something happens before a listing.
type interrupted struct {
	*mem.Mem
	prefix string
	before func()
}

func (i *interrupted) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	if prefix == i.prefix && i.before != nil {
		before := i.before
		i.before = nil
		before()
	}
	return i.Mem.List(ctx, prefix)
}

// An epoch that began after the repair did is not the repair's to judge: what is
// written in it is no damage.
func TestRepairBesideANewEpoch(t *testing.T) {
	w := newRepository(t)
	old := w.addSlot("old", seal.WriteOnly)
	w.mustBackup(w.stranger(admin), "a", w.someFiles())
	early := w.stranger(admin)
	w.must(w.stranger(admin).RemoveSlot(t.Context(), old))
	f := w.someFiles()
	r := w.stranger(admin)
	wr := w.begin(r)
	root, err := put(t.Context(), r, wr, f)
	w.must(err)
	w.must(wr.Flush(t.Context()))
	for _, p := range w.check(early).Problems {
		t.Errorf("a check says of %s: %v", p.Object, p.Err)
	}
	report := w.repair(early)
	if len(report.Fixes) > 0 || len(report.Left.Problems) > 0 {
		t.Errorf("%v, left %v", report.Fixes, problems(report.Left))
	}
	if packs := w.condemnedNow(); len(packs) > 0 {
		t.Errorf("condemned are %v", packs)
	}
	id, err := commit(t.Context(), wr, root, "b", w.now())
	w.must(err)
	w.isSound()
	w.has(w.stranger(admin), id, f)
}

// A segment that is superseded may name packs that were stored after the repair began,
// or that a listing left out. They go on to be named.
func TestRepairNamesWhatItSupersedes(t *testing.T) {
	setUp := func(t *testing.T) (w *world, victim, other string, segment []byte) {
		w = newRepository(t)
		w.mustBackup(w.stranger(admin), "a", files{"x": w.random.bytes(4 * blockSize), "y": w.random.bytes(3 * blockSize)})
		data := w.names("data/")
		if len(data) < 2 || len(w.names("index/")) != 1 {
			t.Fatalf("%q, %q", data, w.names("index/"))
		}
		return w, data[0], data[1], w.object(w.names("index/")[0])
	}
	t.Run("hidden", func(t *testing.T) {
		w, victim, other, _ := setUp(t)
		w.replace(victim, flipped(w.object(victim), pack.PrefixSize+10))
		_, err := w.through(w.faulted("yield "+other+": hide"), admin).Repair(t.Context(), repo.RepairOptions{Read: all.Read})
		w.must(err)
		if named := w.namedPacks(); !named[other] || named[victim] {
			t.Errorf("named are %v", named)
		}
	})
	t.Run("stored meanwhile", func(t *testing.T) {
		w, victim, other, segment := setUp(t)
		late, name := w.object(other), w.names("index/")[0]
		w.delete(other, name)
		w.replace(victim, flipped(w.object(victim), len(w.object(victim))-20))
		b := &interrupted{Mem: w.storage, prefix: "index/"}
		r := w.through(b, admin)
		lists := 0
		var again func()
		again = func() { // the second listing is the one after the index was loaded
			if lists++; lists < 2 {
				b.before = again
				return
			}
			w.replace(other, late)
			w.replace(name, segment)
		}
		b.before = again
		_, err := r.Repair(t.Context(), repo.RepairOptions{Read: all.Read})
		w.must(err)
		if named := w.namedPacks(); !named[other] || named[victim] {
			t.Errorf("named are %v", named)
		}
	})
}

// Two repairs must not each rely on a segment that the other supersedes: so what a
// superseded segment named is named anew.
func TestRepairReliesOnNoOther(t *testing.T) {
	w := newRepository(t)
	w.mustBackup(w.stranger(admin), "a", files{"x": w.random.bytes(7 * blockSize)})
	data := w.names("data/")
	w.mustBackup(w.stranger(admin), "b", files{"y": w.random.bytes(7 * blockSize)})
	second := slices.DeleteFunc(w.names("data/"), func(n string) bool { return slices.Contains(data, n) })
	// Another segment names them all.
	w.nameAll(append(slices.Clone(data), second...))
	shared := second[0]
	// That segment is superseded, because of one pack. The shared one has another.
	w.replace(data[0], flipped(w.object(data[0]), len(w.object(data[0]))-20))
	before := w.names("index/")
	w.repair(w.stranger(admin))
	var fresh []string
	for _, name := range w.names("index/") {
		if !slices.Contains(before, name) {
			fresh = append(fresh, name)
		}
	}
	named := make(map[string]bool)
	for _, name := range fresh {
		s, err := index.Open(w.object(name), w.stranger(admin).Ring())
		w.must(err)
		for _, p := range s.Packs {
			named[repo.PackName(p.Kind, p.ID)] = true
		}
	}
	if !named[shared] {
		t.Errorf("%s is named by %v only because of a segment that is superseded", shared, named)
	}
}

// nameAll publishes a segment of the admin's that names packs.
func (w *world) nameAll(names []string) {
	w.Helper()
	r := w.stranger(admin)
	s := w.sealer(r)
	b := index.NewBuilder()
	for _, name := range names {
		object := w.object(name)
		start, err := pack.DirectoryStart(int64(len(object)), object)
		w.must(err)
		entries, err := pack.OpenDirectory(object[:pack.PrefixSize], object[start:len(object)-pack.FooterSize], int64(len(object)), seal.DataPack, r.Ring())
		w.must(err)
		w.must(b.AddPack(pack.Finished{ID: w.packID(name), Kind: seal.DataPack, Size: int64(len(object)), Entries: entries}))
	}
	object, id, err := b.Encode(s.Random, seal.Header{Kind: seal.Segment, Repository: s.Repository, Place: s.Place}, s.Keys, s.Key)
	w.must(err)
	w.must(backend.PutBytes(w.Context(), w.storage, "index/"+id.String(), object))
}

// What a segment superseded stays superseded when that one is.
func TestRepairKeepsSuperseded(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	w.mustBackup(w.stranger(admin), "a", f)
	segment := w.names("index/")[0]
	w.replace(segment, flipped(w.object(segment), 200))
	w.repair(w.stranger(admin))
	w.isSound()
	victim := w.names("data/")[0]
	w.replace(victim, flipped(w.object(victim), len(w.object(victim))-20))
	if report := w.repair(w.stranger(admin)); len(report.Left.Problems) > 0 {
		t.Errorf("left are %v", problems(report.Left))
	}
	w.mustBackup(w.stranger(admin), "a", f)
	w.isSound()
}

// A writer's segment may say what it likes of the frames of a pack whose directory is
// damaged: the good ones are saved.
func TestRepairBesideFalseFrames(t *testing.T) {
	w := newRepository(t)
	w.addSlot(evil, seal.WriteOnly)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "a", f)
	s := w.sealer(w.stranger(evil))
	b := index.NewBuilder()
	for _, name := range w.names("data/") {
		object := w.object(name)
		// One frame over all of them.
		e := pack.Entry{ID: [32]byte{1}, Kind: 1, Encoding: pack.Plain, Offset: pack.PrefixSize, Stored: uint32(len(object) - pack.PrefixSize - 200)}
		e.Raw = e.Stored - seal.Overhead
		w.must(b.AddPack(pack.Finished{ID: w.packID(name), Kind: seal.DataPack, Size: int64(len(object)), Entries: []pack.Entry{e}}))
		w.replace(name, flipped(object, len(object)-20))
	}
	for range 8 { // some are read before the true one, some after
		w := w.on(t, w.storage.Clone())
		object, sid, err := b.Encode(s.Random, seal.Header{Kind: seal.Segment, Repository: s.Repository, Place: s.Place}, s.Keys, s.Key)
		w.must(err)
		w.must(backend.PutBytes(t.Context(), w.storage, "index/"+sid.String(), object))
		if report := w.repair(w.stranger(admin)); len(report.Left.Problems) > 0 {
			t.Errorf("left are %v", problems(report.Left))
		}
		w.isSound()
		w.has(w.stranger(admin), id, f)
	}
}

// A check that reads believes no segment that says of another pack that it has what was
// lost.
func TestCheckBelievesNoSegment(t *testing.T) {
	w := newRepository(t)
	w.addSlot(evil, seal.WriteOnly)
	f := files{"x": w.random.bytes(7 * blockSize)}
	id := w.mustBackup(w.stranger(admin), "a", f)
	ref := w.dataChunk(id)
	s := w.sealer(w.stranger(evil))
	b := index.NewBuilder()
	for _, name := range w.names("data/") {
		e := pack.Entry{ID: ref.ID, Kind: ref.Kind, Encoding: pack.Plain, Offset: pack.PrefixSize, Stored: 1000, Raw: 1000 - seal.Overhead}
		w.must(b.AddPack(pack.Finished{ID: w.packID(name), Kind: seal.DataPack, Size: int64(len(w.object(name))), Entries: []pack.Entry{e}}))
	}
	object, sid, err := b.Encode(s.Random, seal.Header{Kind: seal.Segment, Repository: s.Repository, Place: s.Place}, s.Keys, s.Key)
	w.must(err)
	w.must(backend.PutBytes(t.Context(), w.storage, "index/"+sid.String(), object))
	home := w.homeOf(ref)
	w.replace(home.name, flipped(w.object(home.name), home.at+20))
	for _, p := range w.check(w.stranger(admin)).Problems {
		if p.Object == home.name && (!slices.Contains(p.Chunks, ref.ID) || len(p.Files) == 0) {
			t.Errorf("the chunk counts as stored elsewhere: %+v", p)
		}
	}
}

type home struct {
	name string
	at   int
}

// homeOf finds a chunk in the packs.
func (w *world) homeOf(ref repo.Ref) home {
	w.Helper()
	for _, name := range w.names("data/") {
		for _, e := range w.directory(name) {
			if e.ID == ref.ID {
				return home{name, int(e.Offset)}
			}
		}
	}
	w.Fatal("the chunk is in no pack")
	return home{}
}

// What a listing hides, or a bad connection garbles once, is not lost: nothing of it is
// given up.
func TestForgetLostOnlyWhatIsLost(t *testing.T) {
	w := newRepository(t)
	f := files{"x": w.random.bytes(1000)}
	first := w.mustBackup(w.stranger(admin), "a", f)
	w.mustBackup(w.stranger(admin), "b", f)
	w.must(w.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: w.mustBackup(w.stranger(admin), "c", f)}))
	halfDone := w.halfCommitted("d", f)
	tombstone := w.names("tombstones/")[0]
	var end string
	for _, name := range w.names("leases/") {
		if strings.HasSuffix(name, "/end") {
			end = name
		}
	}
	name := manifestName(first)
	for _, rules := range []string{
		"yield " + name + ": hide",
		"open " + name + " #1: corrupt byte 100",
		"open " + tombstone + " #1: corrupt byte 100", "open " + tombstone + " #2: corrupt byte 100",
		"open " + end + " #1: corrupt byte 200", "open " + end + " #2: corrupt byte 200", "open " + end + " #3: corrupt byte 200", "open " + end + " #4: corrupt byte 200",
		"open condemned #1: corrupt byte 60", "open condemned #2: corrupt byte 60",
	} {
		t.Run(strings.ReplaceAll(rules, "/", "|"), func(t *testing.T) {
			w := w.on(t, w.storage.Clone())
			before := w.names("")
			condemned := w.object("condemned")
			r := w.through(w.faulted(rules), admin)
			_, err := r.Repair(t.Context(), repo.RepairOptions{ForgetLost: true})
			t.Log(err)
			if now := w.names("tombstones/"); !slices.Equal(now, []string{tombstone}) {
				t.Errorf("tombstones are %q", now)
			}
			if !bytes.Equal(w.object("condemned"), condemned) {
				t.Error("the condemned list was replaced")
			}
			for _, n := range before {
				if !slices.Contains(w.names(""), n) && !strings.HasPrefix(n, "leases/") {
					t.Errorf("%s is gone", n)
				}
			}
			w.has(w.stranger(admin), first, f)
			w.has(w.stranger(admin), halfDone, f)
		})
	}
}

// A pack that was condemned before its writer named it, as it was damaged, is named no
// more.
func TestRepairCondemnedAndNamed(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "a", f)
	victim, segment := w.names("data/")[0], w.names("index/")[0]
	late := w.object(segment)
	w.delete(segment)
	w.replace(victim, flipped(w.object(victim), len(w.object(victim))-20))
	w.repair(w.stranger(admin))
	w.replace(segment, late)
	report := w.repair(w.stranger(admin))
	if len(report.Left.Problems) > 0 || w.namedPacks()[victim] {
		t.Errorf("left are %v", problems(report.Left)) // its segment says where the good frames are
	}
	if packs := w.condemnedNow(); len(packs) != 1 {
		t.Errorf("condemned are %v", packs)
	}
	w.isSound()
	w.has(w.stranger(admin), id, f)
}

// directory returns what a pack says that it has.
func (w *world) directory(name string) []pack.Entry {
	w.Helper()
	object := w.object(name)
	start, err := pack.DirectoryStart(int64(len(object)), object)
	w.must(err)
	entries, err := pack.OpenDirectory(object[:pack.PrefixSize], object[start:len(object)-pack.FooterSize], int64(len(object)), kindOf(name), w.stranger(admin).Ring())
	w.must(err)
	return entries
}
