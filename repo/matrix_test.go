package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// harm is one way to damage an object: the new contents, nil if it is removed.
type harm struct {
	name   string
	object []byte
	header bool // it is one of many in the header
	// beside: the object stays, and another of this name has the contents.
	beside string
}

// harms are the ways to damage the object that plays a role.
func (w *whole) harms(role string) []harm {
	name := w.roles[role]
	object, kind := w.object(name), kindOfName(name)
	n := len(object)
	var all []harm
	for _, p := range w.parts(kind, object) {
		all = append(all, harm{name: "flipped in " + p.name, object: flipped(object, p.at), header: p.at > 0 && p.at < seal.HeaderSize})
	}
	for _, size := range []int{0, 1, 47, 48, n / 2, n - 1} {
		all = append(all, harm{name: fmt.Sprintf("cut to %d", size), object: object[:size]})
	}
	all = append(all, harm{name: "grown", object: append(slices.Clone(object), 0)}, harm{name: "removed"})
	if p := w.another(w.storage, kind, object); p != nil {
		all = append(all, harm{name: "swapped", object: p})
	}
	if p := w.another(w.twin, kind, object); p != nil && kind != "config" && kind != "condemned" {
		all = append(all, harm{name: "from a twin", object: p})
	}
	all = append(all, harm{name: "foreign", object: w.another(w.foreign, kind, object)})
	if p := w.older[name]; p != nil {
		all = append(all, harm{name: "rolled back", object: p})
	}
	other := strings.Repeat("e7", 32)
	beside := map[string]string{
		"keys": "keys/" + other, "snapshots": "snapshots/" + other, "tombstones": "tombstones/" + other, "index": "index/" + other,
		"data": "data/e7/" + other, "meta": "meta/e7/" + other,
		"begin": "leases/" + other + "/begin", "beat": "leases/" + other + "/beat-1", "end": "leases/" + other + "/end",
	}[kind]
	if beside != "" {
		all = append(all, harm{name: "duplicated", object: object, beside: beside})
	}
	return all
}

// verdict is when damage is found, and what ends it.
type verdict struct {
	// found is by which check: of a machine that never saw the repository, of one
	// that did, one that reads everything, or none, for the reason given.
	found string
	why   string
	// mended is by what: repair, or repair --forget-lost.
	mended string
}

const (
	byAll      = "any check"
	byWitness  = "a machine that saw it"
	byReading  = "reading"
	byNone     = "nobody"
	byRepair   = "repair"
	byForget   = "forgetting what is lost"
	byRemoving = "removing the key"
)

// expected says what must become of a harm.
func expected(role string, h harm) verdict {
	v := verdict{found: byAll, mended: byRepair}
	flippedIn := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return h.name == "flipped in "+p })
	}
	switch role {
	case "full key", "write-only key":
		v.mended = byRemoving
		if h.beside != "" {
			v = verdict{found: byNone, why: "config does not list it, so it opens nothing"}
		}
	case "condemned":
		if h.object == nil || h.name == "rolled back" {
			v = verdict{found: byNone, why: "nothing is condemned then, or what was before: who may delete packs needs no list for it"}
		}
	case "tombstone":
		v.mended = byForget
		// Removed, it is the snapshot that nothing explains any more.
	case "forgotten manifest":
		v = verdict{found: byNone, why: "nobody needs it any more"}
		if h.beside != "" {
			v = verdict{found: byAll, mended: byForget}
		}
	case "older manifest", "writer's manifest":
		v.mended = byForget
	case "begin", "beat":
		if h.object == nil {
			v = verdict{found: byNone, why: "its writer goes on, and finds no end of its lease"}
		}
	case "fenced end":
		v.mended = byForget
		if h.object == nil {
			v = verdict{found: byNone, why: "the lease looks as if it went on"}
		}
	case "commit":
		v.mended = byForget
		if h.object == nil { // the newest snapshot, which nobody links to yet
			v.found = byWitness
		}
	case "index":
		if h.object == nil {
			v = verdict{found: byNone, why: "its packs count as left over, and readers look into them"}
		}
	case "data", "meta":
		if flippedIn("padding") || h.beside != "" || role == "data" && flippedIn("first frame", "middle frame", "frame's tag") {
			v.found = byReading // nodes are read by any check
		}
	}
	return v
}

