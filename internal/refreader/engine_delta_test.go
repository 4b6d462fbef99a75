package refreader_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/internal/refreader"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// allOf takes all that it has for the bases of every chunk.
type allOf struct {
	bases  []repo.Base
	deltas int
}

func (a *allOf) Bases(context.Context, *repo.NewChunk, repo.Home) ([]repo.Base, error) {
	return a.bases, nil
}

func (a *allOf) Stored(_ *repo.NewChunk, _ []byte, encoding pack.Encoding) {
	if encoding == pack.Delta {
		a.deltas++
	}
}

// store makes a snapshot with a file of one chunk.
func store(t *testing.T, r *repo.Repository, contents []byte, similar repo.Similar) chunk.ID {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	w, err := r.NewWriter(ctx, repo.WriterOptions{Host: "host", Similar: similar})
	must(err)
	id, _, err := w.Put(chunk.Data, contents)
	must(err)
	keys, err := r.WriteKeys()
	must(err)
	b := snapshot.NewBuilder(keys.TreeCut, func(_ context.Context, p []byte) (chunk.ID, error) { return w.PutNode(chunk.Node, p) })
	n := len(contents)
	h, err := blake3.NewKeyed(keys.ContentHash[:])
	must(err)
	h.Write(append([]byte{0}, contents...))
	sum := h.Sum(nil)
	must(b.Add(ctx, &snapshot.Entry{Key: "", Type: snapshot.Directory, Mode: 0o755}))
	must(b.Add(ctx, &snapshot.Entry{
		Key: snapshot.Key("").Child("file"), Type: snapshot.File, Mode: 0o644, Size: uint64(n), Hash: [16]byte(sum[:16]),
		Extents: []snapshot.Extent{{Chunk: id, ChunkSize: uint32(n), Length: uint64(n)}},
	}))
	root, err := b.Finish(ctx)
	must(err)
	now := time.Now()
	_, err = w.Commit(ctx, repo.NewSnapshot{Time: now, Host: "host", Body: snapshot.Body{Root: root, Set: "set", Start: now, End: now}})
	must(err)
	return id
}

// TestReadsDeltas lets the engine store deltas of one base and of two.
func TestReadsDeltas(t *testing.T) {
	dir, passphrase := t.TempDir(), []byte("correct horse")
	storage, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock := seal.Passphrase{Text: passphrase, Cost: seal.Cost{Passes: 1, Memory: 64, Lanes: 1}}
	r, err := repo.Init(t.Context(), repo.Options{Storage: storage, Cache: t.TempDir()}, repo.Params{Lock: lock})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	random := rand.NewChaCha8([32]byte{7})
	x, y := make([]byte, 50_000), make([]byte, 40_000)
	random.Read(x)
	random.Read(y)
	bases := []repo.Base{{ID: store(t, r, x, nil), Plaintext: x}, {ID: store(t, r, y, nil), Plaintext: y}}
	one, two := bytes.Clone(x), append(bytes.Clone(x[20_000:]), y[:30_000]...)
	one[1000]++
	two[1000]++
	for n, contents := range [][]byte{one, two} {
		similar := &allOf{bases: bases[:n+1]}
		store(t, r, contents, similar)
		if similar.deltas != 1 {
			t.Fatalf("%d deltas are stored", similar.deltas)
		}
	}
	for name, open := range map[string]func(string, []byte) (*refreader.Repo, error){"segments": refreader.Open, "directories": refreader.OpenDirectories} {
		reader, err := open(dir, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.Check(); err != nil {
			t.Errorf("by %s: check: %v", name, err)
		}
		snapshots, err := reader.Snapshots()
		if err != nil || len(snapshots) != 4 {
			t.Fatalf("by %s: %d snapshots, %v", name, len(snapshots), err)
		}
		want := [][]byte{x, y, one, two}
		for _, s := range snapshots {
			err := reader.Walk(s, func(_ string, e refreader.Entry) error {
				if e.Type != refreader.File {
					return nil
				}
				var got bytes.Buffer
				err := reader.ReadFile(e, &got)
				i := slices.IndexFunc(want, func(p []byte) bool { return bytes.Equal(p, got.Bytes()) })
				if i < 0 {
					t.Errorf("by %s: %d bytes that nobody stored: %v", name, got.Len(), err)
					return err
				}
				want = slices.Delete(want, i, i+1)
				return err
			})
			if err != nil {
				t.Errorf("by %s: %v", name, err)
			}
		}
		if len(want) > 0 {
			t.Errorf("by %s: %d contents did not come back", name, len(want))
		}
	}
}
