package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// files makes a tree of files with the contents that their names are mapped to.
func files(t *testing.T, root string, contents map[string]string) {
	t.Helper()
	for name, text := range contents {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// readFiles undoes files.
func readFiles(t *testing.T, root string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := eachFile(root, func(rel string) error {
		data, err := os.ReadFile(filepath.Join(root, rel))
		all[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReplaceFilesAndUndo(t *testing.T) {
	dir := t.TempDir()
	root, version, stash := filepath.Join(dir, "root"), filepath.Join(dir, "version"), filepath.Join(dir, "stash")
	files(t, root, map[string]string{"same": "1", "other": "1", "gone": "1", "deep/er/gone": "1"})
	files(t, version, map[string]string{"other": "2", "new/dir/file": "2", "new/dir/two": "2"})
	before := filepath.Join(dir, "before")
	copyTree(t, root, before)
	e, err := replaceFiles(root, version, []string{"gone", "deep/er/gone"}, stash)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(readFiles(t, root)), "map[new/dir/file:2 new/dir/two:2 other:2 same:1]"; got != want {
		t.Errorf("the next version is %s, want %s", got, want)
	}
	if err := e.undo(); err != nil {
		t.Fatal(err)
	}
	if err := compareTrees(before, root); err != nil {
		t.Errorf("after undo: %v", err)
	}
	if got := fmt.Sprint(readFiles(t, version)); got != "map[new/dir/file:2 new/dir/two:2 other:2]" {
		t.Errorf("after undo the version is %s", got)
	}

	// What fails in the middle is undone.
	if _, err := replaceFiles(root, version, []string{"other/x"}, stash); err == nil {
		t.Error("a file below a file was removed")
	}
	if err := compareTrees(before, root); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}

func TestCopyChanged(t *testing.T) {
	dir := t.TempDir()
	old, now, to := filepath.Join(dir, "old"), filepath.Join(dir, "now"), filepath.Join(dir, "to")
	files(t, old, map[string]string{"same": "1", "other": "1", "gone/file": "1"})
	files(t, now, map[string]string{"same": "1", "other": "2", "new": "2"})
	gone, err := copyChanged(now, old, to, epoch)
	if err != nil || !slices.Equal(gone, []string{"gone/file"}) {
		t.Errorf("%q are gone, %v", gone, err)
	}
	if got := fmt.Sprint(readFiles(t, to)); got != "map[new:2 other:2]" {
		t.Errorf("changed are %s", got)
	}
	if info, err := os.Stat(filepath.Join(to, "new")); err != nil || !info.ModTime().Equal(epoch) {
		t.Errorf("%v, %v", info.ModTime(), err)
	}
}

// All versions are restored to by one after the other, for each tool from the first.
func TestRunWorkloadInVersions(t *testing.T) {
	const restore = `mkdir -p "$TARGET${SOURCE%/*}" && cp -a "$REPO/$0" "$TARGET$SOURCE"`
	first := copier(restore)
	first.name = "first"
	cfg := &config{tools: []tool{first, copier(restore)}, runs: 1, work: t.TempDir(), tmpfs: t.TempDir()}
	w := workload{
		name: "versions", versions: 3,
		make: func(_ context.Context, root string) error {
			files(t, root, map[string]string{"a": "1", "b": "1"})
			return nil
		},
		next: func(_ context.Context, root string, n int) ([]string, error) {
			files(t, root, map[string]string{"a": strings.Repeat("x", 1000*n)})
			return map[int][]string{3: {"b"}}[n], nil
		},
	}
	res, err := cfg.runWorkload(t.Context(), w, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range res.Samples {
		// The copies of the second and the third version; the first one was the same again.
		if s.FirstBytes != 2 || s.ChangedBytes != 2001+3000 {
			t.Errorf("%s: %+v", s.Tool, s)
		}
	}
	for _, dir := range []string{cfg.tmpfs, cfg.work} {
		if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 && !slices.Equal(left, []string{filepath.Join(cfg.work, "source")}) {
			t.Errorf("left: %q", left)
		}
	}
}

// The standard input of each snapshot is the file as it is then.
func TestRunWorkloadFromStandardInput(t *testing.T) {
	for name, script := range map[string]string{
		"honest": `cat >"$REPO/$0"`,
		"lossy":  `head -c 1000 >"$REPO/$0"`,
		"other":  `tr 0-9 a-j >"$REPO/$0"`,
	} {
		c := copier(`cp "$REPO/$0" "$TARGET/stream"`)
		c.snapshot = func(_ places, name string) []string { return []string{"-c", script, name} }
		c.streamed = streamedToTop
		cfg := &config{tools: []tool{c}, runs: 1, work: t.TempDir(), tmpfs: t.TempDir()}
		w := workload{name: "dump", stream: dumpName}
		setDump(&w, 100e3)
		res, err := cfg.runWorkload(t.Context(), w, io.Discard)
		switch {
		case name != "honest" && (err == nil || !strings.Contains(err.Error(), "restored something else")):
			t.Errorf("%s: %v", name, err)
		case name == "honest" && err != nil:
			t.Error(err)
		case name == "honest" && res.Samples[0].FirstBytes != res.Bytes:
			t.Errorf("%+v of %d bytes", res.Samples[0], res.Bytes)
		}
	}
}

// It has one step, and makes a smaller file of the tree.
func TestArchiver(t *testing.T) {
	a, err := archiver()
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config{tools: []tool{copier(`mkdir -p "$TARGET${SOURCE%/*}" && cp -a "$REPO/$0" "$TARGET$SOURCE"`)}, archivers: []tool{a}, runs: 1, work: t.TempDir(), tmpfs: t.TempDir()}
	w := workload{name: "small", archive: true, make: func(ctx context.Context, root string) error { return makeSmall(ctx, root, 400) }}
	res, err := cfg.runWorkload(t.Context(), w, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := res.Samples[1]
	if s.Tool != archiverName || len(s.Steps) != 1 || s.Steps[stepFirst].Wall.Duration <= 0 || s.FirstBytes == 0 || s.FirstBytes > res.Bytes/2 {
		t.Errorf("%+v of %d bytes", s, res.Bytes)
	}
}

// What is missing is left out loudly if nobody asked for it, and else an error.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var log strings.Builder
	c := new(config)
	if err := c.findTools("", "/bin/sh", &log); err != nil {
		t.Fatal(err)
	}
	if want := []string{"restic", "borg", "kopia", archiverName}; !slices.Equal(c.missing, want) || len(c.tools) != 2 {
		t.Errorf("missing %q", c.missing)
	}
	for _, want := range []string{"LEFT OUT", "kopia.io", "apt-get install restic", "apt-get install tar"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
	if err := c.findTools("restic", "/bin/sh", &log); err == nil {
		t.Error("a tool that was asked for is missing, and that is no error")
	}
	if err := c.findTools("", "/nonexistent/cairn", &log); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without cairn: %v", err)
	}
}
