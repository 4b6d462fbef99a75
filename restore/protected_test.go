package restore_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/restore"
)

// TestProtected: a directory that is protected stays as it is, whatever the snapshot has
// in its place, under whichever name it is reached.
func TestProtected(t *testing.T) {
	f := newFixture(t)
	f.write("deep/repo/config", []byte("old"))
	f.write("deep/file", []byte("file"))
	snap := f.snapshot(ingest.Options{})
	target := tempTarget(t)
	repo := filepath.Join(target, "deep/repo")
	writeFile(t, filepath.Join(repo, "config"), []byte("new"))
	writeFile(t, filepath.Join(repo, "snapshots/1"), []byte("1"))
	writeFile(t, filepath.Join(target, "else/2"), []byte("2"))
	link := filepath.Join(realTempDir(t), "link")
	f.must(os.Symlink(repo, link))
	before := contents(t, repo)

	// Over it, where the snapshot has it too.
	o := restore.Options{Snapshot: snap, Path: f.source, Target: target, Delete: true, Protect: []string{link}}
	_, events, err := f.try(o)
	if p := events.problems[f.path("deep/repo")]; err == nil || p == nil || !strings.Contains(p.Error(), "repository itself") {
		t.Errorf("error %v, problems %v", err, events.problems)
	}
	if after := contents(t, repo); !maps.Equal(before, after) {
		t.Errorf("it has %v, had %v", after, before)
	}
	if got := contents(t, filepath.Join(target, "deep"))["file"]; got == "" {
		t.Error("what is beside it was not restored")
	}
	if _, err := os.Stat(filepath.Join(target, "else")); !os.IsNotExist(err) {
		t.Errorf("what is elsewhere was not deleted: %v", err)
	}

	// Where the snapshot has neither it nor what it is in.
	f.must(os.RemoveAll(f.path("deep")))
	f.write("other", nil)
	o.Snapshot = f.snapshot(ingest.Options{})
	for range 2 { // the second time there is nothing but it
		_, events, err = f.try(o)
		if p := events.warnings[f.path("deep/repo")]; err != nil || p == nil || !strings.Contains(p.Error(), "not deleted") {
			t.Errorf("error %v, warnings %v", err, events.warnings)
		}
	}
	if after := contents(t, repo); !maps.Equal(before, after) {
		t.Errorf("it has %v, had %v", after, before)
	}

	// Into it.
	for _, target := range []string{repo, link, repo + "/snapshots", repo + "/new/newer", link + "/snapshots"} {
		o.Target = target
		if _, _, err := f.try(o); err == nil || !strings.Contains(err.Error(), "in the repository") {
			t.Errorf("%s: error %v", target, err)
		}
	}
	if after := contents(t, repo); !maps.Equal(before, after) {
		t.Errorf("it has %v, had %v", after, before)
	}
}
