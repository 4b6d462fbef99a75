package tune

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/bench/corpus"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// dumps writes two versions of a database dump.
func dumps(t *testing.T) (paths []string) {
	t.Helper()
	for version := 1; version <= 2; version++ {
		path := filepath.Join(t.TempDir(), "shop.sql")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (corpus.Dump{Size: 12e6, Version: version}).WriteTo(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// Of two versions of a dump, what is said of deltas is what snapshots of one dump, which is replaced by the
// other, come to.
func TestDeltasAsInLife(t *testing.T) {
	paths := dumps(t)
	axes := Axes{[]chunk.Algorithm{chunk.FastCDC}, []int{256 << 10}, []pack.Compression{pack.Fastest}, []bool{true, false}}
	r := run(t, Options{Paths: paths, Axes: axes, Prefer: Size, Random: &sameSecrets{r: rand.NewChaCha8([32]byte{1})}})
	if len(r.Results) != 2 {
		t.Fatalf("%d results", len(r.Results))
	}
	for _, res := range r.Results {
		got, want := res.Stored, realSize(t, paths, res.Setting)
		if diff := float64(got-want) / float64(want); diff < -0.05 || diff > 0.05 {
			t.Errorf("%s: %d bytes are said to be stored, and %d are", res.Setting, got, want)
		}
	}
	on, off := r.Results[0], r.Results[1]
	if !on.Deltas || off.Deltas || on.Stored > off.Stored*2/3 || !r.Best.Deltas {
		t.Errorf("with deltas %d bytes, without %d; recommended: %s", on.Stored, off.Stored, r.Best.Setting)
	}
}

// realSize makes the snapshots that somebody makes who has the dumps one after the other at one place.
func realSize(t *testing.T, paths []string, s Setting) int64 {
	t.Helper()
	identity, err := seal.NewIdentity(rand.NewChaCha8([32]byte{2}))
	if err != nil {
		t.Fatal(err)
	}
	storage := mem.New(time.Now)
	r, err := repo.Init(t.Context(), repo.Options{Storage: storage, Cache: t.TempDir(), Random: rand.NewChaCha8([32]byte{1})}, repo.Params{
		Chunker: s.Params(), Compression: s.Compression, Lock: identity.Recipient(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	size := func() (n int64) {
		for info, err := range storage.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size
		}
		return n
	}
	before := size()
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		o := ingest.Options{Host: "host", Sources: []ingest.Source{ingest.Stream{Name: "shop.sql", Reader: f}}}
		if s.Deltas {
			o.DeltaBudget = deltaBudget
		}
		_, err = ingest.Snapshot(t.Context(), r, o)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return size() - before
}

// One path has no versions, and nine are none: deltas are not compared then.
func TestDeltasNeedVersions(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		paths = append(paths, write(t, dir, name, 100<<10, 1))
	}
	axes := oneSetting
	axes.Deltas = []bool{true, false}
	for n, want := range map[int]int{1: 1, 2: 2, 8: 2, 9: 1} {
		if r := run(t, Options{Paths: paths[:n], Axes: axes}); len(r.Results) != want {
			t.Errorf("%d paths: %d results, want %d", n, len(r.Results), want)
		}
	}
}
