package repo_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

// smallDeltas is small with chunks that are similar: near is to the one of set old, which
// nothing else needs, wide to that and to the one of the set that stays.
func smallDeltas(t *testing.T) *book {
	b := small(t)
	a, s := b.sets["old"]["a"], b.sets["stays"]["s"]
	near, wide := altered(a), across(s, a)
	b.relate(near, a)
	b.relate(a, near)
	b.relate(wide, s, a)
	b.add("near", files{"n": near})
	b.add("wide", files{"w": wide})
	return b
}

// kept is smallDeltas, and wide is stored as a delta in a pack that stays, as something else
// in it is needed.
func kept(t *testing.T) *book {
	b := smallDeltas(t)
	e := seeded("e").bytes(300)
	b.add("both", files{"w": b.sets["wide"]["w"], "e": e})
	b.add("other", files{"e": e})
	b.mustDirect(b.storage, "both", backupOf("both", b.sets["both"]))
	b.mustDirect(b.storage, "other", backupOf("other", b.sets["other"]))
	b.mustDirect(b.storage, "forget both", forgetSets("both"))
	b.mustStore(b.storage, b.sets["wide"]["w"], 0, 1)
	return b
}

// baseGone is kept, after the pack of one of wide's bases went.
func baseGone(t *testing.T) *book {
	b := kept(t)
	b.mustDirect(b.storage, "lazy", lazyPrune())
	b.mustStore(b.storage, b.sets["old"]["a"], 0, 0)
	b.mustStore(b.storage, b.sets["wide"]["w"], 0, 1)
	return b
}

// eachOther is smallDeltas with two chunks that are each stored whole, and as a delta of
// the other: four writers did that beside each other.
func eachOther(t *testing.T) *book {
	b := smallDeltas(t)
	x := seeded("x").bytes(300)
	y := altered(x)
	b.relate(x, y)
	b.relate(y, x)
	b.add("x", files{"x": x})
	b.add("y", files{"y": y})
	b.add("x and y", files{"x": x, "y": y})
	b.beside(b.storage, map[string]script{
		"xy": sequence(backupOf("x", b.sets["x"]), backupOf("y", b.sets["y"])),
		"yx": sequence(backupOf("y", b.sets["y"]), backupOf("x", b.sets["x"])),
	})
	b.mustStore(b.storage, x, 1, 1)
	b.mustStore(b.storage, y, 1, 1)
	b.mustDirect(b.storage, "forget x", forgetSets("x", "y"))
	return b
}

// sequence is scripts one after the other.
func sequence(scripts ...script) script {
	return func(p *process) error {
		for _, do := range scripts {
			if err := do(p); err != nil {
				return err
			}
		}
		return nil
	}
}

// lazyPrune writes no pack anew.
func lazyPrune() script {
	o := repo.PruneOptions{Patience: -1}
	o.MaxUnused.Percent = 100
	return pruneOf(o, 1)
}

// deltaWorlds are small worlds as smallWorlds, in which writers store deltas or rely on them. The
// larger ones are for when there is time; random ones are like them.
var deltaWorlds = []struct {
	name     string
	begin    func(*testing.T) *book
	switches int
	actors   []string
	soak     bool
}{
	{"a writer of a delta of two, and a prune", smallDeltas, 1, []string{"wide", "hasty"}, false},
	{"a writer that relies on a delta, and a prune", kept, 1, []string{"wide", "lazy"}, false},
	{"an undo of deltas, and a prune", kept, 1, []string{"undo", "lazy"}, false},
	{"a writer of a delta and a prune", smallDeltas, 2, []string{"near", "hasty"}, true},
	{"two writers of deltas, and a prune", smallDeltas, 1, []string{"near", "two", "hasty"}, true},
	{"a writer that relies on a delta, and a prune that moves it", kept, 1, []string{"wide", "hasty"}, true},
	{"deltas of each other, a writer and a prune", eachOther, 1, []string{"x", "hasty"}, true},
}

func TestSimInterleavingsOfDeltas(t *testing.T) {
	for _, w := range deltaWorlds {
		t.Run(w.name, func(t *testing.T) {
			if w.soak && soakTime(1) == 0 {
				t.Skip("only in make soak")
			}
			b := w.begin(t)
			switches := w.switches
			if racing {
				switches--
			}
			e := b.explorer(t, switches, b.actors(w.actors...))
			if w.soak {
				e.until = time.Now().Add(soakTime(len(w.actors)))
			}
			whole := b.wholeEnds(e)
			if err := e.run(); err != nil {
				t.Fatal(err)
			}
			t.Log(e.describe(), *whole, "ends restored")
		})
	}
}

