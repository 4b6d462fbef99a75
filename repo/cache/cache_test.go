package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/repo/cache"
	"github.com/cairn-backup/cairn/seal"
)

var (
	repositoryID = seal.RepositoryID{1}
	key          = [32]byte{2}
)

func open(t testing.TB, root string) *cache.Dir {
	t.Helper()
	d, err := cache.Open(root, repositoryID)
	if err != nil {
		t.Fatal(err)
	}
	d.SetKey(key)
	return d
}

// files returns the files of the cache below a folder.
func files(t *testing.T, folder string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func has(d *cache.Dir, class string, id [32]byte, want []byte) bool {
	got, ok := d.Get(class, id)
	return ok && bytes.Equal(got, want)
}

func TestPutGet(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	for i, contents := range [][]byte{nil, {7}, []byte("contents"), make([]byte, 1<<20), noise, make([]byte, 32<<20)} {
		id := [32]byte{byte(i)}
		if _, ok := d.Get("nodes", id); ok || d.Has("nodes", id) {
			t.Errorf("contents %d are there before they are put", i)
		}
		d.Put("nodes", id, contents)
		if !has(d, "nodes", id, contents) || !d.Has("nodes", id) {
			t.Errorf("contents %d did not come back", i)
		}
		if !has(open(t, root), "nodes", id, contents) {
			t.Errorf("contents %d did not come back to the next program", i)
		}
		if _, ok := d.Get("other", id); ok || d.Has("other", id) {
			t.Errorf("contents %d are found in another class", i)
		}
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.PutFrame("nodes", [32]byte{98}, z.EncodeAll(noise, nil))
	if !has(d, "nodes", [32]byte{98}, noise) {
		t.Error("contents of a frame did not come back")
	}
	d.Put("nodes", [32]byte{99}, make([]byte, 32<<20+1))
	if _, ok := d.Get("nodes", [32]byte{99}); ok || d.Has("nodes", [32]byte{99}) {
		t.Error("more than 32 MiB were kept")
	}
}

func TestFilesAreSealedAndSmall(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	contents := bytes.Repeat([]byte("a line of some text\n"), 10_000)
	d.Put("nodes", [32]byte{1}, contents)
	d.Put("nodes", [32]byte{2}, contents)
	all := files(t, root)
	if len(all) != 2 {
		t.Fatalf("files: %v", all)
	}
	var sealed [][]byte
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(contents)/20 || bytes.Contains(b, []byte("some text")) {
			t.Errorf("%d bytes are kept in %d", len(contents), len(b))
		}
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may read it: %v", fi.Mode())
		}
		sealed = append(sealed, b)
	}
	if bytes.Equal(sealed[0], sealed[1]) {
		t.Error("equal contents look alike on the disk")
	}
}

func TestWithoutKey(t *testing.T) {
	root := t.TempDir()
	d, err := cache.Open(root, repositoryID)
	if err != nil {
		t.Fatal(err)
	}
	id := [32]byte{1}
	d.Put("nodes", id, []byte("x"))
	if len(files(t, root)) > 0 {
		t.Error("contents were kept without a key")
	}
	open(t, root).Put("nodes", id, []byte("x"))
	if _, ok := d.Get("nodes", id); ok || d.Has("nodes", id) {
		t.Error("contents were found without a key")
	}
}

func TestAnotherKeyFindsNothing(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	d.Put("nodes", [32]byte{1}, []byte("x"))
	other := open(t, root)
	other.SetKey([32]byte{9})
	if p, ok := other.Get("nodes", [32]byte{1}); ok {
		t.Errorf("another key finds %q", p)
	}
	// What it could not read has gone, so that it can keep its own.
	other.Put("nodes", [32]byte{1}, []byte("y"))
	if !has(other, "nodes", [32]byte{1}, []byte("y")) {
		t.Error("another key can't keep its own")
	}

	elsewhere, err := cache.Open(root, seal.RepositoryID{5})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.SetKey(key)
	if _, ok := elsewhere.Get("nodes", [32]byte{1}); ok {
		t.Error("another repository finds it")
	}
}

