package main

import (
	"context"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// usage is a right use of a command, for tests of what holds for all of them.
type usage struct {
	command string
	// prepare returns options and arguments, for one use. Commands that change
	// something get a world of their own.
	prepare func(w *world) (options, args []string)
	changes bool
	data    bool // prints data, which --quiet does not silence
	slow    bool // needs a passphrase
}

func fixed(options []string, args ...string) func(*world) ([]string, []string) {
	return func(*world) ([]string, []string) { return options, args }
}

// inSource makes SNAPSHOT:PATH of a path in the source.
func inSource(options []string, snapshot, path string) func(*world) ([]string, []string) {
	return func(w *world) ([]string, []string) {
		return options, []string{snapshot + ":" + filepath.Join(w.src, path)}
	}
}

var usages = []usage{
	{command: "init", changes: true, prepare: func(w *world) ([]string, []string) {
		r := strings.TrimSpace(w.ok("key", "identity", w.path("id2")).out)
		w.extra[1] = w.path("repo2")
		return []string{"--chunker", "rabin", "--compression=better", "--recipient", r}, nil
	}},
	{command: "snapshot", changes: true, prepare: func(w *world) ([]string, []string) {
		return []string{"--tag", "x", "-x", "--exclude=*.o"}, []string{w.src}
	}},
	{command: "snapshot", changes: true, prepare: func(w *world) ([]string, []string) {
		return []string{"--exclude", "two"}, []string{"tar:" + w.tarOfSource()}
	}},
	{command: "backup", changes: true, prepare: func(w *world) ([]string, []string) { return []string{"-n"}, []string{w.src} }},
	{command: "snapshots", data: true, prepare: fixed([]string{"--host", "alpha", "--latest", "1"})},
	{command: "ls", data: true, prepare: inSource([]string{"-lR", "--host=alpha"}, "latest", "a")},
	{command: "cat", data: true, prepare: inSource([]string{"--host", "alpha"}, "latest", "a/one")},
	{command: "find", data: true, prepare: fixed([]string{"--long", "--source", "/nowhere"}, "o*")},
	{command: "diff", data: true, prepare: func(w *world) ([]string, []string) { return []string{"--metadata"}, w.ids()[:2] }},
	{command: "restore", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src)
		return []string{"--target", w.path("out"), "--verify", "--overwrite", "if-changed"}, []string{"latest"}
	}},
	{command: "restore", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src)
		return []string{"--tar", w.path("out.tar"), "--exclude", "two"}, []string{"latest"}
	}},
	{command: "restore", prepare: fixed([]string{"--tar=x", "-n", "--host", "alpha"}, "latest")},
	{command: "check", prepare: fixed([]string{"--read-data"})},
	{command: "forget", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src)
		return []string{"--yes", "--allow-many"}, w.ids()
	}},
	{command: "forget", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src, "--tag", "x")
		w.ok("snapshot", w.src)
		w.ok("snapshot", w.src)
		return []string{"--keep-last", "2", "--keep-tag=x", "--group-by", "host", "-n", "--time-zone=Europe/Berlin"}, nil
	}},
	{command: "forget", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src)
		w.ok("forget", w.ids()[0], "--yes", "--allow-many")
		return []string{"--undo"}, nil
	}},
	{command: "forget", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src)
		return []string{"--preset", "default", "--prune", "--yes", "--max-unused=0%"}, nil
	}},
	{command: "repair", changes: true, prepare: func(w *world) ([]string, []string) {
		w.ok("snapshot", w.src)
		return []string{"--read-data", "--dry-run"}, nil
	}},
	{command: "prune", changes: true, prepare: fixed([]string{"--yes", "--max-unused", "0", "--wait"})},
	{command: "stats", data: true, prepare: fixed([]string{"--host", "alpha"})},
	// What they print is never the same.
	{command: "bench", changes: true, data: true, prepare: func(w *world) ([]string, []string) {
		return []string{"--chunker", "fastcdc", "--chunk-size=64KiB,1MiB", "--compression", "fastest", "--prefer=size", "--all"}, []string{w.src}
	}},
	{command: "bench primitives", changes: true, data: true, prepare: fixed([]string{"--time", "0s"})},
	{command: "bench repo", changes: true, data: true, prepare: fixed([]string{"--count", "2", "--size=1MiB", "--time", "1s"})},
	{command: "key list", data: true, prepare: fixed(nil)},
	{command: "key add", changes: true, slow: true, prepare: func(w *world) ([]string, []string) {
		return []string{"--new-password-file", w.write("pw", "secret\n"), "--label", "spare"}, nil
	}},
	{command: "key remove", changes: true, prepare: func(w *world) ([]string, []string) {
		return []string{"--yes"}, []string{w.spareKey()[:8]}
	}},
	{command: "key passwd", changes: true, slow: true, prepare: func(w *world) ([]string, []string) {
		pw := w.write("pw", "secret\n")
		w.ok("key", "add", "--new-password-file", pw)
		w.extra[2], w.extra[3] = "--password-file", pw
		return []string{"--new-password-file", w.write("pw2", "secret2\n")}, nil
	}},
	{command: "key export", changes: true, data: true, prepare: fixed(nil)},
	{command: "key identity", changes: true, data: true, prepare: func(w *world) ([]string, []string) { return nil, []string{w.path("id3")} }},
	{command: "completion", data: true, prepare: fixed(nil, "bash")},
	{command: "man", data: true, prepare: fixed(nil, "snapshot")},
	{command: "version", data: true, prepare: fixed(nil)},
	{command: "help", data: true, prepare: fixed(nil, "key", "add")},
}

