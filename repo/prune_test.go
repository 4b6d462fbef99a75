package repo_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// prune runs a prune from a machine that never saw the repository.
func (w *world) prune(o repo.PruneOptions) *repo.PruneReport {
	w.Helper()
	report, err := w.stranger(admin).Prune(w.Context(), o)
	w.must(err)
	return report
}

// forget forgets snapshots.
func (w *world) forget(ids ...snapshot.ID) {
	w.Helper()
	n, err := w.stranger(admin).Forget(w.Context(), ids)
	w.must(err)
	if n != len(ids) {
		w.Fatalf("forgot %d of %d", n, len(ids))
	}
}

// packBytes are the bytes of all packs.
func (w *world) packBytes() (n int64) {
	w.Helper()
	for _, prefix := range []string{"data/", "meta/"} {
		for info, err := range w.storage.List(w.Context(), prefix) {
			w.must(err)
			n += info.Size
		}
	}
	return n
}

func (w *world) phase() protocol.Phase {
	w.Helper()
	c, _, err := protocol.OpenCondemned(w.object("condemned"), w.stranger(admin).ID())
	w.must(err)
	return c.Phase
}

func TestPrune(t *testing.T) {
	w := newRepository(t)
	first := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", first)
	rest := files{"large": first["large"], "other": w.random.bytes(3 * blockSize)}
	stays := w.mustBackup(w.stranger(admin), "stays", rest)
	if r := w.prune(repo.PruneOptions{}); r.Freed.Packs != 0 {
		t.Errorf("freed %v though all is needed", r.Freed)
	}
	w.forget(gone)
	before := w.packBytes()
	dry := w.prune(repo.PruneOptions{DryRun: true})
	if w.packBytes() != before || dry.Frees() <= 0 {
		t.Fatalf("a dry run changed something, or frees nothing: %+v", dry)
	}
	done := w.prune(repo.PruneOptions{})
	if freed := before - w.packBytes(); freed != done.Frees() {
		t.Errorf("freed %d bytes, the report says %d: %+v", freed, done.Frees(), done)
	}
	// The new packs pad and list a little otherwise.
	if diff := dry.Frees() - done.Frees(); max(diff, -diff) > 4<<10 {
		t.Errorf("predicted %d, freed %d", dry.Frees(), done.Frees())
	}
	if w.phase() != protocol.Empty {
		t.Error("the list is not empty")
	}
	w.has(w.stranger(admin), stays, rest)
	w.isSound()
	if n := w.names("leases/"); len(n) > 0 {
		t.Errorf("left over: %v", n)
	}
	if n := w.names("snapshots/"); len(n) != 1 {
		t.Errorf("manifests %v", n)
	}
	again := w.prune(repo.PruneOptions{})
	if again.Freed.Packs > 0 || again.Unused > 0 || again.Segments > 0 {
		t.Errorf("the second prune has something to do: %+v", again)
	}
	report := w.check(w.stranger(admin))
	if len(report.Leftovers) > 0 {
		t.Errorf("left over: %v", report.Leftovers)
	}
}

// What a run relies on that began before the list stays; what it does not rely on goes
// when it has ended.
func TestPruneWaits(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", f)
	other := w.mustBackup(w.stranger(admin), "other", files{"x": w.random.bytes(5 * blockSize)})
	r := w.stranger(admin)
	wr := w.begin(r)
	if _, isNew, err := wr.Put(chunk.Data, f["small"]); err != nil || isNew {
		t.Fatal(err)
	}
	w.forget(gone, other)
	report := w.prune(repo.PruneOptions{})
	if len(report.Waiting) != 1 || report.Waiting[0].Host != "host" || report.Freed.Packs > 0 {
		t.Fatalf("did not wait: %+v", report)
	}
	if w.phase() != protocol.Waiting {
		t.Errorf("phase %d", w.phase())
	}
	small := files{"small": f["small"]}
	id, err := w.finish(r, wr, "second", small)
	w.must(err)
	report = w.prune(repo.PruneOptions{})
	if report.Freed.Packs == 0 || len(report.Waiting) > 0 {
		t.Errorf("nothing was freed: %+v", report)
	}
	w.has(w.stranger(admin), id, small)
	w.isSound()
}

func TestPruneFencesTheDead(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", f)
	r := w.stranger(admin)
	wr := w.begin(r)
	if _, isNew, err := wr.Put(chunk.Data, f["small"]); err != nil || isNew {
		t.Fatal(err)
	}
	w.forget(gone)
	w.mu.Lock()
	w.time = w.time.Add(2 * time.Hour)
	w.mu.Unlock()
	report := w.prune(repo.PruneOptions{})
	if report.Fenced != 1 || report.Freed.Packs == 0 {
		t.Fatalf("did not fence: %+v", report)
	}
	// It was not dead. It notices, and does not commit what can't be restored.
	_, err := w.finish(r, wr, "second", files{"small": f["small"]})
	w.wants(err, repo.ErrFenced)
	w.must(wr.Abort(t.Context()))
	w.prune(repo.PruneOptions{})
	// And it can't come back later, however late.
	end := protocol.End{Lease: wr.LeaseID(), Outcome: protocol.Committed, Manifest: []byte("x")}
	object, err := end.Seal(w.sealer(r))
	w.must(err)
	for _, name := range w.names("leases/") {
		if strings.HasSuffix(name, "/begin") {
			t.Errorf("%s was left", name)
		}
		w.wants(backend.PutBytes(t.Context(), w.storage, name, object), backend.ErrExist)
	}
	w.isSound()
}

