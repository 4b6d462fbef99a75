package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestBench(t *testing.T) {
	w := newWorld(t)
	r := w.ok("bench", w.src, "--chunk-size", "64KiB,1MiB")
	for _, want := range []string{"reading alone", "fixed ", "rabin ", "better ", "recommended: cairn init --chunker ", "give two versions"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(r.out)
	}

	all := messages(t, w.ok("bench", w.src, "--json", "--chunk-size=64KiB", "--chunker", "rabin,fixed", "--compression", "default", "--all").out)
	if len(all) != 4 || all[0]["message_type"] != "sample" || all[0]["whole"] != true || all[1]["message_type"] != "result" {
		t.Fatalf("%v", all)
	}
	if all[1]["chunker"] != "rabin" || all[1]["offered"] != true || all[2]["chunker"] != "fixed" || all[2]["offered"] != false {
		t.Errorf("results %v", all[1:3])
	}
	for _, m := range all[1:] {
		for _, number := range []string{"bytes", "bytes_unique", "bytes_stored", "duration", "cpu", "bytes_per_second", "deduplication", "compression_ratio", "peak_anonymous_bytes"} {
			if n, ok := m[number].(float64); !ok || n <= 0 {
				t.Errorf("%s is %v in %v", number, m[number], m)
			}
		}
	}
	// What is recommended is what init takes, and what the repository then has.
	var options []string
	for _, o := range last(all)["options"].([]any) {
		options = append(options, o.(string))
	}
	if want := []string{"--chunker", "rabin", "--chunk-size", "64KiB", "--compression", "default"}; !slices.Equal(options, want) {
		t.Fatalf("%q is recommended", options)
	}
	recipient := strings.TrimSpace(w.ok("key", "identity", w.path("id2")).out)
	global := []string{"--repo", w.path("repo2"), "--identity-file", w.path("id2"), "--cache-dir", w.path("cache2")}
	w.extra = nil
	w.ok(slices.Concat(global, []string{"init", "--recipient", recipient}, options)...)
	if out := w.ok(append(global, "stats")...).out; !strings.Contains(out, "chunker rabin, 16.0 KiB to 256.0 KiB, 64.0 KiB on average; compression default") {
		t.Errorf("stats: %s", out)
	}
}

// Two folders are two versions: what differs a little is stored as differences, or not, and both are told.
func TestBenchDeltas(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(1, 2))
	lines := make([]string, 60000)
	for i := range lines {
		lines[i] = fmt.Sprintf("%d\t%x\n", i, r.Uint64())
	}
	w.write("one/table", strings.Join(lines, ""))
	for i := 0; i < len(lines); i += 500 {
		lines[i] = "changed\n"
	}
	w.write("two/table", strings.Join(lines, ""))
	args := []string{"bench", w.path("one"), w.path("two"), "--chunker", "fastcdc", "--chunk-size", "64KiB", "--compression", "fastest"}
	if out := w.ok(args...).out; !strings.Contains(out, "Deltas") || !strings.Contains(out, " on ") || !strings.Contains(out, " off ") {
		t.Errorf("the report is\n%s", out)
	}
	stored := make(map[any]float64)
	all := messages(t, w.ok(append(args, "--json")...).out)
	for _, m := range all[1:] {
		if m["message_type"] == "result" {
			stored[m["deltas"]] = m["bytes_stored"].(float64)
		}
	}
	if len(stored) != 2 || stored[true] > 0.7*stored[false] {
		t.Errorf("stored with and without deltas: %v", stored)
	}
	if o := last(all)["snapshot_options"]; fmt.Sprint(o) != "[]" {
		t.Errorf("recommended for snapshots: %v", o)
	}
	if o := last(messages(t, w.ok(append(args, "--json", "--deltas", "off")...).out))["snapshot_options"]; fmt.Sprint(o) != "[--delta-budget 0]" {
		t.Errorf("recommended for snapshots without deltas: %v", o)
	}
}