// spareKey adds a write-only key and returns its ID.
func (w *world) spareKey() string {
	w.t.Helper()
	r := strings.TrimSpace(w.ok("key", "identity", w.path("id2")).out)
	m := messages(w.t, w.ok("--json", "key", "add", "--write-only", "--recipient", r).out)
	return last(m)["id"].(string)
}

// prepared returns a world, and the parts of a command line.
func (u usage) prepared(t *testing.T) (w *world, options, args []string) {
	if u.changes {
		w = newWorld(t)
	} else {
		w = shared(t)
		w.extra = slices.Clone(w.extra)
	}
	options, args = u.prepare(w)
	return w, options, args
}

func leaves(commands []*cli.Command, prefix string) (names []string) {
	for _, c := range commands {
		names = append(names, leaves(c.Subcommands, prefix+c.Name+" ")...)
		if !needsCommand(c) {
			names = append(names, prefix+c.Name)
		}
	}
	return names
}

func TestEveryCommandHasAUsage(t *testing.T) {
	for _, name := range leaves(new(program).app().Commands, "") {
		if !slices.ContainsFunc(usages, func(u usage) bool { return u.command == name }) {
			t.Errorf("command %s is in no test of what holds for all commands; add it to usages", name)
		}
	}
}

// varying are durations and times of day.
var varying = regexp.MustCompile(`\b[0-9][0-9.]*m?s\b( ago)?|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}`)

// Global options work before and after the command, options before and after
// arguments.
func TestOrder(t *testing.T) {
	for _, u := range usages {
		if u.slow { // and without arguments
			continue
		}
		t.Run(u.command, func(t *testing.T) {
			var first string
			for n := range 4 {
				w, options, args := u.prepared(t)
				command, global := strings.Fields(u.command), w.extra
				w.extra = nil
				r := w.ok(slices.Concat([][]string{
					slices.Concat(global, command, options, args),
					slices.Concat(command, args, options, global),
					slices.Concat(global[:2], command[:1], global[2:4], command[1:], args, global[4:], options),
					slices.Concat(options[:0:0], command, options, global, []string{"--"}, args),
				}[n])...)
				out := varying.ReplaceAllString(r.out, "")
				if n == 0 {
					first = out
				}
				if !u.changes && out != first {
					t.Errorf("order %d printed %q, and not %q", n, out, first)
				}
			}
		})
	}
}

