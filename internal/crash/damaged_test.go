package crash_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
)

// harms are what can become of an object. Nil removes it.
var harms = map[string]func(object, another []byte) []byte{
	"magic":      flip(0),
	"header":     flip(20),
	"salt":       flip(60),
	"contents":   func(b, _ []byte) []byte { return flip(len(b)/2)(b, nil) },
	"end":        func(b, _ []byte) []byte { return flip(len(b)-40)(b, nil) },
	"last byte":  func(b, _ []byte) []byte { return flip(len(b)-1)(b, nil) },
	"emptied":    func([]byte, []byte) []byte { return []byte{} },
	"one byte":   func(b, _ []byte) []byte { return b[:1] },
	"cut header": func(b, _ []byte) []byte { return b[:30] },
	"half":       func(b, _ []byte) []byte { return b[:len(b)/2] },
	"cut end":    func(b, _ []byte) []byte { return b[:len(b)-1] },
	"removed":    func([]byte, []byte) []byte { return nil },
	"exchanged":  func(_, another []byte) []byte { return another },
}

func flip(at int) func(b, _ []byte) []byte {
	return func(b, _ []byte) []byte {
		b = bytes.Clone(b)
		b[max(at, 0)%len(b)] ^= 0x40
		return b
	}
}

// Each object, harmed: what restore puts under the name of a file is what the file was,
// and what is not there it has said. A machine that never saw the repository restores.
func TestRestoreOfDamaged(t *testing.T) {
	storage := mem.New(clock)
	w := newWorld(t, storage)
	withSnapshot(w)
	damaged := 0
	for _, name := range w.names("") {
		object, err := backend.ReadAll(t.Context(), storage, name, 1<<30)
		w.must(err)
		another := object[:0]
		kind, _, _ := strings.Cut(name, "/")
		for _, other := range w.names("") {
			if other != name && strings.HasPrefix(other, kind+"/") {
				another, err = backend.ReadAll(t.Context(), storage, other, 1<<30)
				w.must(err)
			}
		}
		for harm, do := range harms {
			t.Run(name[:min(len(name), 16)]+" "+harm, func(t *testing.T) {
				w := w.on(t, storage.Clone())
				w.must(w.storage.Delete(t.Context(), name))
				if harmed := do(object, another); harmed != nil {
					w.must(backend.PutBytes(t.Context(), w.storage, name, harmed))
				}
				err := w.with(w.storage, t.TempDir(), admin, func(r *repo.Repository) error {
					damaged += w.restoresDamaged(r)
					return nil
				})
				if err != nil { // config or the only key: nothing can be had, and that is said
					damaged++
				}
			})
		}
	}
	if damaged < 50 {
		t.Errorf("only %d of the harms cost anything", damaged)
	}
}

// restoresDamaged restores all promised snapshots that are listed, and returns how many
// of them lack anything.
func (w *world) restoresDamaged(r *repo.Repository) (lacking int) {
	w.Helper()
	set, err := r.Snapshots(w.Context())
	w.must(err)
	for id, want := range w.promises {
		s, ok := set.Get(id)
		if !ok {
			lacking++
			continue
		}
		for _, allow := range []bool{false, true} {
			lacking += w.restoresWhatIs(r, s, want, allow)
		}
	}
	return lacking
}

func (w *world) restoresWhatIs(r *repo.Repository, s *repo.Snapshot, want tree, allow bool) (lacking int) {
	w.Helper()
	dir := w.TempDir()
	defer os.RemoveAll(dir)
	var mu sync.Mutex
	said := make(map[string]bool)
	o := restore.Options{Snapshot: s, Target: dir, AllowDamaged: allow, Verify: true}
	o.Observer.Problem = func(path string, _ error) {
		mu.Lock()
		defer mu.Unlock()
		said[path] = true
	}
	_, err := restore.Directory(w.Context(), r, o)
	got := make(tree)
	if _, serr := os.Stat(dir + w.src); serr == nil {
		got = w.restored(dir)
	}
	lacks := false
	for p := range want {
		if _, ok := got[p]; !ok {
			lacks = true
			ended := err != nil && len(said) == 0 // before anything was restored
			if !said[w.src+"/"+p] && !isTree(said) && !ended {
				w.Errorf("snapshot %s, damaged files %t: %s is not there, and only %v is said", s.ID.Short(), allow, p, said)
			}
		}
	}
	for p, is := range got {
		if strings.HasSuffix(p, ".cairn-damaged") {
			lacks = true
			continue
		}
		if contentsOf(is) != contentsOf(want[p]) {
			w.Errorf("%s of %s is %.60q, want %.60q", p, s.ID.Short(), is, want[p])
		}
	}
	if lacks || err != nil || len(said) > 0 {
		return 1
	}
	return 0
}

// isTree reports whether it is said of a directory that something in it is lost: which
// entries is not known then.
func isTree(said map[string]bool) bool {
	for path := range said {
		if path == "" { // of the whole tree
			return true
		}
		if info, err := os.Lstat(path); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}

// contentsOf leaves out the mode and the time, which a directory whose entries are lost
// may not have got.
func contentsOf(line string) string {
	_, rest, _ := strings.Cut(line, " ")
	_, rest, _ = strings.Cut(rest, " ")
	return rest
}
