package repo_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/repo"
)

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

// A pack that was cut off is seen in the listing: the next snapshot relies on
// none of it, without a repair.
func TestCutOffPackHeals(t *testing.T) {
	w := newRepository(t)
	f := w.someFiles()
	id := w.mustBackup(w.stranger(admin), "first", f)
	for _, name := range slices.Concat(w.names("data/"), w.names("meta/")) {
		w := w.on(t, w.storage.Clone())
		w.replace(name, w.object(name)[:len(w.object(name))/2])
		w.mustBackup(w.stranger(admin), "again", f)
		w.has(w.stranger(admin), id, f)
		report := w.check(w.stranger(admin))
		if len(report.Problems) != 1 || report.Problems[0].Object != name || len(report.Problems[0].Files) > 0 {
			t.Errorf("the check says %+v", report.Problems)
		}
	}
}

// A chunk with two homes is lost when both are bad, and not before.
func TestBothHomesDamaged(t *testing.T) {
	w := newRepository(t)
	r := w.stranger(admin)
	f := files{"x": w.random.bytes(1000)}
	first, second := w.begin(r), w.begin(w.stranger(admin)) // neither knows of the other's chunks
	id, err := w.finish(r, first, "a", f)
	w.must(err)
	_, err = w.finish(w.stranger(admin), second, "b", f)
	w.must(err)
	packs := w.names("data/")
	if len(packs) != 2 {
		t.Fatalf("packs are %v", packs)
	}
	for n, name := range packs {
		w.replace(name, flipped(w.object(name), 1300))
		report := w.check(w.stranger(admin))
		var files int
		for _, p := range report.Problems {
			files += len(p.Files)
		}
		if len(report.Problems) != n+1 || files != n {
			t.Errorf("%d damaged: the check says %+v", n+1, report.Problems)
		}
	}
	report := w.repair(w.stranger(admin))
	if len(report.Left.Problems) != 1 || len(report.Left.Problems[0].Chunks) != 1 || len(report.Left.Problems[0].Files) != 1 || report.Left.Problems[0].Files[0].Others != 1 {
		t.Errorf("left is %+v", report.Left.Problems)
	}
	w.mustBackup(w.stranger(admin), "again", f)
	w.isSound()
	w.has(w.stranger(admin), id, f)
}