// deltaMutations are as mutations, of what is to do for deltas. Who is named leaves the step
// out. The plans are where it matters: what a writer stores comes after the prune has chosen what
// goes, and its commit after that went.
var deltaMutations = []struct {
	step  string
	who   string
	omit  func(*repo.Repository)
	begin func(*testing.T) *book
	plan  []leg
}{
	{"a writer relies on the packs of the bases of what it stores", "near", func(r *repo.Repository) { r.Omit(repo.StepUseBases) }, smallDeltas, []leg{
		{"near", "put", "data/", 1}, {"hasty", "swap", "condemned", 1}, {"near", "put", "leases/", 1}, {"hasty", "", "", 0},
	}},
	{"a writer relies on the packs of the bases of what is stored", "wide", func(r *repo.Repository) { r.Omit(repo.StepUseBases) }, kept, []leg{
		{"wide", "put", "meta/", 1}, {"lazy", "swap", "condemned", 1}, {"wide", "put", "leases/", 1}, {"lazy", "", "", 0},
	}},
	{"a writer relies on the pack of each base", "wide", func(r *repo.Repository) { r.Omit(repo.StepEachBase) }, kept, []leg{
		{"wide", "put", "leases/", 2}, {"lazy", "", "", 0},
	}},
	{"a writer wants bases to be stored whole", "wide", func(r *repo.Repository) { r.Omit(repo.StepWholeBase) }, baseGone, []leg{
		{"wide", "", "", 0},
	}},
	{"a writer that was fenced off looks for its bases again", "near", func(r *repo.Repository) { r.Omit(repo.StepRenewCheck) }, smallDeltas, []leg{
		{"near", "put", "leases/", 2}, {"hasty", "", "", 0},
	}},
	{"prune marks again what deltas need", "hasty", func(r *repo.Repository) { r.Omit(repo.StepRemark) }, smallDeltas, []leg{
		{"hasty", "swap", "condemned", 1}, {"near", "", "", 0}, {"hasty", "", "", 0},
	}},
	{"prune marks all bases again", "lazy", func(r *repo.Repository) { r.Omit(repo.StepEachBase) }, kept, []leg{
		{"lazy", "swap", "condemned", 1}, {"wide", "", "", 0}, {"lazy", "", "", 0},
	}},
	{"prune marks again that bases are needed whole", "lazy", func(r *repo.Repository) { r.Omit(repo.StepNeededFull) }, kept, []leg{
		{"lazy", "swap", "condemned", 1}, {"wide", "", "", 0}, {"lazy", "", "", 0},
	}},
}

func TestSimMutationsOfDeltas(t *testing.T) {
	for _, m := range deltaMutations {
		t.Run(m.step, func(t *testing.T) {
			b := m.begin(t)
			var names []string
			for _, l := range m.plan {
				if !slices.Contains(names, l.actor) {
					names = append(names, l.actor)
				}
			}
			actors := b.actors(names...)
			if err := b.explorer(t, 0, actors).follow(m.plan...); err != nil {
				t.Fatalf("with the step: %v", err)
			}
			i := slices.Index(names, m.who)
			actors[i].omit = m.omit
			err := b.explorer(t, 0, actors).follow(m.plan...)
			if err == nil {
				t.Fatal("nothing is lost without it")
			}
			if testing.Verbose() {
				t.Log(err)
			}
		})
	}
}

// What prune must keep for deltas, without anybody beside it.
func TestSimMutationsOfBases(t *testing.T) {
	for _, m := range []struct {
		step  string
		omit  func(*repo.Repository)
		begin func(*testing.T) *book
		prune repo.PruneOptions
	}{
		{"a base is needed whole", func(r *repo.Repository) { r.Omit(repo.StepNeededFull) }, func(t *testing.T) *book {
			b := smallDeltas(t)
			b.mustDirect(b.storage, "near", backupOf("near", b.sets["near"]))
			b.mustStore(b.storage, b.sets["near"]["n"], 0, 1)
			return b
		}, repo.PruneOptions{}},
		{"each base is", func(r *repo.Repository) { r.Omit(repo.StepEachBase) }, func(t *testing.T) *book {
			b := smallDeltas(t)
			b.mustDirect(b.storage, "wide", backupOf("wide", b.sets["wide"]))
			b.mustStore(b.storage, b.sets["wide"]["w"], 0, 1)
			return b
		}, repo.PruneOptions{}},
		{"what is needed whole is copied whole", func(r *repo.Repository) { r.Omit(repo.StepWholeHome) }, twoForms, repo.PruneOptions{}},
		{"others go because of a delta only if the admin says that its base is whole", func(r *repo.Repository) { r.Omit(repo.StepSureBase) }, falseBase,
			repo.PruneOptions{MaxVerify: 1}},
	} {
		t.Run(m.step, func(t *testing.T) {
			b := m.begin(t)
			m.prune.Patience = -1
			run := func(storage *mem.Mem, omit func(*repo.Repository)) error {
				p := &process{actor: actor{name: "prune", omit: omit}, random: seeded("prune"), storage: storage, clock: b.clock}
				b.must(pruneOf(m.prune, 1)(p))
				return b.holds(storage, nil)
			}
			if err := run(b.storage.Clone(), nil); err != nil {
				t.Errorf("with the step: %v", err)
			}
			if err := run(b.storage.Clone(), m.omit); err == nil {
				t.Error("nothing is lost without it")
			}
		})
	}
}

