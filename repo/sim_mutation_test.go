package repo_test

import (
	"context"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
)

// Each step of the protocol is needed: without it, something is lost in a small world that is
// good as long as the step is done. Each row names where: all interleavings with
// a few switches, or one that needs more of them, leg by leg.
var mutations = []struct {
	step     string
	omit     func(*repo.Repository)
	actors   []string
	switches int
	plan     []leg
}{
	{"a writer takes a lease", func(r *repo.Repository) { r.Omit(repo.StepLease) }, []string{"two", "hasty"}, 2, nil},
	{"a writer heeds the list", func(r *repo.Repository) { r.Omit(repo.StepSee) }, []string{"two", "hasty"}, 1, nil},
	{"a writer lists the packs", func(r *repo.Repository) { r.Omit(repo.StepList) }, []string{"two", "hasty"}, 2, nil},
	// The first segment of a run that was fenced off comes when its pack is gone, between
	// the two looks of the second run.
	{"a writer lists the packs after it read the list", func(r *repo.Repository) { r.Omit(repo.StepOrder) }, []string{"again", "new", "hasty"}, 0, []leg{
		{"new", "put", "index/", 1}, {"hasty", "swap", "condemned", 2}, {"again", "open", "condemned", 1},
		{"hasty", "swap", "condemned", 3}, {"hasty", "open", "condemned", 1}, {"new", "put", "leases/", 1},
	}},
	{"a writer heeds a fence", func(r *repo.Repository) { r.Omit(repo.StepFenceCheck) }, []string{"two", "hasty"}, 2, nil},
	{"a writer that was fenced off looks again", func(r *repo.Repository) { r.Omit(repo.StepRenewCheck) }, []string{"two", "hasty"}, 2, nil},
	{"prune waits for leases", func(r *repo.Repository) { r.Omit(repo.StepListLeases) }, []string{"two", "prune"}, 0, []leg{
		{"two", "put", "leases/", 2}, {"prune", "", "", 0},
	}},
	{"prune lists the leases after the list is there", func(r *repo.Repository) { r.Omit(repo.StepLeasesAfter) }, []string{"two", "prune"}, 0, []leg{
		{"prune", "swap", "condemned", 1}, {"two", "put", "leases/", 2}, {"prune", "", "", 0},
	}},
	{"prune marks again", func(r *repo.Repository) { r.Omit(repo.StepRemark) }, []string{"two", "prune"}, 1, nil},
	{"prune reads leases before snapshots", func(r *repo.Repository) { r.Omit(repo.StepLeasesFirst) }, []string{"two", "prune"}, 0, []leg{
		{"two", "put", "leases/", 2}, {"prune", "swap", "condemned", 2}, {"two", "put", "snapshots/", 1},
		{"prune", "list", "snapshots/", 1}, {"prune", "list", "leases/", 1}, {"two", "", "", 0},
	}},
	// A prune that stalled replaces the list while another deletes what was on it. A writer
	// then sees the wrong list, a pack that is about to go, and the late segment that
	// names it.
	{"prune compares when the list is made final", func(r *repo.Repository) { r.Omit(repo.StepFinalSwap) }, []string{"again", "new", "hasty", "other"}, 0, []leg{
		{"hasty", "swap", "condemned", 2}, {"hasty", "list", "tombstones/", 1}, {"hasty", "open", "condemned", 1},
		{"new", "put", "index/", 1}, {"other", "swap", "condemned", 4}, {"other", "delete", "data/", 1},
		{"hasty", "open", "condemned", 2}, {"new", "put", "leases/", 1},
		{"again", "put", "leases/", 2}, {"other", "swap", "condemned", 1}, {"again", "", "", 0},
	}},
	{"ends that fence stay", func(r *repo.Repository) { r.Omit(repo.StepKeepEnds) }, []string{"two", "hasty"}, 2, nil},
}

func TestSimMutations(t *testing.T) {
	b := small(t)
	for _, m := range mutations {
		t.Run(m.step, func(t *testing.T) {
			actors := b.actors(m.actors...)
			play := func() error {
				e := b.explorer(t, m.switches, actors)
				if m.plan != nil {
					return e.follow(m.plan...)
				}
				return e.run()
			}
			if m.plan != nil { // TestSimInterleavings has tried the others
				if err := play(); err != nil {
					t.Fatalf("with the step: %v", err)
				}
			}
			for i := range actors {
				actors[i].omit = m.omit
			}
			err := play()
			if err == nil {
				t.Fatal("nothing is lost without it")
			}
			if testing.Verbose() {
				t.Log(err)
			}
		})
	}
}

// What prune believes needs no other process to show that it is needed.
func TestSimMutationsOfMarks(t *testing.T) {
	for _, m := range []struct {
		step    string
		omit    func(*repo.Repository)
		prepare func(b *book)
	}{
		{"the admin's word counts alone", func(r *repo.Repository) { r.Omit(repo.StepVouched) }, (*book).lie},
	} {
		t.Run(m.step, func(t *testing.T) {
			b := small(t)
			m.prepare(b)
			prune := pruneOf(repo.PruneOptions{Patience: -1}, 1)
			run := func(m *mem.Mem, omit func(*repo.Repository)) error {
				p := &process{actor: actor{name: "prune", omit: omit}, random: seeded("prune"), storage: m, clock: b.clock}
				b.must(prune(p))
				return b.holds(m, nil)
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

// lie makes a writer whose key was stolen say that the pack of one file has the chunk of
// another. Both are needed.
func (b *book) lie() {
	b.Helper()
	b.mustDirect(b.storage, "lie", backupOf("new", b.sets["new"]))
	b.addHost()
	truth, lie := b.dataID(b.sets["stays"]["s"]), pack.Finished{}
	for _, name := range b.names(b.storage, "data/") {
		p := b.finished(name, b.object(b.storage, name))
		if p.Entries[0].ID == b.dataID(b.sets["new"]["n"]) {
			lie = p
		}
	}
	lie.Entries = []pack.Entry{lie.Entries[0]}
	lie.Entries[0].ID = truth
	b.sayAsHost(lie)
}

// sayAsHost makes the host say something of a pack.
func (b *book) sayAsHost(lie pack.Finished) {
	b.Helper()
	builder := index.NewBuilder()
	b.must(builder.AddPack(lie))
	b.mustDirect(b.storage, "thief", func(p *process) error {
		p.pass = hostSecret
		return withRepository(func(_ context.Context, _ *process, r *repo.Repository) error {
			s, err := r.Sealer()
			b.must(err)
			b.putSegment(b.storage, builder, s, seeded("lie"))
			return nil
		})(p)
	})
}
