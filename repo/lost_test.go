package repo_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// TestLostPack loses one pack of data: what needs it is named, all else is
// readable.
func TestLostPack(t *testing.T) {
	w := newRepository(t)
	ctx := t.Context()
	cache := t.TempDir()
	r := w.machine(cache, admin)
	f := w.someFiles()
	first := w.mustBackup(r, "a", f)
	second := w.mustBackup(r, "b", files{"large": f["large"], "own": w.random.bytes(100)})
	for _, lost := range append(w.names("data/"), w.names("meta/")...) {
		w := w.on(t, w.storage.Clone())
		w.delete(lost)
		for name, r := range map[string]*repo.Repository{"known": w.machine(cache, admin), "new": w.stranger(admin)} {
			report := w.check(r)
			n := slices.IndexFunc(report.Problems, func(p repo.Problem) bool {
				return p.Object == lost || strings.HasPrefix(p.Object, "tree node")
			})
			if n < 0 {
				t.Fatalf("%s: the check does not name %s: %+v", name, lost, report.Problems)
			}
			p := report.Problems[n]
			if len(p.Chunks) == 0 || len(p.Files) == 0 || p.Err == nil {
				t.Errorf("%s: the loss of %s costs %d chunks and %d files: %v", name, lost, len(p.Chunks), len(p.Files), p.Err)
			}
			for _, id := range p.Chunks {
				kind := chunk.Data
				if strings.HasPrefix(lost, "meta/") {
					kind = chunk.Node
				}
				_, err := r.Chunk(ctx, repo.Ref{ID: id, Kind: kind})
				if !errors.Is(err, repo.ErrDamage) || !strings.Contains(err.Error(), lost) {
					t.Errorf("%s: reading a chunk of %s: %v", name, lost, err)
				}
				w.must(r.Chunks(ctx, []repo.Ref{{ID: id, Kind: kind}}, func(_ int, _ []byte, err error) error {
					if !errors.Is(err, repo.ErrDamage) {
						t.Errorf("%s: Chunks gave %v", name, err)
					}
					return nil
				}))
			}
			for _, x := range p.Files {
				if x.Snapshot != first && x.Snapshot != second {
					t.Errorf("%s: a file of no snapshot: %v", name, x)
				}
				if name := strings.TrimPrefix(x.Path, "/"); strings.HasPrefix(lost, "data/") && len(f[name]) == 0 && name != "own" {
					t.Errorf("%s is said to need %s", x.Path, lost)
				}
			}
			if strings.HasPrefix(lost, "data/") {
				checkRest(w, r, first, f, report)
			}
		}
	}
}

// checkRest reads all files of a snapshot: exactly those fail that the report
// names.
func checkRest(w *world, r *repo.Repository, id snapshot.ID, f files, report *repo.Report) {
	w.Helper()
	bad := make(map[string]bool) // the report names one snapshot for each path
	for _, p := range report.Problems {
		for _, x := range p.Files {
			bad[strings.TrimPrefix(x.Path, "/")] = true
		}
	}
	s, ok := w.snapshots(r).Get(id)
	if !ok {
		w.Fatal("the snapshot is gone")
	}
	w.must(r.LoadBody(w.Context(), s))
	c := snapshot.NewCursor(snapshot.Tree{Root: s.Body.Root, Source: r})
	for {
		e, err := c.Next(w.Context())
		w.must(err)
		if e == nil {
			return
		}
		var got bytes.Buffer
		_, err = got.ReadFrom(repo.NewFile(w.Context(), r, e))
		name := e.Key.Base()
		switch {
		case bad[name] && !errors.Is(err, repo.ErrDamage):
			w.Errorf("%s is named by the check, but read with %v", name, err)
		case !bad[name] && (err != nil || !bytes.Equal(got.Bytes(), f[name])):
			w.Errorf("%s is not named by the check, but read with %v", name, err)
		}
	}
}