// cell is one harm in one role, in a storage of its own.
type cell struct {
	*world
	whole *whole
	role  string
	name  string // of the object
	harm  harm
	verdict
	givenUp bool // the snapshot that only this object had
}

// TestDamageMatrix does to an object of each kind and state all that can become
// of it, and then all that a user does: whatever is wrong is named, nothing comes back
// false, and what can be mended is.
func TestDamageMatrix(t *testing.T) {
	w := newWhole(t)
	w.isSound()
	for _, role := range slices.Sorted(maps.Keys(w.roles)) {
		if role == "config" {
			continue // TestMendConfig
		}
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			for i, h := range w.harms(role) {
				if i%(step*step) != 0 && h.object != nil {
					continue // the race detector is slow, and has seen the like
				}
				t.Run(strings.ReplaceAll(h.name, " ", "_"), func(t *testing.T) {
					c := &cell{world: w.on(t, w.storage.Clone()), whole: w, role: role, name: w.roles[role], harm: h, verdict: expected(role, h)}
					if h.beside != "" {
						c.name = h.beside
					}
					if h.object == nil {
						c.delete(c.name)
					} else {
						c.replace(c.name, h.object)
					}
					c.run()
				})
			}
		})
	}
}

// patience bounds what a cell may take, all in all: nothing may go on for ever.
const patience = time.Minute

func (c *cell) run() {
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	stranger := c.open(ctx, "")
	report, err := stranger.Check(ctx, repo.CheckOptions{})
	c.must(err)
	c.finds("a check", report, c.found == byAll)
	if isPack := strings.HasPrefix(kindOfName(c.name), "data") || strings.HasPrefix(kindOfName(c.name), "meta"); isPack {
		report, err = stranger.Check(ctx, all)
		c.must(err)
		c.finds("reading", report, c.found == byAll || c.found == byReading)
	}
	if c.harm.object == nil || c.found == byNone || c.harm.name == "swapped" {
		report, err := c.open(ctx, c.witness()).Check(ctx, repo.CheckOptions{})
		c.must(err)
		c.finds("a machine that saw it", report, c.found == byAll || c.found == byWitness)
	}
	c.reads(ctx, stranger, report)
	if c.harm.header {
		return // what comes next does not depend on which of these it is
	}
	c.writes(ctx)
	c.mends(ctx)
}

// open opens the repository with either of two keys.
func (w *world) open(ctx context.Context, cache string) *repo.Repository {
	w.Helper()
	o := w.options(w.storage, cache, "second")
	o.Secrets = append(o.Secrets, secret(admin))
	r, err := repo.Open(ctx, o)
	w.must(err)
	w.Cleanup(func() { w.must(r.Close()) })
	return r
}

// witness returns a cache with the memory of a machine, and none of its copies.
func (c *cell) witness() string {
	c.Helper()
	dir := c.TempDir()
	c.must(os.CopyFS(dir, os.DirFS(c.whole.memory)))
	for _, class := range []string{"nodes", "manifests", "bodies", "slots"} {
		copies, err := filepath.Glob(filepath.Join(dir, "*", class))
		c.must(err)
		for _, name := range copies {
			c.must(os.RemoveAll(name))
		}
	}
	return dir
}

// finds compares what a check says with whether it must say something.
func (c *cell) finds(who string, report *repo.Report, must bool) {
	c.Helper()
	if !must {
		for _, p := range report.Problems {
			c.Errorf("%s says of %s: %v", who, p.Object, p.Err)
		}
		return
	}
	name := c.name
	if c.role == "tombstone" && c.harm.object == nil {
		name = "snapshots/" // what it explained
	}
	if c.role == "commit" && c.harm.object == nil {
		name = "snapshots/" // what it held
	}
	if !slices.ContainsFunc(report.Problems, func(p repo.Problem) bool {
		return strings.HasPrefix(p.Object, name) || strings.Contains(p.Err.Error(), name)
	}) {
		c.Errorf("%s says nothing of %s, but %v", who, name, problems(report))
	}
}

