package crash_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/seal"
)

// torn is what a power cut, or a disk that fails, makes of a file; nil removes it.
var torn = map[string]func(b []byte) []byte{
	"gone":          func([]byte) []byte { return nil },
	"empty":         func([]byte) []byte { return []byte{} },
	"half":          func(b []byte) []byte { return b[:len(b)/2] },
	"zeros":         func(b []byte) []byte { return make([]byte, len(b)) },
	"zeros at end":  func(b []byte) []byte { clear(b[len(b)/2:]); return b },
	"another block": func(b []byte) []byte { copy(b[len(b)/3:], bytes.Repeat([]byte{0xa5}, 600)); return b },
	"longer":        func(b []byte) []byte { return append(b, make([]byte, 100)...) },
}

// TestTornCache spoils the files of the cache, one kind of them after the other, in each
// way. All answers must be as without a cache.
func TestTornCache(t *testing.T) {
	storage := mem.New(clock)
	base := newWorld(t, storage)
	withSnapshot(base)
	base.must(base.addKey(storage, "host", seal.WriteOnly))
	base.must(base.snapshot(storage, "host"))
	base.write("a/one", []byte("yet another one\n"))
	kinds := base.cacheKinds()
	for _, kind := range []string{"locations", "generation", "heads", "index.bolt", "nodes", "manifests", "bodies", "thin"} {
		if len(kinds[kind]) == 0 {
			t.Errorf("the cache has no %s", kind)
		}
	}
	for kind, names := range kinds {
		for how, tear := range torn {
			t.Run(kind+" "+how, func(t *testing.T) {
				t.Parallel()
				storage := storage.Clone()
				w := base.on(t, storage)
				for _, name := range names {
					w.tear(name, tear)
				}
				w.must(w.snapshot(storage, "host"))
				w.holds()
			})
		}
	}
}

// A cache that was set back (a machine restored from its own backup) knows less,
// and nothing wrong.
func TestStaleCache(t *testing.T) {
	storage := mem.New(clock)
	w := newWorld(t, storage)
	w.must(w.init(storage))
	w.must(w.snapshot(storage, admin))
	old := w.on(t, storage).cache
	w.edit()
	w.must(w.addKey(storage, "host", seal.WriteOnly))
	w.must(w.snapshot(storage, admin, stream{"dump", noise(9, 300<<10)}))
	w.must(w.removeKey(storage, "host")) // another epoch
	w.must(w.snapshot(storage, admin))
	w.cache = old
	w.holds()
}

// cacheKinds returns the files of the cache by kind.
func (w *world) cacheKinds() map[string][]string {
	w.Helper()
	kinds := make(map[string][]string)
	w.must(filepath.WalkDir(w.cache, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.cache, p)
		if err != nil {
			return err
		}
		kind := strings.Split(rel, "/")[0]
		if kind != "locations" { // what is below is of one repository
			kind = strings.Split(rel, "/")[1]
		}
		kinds[kind] = append(kinds[kind], rel)
		return nil
	}))
	return kinds
}

func (w *world) tear(name string, how func([]byte) []byte) {
	w.Helper()
	p := filepath.Join(w.cache, name)
	b, err := os.ReadFile(p)
	w.must(err)
	if b = how(b); b == nil {
		w.must(os.Remove(p))
		return
	}
	w.must(os.WriteFile(p, b, 0o600))
}
