package restore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/seal"
)

// fixture is a repository in memory and a directory to back up.
type fixture struct {
	*testing.T
	storage *mem.Mem
	repo    *repo.Repository
	source  string
}

// newFixture makes a repository with small chunks, so that small files have many.
func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, storage: mem.New(time.Now), source: filepath.Join(realTempDir(t), "source")}
	f.must(os.Mkdir(f.source, 0o755))
	var err error
	f.repo, err = repo.Init(t.Context(), repo.Options{
		Storage: f.storage, Cache: t.TempDir(),
		Random: rand.NewChaCha8([32]byte{1}), // equal trees in each run
	}, repo.Params{
		Chunker:  chunk.Params{Algorithm: chunk.FastCDC, Min: 8 << 10, Avg: 16 << 10, Max: 64 << 10},
		PackSize: 1 << 20,
		Lock:     seal.Passphrase{Text: []byte("secret"), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}},
	})
	f.must(err)
	t.Cleanup(func() { f.repo.Close() })
	return f
}

// realTempDir is t.TempDir without links in its path, as the paths of a snapshot are.
func realTempDir(t *testing.T) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// tempTarget is t.TempDir, for restores of directories that may not be written to.
func tempTarget(t *testing.T) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o700)
			}
			return nil
		})
	})
	return dir
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// path returns a path in the source.
func (f *fixture) path(name string) string { return filepath.Join(f.source, name) }

// write makes a file, and directories above, in the source.
func (f *fixture) write(name string, contents []byte) { writeFile(f.T, f.path(name), contents) }

func writeFile(t *testing.T, path string, contents []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, contents, 0o644); err != nil {
		t.Fatal(err)
	}
}

// snapshot backs up the source, or what o says.
func (f *fixture) snapshot(o ingest.Options) *repo.Snapshot {
	f.Helper()
	if o.Paths == nil && o.Sources == nil {
		o.Paths = []string{f.source}
	}
	o.Host = "host"
	res, err := ingest.Snapshot(f.Context(), f.repo, o)
	f.must(err)
	return f.load(res.ID)
}

// events is what an observer was told.
type events struct {
	mu       sync.Mutex
	actions  map[string]restore.Action
	problems map[string]error
	warnings map[string]error
}

func (e *events) observer() restore.Observer {
	e.actions = make(map[string]restore.Action)
	e.problems, e.warnings = make(map[string]error), make(map[string]error)
	return restore.Observer{
		Entry:   func(path string, a restore.Action) { e.mu.Lock(); e.actions[path] = a; e.mu.Unlock() },
		Problem: func(path string, err error) { e.mu.Lock(); e.problems[path] = err; e.mu.Unlock() },
		Warning: func(path string, err error) { e.mu.Lock(); e.warnings[path] = err; e.mu.Unlock() },
	}
}

// restore restores and demands success.
func (f *fixture) restore(o restore.Options) (*restore.Result, *events) {
	f.Helper()
	res, ev, err := f.try(o)
	if err != nil {
		f.Fatalf("restore: %v; problems: %v", err, ev.problems)
	}
	return res, ev
}

func (f *fixture) try(o restore.Options) (*restore.Result, *events, error) {
	ev := new(events)
	o.Observer = ev.observer()
	res, err := restore.Directory(f.Context(), f.repo, o)
	return res, ev, err
}

// patterns makes a set.
func patterns(t *testing.T, lines ...string) *gitignore.Set {
	t.Helper()
	set := gitignore.New("/")
	for _, l := range lines {
		if err := set.Add(l, "test"); err != nil {
			t.Fatal(err)
		}
	}
	return set
}

// describe says all that matters of what is below a directory, an entry a line.
// root: with the directory itself.
func describe(t *testing.T, dir string, root bool) map[string]string {
	t.Helper()
	all := make(map[string]string)
	inodes := make(map[uint64]string)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == "." && !root {
			return err
		}
		st, err := fsmeta.StatAt(unix.AT_FDCWD, path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d", st.Mode, st.UID, st.GID, st.Mtime.Sec, st.Mtime.Nsec)
		switch st.Type() {
		case unix.S_IFREG:
			p, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d sum %x", len(p), sha256.Sum256(p))
			if first, ok := inodes[st.Ino]; ok {
				line += " linked to " + first
			} else if st.Nlink > 1 {
				inodes[st.Ino] = rel
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " to " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %x", st.Rdev)
		}
		xs, err := fsmeta.XattrsAt(unix.AT_FDCWD, path)
		if err != nil {
			return err
		}
		for _, x := range xs {
			line += fmt.Sprintf(" %s=%q", x.Name, x.Value)
		}
		all[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same demands that two directories have the same in them.
func (f *fixture) same(got, want map[string]string) {
	f.Helper()
	for name, line := range want {
		if got[name] != line {
			f.Errorf("%q is\n\t%q, want\n\t%q", name, got[name], line)
		}
	}
	for name, line := range got {
		if _, ok := want[name]; !ok {
			f.Errorf("%q is there and should not be: %q", name, line)
		}
	}
}

// contents returns the names of files and links below a directory, with what is
// in them, and of directories, which end with a slash.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case rel == ".":
		case d.IsDir():
			all[rel+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			all[rel] = "-> " + target
		case !d.Type().IsRegular():
			all[rel] = d.Type().String()
		default:
			p, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[rel] = string(p)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// noise returns n bytes that do not compress and depend on the seed.
func noise(seed byte, n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		sum := sha256.Sum256([]byte{seed, byte(i), byte(i >> 8), byte(i >> 16)})
		b.Write(sum[:])
	}
	return b.Bytes()[:n]
}

// objects returns the names of the storage's objects with a prefix.
func (f *fixture) objects(prefix string) []string {
	f.Helper()
	var names []string
	for info, err := range f.storage.List(context.Background(), prefix) {
		f.must(err)
		names = append(names, info.Name)
	}
	return names
}

// noTemporary demands that no temporary file is left.
func (f *fixture) noTemporary(dir string) {
	f.Helper()
	for name := range contents(f.T, dir) {
		if strings.Contains(name, ".cairn-") && !strings.HasSuffix(name, ".cairn-damaged") {
			f.Errorf("%s is left behind", name)
		}
	}
}
