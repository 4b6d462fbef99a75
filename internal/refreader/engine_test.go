package refreader_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/refreader"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

// TestReadsWhatTheEngineWrites lets the engine make repositories of all
// shapes, and reads them with code that knows only the document.
func TestReadsWhatTheEngineWrites(t *testing.T) {
	for _, algorithm := range []chunk.Algorithm{chunk.FastCDC, chunk.FastCDCPRF, chunk.Rabin} {
		t.Run(algorithm.String(), func(t *testing.T) {
			dir, source := t.TempDir(), makeTree(t)
			passphrase := []byte("correct horse")
			writeRepository(t, dir, source, passphrase, algorithm)

			bySegments, err := refreader.Open(dir, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			if err := bySegments.Check(); err != nil {
				t.Errorf("check: %v", err)
			}
			compare(t, bySegments, source)
			byDirectories, err := refreader.OpenDirectories(dir, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, byDirectories, source)
		})
	}
}

// makeTree makes files around the sizes at which the engine changes its ways.
func makeTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	random := rand.NewChaCha8([32]byte{1})
	contents := func(n int) []byte {
		b := make([]byte, n)
		random.Read(b)
		copy(b, bytes.Repeat([]byte("compressible "), n/26)) // half of it
		return b
	}
	for name, size := range map[string]int{
		"empty": 0, "one": 1, "small": 5000, "below": 256<<10 - 1, "at": 256 << 10, "above": 256<<10 + 1, "many chunks": 3 << 20,
		"sub/dir/deep": 100, "sub/odd \n\xff name": 77, "sub/zz": 1000,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, contents(size), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 400 { // several leaves and bundles
		path := filepath.Join(root, "many", strings.Repeat("d", i%7+1), "file"+string(rune('a'+i%26))+strings.Repeat("x", i/26))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, contents(2000+i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, spans := range map[string][]int64{ // offsets of data and the size
		"sparse/small": {8 << 10, 64 << 10, 100 << 10}, "sparse/hole": {200 << 10}, "sparse/large": {0, 1 << 20, 3 << 20}, "sparse/all": {1 << 20},
	} {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		f, ferr := os.Create(path)
		if err = errors.Join(err, ferr); err != nil {
			t.Fatal(err)
		}
		last := len(spans) - 1
		err = f.Truncate(spans[last])
		for _, at := range spans[:last] {
			_, werr := f.WriteAt(contents(4<<10), at)
			err = errors.Join(err, werr)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Symlink("nowhere/at all", filepath.Join(root, "link")),
		os.Link(filepath.Join(root, "small"), filepath.Join(root, "sub/hard")),
		unix.Mkfifo(filepath.Join(root, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(root, "one"), "user.note", []byte("hello"), 0); err != nil {
		t.Logf("this file system has no user xattrs: %v", err)
	}
	return root
}

// writeRepository makes a repository with two snapshots, the second with a
// change and a stream. Small chunks and packs make many of both, and list trees.
func writeRepository(t *testing.T, dir, source string, passphrase []byte, algorithm chunk.Algorithm) {
	t.Helper()
	storage, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock := seal.Passphrase{Text: passphrase, Cost: seal.Cost{Passes: 1, Memory: 64, Lanes: 1}}
	r, err := repo.Init(t.Context(), repo.Options{Storage: storage, Cache: t.TempDir()}, repo.Params{
		Lock: lock, PackSize: 1 << 18,
		Chunker: chunk.Params{Algorithm: algorithm, Min: 4 << 10, Avg: 16 << 10, Max: 64 << 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	opts := ingest.Options{Paths: []string{source}, Host: "host", User: "user", Tags: []string{"b", "a"}, Program: "test"}
	if _, err := ingest.Snapshot(t.Context(), r, opts); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "sub/zz"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	opts.Sources = []ingest.Source{ingest.Stream{Name: "dump/of/it", Reader: strings.NewReader(strings.Repeat("a line of a dump\n", 40_000))}}
	if _, err := ingest.Snapshot(t.Context(), r, opts); err != nil {
		t.Fatal(err)
	}
}

// compare reads the newest snapshot and compares every entry with the tree it
// was made of.
func compare(t *testing.T, r *refreader.Repo, source string) {
	t.Helper()
	snapshots, err := r.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshots) != 2 {
		t.Fatalf("%d snapshots, want 2", len(snapshots))
	}
	newest := snapshots[0]
	for _, s := range snapshots {
		if s.Time > newest.Time {
			newest = s
		}
	}
	found := make(map[string]bool)
	err = r.Walk(newest, func(path string, e refreader.Entry) error {
		found[path] = true
		var got bytes.Buffer
		if e.Type == refreader.File {
			if err := r.ReadFile(e, &got); err != nil {
				return err
			}
		}
		if path == "stdin/dump/of/it" {
			if want := strings.Repeat("a line of a dump\n", 40_000); got.String() != want {
				t.Errorf("%s: other contents", path)
			}
		}
		if strings.HasPrefix(path, source+"/") {
			compareEntry(t, path, e, got.Bytes())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(source, func(path string, _ os.DirEntry, err error) error {
		if !found[path] {
			t.Errorf("%q is not in the snapshot", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found["stdin/dump/of/it"] || !found["/"] {
		t.Error("the stream or the root is not in the snapshot")
	}
}

func compareEntry(t *testing.T, path string, e refreader.Entry, contents []byte) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	if e.Mode != st.Mode&0o7777 || e.Owner.UID != uint64(st.Uid) || e.MTime.Sec != st.Mtim.Sec || int64(e.MTime.Nsec) != st.Mtim.Nsec {
		t.Errorf("%q: metadata %o %d %v differ from %o %d %v", path, e.Mode, e.Owner.UID, e.MTime, st.Mode, st.Uid, st.Mtim)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(contents, want) {
			t.Errorf("%q: %d bytes differ from the file's %d", path, len(contents), len(want))
		}
		if (st.Nlink > 1) != (e.HardLink != nil) {
			t.Errorf("%q: hard link group %v with %d links", path, e.HardLink, st.Nlink)
		}
	case unix.S_IFLNK:
		if want, _ := os.Readlink(path); string(e.Target) != want {
			t.Errorf("%q: points to %q, want %q", path, e.Target, want)
		}
	}
}

// TestNoticesDamage flips a bit in each object: the reader must not accept it.
func TestNoticesDamage(t *testing.T) {
	dir, source := t.TempDir(), makeTree(t)
	passphrase := []byte("correct horse")
	writeRepository(t, dir, source, passphrase, chunk.FastCDC)
	readAll := func() error {
		r, err := refreader.Open(dir, passphrase)
		if err != nil {
			return err
		}
		if err := r.Check(); err != nil {
			return err
		}
		snapshots, err := r.Snapshots()
		if err != nil {
			return err
		}
		for _, s := range snapshots {
			err := r.Walk(s, func(_ string, e refreader.Entry) error {
				if e.Type != refreader.File {
					return nil
				}
				return r.ReadFile(e, io.Discard)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := readAll(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		kind, _, _ := strings.Cut(strings.TrimPrefix(path, dir+"/"), "/")
		if err != nil || d.IsDir() || strings.HasPrefix(kind, "_") || seen[kind] {
			return err
		}
		seen[kind] = true
		good, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 4
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			return err
		}
		if readAll() == nil {
			t.Errorf("a bit flipped in %s was not noticed", path)
		}
		return os.WriteFile(path, good, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 7 {
		t.Errorf("saw kinds %v, want config, keys, data, meta, index, snapshots, condemned", seen)
	}
}
