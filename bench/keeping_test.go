package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/internal/need"
)

// hoarder is a tool that backs up by copying, one directory a snapshot, named by its
// number. Its commands are functions of a script for the shell.
func hoarder(change string) tool {
	script := `
each() { for d in "$REPO"/[0-9]*; do [ -e "$d/forgotten" ] || "$1" "$d"; done; }
show() { printf '{"message_type":"snapshot","id":"%s","host":"%s","time":"%s"}\n' "${1##*/}" "$(cat "$1/host")" "$(cat "$1/time")"; }
list() { each show; echo '{"message_type":"summary"}'; }
init() { mkdir "$REPO"; }
snapshot() {
	n=$(printf %05d "$(ls "$REPO" | wc -l)") && mkdir "$REPO/$n" && cp -a "$SOURCE" "$REPO/$n/tree" &&
	echo host >"$REPO/$n/host" && date -u +%Y-%m-%dT%H:%M:%S.%NZ >"$REPO/$n/time"
}
restore() { mkdir -p "$TARGET${SOURCE%/*}" && cp -a "$REPO/$1/tree" "$TARGET$SOURCE"; }
forget() { for id; do touch "$REPO/$id/forgotten"; done; }
thin() { [ "$*" = "${*%--dry-run}" ] || return 0; for d in $(ls "$REPO" | head -n -5); do touch "$REPO/$d/forgotten"; done; }
prune() { for d in "$REPO"/*; do [ ! -e "$d/forgotten" ] || rm -rf "$d/tree"; done; }
check() { test -d "$REPO/00000"; }
` + change + `
"$@"
`
	call := func(args ...string) func(places) []string {
		return func(places) []string { return append([]string{"-c", script, "hoarder"}, args...) }
	}
	return tool{
		name: "hoarder", program: "/bin/sh",
		env:      func(p places) []string { return []string{"REPO=" + p.repo, "SOURCE=" + p.source, "TARGET=" + p.target} },
		init:     call("init"),
		snapshot: func(p places, _ string) []string { return call("snapshot")(p) },
		check:    call("check"),
		keeping: &keeping{
			open: call("check"), list: call("list"), prune: call("prune"), parse: parseCairn,
			forget: func(p places, options ...string) []string {
				if strings.HasPrefix(options[0], "-") {
					return call(append([]string{"thin"}, options...)...)(p)
				}
				return call(append([]string{"forget"}, options...)...)(p)
			},
			restore: func(p places, id string) []string { return call("restore", id)(p) },
			beside:  true,
			fill: func(_ context.Context, _ tool, p places, _ string, n int) error {
				for k := range n {
					dir := filepath.Join(p.repo, fmt.Sprintf("%05d", k))
					if err := os.MkdirAll(dir, 0o755); err != nil {
						return err
					}
					for name, text := range map[string]string{"host": fillHost(k), "time": fillTime(k, n).Format(time.RFC3339)} {
						if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
							return err
						}
					}
				}
				return nil
			},
		},
	}
}

// runHoarder runs a workload with two runs, and demands that nothing is left and that
// the error says so much.
func runHoarder(t *testing.T, change, want string, run func(*config) (*workloadResult, error)) *workloadResult {
	t.Helper()
	cfg := &config{tools: []tool{{name: "without"}, hoarder(change)}, runs: 2, work: t.TempDir(), tmpfs: t.TempDir()}
	res, err := run(cfg)
	if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want an error with %q", err, want)
	}
	for _, dir := range []string{cfg.tmpfs, cfg.work} {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%v is left in %s", left, dir)
		}
	}
	return res
}

