package repo_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
)

// What the cache has copies of comes back.
func TestRepairFromTheCache(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	r := w.machine(cache, admin)
	w.addSlot("spare", seal.Full)
	f := w.someFiles()
	forgotten := w.mustBackup(r, "a", f)
	first, second := w.mustBackup(r, "b", f), w.mustBackup(r, "c", files{"x": w.random.bytes(100)})
	w.must(r.Bury(t.Context(), protocol.Forgotten{ID: forgotten}))
	w.mustBeSound(w.machine(cache, admin)) // which reads the slots and the tombstone
	for _, name := range slices.Concat(w.names("keys/"), w.names("meta/"), w.names("tombstones/"), []string{manifestName(first), manifestName(second)}) {
		for how, harm := range map[string]func(*world){
			"damaged": func(w *world) { w.replace(name, flipped(w.object(name), 90)) },
			"removed": func(w *world) { w.delete(name) },
			"bloated": func(w *world) { w.replace(name, make([]byte, bloated(name))) },
		} {
			w := w.on(t, w.storage.Clone())
			was := w.object(name)
			harm(w)
			o := w.options(w.storage, cache, admin)
			o.Secrets = append(o.Secrets, secret("spare"))
			r, err := repo.Open(t.Context(), o)
			w.must(err)
			report := w.repair(r)
			w.must(r.Close())
			switch {
			case strings.HasPrefix(name, "tombstones/") && how == "removed":
				continue // as if it had never been: docs/threat-model.md
			case strings.HasPrefix(name, "meta/"):
			case !bytes.Equal(w.object(name), was):
				t.Errorf("%s is not as it was", name)
			}
			if len(report.Left.Problems) > 0 {
				t.Errorf("%s of %s: left are %v", name, how, problems(report.Left))
			}
			w.isSound()
			w.has(w.stranger(admin), first, f)
		}
	}
}

// bloated is more than an object may have, where that is not too much for a test.
func bloated(name string) int {
	if strings.HasPrefix(name, "snapshots/") && !racing {
		return 17 << 20
	}
	return 1 << 17
}

// Manifests that are lost for good are given up only if that is asked for.
func TestForgetLost(t *testing.T) {
	w := newRepository(t)
	cache := t.TempDir()
	ids := w.chain(cache, 4)
	w.must(w.stranger(admin).Bury(t.Context(), protocol.Forgotten{ID: ids[0]}))
	w.delete(manifestName(ids[2]))
	w.replace(manifestName(ids[1]), flipped(w.object(manifestName(ids[1])), 100))
	w.replace(w.names("tombstones/")[0], []byte("junk"))
	report := w.repair(w.stranger(admin))
	if len(report.Fixes) > 0 || len(report.Left.Problems) != 3 {
		t.Errorf("%+v", report)
	}
	report, err := w.stranger(admin).Repair(t.Context(), repo.RepairOptions{ForgetLost: true})
	w.must(err)
	if len(report.Fixes) != 3 || len(report.Left.Problems) != 0 {
		t.Errorf("%v, left %v", report.Fixes, problems(report.Left))
	}
	w.isSound()
	w.mustBeSound(w.machine(cache, admin))
	// The tombstone is gone, and so is what it said; that snapshot was not pruned.
	if n := w.snapshots(w.stranger(admin)).Len(); n != 2 {
		t.Errorf("%d snapshots", n)
	}
}

// A condemned list that can't be read stops writers; a repair replaces it.
func TestRepairCondemned(t *testing.T) {
	for name, object := range map[string][]byte{"empty": {}, "junk": []byte("junk"), "huge": make([]byte, 65<<20)} {
		if racing && name == "huge" {
			continue
		}
		w := newRepository(t)
		w.replace("condemned", object)
		if _, err := w.backup(w.stranger(admin), "x", files{}); !errors.Is(err, repo.ErrDamage) {
			t.Errorf("%s: %v", name, err)
		}
		w.isFixed(w.repair(w.stranger(admin)), "condemned", "replaced")
		w.mustBackup(w.stranger(admin), "x", files{})
		w.isSound()
	}
}

