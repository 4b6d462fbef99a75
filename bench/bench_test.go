package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// makeSample makes a small tree with a file, a second name of it, a symbolic
// link and a directory.
func makeSample(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "dir"), 0o755),
		os.WriteFile(filepath.Join(root, "dir/file"), []byte("contents"), 0o644),
		os.Link(filepath.Join(root, "dir/file"), filepath.Join(root, "dir/link")),
		os.Symlink("file", filepath.Join(root, "dir/symlink")),
		os.WriteFile(filepath.Join(root, "other"), bytes.Repeat([]byte("long"), 100_000), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

func TestCompareTrees(t *testing.T) {
	want := makeSample(t)
	keepTime := func(path string, change func() error) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return errors.Join(change(), os.Chtimes(path, time.Time{}, info.ModTime()))
	}
	// in makes a change in a directory without changing the directory's time.
	in := func(path string, change func(path string) error) func(string) error {
		return func(root string) error {
			path := filepath.Join(root, path)
			return keepTime(filepath.Dir(path), func() error { return change(path) })
		}
	}
	for _, c := range []struct {
		name   string
		change func(root string) error
		want   string // "" where nothing differs
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"missing", in("other", os.Remove), "other: missing"},
		{"added", in("new", func(p string) error { return os.WriteFile(p, nil, 0o600) }), "new: was not there"},
		{"mode", in("other", func(p string) error { return os.Chmod(p, 0o640) }), "other: mode"},
		{"time", in("other", func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 1)) }), "other: modified"},
		{"time of a directory", func(root string) error { return os.Chtimes(root, time.Time{}, time.Unix(1, 1)) }, "tree: modified"},
		{"size", in("other", func(p string) error { return keepTime(p, func() error { return os.Truncate(p, 5) }) }), "other: 5 bytes, not 400000"},
		{"contents", in("other", func(p string) error {
			return keepTime(p, func() error {
				f, err := os.OpenFile(p, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteAt([]byte("x"), 399_999)
				return errors.Join(err, f.Close())
			})
		}), "other: other contents"},
		{"symbolic link", in("dir/symlink", func(p string) error {
			var was syscall.Stat_t
			return errors.Join(syscall.Lstat(p, &was), os.Remove(p), os.Symlink("elsewhere", p),
				exec.Command("touch", "-h", "-r", filepath.Join(want, "dir/symlink"), p).Run())
		}), `symlink: links to "elsewhere", not "file"`},
		{"hard link", in("dir/link", func(p string) error {
			return errors.Join(os.Remove(p), exec.Command("cp", "-p", filepath.Join(filepath.Dir(p), "file"), p).Run())
		}), "link: no longer a link"},
		{"type", in("dir/link", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) }), "link: mode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := filepath.Join(t.TempDir(), "tree")
			copyTree(t, want, got)
			if err := c.change(got); err != nil {
				t.Fatal(err)
			}
			err := compareTrees(want, got)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("unexpected difference: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestEditAndUndo(t *testing.T) {
	dir := t.TempDir()
	root, stash, original := filepath.Join(dir, "small"), filepath.Join(dir, "stash"), filepath.Join(dir, "original")
	if err := makeSmall(t.Context(), root, 400); err != nil {
		t.Fatal(err)
	}
	copyTree(t, root, original)
	e, err := editFiles(root, stash)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.moves) != 4 {
		t.Errorf("%d of 400 files were edited, want 4", len(e.moves))
	}
	if err := compareTrees(original, root); err == nil {
		t.Error("the edited tree is the same as before")
	}
	if err := e.undo(); err != nil {
		t.Fatal(err)
	}
	if err := compareTrees(original, root); err != nil {
		t.Errorf("after undo: %v", err)
	}
}