func TestRunPrune(t *testing.T) {
	for _, c := range []struct{ name, change, want string }{
		{"honest", "", ""},
		{"lazy", `prune() { :; }`, "prune left 0.2 MB of 0.2 MB"},
		{"greedy", `prune() { rm -r "$REPO"/0000[012]; mkdir "$REPO/00000"; touch "$REPO/00000/forgotten"; }`, "the snapshot 00001 of"},
		{"careless", `prune() { for d in "$REPO"/*; do [ ! -e "$d/forgotten" ] || rm -rf "$d/tree"; done; echo x >"$REPO/00003/tree/000/007.bin"; }`, "restored something else"},
		{"failing", `prune() { echo no space >&2; exit 1; }`, "no space"},
		{"unsound", `check() { echo damage >&2; exit 13; }`, "damage"},
		{"without what came beside", `restore() { mkdir -p "$TARGET${SOURCE%/*}" && cp -a "$REPO/$1/tree" "$TARGET$SOURCE" && { [ "$1" != 00004 ] || rm -r "$TARGET$SOURCE/000"; }; }`, "restored something else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := runHoarder(t, c.change, c.want, func(cfg *config) (*workloadResult, error) {
				return cfg.runPrune(t.Context(), 4, 12, io.Discard)
			})
			if res == nil {
				return
			}
			if len(res.Samples) != 2 || res.Files != 48 {
				t.Fatalf("%+v", res)
			}
			if s := res.Samples[1]; s.Sizes[sizeAfter] <= 2*12*4096 || s.Sizes[sizeBefore]-s.Sizes[sizeAfter] != 2*12*4096 || len(s.Steps) != 5 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestRunForget(t *testing.T) {
	for _, c := range []struct{ name, change, want string }{
		{"honest", "", ""},
		{"not dry", `thin() { for d in $(ls "$REPO" | head -n -5); do touch "$REPO/$d/forgotten"; done; }`, "after a dry run 5 of 12"},
		{"failing", `thin() { echo no such option >&2; exit 64; }`, "no such option"},
		{"unsound", `check() { test ! -e "$REPO/00000/forgotten" || { echo damage >&2; exit 13; }; }`, "damage"},
		{"with too few", `list() { each show | tail -n 11; }`, "12 snapshots were made and 11 are listed"},
		{"of another time", `show() { printf '{"message_type":"snapshot","id":"%s","time":"2026-01-02T03:04:05Z"}\n' "${1##*/}"; }`, "snapshot 0 is of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := runHoarder(t, c.change, c.want, func(cfg *config) (*workloadResult, error) {
				return cfg.runForget(t.Context(), 12, io.Discard)
			})
			if res == nil {
				return
			}
			if s := res.Samples[1]; len(res.Samples) != 2 || s.Sizes[sizeKept] != 5 || len(s.Steps) != 3 {
				t.Errorf("%d samples, %+v", len(res.Samples), s)
			}
		})
	}
}

func TestSamePolicy(t *testing.T) {
	at := func(host string, days ...int) (all []kept) {
		for _, d := range days {
			all = append(all, kept{Host: host, Time: epoch.AddDate(0, 0, d)})
		}
		return all
	}
	for _, c := range []struct {
		restic, cairn []kept
		want          string
	}{
		{nil, at("a", 1, 2, 3), ""},
		{at("a", 2, 3), at("a", 2, 3), ""},
		{at("a", 2, 3), at("a", 1, 2, 3), ""},
		{slices.Concat(at("a", 2), at("b", 2)), slices.Concat(at("a", 1, 2), at("b", 1, 2)), ""},
		{at("a", 2, 3), at("a", 0, 1, 2, 3), "by more than the oldest"},
		{at("a", 2, 3), at("a", 2), "did not keep"},
		{at("a", 2, 3), at("b", 2, 3), "did not keep"},
	} {
		keeps := map[string][]kept{"cairn": c.cairn, baseline: c.restic}
		if c.restic == nil {
			delete(keeps, baseline)
		}
		if err := samePolicy(keeps); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v: %v, want %q", c.restic, c.cairn, err, c.want)
		}
	}
}

func TestFillTimes(t *testing.T) {
	const n = 10_000
	perHost := make(map[string]map[time.Time]bool)
	years := make(map[int]bool)
	for k := range n {
		at := fillTime(k, n)
		host := fillHost(k)
		if perHost[host] == nil {
			perHost[host] = make(map[time.Time]bool)
		}
		if perHost[host][at] || at.After(epoch) {
			t.Fatalf("snapshot %d is of %v, as another one or too late", k, at)
		}
		perHost[host][at] = true
		years[at.Year()] = true
	}
	if len(perHost) != fillHosts || len(years) < 5 || !fillTime(n-1, n).Equal(epoch) {
		t.Errorf("hosts %v, years %v", slices.Collect(maps.Keys(perHost)), slices.Collect(maps.Keys(years)))
	}
}