// twoForms is a repository with a chunk that a delta needs whole. It is stored so in a pack
// that goes, and as a delta in one that goes first.
func twoForms(t *testing.T) *book {
	b := smallDeltas(t)
	near := b.sets["near"]["n"]
	hangs := altered(altered(near))
	b.relate(hangs, near)
	q := seeded("q").bytes(200)
	b.add("whole", files{"n": near, "dead": seeded("dead").bytes(300)})
	b.add("delta", files{"n": near, "q": q, "more dead": seeded("more dead").bytes(2000)})
	b.add("hangs", files{"m": hangs})
	b.add("q", files{"q": q})
	of := b.kin
	b.beside(b.storage, map[string]script{
		"whole": func(p *process) error { p.kin = nil; return backupOf("whole", b.sets["whole"])(p) },
		"delta": func(p *process) error { p.kin = of; return backupOf("delta", b.sets["delta"])(p) },
	})
	b.mustStore(b.storage, near, 1, 1)
	b.mustDirect(b.storage, "hangs", sequence(backupOf("hangs", b.sets["hangs"]), backupOf("q", b.sets["q"])))
	b.mustStore(b.storage, hangs, 0, 1)
	b.mustDirect(b.storage, "forget them", forgetSets("whole", "delta"))
	return b
}

// falseBase is a repository in which a chunk is stored as a delta twice. The base of one is
// lost, and a thief says to have it.
func falseBase(t *testing.T) *book {
	b := small(t)
	x := seeded("x").bytes(300)
	y, z := altered(x), altered(altered(x))
	keep := seeded("keep").bytes(500)
	for set, f := range map[string]files{"y": {"y": y}, "z": {"z": z}, "x of y": {"x": x, "keep": keep}, "x of z": {"x": x}, "x": {"x": x, "keep": keep}} {
		b.add(set, f)
	}
	b.mustDirect(b.storage, "y", sequence(backupOf("y", b.sets["y"]), backupOf("z", b.sets["z"])))
	ofY, ofZ := newKin(), newKin()
	b.kin = ofY
	b.relate(x, y)
	b.kin = ofZ
	b.relate(x, z)
	b.beside(b.storage, map[string]script{
		"of y": func(p *process) error { p.kin = ofY; return backupOf("x of y", b.sets["x of y"])(p) },
		"of z": func(p *process) error { p.kin = ofZ; return backupOf("x of z", b.sets["x of z"])(p) },
	})
	b.mustStore(b.storage, x, 0, 2)
	b.mustDirect(b.storage, "forget y", forgetSets("y", "z"))
	for _, name := range b.names(b.storage, "data/") {
		entries, err := b.entries(name, b.object(b.storage, name))
		b.must(err)
		if entries[0].ID == b.dataID(y) {
			b.must(b.storage.Delete(context.Background(), name))
		}
	}
	b.thieve(y)
	return b
}

// thieve makes a writer whose key was stolen store a pack, and say that it has a chunk.
func (b *book) thieve(p []byte) {
	b.Helper()
	b.addHost()
	junk := seeded("junk").bytes(len(p))
	b.add("junk", files{"junk": junk})
	before := b.names(b.storage, "data/")
	b.mustDirect(b.storage, "thief", func(p *process) error { p.pass = hostSecret; return backupOf("junk", files{"junk": junk})(p) })
	lie := pack.Finished{}
	for _, name := range b.names(b.storage, "data/") {
		if !slices.Contains(before, name) {
			lie = b.finished(name, b.object(b.storage, name))
		}
	}
	lie.Entries = []pack.Entry{lie.Entries[0]}
	lie.Entries[0].ID = b.dataID(p)
	b.sayAsHost(lie)
}