func TestBenchSamples(t *testing.T) {
	w := newWorld(t)
	image := w.path("image")
	if err := errors.Join(os.WriteFile(image, nil, 0o644), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	r := w.ok("bench", image, "--size", "20MiB", "--chunker", "fastcdc", "--chunk-size", "1MiB", "--compression", "fastest")
	if !strings.Contains(r.err, "of 64.0 MiB in 1 file, a sample of 16.0 MiB is read") {
		t.Errorf("stderr: %s", r.err)
	}
	if strings.Contains(r.out, "give two versions") {
		t.Errorf("zeros repeat: %s", r.out)
	}
}

func TestBenchRefuses(t *testing.T) {
	w := newWorld(t)
	empty := w.path("empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		args   string
		want   string
	}{
		{statusUsage, "bench", "primitives and repo"},
		{statusFailed, "bench /nowhere", "/nowhere can't be read: no such file"},
		{statusFailed, "bench " + empty, "there is no data in"},
		{statusUsage, "bench . --chunker buzhash", "fastcdc, fastcdc-prf or rabin, or for comparison fixed"},
		{statusUsage, "bench . --chunk-size 1MiB,1KiB", "choose from 16KiB to 4MiB"},
		{statusUsage, "bench . --compression zip", "want fastest, default or better"},
		{statusUsage, "bench . --size much", "--size"},
		{statusUsage, "bench . --deltas maybe", "want on or off"},
		{statusUsage, "bench . --prefer quality", "want balance, speed or size"},
		{statusFailed, "bench . --chunker fixed", "no repository offers them"},
		{statusUsage, "bench repo --count 0", "want at least 1"},
		{statusUsage, "bench repo --size 1KiB", "want 1MiB to 256MiB"},
		{statusUsage, "bench repo --time -1s", "want a duration"},
		{statusUsage, "bench primitives --time -1s", "want a duration"},
		{statusUsage, "init --chunk-size 8MiB", "choose from 16KiB to 4MiB"},
		{statusUsage, "init --chunk-size 1000000 --chunker rabin", "no power of two"},
	} {
		if r := w.want(c.status, strings.Fields(c.args)...); !strings.Contains(r.err, c.want) {
			t.Errorf("%s: %s", c.args, r.err)
		}
	}
	if r := w.want(statusFailed, "bench", ""); !strings.Contains(r.err, "an empty path") {
		t.Error(r.err)
	}
	w.extra = []string{"--repo", w.src}
	if r := w.want(statusNoRepo, "bench", "repo"); r.out != "" {
		t.Error("what is no repository was measured")
	}
}

func TestBenchUnreadable(t *testing.T) {
	w := newWorld(t)
	secret := w.write("src/secret", "secret")
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	options := []string{"--chunker", "fastcdc", "--chunk-size", "1MiB", "--compression", "fastest"}
	status, errs := exit(t, w.ordinary(append([]string{"bench", w.src}, options...)...))
	if status != statusIncomplete || strings.Count(errs, secret) != 1 || !strings.Contains(errs, "permission denied") {
		t.Errorf("status %d: %s", status, errs)
	}
	status, errs = exit(t, w.ordinary(append([]string{"bench", secret}, options...)...))
	if status != statusFailed || !strings.Contains(errs, secret+" can't be read: permission denied") {
		t.Errorf("status %d: %s", status, errs)
	}
}

// Neither what is measured with, nor an interruption, leaves anything, and the repository
// is not touched.
func TestBenchRepo(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	objects := func() (names []string) {
		err := filepath.WalkDir(w.repo, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := objects()
	w.extra = w.extra[:2] // no key is needed
	all := messages(t, w.ok("bench", "repo", "--json", "--count", "10", "--size", "1MiB").out)
	if len(all) != 10 || all[0]["message_type"] != "operation" || all[0]["name"] != "put 4 KiB" || all[0]["count"] != 10.0 || last(all)["operations"] != 9.0 {
		t.Errorf("%v", all)
	}
	if got := objects(); !slices.Equal(got, before) {
		t.Errorf("objects were %q and are %q", before, got)
	}

	// Interrupted in the middle: the first operations are done, the last takes long.
	cmd := w.child("bench", "repo", "--json", "--count", "1000000", "--time", "1h", "--size", "1MiB")
	cmd.Env = append(cmd.Env, "CAIRN_PROGRESS_FPS=20")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var text string
	for lines.Scan() {
		text = lines.Text()
		if strings.Contains(text, `"operation":"put 4 KiB"`) && len(objects()) > len(before) {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	for lines.Scan() {
		text = lines.Text()
	}
	cmd.Wait()
	if s := cmd.ProcessState.ExitCode(); s != statusInterrupted || !strings.Contains(text, "is removed again") {
		t.Errorf("status %d: %s", s, text)
	}
	if got := objects(); !slices.Equal(got, before) {
		t.Errorf("after the interruption there are %q", got)
	}
}

// A killed run leaves objects that are in nobody's way.
func TestBenchLeftOversAreHarmless(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	w.write("repo/bench/0123456789abcdef-large-0", "left")
	if r := w.ok("check", "--read-data"); strings.Contains(r.err, "bench") {
		t.Errorf("check: %s", r.err)
	}
	w.ok("repair")
	w.ok("forget", w.ids()[0], "--yes", "--allow-many")
	w.ok("prune", "--yes", "--max-unused", "0")
	w.ok("stats")
	w.sound()
}
