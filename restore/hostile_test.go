package restore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// forged makes a snapshot of a tree whose leaves hold what a writer without scruples puts
// there: each is encoded, and edited, by itself.
func (f *fixture) forged(edit func(leaf []byte) []byte, leaves ...[]snapshot.Entry) *repo.Snapshot {
	f.Helper()
	ctx := f.Context()
	w, err := f.repo.NewWriter(ctx, repo.WriterOptions{Host: "host"})
	f.must(err)
	node := snapshot.Inner{Level: 1}
	for _, entries := range leaves {
		p, err := (&snapshot.Leaf{Entries: entries}).Append(nil)
		f.must(err)
		id, err := w.PutNode(chunk.Node, edit(p))
		f.must(err)
		c := snapshot.Child{Key: entries[0].Key, ID: id, Entries: uint64(len(entries))}
		for _, e := range entries {
			c.Bytes += e.Size
		}
		node.Children = append(node.Children, c)
	}
	root := snapshot.Root{ID: node.Children[0].ID}
	if len(leaves) > 1 {
		p, err := node.Append(nil)
		f.must(err)
		root.Level = 1
		root.ID, err = w.PutNode(chunk.Node, p)
		f.must(err)
	}
	id, err := w.Commit(ctx, repo.NewSnapshot{Host: "host", Body: snapshot.Body{Root: root}})
	f.must(err)
	return f.load(id)
}

func asIs(p []byte) []byte { return p }

// around restores into a directory among others, and fails the test if any of those
// changed.
func (f *fixture) around(s *repo.Snapshot, prepare func(target string)) (string, *events, error) {
	f.Helper()
	top := realTempDir(f.T)
	for _, name := range []string{"outside/file", "beside"} {
		writeFile(f.T, filepath.Join(top, name), []byte("mine"))
	}
	target := filepath.Join(top, "deep", "target")
	f.must(os.MkdirAll(target, 0o755))
	prepare(target)
	all := func() map[string]string {
		m := describe(f.T, top, false)
		for name := range m {
			if name == "deep" || len(name) >= len("deep/target") && name[:len("deep/target")] == "deep/target" {
				delete(m, name)
			}
		}
		return m
	}
	before := all()
	_, ev, err := f.try(restore.Options{Snapshot: s, Target: target, Delete: true, AllowDamaged: true})
	f.same(all(), before)
	return target, ev, err
}

// Names that lead out of a directory stand in no tree that a reader accepts.
func TestHostileNames(t *testing.T) {
	f := newFixture(t)
	entry := snapshot.Entry{Key: "\x00XXXXXXX", Type: snapshot.File, Mode: 0o644, Size: 5, Extents: []snapshot.Extent{{Length: 5}}}
	for _, name := range []string{"../evil", "/../../", "..\x00evil", ".\x00.\x00..\x00", "a/../..", "\x00\x00\x00\x00etc", "evil\x00\x00\x00"} {
		s := f.forged(func(p []byte) []byte {
			return bytes.Replace(p, []byte("XXXXXXX"), []byte(name), 1)
		}, []snapshot.Entry{dirEntry(""), entry})
		target, _, err := f.around(s, func(string) {})
		if !errors.Is(err, repo.ErrDamage) {
			t.Errorf("%q: %v", name, err)
		}
		if got := contents(t, target); len(got) > 0 {
			t.Errorf("%q: %v was restored", name, got)
		}
	}
}

// Between leaves an entry may follow something that is no directory. Neither what the
// snapshot has there is followed, nor what the target has.
func TestHostileParents(t *testing.T) {
	f := newFixture(t)
	file := func(key snapshot.Key) snapshot.Entry {
		return snapshot.Entry{Key: key, Type: snapshot.File, Mode: 0o644, Size: 5, Extents: []snapshot.Extent{{Length: 5}}}
	}
	link := func(key snapshot.Key, target string) snapshot.Entry {
		return snapshot.Entry{Key: key, Type: snapshot.Symlink, Mode: 0o777, Target: []byte(target)}
	}
	const outside = "../../outside"
	for name, leaves := range map[string][][]snapshot.Entry{
		"below a link":          {{dirEntry(""), link("\x00a", outside)}, {file("\x00a\x00file")}},
		"deep below a link":     {{dirEntry(""), link("\x00a", outside)}, {file("\x00a\x00b\x00file")}},
		"a directory of a link": {{dirEntry(""), link("\x00a", outside)}, {dirEntry("\x00a\x00file")}},
		"below a link up":       {{dirEntry(""), link("\x00a", "..")}, {file("\x00a\x00evil")}},
		"below a file":          {{dirEntry(""), file("\x00a")}, {file("\x00a\x00file")}},
		"the root is a link":    {{link("", outside)}, {file("\x00file")}},
		"the root is a file":    {{file("")}, {file("\x00file")}},
		"a source is a link":    {{link("stdin", outside)}, {file("stdin\x00file")}},
		"no root":               {{file("\x00a\x00b\x00file")}},
	} {
		s := f.forged(asIs, leaves...)
		for _, prepare := range []func(string){
			func(string) {},
			func(target string) {
				f.must(os.Symlink(outside, filepath.Join(target, "a")))
				f.must(os.Symlink(outside, filepath.Join(target, "stdin")))
			},
		} {
			target, ev, err := f.around(s, prepare)
			if strings.HasPrefix(name, "the root") && err == nil {
				t.Errorf("%s: restored as if all were well: %v", name, contents(t, target))
			}
			if err != nil && !errors.Is(err, restore.ErrIncomplete) && !errors.Is(err, repo.ErrDamage) {
				t.Errorf("%s: %v, problems %v", name, err, ev.problems)
			}
		}
	}
}