func TestDamagedCountsAsAbsent(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	id := [32]byte{1}
	d.Put("nodes", id, []byte("contents"))
	name := files(t, root)[0]
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{nil, good[:5], good[:12], good[:len(good)-1], append(bytes.Clone(good), 0), make([]byte, len(good))}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		damaged = append(damaged, flipped)
	}
	for i, b := range damaged {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, ok := d.Get("nodes", id); ok {
			t.Errorf("damage %d: got %q", i, p)
		}
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("damage %d: the file is still there", i)
		}
		d.Put("nodes", id, []byte("contents"))
		if !has(d, "nodes", id, []byte("contents")) {
			t.Errorf("damage %d did not heal", i)
		}
	}

	// Sound, but of another ID or class.
	for _, other := range []string{
		strings.ReplaceAll(name, fmt.Sprintf("%x", id), fmt.Sprintf("%x", [32]byte{1, 1})),
		strings.Replace(name, string(filepath.Separator)+"nodes", string(filepath.Separator)+"other", 1),
	} {
		if err := os.MkdirAll(filepath.Dir(other), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := d.Get("nodes", [32]byte{1, 1}); ok {
		t.Error("a renamed file is good")
	}
	if _, ok := d.Get("other", id); ok {
		t.Error("a file of another class is good")
	}
}

// A cache on a disk that is full, or that may not be written, only forgets.
func TestPutMayFail(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	if err := os.WriteFile(d.Path("nodes"), nil, 0o600); err != nil { // no folder
		t.Fatal(err)
	}
	d.Put("nodes", [32]byte{1}, []byte("x"))
	if _, ok := d.Get("nodes", [32]byte{1}); ok || d.Has("nodes", [32]byte{1}) {
		t.Error("found what could not be kept")
	}
	if err := d.Trim("nodes", 0); err != nil {
		t.Error(err)
	}
}

func TestTrim(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	noise := make([]byte, 1000)
	now := time.Now()
	for i := range byte(10) {
		rand.NewChaCha8([32]byte{i}).Read(noise)
		d.Put("nodes", [32]byte{i}, noise)
		d.Put("other", [32]byte{i}, noise)
	}
	age := func(i byte, days int) {
		name := d.Path(filepath.Join("nodes", fmt.Sprintf("%x", i>>4), fmt.Sprintf("%x", [32]byte{i})))
		then := now.AddDate(0, 0, -days)
		if err := os.Chtimes(name, then, then); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(10) {
		age(i, 2+int(i)) // 9 is the oldest
	}
	d.Get("nodes", [32]byte{9}) // but it was used just now
	if err := d.Trim("nodes", 3500); err != nil {
		t.Fatal(err)
	}
	var left []byte
	for i := range byte(10) {
		if d.Has("nodes", [32]byte{i}) {
			left = append(left, i)
		}
		if !d.Has("other", [32]byte{i}) {
			t.Errorf("%d of another class was trimmed", i)
		}
	}
	if !slices.Equal(left, []byte{0, 1, 9}) {
		t.Errorf("left are %v, want 0, 1, 9", left)
	}
	if err := d.Trim("nodes", 3500); err != nil || len(files(t, d.Path("nodes"))) != 3 {
		t.Errorf("trimmed again: %v", err)
	}
	if err := d.Trim("nodes", 0); err != nil || len(files(t, d.Path("nodes"))) > 0 {
		t.Errorf("trimmed to nothing: %v", err)
	}
	if err := d.Trim("no such class", 0); err != nil {
		t.Error(err)
	}
}

func TestTemporary(t *testing.T) {
	d, err := cache.Temporary(repositoryID)
	if err != nil {
		t.Fatal(err)
	}
	d.SetKey(key)
	d.Put("nodes", [32]byte{1}, []byte("x"))
	if !has(d, "nodes", [32]byte{1}, []byte("x")) {
		t.Error("a temporary cache keeps nothing")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(d.Path(""))); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}

	lasting := open(t, t.TempDir())
	lasting.Put("nodes", [32]byte{1}, []byte("x"))
	if err := lasting.Close(); err != nil || !lasting.Has("nodes", [32]byte{1}) {
		t.Errorf("Close emptied a cache that is not temporary: %v", err)
	}
}

func TestLines(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	if got := d.Lines("heads"); got != nil {
		t.Errorf("before there are any: %v", got)
	}
	for _, want := range [][]string{{"one"}, {"one", "two", "three"}, nil} {
		if err := d.SetLines("heads", want); err != nil {
			t.Fatal(err)
		}
		if got := open(t, root).Lines("heads"); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// A memory that is damaged is none, and is begun anew.
func TestDamagedPin(t *testing.T) {
	root := t.TempDir()
	for _, what := range []string{"", "x", strings.Repeat("\x00", 65), "AB\n"} {
		d, err := cache.Open(root, repositoryID)
		if err == nil {
			err = d.Pin("s3://a", repositoryID, 5)
		}
		if err != nil {
			t.Fatalf("after %q: %v", what, err)
		}
		locations, err := filepath.Glob(filepath.Join(root, "locations", "*"))
		if err != nil || len(locations) != 1 {
			t.Fatal(locations, err)
		}
		if err := d.Pin("s3://a", seal.RepositoryID{7}, 5); err == nil {
			t.Errorf("after %q the memory was not begun anew", what)
		}
		for _, name := range append(locations, d.Path("generation")) {
			if err := os.WriteFile(name, []byte(what), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPin(t *testing.T) {
	root := t.TempDir()
	other := seal.RepositoryID{7}
	pin := func(location string, id seal.RepositoryID, generation uint64) error {
		t.Helper()
		d, err := cache.Open(root, id)
		if err != nil {
			t.Fatal(err)
		}
		return d.Pin(location, id, generation)
	}
	for _, generation := range []uint64{1, 1, 5, 5, 12} {
		if err := pin("s3://a", repositoryID, generation); err != nil {
			t.Fatalf("generation %d: %v", generation, err)
		}
	}
	// refused returns the file that the message tells people to delete.
	refused := func(what string, err error) string {
		t.Helper()
		if m := cache.Mismatch(""); !errors.As(err, &m) {
			t.Fatalf("%s: %v, want a Mismatch", what, err)
		}
		_, name, ok := strings.Cut(err.Error(), "delete ")
		if _, statErr := os.Stat(name); !ok || statErr != nil {
			t.Fatalf("%s: the message names no file: %v", what, err)
		}
		return name
	}
	refused("an older generation", pin("s3://a", repositoryID, 11))
	refused("an older generation at another place", pin("s3://b", repositoryID, 1))
	refused("another repository", pin("s3://a", other, 99))
	if err := pin("s3://c", other, 1); err != nil {
		t.Errorf("another repository elsewhere: %v", err)
	}
	if err := pin("s3://a", repositoryID, 12); err != nil {
		t.Errorf("after all that: %v", err)
	}

	for _, c := range []struct { // in this order: the second takes the place of the first
		what       string
		id         seal.RepositoryID
		generation uint64
	}{{"an older generation", repositoryID, 3}, {"another repository", other, 1}} {
		name := refused(c.what, pin("s3://a", c.id, c.generation))
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := pin("s3://a", c.id, c.generation); err != nil {
			t.Errorf("%s, after its file was deleted: %v", c.what, err)
		}
	}
}

// item is what both processes of the test below put under an ID.
func item(n byte) ([32]byte, []byte) {
	return [32]byte{n}, bytes.Repeat([]byte{n, 'x'}, 1000*int(n+1))
}

func work(d *cache.Dir, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		id, want := item(byte(r.IntN(20)))
		switch r.IntN(20) {
		case 0:
			if err := d.Trim("nodes", 300); err != nil {
				return err
			}
		case 1, 2, 3, 4, 5, 6, 7, 8:
			d.Put("nodes", id, want)
		default:
			if got, ok := d.Get("nodes", id); ok && !bytes.Equal(got, want) {
				return fmt.Errorf("item %d has %d bytes, want %d", id[0], len(got), len(want))
			}
		}
	}
	return d.Pin("here", repositoryID, 4)
}

// TestConcurrentUse has two processes work on one folder, each with several
// goroutines and two Dirs: nobody ever sees a part of what another writes.
func TestConcurrentUse(t *testing.T) {
	const env = "CAIRN_TEST_CACHE"
	root := os.Getenv(env)
	wait := func() {}
	if root == "" {
		root = t.TempDir()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		other := exec.Command(self, "-test.run=^TestConcurrentUse$")
		other.Env = append(os.Environ(), env+"="+root)
		var out bytes.Buffer
		other.Stdout, other.Stderr = &out, &out
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		wait = func() {
			if err := other.Wait(); err != nil {
				t.Errorf("the other process: %v\n%s", err, &out)
			}
		}
	}
	dirs := []*cache.Dir{open(t, root), open(t, root)}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			if err := work(dirs[g%2], uint64(g)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wait()
	if os.Getenv(env) != "" {
		return
	}
	for n := range byte(20) {
		id, want := item(n)
		dirs[0].Put("nodes", id, want)
		if !has(dirs[1], "nodes", id, want) {
			t.Errorf("item %d does not come back", n)
		}
	}
	for _, name := range files(t, root) {
		if strings.Contains(filepath.Base(name), ".tmp-") {
			t.Errorf("%s was left behind", name)
		}
	}
}

// What is kept under a caller's key is replaced, and another key finds nothing.
func TestKeepSealed(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	if _, ok := d.KeptSealed("verified", key); ok {
		t.Error("something is there before it is kept")
	}
	for _, contents := range []string{"first", "", "some text, replaced"} {
		if err := d.KeepSealed("verified", key, []byte(contents)); err != nil {
			t.Fatal(err)
		}
		if got, ok := open(t, root).KeptSealed("verified", key); !ok || string(got) != contents {
			t.Errorf("%q came back as %q, %t", contents, got, ok)
		}
	}
	if _, ok := d.KeptSealed("verified", [32]byte{3}); ok {
		t.Error("another key finds it")
	}
	name := d.Path("verified")
	b, err := os.ReadFile(name)
	if err != nil || bytes.Contains(b, []byte("some text")) {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.WriteFile(d.Path("other"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.KeptSealed("other", key); ok {
		t.Error("it is found under another name")
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.KeptSealed("verified", key); ok {
		t.Error("what is damaged counts")
	}
}