func TestWorkloadsAreTheSameEachTime(t *testing.T) {
	from := filepath.Join(t.TempDir(), "from")
	if err := makeSmall(t.Context(), from, 2000); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("000000.json", filepath.Join(from, "00/00/link")); err != nil {
		t.Fatal(err)
	}
	_, whole, err := warm(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		make func(ctx context.Context, root string) error
		size int64 // at most; at least half of it
	}{
		{"small", func(ctx context.Context, root string) error { return makeSmall(ctx, root, 200) }, 200 * 3000},
		{"random", func(ctx context.Context, root string) error { return makeRandom(ctx, root, 2) }, 2 * 8 << 20},
		{"part", func(ctx context.Context, root string) error { return copyPart(ctx, from, root, whole/2) }, whole / 2},
	} {
		var roots [2]string
		for i := range roots {
			roots[i] = filepath.Join(t.TempDir(), "tree")
			if err := c.make(t.Context(), roots[i]); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if _, size, err := warm(roots[0]); err != nil || size > c.size || size < c.size/2 {
			t.Errorf("%s: %d bytes, want some %d (%v)", c.name, size, c.size, err)
		}
		// Not with compareTrees: directories are made anew, at another time.
		out, err := exec.Command("diff", "-r", "--no-dereference", roots[0], roots[1]).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

func TestMeasure(t *testing.T) {
	// Two processes, of which the one that was started keeps next to nothing.
	const script = `awk 'BEGIN { s = "x"; while (length(s) < 2^25) s = s s; system("sleep 0.5") }'; true`
	u, err := measure(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	if u.PeakAnon < 32<<20 || u.PeakRSS < u.PeakAnon || u.PeakAnon > 1<<30 {
		t.Errorf("peaks of %d anonymous and %d resident bytes, want at least 32 MiB", u.PeakAnon, u.PeakRSS)
	}
	if u.Wall.Seconds() < 0.5 || u.CPU.Duration <= 0 {
		t.Errorf("took %v and %v CPU", u.Wall, u.CPU)
	}

	_, err = measure(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", "echo the reason >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("a command that fails: %v", err)
	}
}

func TestMeasureKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		// The child of the shell has the fifo open, so reading it ends with the child.
		_, err := measure(ctx, exec.CommandContext(ctx, "sh", "-c", `sh -c 'echo up; exec sleep 1000' >"$0" & wait`, fifo))
		done <- err
	}()
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 3)
	if _, err := io.ReadFull(f, buf); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("measure returned %v", err)
	}
	if rest, err := io.ReadAll(f); err != nil || len(rest) > 0 {
		t.Errorf("from the child: %q, %v", rest, err)
	}
}

// copier is a tool that backs up by copying. Each of its commands is a line for
// the shell.
func copier(restore string) tool {
	script := func(s string) func(places) []string { return func(places) []string { return []string{"-c", s} } }
	named := func(s string) func(places, string) []string {
		return func(_ places, name string) []string { return []string{"-c", s, name} }
	}
	return tool{
		name: "copier", program: "/bin/sh",
		env:      func(p places) []string { return []string{"REPO=" + p.repo, "SOURCE=" + p.source, "TARGET=" + p.target} },
		init:     script(`mkdir "$REPO"`),
		snapshot: named(`cp -a "$SOURCE" "$REPO/$0"`),
		restore:  named(restore),
		check:    script(`test -e "$REPO/first"`),
	}
}

func TestRunWorkload(t *testing.T) {
	const restore = `mkdir -p "$TARGET${SOURCE%/*}" && cp -a "$REPO/$0" "$TARGET$SOURCE"`
	for _, c := range []struct{ name, restore, want string }{
		{"honest", restore, ""},
		{"forgetful", restore + ` && rm "$TARGET$SOURCE/00/00/000007.json"`, "it restored something else"},
		{"failing", "echo no space >&2; exit 1", "no space"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := &config{tools: []tool{copier(c.restore)}, runs: 2, work: t.TempDir(), tmpfs: t.TempDir()}
			w := workload{name: "small", make: func(ctx context.Context, root string) error { return makeSmall(ctx, root, 200) }}
			res, err := cfg.runWorkload(t.Context(), w, io.Discard)
			for _, dir := range []string{cfg.tmpfs, filepath.Join(cfg.work, "source")} {
				if left, _ := os.ReadDir(dir); len(left) > 0 {
					t.Errorf("%v is left in %s", left, dir)
				}
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want an error with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if res.Files != 200 || len(res.Samples) != 2 {
				t.Fatalf("%d files, %d samples", res.Files, len(res.Samples))
			}
			if s := res.Samples[0]; s.FirstBytes != res.Bytes || s.ChangedBytes <= res.Bytes || len(s.Steps) != 6 {
				t.Errorf("sample %+v of %d bytes", s, res.Bytes)
			}
		})
	}
}