// A prune that is killed at any operation leaves what another one finishes.
func TestPruneKilledAnywhere(t *testing.T) {
	w := newRepository(t)
	first := w.someFiles()
	gone := w.mustBackup(w.stranger(admin), "gone", first)
	rest := files{"large": first["large"], "other": w.random.bytes(3 * blockSize)}
	stays := w.mustBackup(w.stranger(admin), "stays", rest)
	w.forget(gone)
	for _, fault := range []string{"crash", "done-and-crash", "err EIO", "done-but-error EIO"} {
		for n := 1; ; n++ {
			c := w.on(t, w.storage.Clone())
			opened := 4 // operations before it begins
			in, err := faulty.Parse(fmt.Sprintf("* #%d: %s", n+opened, fault))
			c.must(err)
			r, err := repo.Open(t.Context(), c.options(in.Wrap(c.storage), "", admin))
			c.must(err)
			r.Prune(t.Context(), repo.PruneOptions{}) // what it says is not of interest, but what it leaves
			c.must(r.Close())
			fired := in.Ops() >= n+opened
			c.has(c.stranger(admin), stays, rest)
			c.prune(repo.PruneOptions{Patience: time.Second})
			c.prune(repo.PruneOptions{Patience: time.Second})
			c.has(c.stranger(admin), stays, rest)
			if c.phase() != protocol.Empty {
				t.Errorf("%s at operation %d: the list is not empty after two more", fault, n)
			}
			report := c.check(c.stranger(admin))
			for _, p := range report.Problems {
				t.Errorf("%s at operation %d: %s: %v", fault, n, p.Object, p.Err)
			}
			for _, l := range report.Leftovers {
				if !strings.Contains(l, "lease") {
					t.Errorf("%s at operation %d: %s", fault, n, l)
				}
			}
			if t.Failed() || !fired {
				t.Logf("%s: %d operations", fault, n)
				break
			}
		}
	}
}

// The admin signs for what other writers have stored, after reading it.
func TestPruneCountersigns(t *testing.T) {
	w := newRepository(t)
	w.addSlot("host", seal.WriteOnly)
	w.addSlot("other", seal.WriteOnly)
	f := w.someFiles()
	id := w.mustBackup(w.stranger("host"), "first", f)
	packs := len(w.names("data/")) + len(w.names("meta/"))
	report := w.prune(repo.PruneOptions{})
	if report.Verified.Packs != packs {
		t.Errorf("verified %+v of %d packs", report.Verified, packs)
	}
	before := len(w.names("data/"))
	w.mustBackup(w.stranger("other"), "second", f)
	if n := len(w.names("data/")); n != before {
		t.Errorf("%d packs became %d: the other writer did not share", before, n)
	}
	if again := w.prune(repo.PruneOptions{}); again.Verified.Packs > 1 { // its own tree
		t.Errorf("verified again: %+v", again.Verified)
	}
	w.has(w.stranger(admin), id, f)
	w.isSound()
}

// What says what is needed must be readable.
func TestPruneStopsAtDamage(t *testing.T) {
	w := newRepository(t)
	stays := w.mustBackup(w.stranger(admin), "stays", w.someFiles())
	gone := w.mustBackup(w.stranger(admin), "gone", w.someFiles())
	w.forget(gone)
	wr := w.begin(w.stranger(admin))
	defer wr.Abort(t.Context())
	for _, prefix := range []string{"snapshots/", "tombstones/", "index/", "leases/", "condemned"} {
		t.Run(strings.Trim(prefix, "/"), func(t *testing.T) {
			c := w.on(t, w.storage.Clone())
			name := "condemned"
			switch prefix {
			case "snapshots/":
				name = prefix + stays.String()
			case "condemned":
			default:
				name = c.names(prefix)[0]
			}
			object := c.object(name)
			object[len(object)/2] ^= 1
			c.replace(name, object)
			before := c.names("")
			_, err := c.stranger(admin).Prune(t.Context(), repo.PruneOptions{})
			c.wants(err, repo.ErrDamage)
			after := slices.DeleteFunc(c.names(""), func(n string) bool { return strings.HasPrefix(n, "leases/") })
			before = slices.DeleteFunc(before, func(n string) bool { return strings.HasPrefix(n, "leases/") })
			if !slices.Equal(before, after) {
				t.Errorf("it changed something: %v became %v", before, after)
			}
			t.Log(err)
		})
	}
}