func TestRelativeSpeed(t *testing.T) {
	for _, c := range []struct{ alone, beside, prune, want float64 }{
		{2, 4, 5, 0.5},
		{2, 4, 4, 0.5},
		{2, 4, 3, 1. / 3}, // 1 s of work in 3 s, and 1 s as usual
		{2, 2, 1, 1},
		{2, 2, 0, 0},
	} {
		s := &sample{Steps: map[string]usage{}}
		for name, v := range map[string]float64{stepAlone: c.alone, stepBeside: c.beside, stepPruneBeside: c.prune} {
			s.Steps[name] = usage{Wall: seconds{time.Duration(v * 1e9)}}
		}
		if got := relativeSpeed(s); got < c.want-1e-6 || got > c.want+1e-6 {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// The example of RFC 8439, section 2.5.2.
func TestPoly1305(t *testing.T) {
	key, err := hex.DecodeString("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(poly1305(key[:16], key[16:], []byte("Cryptographic Forum Research Group"))); got != "a8061dc1305136c6c22b8baf0c0127a9" {
		t.Error(got)
	}
}

// build returns the path of cairn as it is now.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cairn")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/cairn").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// What is asked of cairn is what it can do.
func TestCairn(t *testing.T) {
	tl, err := newTool("cairn", build(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config{tools: []tool{tl}, runs: 1, work: t.TempDir(), tmpfs: t.TempDir()}
	res, err := cfg.runForget(t.Context(), 30, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if kept := res.Samples[0].Sizes[sizeKept]; kept <= 0 || kept > 30 {
		t.Errorf("of 30 snapshots %d are left", kept)
	}
	if _, err := cfg.runPrune(t.Context(), 4, 100, io.Discard); err != nil {
		t.Fatal(err)
	}
}

// The programs themselves take what they are filled with for their own.
func TestFill(t *testing.T) {
	need.Commands(t, "restic")
	cairn := build(t)
	for _, name := range []string{"cairn", "restic"} {
		t.Run(name, func(t *testing.T) {
			c := &config{work: t.TempDir(), tmpfs: t.TempDir()}
			tl, err := newTool(name, cairn)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.place("filled")
			if err != nil {
				t.Fatal(err)
			}
			const n = 20
			if err := c.fill(t.Context(), tl, p, n); err != nil {
				t.Fatal(err)
			}
			if out, err := tl.output(t.Context(), p, tl.check(p)); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			cat := []string{"dump", "latest", "/stdin"}
			if name == "cairn" {
				cat = []string{"cat", "latest:stdin/stdin", "--host", fillHost(n - 1)}
			}
			out, err := tl.output(t.Context(), p, cat)
			if err != nil {
				t.Fatal(err)
			}
			want := contents(n - 1)
			if name == "restic" { // the trees are of the first few
				want = contents(int(out[len(out)-2] - '0'))
			}
			if string(out) != want {
				t.Errorf("the newest snapshot is of %q", out)
			}
		})
	}
}

func TestGenerations(t *testing.T) {
	same, other := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, err := range []error{
		makeGeneration(t.Context(), same, 0, 300), makeGeneration(t.Context(), same, 1, 300), makeGeneration(t.Context(), other, 1, 300),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := compareTrees(same, other); err != nil {
		t.Errorf("in place of another: %v", err)
	}
	if err := makeGeneration(t.Context(), other, 0, 300); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, root := range []string{same, other} {
		names, err := filepath.Glob(root + "/*/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil || len(data) != 4096 || seen[string(data)] {
				t.Fatalf("%s: %d bytes, seen before: %t (%v)", name, len(data), seen[string(data)], err)
			}
			seen[string(data)] = true
		}
	}
	if len(seen) != 600 {
		t.Errorf("%d files", len(seen))
	}
}