// reads lists all snapshots and reads all files: what comes is right, and what
// does not was named by the check.
func (c *cell) reads(ctx context.Context, r *repo.Repository, report *repo.Report) {
	c.Helper()
	set, err := r.Snapshots(ctx)
	c.must(err)
	for _, m := range c.whole.made {
		if _, ok := set.Get(m.id); !ok {
			_, forgotten := set.Forgotten[m.id]
			if given := forgotten || c.givenUp; !given && len(set.Damage) == 0 && c.found != byWitness {
				c.Errorf("snapshot %s is gone without a word", m.set)
			}
			continue
		}
		got := c.readable(r, m.id)
		for name, p := range got {
			if !bytes.Equal(p, m.files[name]) {
				c.Errorf("%s of snapshot %s came back false", name, m.set)
			}
		}
		for name := range m.files {
			if _, ok := got[name]; !ok && !names(report, name) {
				c.Errorf("%s of snapshot %s can't be read, and the check does not say so", name, m.set)
			}
		}
		if len(got) < len(m.files) && kindOfName(c.name) != "data" && kindOfName(c.name) != "meta" {
			c.Errorf("snapshot %s came back with %d of %d files", m.set, len(got), len(m.files))
		}
	}
}

// names reports whether a report names a file, or a part of a tree that it may be in.
func names(report *repo.Report, file string) bool {
	return slices.ContainsFunc(report.Problems, func(p repo.Problem) bool {
		return slices.ContainsFunc(p.Files, func(x repo.DamagedFile) bool {
			return x.Path == "/"+file || strings.HasPrefix(x.Path, "(") // of the tree
		})
	})
}

// writes makes a snapshot of new contents beside the damage.
func (c *cell) writes(ctx context.Context) {
	c.Helper()
	w := c.on(c.TB, c.storage.Clone())
	f := files{"fresh": w.random.bytes(3000)}
	id, err := w.backup(w.open(ctx, ""), "fresh", f)
	if c.role == "condemned" && c.found != byNone {
		w.wants(err, repo.ErrDamage)
		return
	}
	w.must(err)
	w.has(w.open(ctx, ""), id, f)
}

// mends repairs, backs the same contents up again, and wants all to be well.
func (c *cell) mends(ctx context.Context) {
	c.Helper()
	r := c.open(ctx, "")
	report, err := r.Repair(ctx, repo.RepairOptions{Read: all.Read, ForgetLost: c.mended == byForget})
	c.must(err)
	again, err := r.Repair(ctx, repo.RepairOptions{Read: all.Read, ForgetLost: c.mended == byForget})
	c.must(err)
	if len(again.Fixes) > 0 {
		c.Errorf("repaired again: %v, after %v", again.Fixes, report.Fixes)
	}
	if c.mended == byRemoving {
		c.must(r.RemoveSlot(ctx, c.slot(r)))
	}
	c.givenUp = c.role == "commit"
	c.reads(ctx, r, report.Left)
	if len(report.Left.Problems) > 0 && c.mended == byRepair {
		for _, m := range c.whole.made { // the same contents are met again
			c.mustBackup(c.with(ctx, m.by), m.set, m.files)
		}
	}
	after, err := c.open(ctx, "").Check(ctx, all)
	c.must(err)
	for _, p := range after.Problems {
		c.Errorf("after all, %s: %v (%v)", p.Object, p.Err, report.Fixes)
	}
}

// with opens the repository with the key of who made a snapshot.
func (c *cell) with(ctx context.Context, who string) *repo.Repository {
	if who == admin {
		return c.open(ctx, "")
	}
	return c.stranger(who)
}

// slot returns the slot that was harmed.
func (c *cell) slot(r *repo.Repository) seal.SlotID {
	c.Helper()
	slots, err := r.Slots()
	c.must(err)
	i := slices.IndexFunc(slots, func(s repo.SlotInfo) bool { return c.name == "keys/"+s.ID.String() })
	return slots[i].ID
}