// A lease that lost an object ends. Its writer goes on under another.
func TestRepairLease(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	w.must(wr.Beat(t.Context()))
	begin, beat := repo.LeaseName(wr.LeaseID(), "begin"), repo.LeaseName(wr.LeaseID(), "beat-1")
	w.replace(begin, flipped(w.object(begin), 60))
	w.replace(beat, []byte("junk"))
	report := w.repair(w.stranger(admin))
	w.isFixed(report, begin, "removed")
	w.isFixed(report, beat, "removed")
	w.isSound()
	f := w.someFiles()
	id, err := w.finish(r, wr, "x", f)
	w.must(err)
	w.isSound()
	w.has(w.stranger(admin), id, f)

	// An end that nobody can read may have been a commit.
	before := w.names("leases/")
	w.halfCommitted("y", f)
	var end string
	for _, name := range w.names("leases/") {
		if strings.HasSuffix(name, "/end") && !slices.Contains(before, name) {
			end = name
		}
	}
	w.replace(end, flipped(w.object(end), 300))
	if report := w.repair(w.stranger(admin)); len(report.Left.Problems) != 1 || report.Left.Problems[0].Object != end {
		t.Errorf("left are %v", problems(report.Left))
	}
	report, err = w.stranger(admin).Repair(t.Context(), repo.RepairOptions{ForgetLost: true})
	w.must(err)
	w.isFixed(report, end, "given up")
	w.isSound()
}

// Without config nothing can be opened. A machine that saw it puts it back, and
// nothing else in its place.
func TestMendConfig(t *testing.T) {
	whole := newWhole(t)
	cache := t.TempDir()
	whole.machine(cache, admin)
	config := whole.object("config")
	for _, h := range whole.harms("config") {
		w := whole.on(t, whole.storage.Clone())
		if h.object == nil {
			w.delete("config")
		} else {
			w.replace("config", h.object)
		}
		opts := w.options(w.storage, cache, admin)
		_, err := repo.Open(t.Context(), opts)
		w.wants(err, repo.ErrDamage)
		if !strings.Contains(err.Error(), "config") {
			t.Errorf("%s: %v", h.name, err)
		}
		// A machine that never saw it can do nothing.
		if done, err := repo.MendConfig(t.Context(), w.options(w.storage, t.TempDir(), admin), false); done || err != nil {
			t.Errorf("%s: mended from nothing: %v", h.name, err)
		}
		would, err := repo.MendConfig(t.Context(), opts, true)
		w.must(err)
		done, err := repo.MendConfig(t.Context(), opts, false)
		w.must(err)
		valid := h.name == "rolled back" || h.name == "foreign"
		if done == valid || would != done {
			t.Errorf("%s: mended %v, planned %v", h.name, done, would)
		}
		if valid {
			continue // whoever put it there may have meant it; the error says what to do
		}
		if !bytes.Equal(w.object("config"), config) {
			t.Errorf("%s: config is not as it was", h.name)
		}
	}
	w := whole.on(t, whole.storage.Clone())
	w.delete("config")
	w.mustMend(cache)
	w.isSound()
	// An empty place, as of a disk that is not mounted, stays empty.
	w.delete(w.names("")...)
	if done, err := repo.MendConfig(t.Context(), w.options(w.storage, cache, admin), false); done || err != nil || len(w.names("")) > 0 {
		t.Errorf("mended %v, %v: %v", done, err, w.names(""))
	}
}

func (w *world) mustMend(cache string) {
	w.Helper()
	done, err := repo.MendConfig(w.Context(), w.options(w.storage, cache, admin), false)
	w.must(err)
	if !done {
		w.Fatal("config was not put back")
	}
}
