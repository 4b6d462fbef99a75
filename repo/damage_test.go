package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/repo/protocol"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// everyKind returns a world that has an object of each kind, and is sound.
func everyKind(t *testing.T) (*world, snapshot.ID, files) {
	w := newRepository(t)
	w.addSlot("second", seal.Full)
	f := w.someFiles()
	forgotten := w.mustBackup(w.stranger(admin), "forgotten", files{"x": f["small"]})
	w.must(w.stranger(admin).Forget(t.Context(), protocol.Forgotten{ID: forgotten}))
	id := w.mustBackup(w.stranger(admin), "first", f)
	w.condemn("data/ab/" + strings.Repeat("ab", 32))
	w.halfCommitted("second", files{"y": f["small"]})
	running := w.begin(w.stranger(admin))
	w.must(running.Beat(t.Context()))
	t.Cleanup(func() { running.Abort(t.Context()) })
	return w, id, f
}

// kindOfName groups objects by what they are.
func kindOfName(name string) string {
	kind, rest, _ := strings.Cut(name, "/")
	if kind == "leases" {
		_, rest, _ = strings.Cut(rest, "/")
		return strings.TrimRight(rest, "-0123456789")
	}
	return kind
}

// TestFlippedBytes damages one byte of each part of an object of each kind. A
// machine that never saw the repository must notice, and not fall over.
func TestFlippedBytes(t *testing.T) {
	w, id, f := everyKind(t)
	w.isSound()
	byKind := make(map[string]string)
	for _, name := range w.names("") {
		byKind[kindOfName(name)] = name
	}
	if len(byKind) != 11 {
		t.Fatalf("kinds are %v", byKind)
	}
	for kind, name := range byKind {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			object := w.object(name)
			n := len(object)
			places := []int{0, 6, 7, 8, 40, 44, 48, 80, 100, n / 2, n - 96, n - 64, n - 8, n - 1}
			slices.Sort(places)
			for _, at := range slices.Compact(places) {
				if at < 0 || at >= n {
					continue
				}
				w := w.on(t, w.storage.Clone())
				w.replace(name, flipped(object, at))
				noticed(w, kind, name, at, id, f)
			}
			for _, size := range []int{0, 48, n - 1} {
				w := w.on(t, w.storage.Clone())
				w.replace(name, object[:size])
				noticed(w, kind, name, size-n, id, f)
			}
		})
	}
}

// noticed fails the test unless opening or checking the repository says that
// the object is damaged. at says where, for messages.
func noticed(w *world, kind, name string, at int, id snapshot.ID, f files) {
	w.Helper()
	o := w.options(w.storage, "", admin)
	o.Secrets = append(o.Secrets, secret("second"))
	r, err := repo.Open(w.Context(), o)
	if kind == "config" {
		w.wants(err, repo.ErrDamage)
		return
	}
	w.must(err)
	defer r.Close()
	report, err := r.Check(w.Context(), all)
	if err != nil {
		w.Fatalf("byte %d: %v", at, err)
	}
	if !slices.ContainsFunc(report.Problems, func(p repo.Problem) bool { return strings.HasPrefix(p.Object, name) }) {
		w.Errorf("byte %d: the check says %+v", at, report.Problems)
	}
	// All that can be read without the object is read, and nothing false.
	set := w.snapshots(r)
	s, ok := set.Get(id)
	if !ok {
		if kind != "snapshots" {
			w.Errorf("byte %d: the snapshot is gone", at)
		}
		return
	}
	got, err := restore(w.Context(), r, s)
	switch kind {
	case "data", "meta":
		if err != nil && !errors.Is(err, repo.ErrDamage) {
			w.Errorf("byte %d: %v", at, err)
		}
	default:
		w.must(err)
	}
	for name, p := range got {
		if string(p) != string(f[name]) {
			w.Errorf("byte %d: %s came back false", at, name)
		}
	}
}

// A check does what it is told and no more.
func TestCheckSamples(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	w.mustBackup(r, "first", w.someFiles())
	packs := len(w.names("data/")) + len(w.names("meta/"))
	for _, c := range []struct {
		sample repo.Sample
		min    int
		max    int
	}{
		{repo.Sample{}, 0, 0},
		{repo.Sample{Percent: 0.001}, 0, 1},
		{repo.Sample{Percent: 50}, 1, packs - 1},
		{repo.Sample{Percent: 100}, packs, packs},
		{repo.Sample{Percent: 250}, packs, packs},
		{repo.Sample{Bytes: 1}, 1, 1},
		{repo.Sample{Bytes: 1 << 40}, packs, packs},
	} {
		phases := make(map[string]int64)
		report, err := r.Check(t.Context(), repo.CheckOptions{Read: c.sample, Progress: func(phase string, done, _ int64) {
			if done < phases[phase] {
				t.Errorf("%s went back to %d", phase, done)
			}
			phases[phase] = done
		}})
		w.must(err)
		if report.ReadPacks < c.min || report.ReadPacks > c.max || len(report.Problems) > 0 || report.Packs != packs || report.Snapshots != 1 {
			t.Errorf("%+v: %+v", c.sample, report)
		}
		if report.ReadPacks > 0 && phases["bytes of packs"] != report.ReadBytes {
			t.Errorf("%+v: progress was %v", c.sample, phases)
		}
	}
}

// What killed runs leave is not damage.
func TestCheckLeftovers(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	wr := w.begin(r)
	putMany(w, wr)
	w.must(wr.Flush(t.Context()))
	w.delete(w.names("index/")...)
	report := w.check(w.stranger(admin))
	if len(report.Problems) > 0 || len(report.Leftovers) != report.Packs+1 {
		t.Errorf("%d packs; the check says %+v, %q", report.Packs, report.Problems, report.Leftovers)
	}
	w.must(wr.Abort(t.Context()))
	w.replace("data/ab/"+strings.Repeat("cd", 32), []byte("in the wrong folder"))
	w.replace("data/junk", []byte("of no name"))
	w.replace("index/junk", []byte("of no name"))
	report = w.check(w.stranger(admin))
	for _, name := range []string{"data/ab/" + strings.Repeat("cd", 32), "data/junk", "index/junk"} {
		if !slices.ContainsFunc(report.Problems, func(p repo.Problem) bool { return p.Object == name }) {
			t.Errorf("nothing is said about %s: %+v", name, report.Problems)
		}
	}
}