func TestUnknownOption(t *testing.T) {
	w := newWorld(t)
	for _, u := range usages {
		args := append(strings.Fields(u.command), "argument", "--no-such-option")
		if r := w.want(statusUsage, args...); r.out != "" || !strings.Contains(r.err, "--no-such-option") {
			t.Errorf("%s: stdout %q, stderr %q", u.command, r.out, r.err)
		}
	}
	entries := w.ids()
	if len(entries) != 0 {
		t.Error("a command with a wrong option did something")
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	w := &world{t: t}
	for _, u := range usages {
		words := strings.Fields(u.command)
		long := w.ok(append(slices.Clone(words), "an argument", "--help")...).out
		if !strings.HasPrefix(long, "NAME:\n   cairn "+u.command+" ") && u.command != "backup" && u.command != "help" {
			t.Errorf("help of %s begins %.60q", u.command, long)
		}
		for _, other := range [][]string{append([]string{"help"}, words...), append(slices.Clone(words), "-h"), append([]string{"-h"}, words...)} {
			if out := w.ok(other...).out; out != long {
				t.Errorf("%q prints %.60q", other, out)
			}
		}
	}
	if a, b, c := w.ok("help").out, w.ok("--help").out, w.want(statusUsage); a != b || c.out != "" || !strings.Contains(c.err, a) {
		t.Errorf("help, --help and no command differ: %.60q %.60q %.60q", a, b, c.err)
	}
}

func TestJSONOfEveryCommand(t *testing.T) {
	for _, u := range usages {
		t.Run(u.command, func(t *testing.T) {
			w, options, args := u.prepared(t)
			r := w.ok(slices.Concat(strings.Fields(u.command), options, args, []string{"--json", "-v"})...)
			if all := messages(t, r.out); last(all)["message_type"] != "summary" {
				t.Errorf("last message: %v", last(all))
			}
			if r.err != "" {
				t.Errorf("stderr: %s", r.err)
			}
		})
	}
}

func TestQuiet(t *testing.T) {
	for _, u := range usages {
		t.Run(u.command, func(t *testing.T) {
			w, options, args := u.prepared(t)
			line := slices.Concat(strings.Fields(u.command), options, args, []string{"-q"})
			if r := w.ok(line...); r.err != "" || !u.data && r.out != "" {
				t.Errorf("stdout %q, stderr %q", r.out, r.err)
			}
		})
	}
}

// Failures say so in the last line of JSON, with the exit status as code.
func TestJSONOfFailures(t *testing.T) {
	w := shared(t)
	for _, line := range []string{
		"", "nonsense", "key", "key nonsense", "ls", "ls zz", "ls 00000000", "cat latest", "cat latest:/nowhere", "cat --bad", "diff a", "find [",
		"restore latest", "restore latest --target x --overwrite sometimes", "check --read-data=0%", "key remove 00000000", "snapshot", "snapshot /nowhere",
		"bench", "bench /nowhere", "bench . --prefer x", "bench repo x", "bench primitives x", "init --chunk-size 1",
		"snapshots --latest x", "snapshots --latest 0", "man nonsense", "completion nonsense", "help nonsense", "--repo /nowhere snapshots", "--limit-upload x stats",
	} {
		for _, args := range [][]string{append(strings.Fields(line), "--json"), append([]string{"--json"}, strings.Fields(line)...)} {
			r := w.run(args...)
			m := last(messages(t, r.out))
			if r.status == 0 || m["message_type"] != "error" || m["code"] != float64(r.status) || m["message"] == "" || r.err != "" {
				t.Errorf("%q: status %d, %v, stderr %q", args, r.status, m, r.err)
			}
		}
	}
}

func TestJSONFromEnvironment(t *testing.T) {
	w := shared(t)
	for value, want := range map[string]bool{"1": true, "true": true, "0": false, "false": false, "": false} {
		t.Setenv("CAIRN_JSON", value)
		for _, args := range [][]string{{"version"}, {"nonsense"}, {"--help"}} {
			if r := w.run(args...); strings.HasPrefix(r.out, `{"message_type"`) != want {
				t.Errorf("CAIRN_JSON=%s cairn %s: %.60q", value, args[0], r.out)
			}
		}
	}
	t.Setenv("CAIRN_JSON", "maybe")
	if r := w.want(statusUsage, "version"); !strings.Contains(r.err, "CAIRN_JSON") || strings.Contains(r.err, "strconv") {
		t.Error(r.err)
	}
}

func TestArrange(t *testing.T) {
	app := func() *cli.App { return new(program).app() }
	for line, want := range map[string]string{
		"snapshots --json":                "--json snapshots",
		"snapshot a --dry-run b":          "snapshot --dry-run -- a b",
		"snapshot -nq a":                  "-q snapshot -n -- a",
		"snapshot -ne X a":                "snapshot -n -e X -- a",
		"snapshot help":                   "snapshot -- help",
		"snapshot -- -n":                  "snapshot -- -n",
		"snapshot -":                      "snapshot -- -",
		"snapshot --tag -- x":             "snapshot --tag -- -- x",
		"snapshot snapshots":              "snapshot -- snapshots",
		"snapshot --exclude=-n":           "snapshot --exclude=-n",
		"check --read-data 5%":            "check --read-data=100% -- 5%",
		"check --read-data=5%":            "check --read-data=5%",
		"key --yes remove":                "!no option --yes",
		"key xyz":                         "!no command",
		"bench a --all b":                 "bench --all -- a b",
		"bench primitives":                "bench primitives",
		"bench a primitives":              "bench -- a primitives",
		"bench -- primitives repo":        "bench -- ./primitives repo",
		"bench --all -- x":                "bench --all -- x",
		"key remove --yes abcd -r x":      "-r x key remove --yes -- abcd",
		"-h ls":                           "ls --help",
		"ls -lRx a":                       "!no option -lRx",
		"ls --logn":                       "!did you mean --long?",
		"ls latest --tag":                 "!--tag needs a value",
		"snaphsot":                        "!did you mean snapshot?",
		"xyzzy":                           "!see cairn help",
		"key lst":                         "!did you mean list?",
		"--version":                       "version",
		"restore x --version --json":      "--json version",
		"completion bash --repo r --repo": "!needs a value",
	} {
		got, err := arrange(app(), append([]string{"cairn"}, strings.Fields(line)...))
		if text, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), text) || statusOf(err) != statusUsage {
				t.Errorf("%s: %q, %v; want an error with %q", line, got, err, text)
			}
		} else if err != nil || strings.Join(got[1:], " ") != want {
			t.Errorf("%s: %q, %v; want %s", line, got, err, want)
		}
	}
}

func FuzzArrange(f *testing.F) {
	for _, s := range []string{"snapshot\na\n--dry-run", "-r\nx\nkey\nadd\n--\n-x", "ls\n-lR\nlatest", "check\n--read-data"} {
		f.Add(s)
	}
	app := new(program).app()
	f.Fuzz(func(t *testing.T, s string) {
		words := strings.Split(s, "\n")
		got, err := arrange(app, append([]string{"cairn"}, words...))
		if err != nil {
			return
		}
		// Arranged once is arranged for good.
		again, err := arrange(app, got)
		if err != nil || !slices.Equal(got, again) {
			t.Errorf("%q became %q and then %q (%v)", words, got, again, err)
		}
	})
}

// A result that could not be written is no success.
func TestOutputLost(t *testing.T) {
	w := shared(t)
	var errs strings.Builder
	args := append(append([]string{"cairn"}, w.extra...), "snapshots")
	status := run(context.Background(), args, terminal{Stdin: strings.NewReader(""), Stdout: fullDisk{}, Stderr: &errs})
	if status != statusFailed || !strings.Contains(errs.String(), "write the output") {
		t.Errorf("status %d: %s", status, strconv.Quote(errs.String()))
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