func TestReport(t *testing.T) {
	res := &workloadResult{Name: "tree", Files: 3, Bytes: 3e6}
	add := func(tool string, wall float64, stored int64) {
		u := usage{Wall: seconds{time.Duration(wall * 1e9)}, PeakAnon: 100 << 20}
		res.Samples = append(res.Samples, &sample{Tool: tool, FirstBytes: stored, Steps: map[string]usage{
			stepFirst: u, stepUnchanged: u, stepRestore: u,
		}})
	}
	add("restic", 9, 100e6)
	add("restic", 4, 100e6)
	add("restic", 5, 100e6)
	add("cairn", 2, 105e6)
	add("cairn-default", 1, 97e6)
	add(archiverName, 1.5, 0)
	dump := &workloadResult{Name: "dump", Samples: []*sample{
		{Tool: "restic", ChangedBytes: 100e6, Steps: map[string]usage{}}, {Tool: "cairn", ChangedBytes: 8e6, Steps: map[string]usage{}},
	}}
	r := &report{
		Runs: 3, Tools: []toolInfo{{Name: "cairn"}, {Name: "restic"}, {Name: "cairn-default"}, {Name: archiverName}}, Missing: []string{"kopia"},
		Workloads: []*workloadResult{res, dump},
	}
	var b strings.Builder
	r.print(&b)
	for _, want := range []string{
		"| first snapshot | 2.00 s (2.50×) | 5.00 s | 1.00 s (5.00×) | 1.50 s (3.33×) |\n",
		"| … stored | 105.0 MB (105 %) | 100.0 MB | 97.0 MB (97 %) | – |\n",
		"| tree | first snapshot | cairn | ≥ 3.0× | 2.50× | **FAIL** |\n",
		"| tree | … stored | cairn | ≤ 102 % | 105.0 % | **FAIL** |\n",
		"| tree | … of the time of tar and zstd -1 | cairn | ≤ 1.4× | 1.33× | pass |\n",
		"| tree | unchanged | cairn | ≥ 5.0× | 2.50× | **FAIL** |\n",
		"| tree | unchanged | cairn-default | ≥ 5.0× | 5.00× | pass |\n",
		"| tree | first snapshot, default level | cairn-default | ≥ 2.5× | 5.00× | pass |\n",
		"| tree | … stored | cairn-default | ≤ 98 % | 97.0 % | pass |\n",
		"| tree | peak anonymous memory | cairn | < 100 MiB | 100 MiB | **FAIL** |\n",
		"| dump | … added | cairn | ≤ 8.33 % | 8.0 % | pass |\n",
		"| 1 % of rows updated | – | – |\n", // nothing was measured
		"- kopia: **not installed, left out**\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}

	doc := filepath.Join(t.TempDir(), "doc.md")
	files(t, filepath.Dir(doc), map[string]string{"doc.md": "before\n" + updateBegin + "\nold\n" + updateEnd + "\nafter\n"})
	r.Flags = []string{"-runs", "3"}
	for range 2 { // the second finds what the first has written
		if err := r.updateFile(doc); err != nil {
			t.Fatal(err)
		}
	}
	updated := readFiles(t, filepath.Dir(doc))["doc.md"]
	want := "before\n" + updateBegin + "\n\n0001-01-01: `go run ./bench -runs 3`\n\n" + b.String() + "\n" + updateEnd + "\nafter\n"
	if updated != want {
		t.Errorf("the document is %q", updated)
	}
	if err := r.updateFile("bench_test.go"); err == nil {
		t.Error("a document without a place for the report was changed")
	}

	name, err := r.save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Workloads[0].median("restic", wallOf(stepFirst)); got != 5 {
		t.Errorf("the median read back is %v, want 5", got)
	}
}

func TestParseFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-tools tar", `no tool is called "tar"`},
		{"-cairn /nonexistent/cairn -tools cairn", "make build"},
		{"-tools cairn -cairn /bin/true -workloads all", `no workload is called "all"`},
		{"-runs 0", "at least one run"},
		{"quick", `unexpected argument "quick"`},
	} {
		if _, err := parseFlags(strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.args, err, c.want)
		}
	}
	c, err := parseFlags(strings.Fields("-tools cairn,cairn-default -cairn /bin/true -quick -workloads small"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.tools) != 2 || c.tools[0].program != "/bin/true" || len(c.workloads) != 1 {
		t.Errorf("flags read as %+v", c)
	}
}

func TestRunCleansUpWhenInterrupted(t *testing.T) {
	work, tmpfs := t.TempDir(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run(ctx, []string{"-tools", "cairn", "-cairn", "/bin/true", "-workloads", "small", "-work", work, "-tmpfs", tmpfs}, io.Discard, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("run returned %v", err)
	}
	for _, dir := range []string{work, tmpfs} {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v is left in %s", left, dir)
		}
	}
}
