package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

func TestStatusOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{repo.ErrNoRepository, 10},
		{repo.ErrFenced, 11},
		{seal.ErrWrongSecret, 12},
		{&repo.DamageError{Object: "x", Err: fs.ErrNotExist}, 13},
		{errors.Join(errors.New("x"), repo.ErrDamage), 13},
		{usagef("x"), 64},
		{context.Canceled, 130},
		{&statusError{statusIncomplete, repo.ErrDamage}, 3},
		{&hintError{repo.ErrFenced, "x"}, 11},
		{syscall.ENOSPC, 1},
		{syscall.EIO, 1},
		{syscall.EACCES, 1},
		{syscall.ETIMEDOUT, 1},
	} {
		if got := statusOf(fmt.Errorf("wrapped: %w", test.err)); test.err != nil && got != test.want || test.err == nil && statusOf(nil) != 0 {
			t.Errorf("status of %v: %d, want %d", test.err, got, test.want)
		}
	}
}

// sound checks that the repository is whole and takes another snapshot.
func (w *world) sound() {
	w.t.Helper()
	w.ok("check", "--read-data")
	w.ok("snapshot", w.src)
}

func TestMainJob(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src, "--tag", "a,b", "--exclude", "x,y")
	if all := messages(t, w.ok("snapshots", "--json", "--tag", "a,b").out); len(all) != 2 {
		t.Errorf("the snapshot with tag a,b is not there: %v", all)
	}
	w.write("src/a/one", "another")
	w.write("src/x,y", "kept out by a pattern with a comma")
	w.ok("snapshot", w.src, "--exclude", "x,y")
	if err := os.Remove(w.path("src/x,y")); err != nil {
		t.Fatal(err)
	}
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"), "--verify")
	same(t, w.src, w.path("out"))
	w.ok("restore", "latest", "--target", w.path("whole"))
	same(t, w.src, filepath.Join(w.path("whole"), w.src))

	d := w.ok("diff", w.ids()[0], "latest").out
	if !strings.HasPrefix(d, "M "+w.src+"/a/one\n1 entry") && !strings.HasPrefix(d, "M "+w.src+"/a/one\n0 added") {
		t.Errorf("diff: %s", d)
	}
	if out := w.ok("cat", w.ids()[0][:8]+":"+w.src+"/a/one").out; out != "one\n" {
		t.Errorf("cat: %q", out)
	}
	r := w.runWith("from stdin", "snapshot", "-", "--stdin-name", "db/dump", "--command", "cmd=echo a,b")
	if r.status != 0 {
		t.Fatal(r.err)
	}
	if out := w.ok("ls", "latest").out; out != "command/cmd\nstdin/db/dump\n" && out != "stdin/db/dump\ncommand/cmd\n" {
		t.Errorf("ls without a path lists the sources, but here %q", out)
	}
	if out := w.ok("cat", "latest:stdin/db/dump").out + w.ok("cat", "latest:command/cmd").out; out != "from stdina,b\n" {
		t.Errorf("streams: %q", out)
	}
	w.ok("check", "--read-data")
}

// same compares two directories: names, types, modes, contents, link targets.
func same(t *testing.T, a, b string) {
	t.Helper()
	list := func(root string) map[string]string {
		m := make(map[string]string)
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, p)
			m[rel] = info.Mode().String()
			if rel == "." {
				m[rel] = "" // the target keeps its own mode
			}
			switch info.Mode().Type() {
			case 0:
				c, err := os.ReadFile(p)
				m[rel] += " " + info.ModTime().String() + " " + string(c)
				return err
			case fs.ModeSymlink:
				to, err := os.Readlink(p)
				m[rel] += " -> " + to
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	la, lb := list(a), list(b)
	for p := range la {
		if la[p] != lb[p] {
			t.Errorf("%q: %.80q and %.80q", p, la[p], lb[p])
		}
	}
	if len(la) != len(lb) {
		t.Errorf("%d entries and %d", len(la), len(lb))
	}
}

func TestSnapshotsJSON(t *testing.T) {
	w := shared(t)
	all := messages(t, w.ok("snapshots", "--json").out)
	if len(all) != 3 || all[2]["id"] != nil {
		t.Fatalf("messages: %v", all)
	}
	for i, m := range all[:2] {
		for _, key := range []string{"id", "time", "host", "tags", "sources", "parent", "files", "bytes_read", "bytes_added", "bytes_stored"} {
			if _, ok := m[key]; !ok {
				t.Errorf("snapshot %d has no %s", i, key)
			}
		}
		if s := m["time"].(string); len(s) != len("2026-01-02T03:04:05.123456789Z") {
			t.Errorf("time %s", s)
		}
		if _, ok := m["tags"].([]any); !ok {
			t.Errorf("tags are %v", m["tags"])
		}
	}
	if all[0]["parent"] != nil || all[1]["parent"] != all[0]["id"] {
		t.Errorf("parents %v and %v", all[0]["parent"], all[1]["parent"])
	}
	line, _, _ := strings.Cut(w.ok("snapshots", "--json").out, "\n")
	if !strings.HasPrefix(line, `{"message_type":"snapshot","id":"`) {
		t.Error(line)
	}
	table := w.ok("snapshots").out
	for _, title := range []string{"New +", "Stored +", "Changes", `\+5 ~0 -0`, `\+0 ~[1-4] -1`} {
		if !regexp.MustCompile(title).MatchString(table) {
			t.Errorf("no %s in\n%s", title, table)
		}
	}
}

func TestNoEscapeSequencesFromNames(t *testing.T) {
	w := shared(t)
	for _, line := range [][]string{
		{"ls", "-lR", "latest"}, {"find", "*"}, {"diff", w.ids()[0], w.ids()[1], "--metadata"}, {"restore", "-n", "latest", "--target", "x"},
		{"cat", "latest:/\x1b[31m"}, {"cat", "\x1b[31m"}, {"snapshot", "/\x1b[31m"}, {"restore", "latest:/\x1b[31m", "--target", "x"}, {"\x1b[31m"}, {"ls", "--\x1b[31m"},
	} {
		if r := w.run(line...); strings.Contains(r.out+r.err, "\x1b") {
			t.Errorf("%q prints an escape sequence", line)
		}
	}
}

func TestWrongUse(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	empty, file := w.path("empty"), w.write("file", "x")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	before := objects(t, w.repo)
	for _, test := range []struct {
		status int
		args   []string
		says   string
	}{
		{statusNoRepo, []string{"--repo", w.path("nowhere"), "snapshots"}, "cairn init"},
		{statusUsage, []string{"find", ""}, "a pattern is empty"},
		{statusUsage, []string{"restore", "latest", "--target", "x", "--include", "["}, `pattern "[" (--include)`},
		{statusNoRepo, []string{"--repo", empty, "snapshots"}, "cairn init"},
		{statusUsage, []string{"--repo", "s3://key:pa55@h/b", "snapshots"}, "contains a password"},
		{statusUsage, []string{"--repo", "nonsense://h/b", "snapshots"}, "scheme"},
		{statusFailed, []string{"--repo", file, "snapshots"}, "not a directory"},
		{statusFailed, []string{"init", "--recipient", strings.TrimSpace(w.ok("key", "identity", w.path("i")).out)}, "already"},
		{statusFailed, []string{"--identity-file", w.path("nowhere"), "snapshots"}, "read identity"},
		{statusWrongKey, []string{"--identity-file", file, "snapshots"}, "identity file"},
		{statusWrongKey, []string{"--identity-file", w.path("i"), "snapshots"}, "--identity-file"},
		{statusFailed, []string{"--cache-dir", file, "snapshots"}, "--cache-dir"},
		{statusFailed, []string{"snapshot", w.path("nowhere")}, "no snapshot was made"},
		{statusFailed, []string{"snapshot", w.src, w.path("nowhere")}, "no snapshot was made"},
		{statusUsage, []string{"snapshot", ""}, "empty"},
		{statusUsage, []string{"snapshot", "postgres://u:pa55@h/db"}, "PGPASSFILE"},
		{statusUsage, []string{"snapshot", "redis://:pa55@h/"}, "REDISCLI_AUTH"},
		{statusUsage, []string{"snapshot", "postgres://h/db?password=pa55"}, "PGPASSFILE"},
		{statusUsage, []string{"snapshot", "mysql://h/db"}, "no mysql sources"},
		{statusUsage, []string{"snapshot", w.src, "--time", "yesterday"}, "RFC 3339"},
		{statusUsage, []string{"snapshot", w.src, "--command", "x"}, "NAME=CMD"},
		{statusFailed, []string{"snapshot", "--command", "x=exit 7"}, "--allow-incomplete"},
		{statusUsage, []string{"snapshot", w.src, "-q", "-v"}, "exclude each other"},
		{statusFailed, []string{"ls", "latest:/nowhere"}, "/nowhere"},
		{statusFailed, []string{"restore", "latest", "--target", file}, "not a directory"},
		{statusUsage, []string{"restore", "latest"}, "--target"},
		{statusUsage, []string{"restore", "latest", "--tar", ""}, "--tar FILE"},
		{statusUsage, []string{"restore", "latest", "--tar", "x", "--target", "y"}, "--target and --tar"},
		{statusUsage, []string{"restore", "latest", "--tar", "x", "--verify"}, "--verify and --tar"},
		{statusUsage, []string{"restore", "latest", "--tar", w.src}, "it is a directory"},
		{statusUsage, []string{"restore", "latest", "--tar", file}, "--yes"},
		{statusFailed, []string{"restore", "latest", "--tar", w.path("nowhere/x.tar")}, "make archive"},
		{statusUsage, []string{"snapshot", "tar:"}, "tar:FILE"},
		{statusFailed, []string{"snapshot", "tar:" + w.path("nowhere")}, "no snapshot was made"},
		{statusFailed, []string{"snapshot", "tar:" + file}, "cut off"},
		{statusUsage, []string{"snapshot", "-", "tar:-"}, "can be read once"},
		{statusUsage, []string{"snapshot", "tar:-", "--files-from", "-"}, "can be read once"},
		{statusFailed, []string{"snapshot", "tar:" + file, "tar:" + file}, "the name"},
		{statusUsage, []string{"check", "--read-data", "5%"}, "no arguments"},
		{statusUsage, []string{"key", "remove", "00000000", "--yes"}, "cairn key list"},
		{statusUsage, []string{"key", "add"}, "--new-password-file"},
	} {
		r := w.run(test.args...)
		if r.status != test.status || !strings.Contains(r.err, test.says) || r.out != "" || strings.Contains(r.err, "pa55") {
			t.Errorf("cairn %q: status %d, want %d; stdout %q, stderr %s", test.args, r.status, test.status, r.out, r.err)
		}
	}
	if after := objects(t, w.repo); after["snapshots"] != before["snapshots"] || after["data"] != before["data"] || after["keys"] != before["keys"] {
		t.Errorf("what failed stored something: %v, before %v", after, before)
	}
	w.sound()
}

// objects counts the objects of a repository by folder.
func objects(t testing.TB, root string) map[string]int {
	t.Helper()
	n := make(map[string]int)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, p)
			folder, _, _ := strings.Cut(rel, "/")
			n[folder]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEnvironment(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	pw := w.write("pw", "a secret\n")
	w.ok("key", "add", "--new-password-file", pw)
	options := w.extra
	w.extra = nil
	if r := w.want(statusUsage, "snapshots"); !strings.Contains(r.err, "CAIRN_REPOSITORY") {
		t.Error(r.err)
	}
	t.Setenv("CAIRN_REPOSITORY", options[1])
	t.Setenv("CAIRN_CACHE_DIR", w.path("cache2"))
	if r := w.want(statusUsage, "snapshots"); !strings.Contains(r.err, "CAIRN_PASSWORD_FILE") {
		t.Error(r.err)
	}
	for _, env := range []struct {
		name, value string
		status      int
	}{
		{"CAIRN_PASSWORD_FILE", pw, 0},
		{"CAIRN_PASSWORD", "a secret", 0},
		{"CAIRN_PASSWORD_COMMAND", "cat " + pw, 0},
		{"CAIRN_PASSWORD_COMMAND", "exit 7", 1},
		{"CAIRN_PASSWORD_COMMAND", "true", 1},
		{"CAIRN_IDENTITY_FILE", options[3], 0},
		{"CAIRN_PASSWORD", "", statusUsage},
	} {
		os.Unsetenv(env.name)
		t.Setenv(env.name, env.value)
		w.want(env.status, "snapshots")
		os.Unsetenv(env.name)
	}
	if _, err := os.Stat(w.path("cache2")); err != nil {
		t.Error(err)
	}
	t.Setenv("CAIRN_PASSWORD", "not it")
	began := time.Now()
	w.want(statusWrongKey, "snapshots")
	if d := time.Since(began); d > 2*time.Second {
		t.Logf("SLOW: a wrong passphrase took %v to be refused; 2 s are promised on an idle machine", d)
	}

	t.Setenv("CAIRN_IDENTITY_FILE", options[3])
	for level, want := range map[string]string{"debug": "unmodified", "": "saved", "info": "saved", "warn": "", "error": ""} {
		t.Setenv("CAIRN_LOG_LEVEL", level)
		if r := w.ok("snapshot", w.src); !strings.Contains(r.out, want) || want == "" && r.out != "" {
			t.Errorf("CAIRN_LOG_LEVEL=%s prints %q", level, r.out)
		}
	}
	t.Setenv("CAIRN_LOG_LEVEL", "loud")
	w.want(statusUsage, "snapshots")
	t.Setenv("CAIRN_LOG_LEVEL", "")
	t.Setenv("LOG_LEVEL", "loud") // of another program
	w.ok("snapshots")
	t.Setenv("CAIRN_PROGRESS_FPS", "fast")
	w.want(statusUsage, "snapshot", w.src)
	t.Setenv("CAIRN_PROGRESS_FPS", "0.5")
	w.ok("snapshot", w.src)
}

// A source is found by what snapshots shows of it.
func TestSourceFilter(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	w.ok("snapshot", "--command", "dump=echo x")
	for source, want := range map[string]int{w.src: 1, "command/dump": 1, "dump": 1, "stdin/dump": 0, "command": 0} {
		n := 0
		for _, m := range messages(t, w.ok("snapshots", "--json", "--source", source).out) {
			if m["message_type"] == "snapshot" {
				n++
			}
		}
		if n != want {
			t.Errorf("--source %s finds %d snapshots, want %d", source, n, want)
		}
	}
}

func TestLatest(t *testing.T) {
	w := newWorld(t)
	w.want(statusFailed, "ls", "latest")
	w.ok("snapshot", w.src, "--host", "a", "--time", "2026-01-02 03:04:05")
	for range 4 { // a tie
		w.ok("snapshot", w.src, "--host", "a", "--time", "2026-01-03", "--parent", "none")
	}
	w.ok("snapshot", w.src, "--host", "a", "--time", "2020-01-01T00:00:00+02:00")
	ids := w.ids()
	m := last(messages(t, w.ok("ls", "latest", "--json").out))
	if m["id"] != ids[5] || ids[5] < ids[4] || ids[4] < ids[3] {
		t.Errorf("latest is %v of %v", m["id"], ids)
	}
	w.ok("snapshot", w.src, "--host", "b", "--tag", "t")
	for _, args := range [][]string{{"restore", "latest", "--target", w.path("x")}, {"cat", "latest:" + w.src + "/a/one"}} {
		if r := w.want(statusUsage, args...); !strings.Contains(r.err, "--host") || !strings.Contains(r.err, "a, b") {
			t.Error(r.err)
		}
		w.ok(append(args, "--host", "a")...)
	}
	if out := w.ok("ls", "latest", "--tag", "t", "--host", "a", "--json", "--host", "b").out; !strings.Contains(out, "entries") {
		t.Error(out)
	}

	// Damage anywhere: which one is the latest can't be said.
	damage(t, filepath.Join(w.repo, "snapshots", ids[0]))
	w.extra[5] = w.path("another cache") // this machine's has a good copy
	r := w.want(statusDamage, "restore", "latest", "--host", "b", "--target", w.path("y"))
	if _, err := os.Stat(w.path("y")); err == nil || !strings.Contains(r.err, "give an ID") {
		t.Errorf("restored in spite of damage: %s", r.err)
	}
	w.ok("ls", ids[5][:8])
	w.ok("find", "one", "--snapshot", ids[5])
	w.want(statusDamage, "find", "one")
	w.want(statusDamage, "stats")
	if r := w.want(statusDamage, "snapshots", "--json"); last(messages(t, r.out))["code"] != float64(statusDamage) {
		t.Error(r.out)
	}
	if r := w.want(statusDamage, "check", "--json"); last(messages(t, r.out))["code"] != float64(statusDamage) {
		t.Error(r.out)
	}
}

// damage changes the bytes in the middle of a file.
func damage(t testing.TB, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b)/2+8; i++ {
		b[i] ^= 0xff
	}
	if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedData(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	packs, err := filepath.Glob(filepath.Join(w.repo, "data", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, p := range packs {
		damage(t, p)
	}
	r := w.want(statusDamage, "check", "--read-data", "--json")
	all := messages(t, r.out)
	if all[0]["message_type"] != "problem" || last(all)["code"] != float64(statusDamage) || all[len(all)-2]["message_type"] != "summary" {
		t.Errorf("%v", all)
	}
	if r := w.want(statusDamage, "check", "--read-data", "-q"); !strings.Contains(r.err, "damaged") || r.out != "" {
		t.Errorf("%q, %s", r.out, r.err)
	}
}

func TestRestoreOver(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"))
	w.write("out/a/one", "mine")
	w.write("out/extra", "mine")
	r := w.want(statusUsage, "restore", "latest:"+w.src, "--target", w.path("out"), "--delete")
	if !strings.Contains(r.err, "--yes") || !strings.Contains(r.err, "deleted "+w.src+"/extra") {
		t.Errorf("the plan: %s", r.err)
	}
	if b, _ := os.ReadFile(w.path("out/a/one")); string(b) != "mine" {
		t.Error("overwritten without --yes")
	}
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"), "--overwrite", "never")

	// The plan: each entry that changes, and what of it all.
	plan := w.ok("restore", "latest:"+w.src, "--target", w.path("out"), "--delete", "--dry-run")
	want := "replaced  " + w.src + "/a/one\ndeleted   " + w.src + "/extra\n" +
		"would restore 1 file, 4 B; would replace 1 entry and delete 1 entry; to be read: 1 chunk, "
	if !strings.HasPrefix(plan.out+plan.err, want) && !strings.Contains(plan.out, want) {
		t.Errorf("the plan:\n%s%s", plan.out, plan.err)
	}
	var actions []string
	for _, m := range messages(t, w.ok("restore", "latest:"+w.src, "--target", w.path("out"), "--delete", "--dry-run", "--json").out) {
		if m["message_type"] == "entry" {
			actions = append(actions, fmt.Sprint(m["action"], " ", m["path"]))
		}
	}
	if want := []string{"replaced " + w.src + "/a/one", "deleted " + w.src + "/extra"}; !slices.Equal(actions, want) {
		t.Errorf("the plan in JSON: %q, want %q", actions, want)
	}
	w.ok("restore", "latest:"+w.src, "--target", w.path("out"), "--delete", "--yes")
	same(t, w.src, w.path("out"))

	// What is there and equal is no reason to ask, also with another time.
	if err := os.Chtimes(w.path("out/a/one"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	r = w.ok("restore", "latest:"+w.src, "--target", w.path("out"), "--delete")
	if !strings.Contains(r.out+r.err, "had the right contents, and got its metadata: 1 entry") {
		t.Errorf("%s%s", r.out, r.err)
	}
	same(t, w.src, w.path("out"))

	// An entry that can't be restored does not keep the others from it.
	for _, name := range []string{"out/big", "out/a/link"} {
		if err := os.Remove(w.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	w.write("out/a/link/in", "mine")
	if r := w.want(statusFailed, "restore", "latest:"+w.src, "--target", w.path("out"), "-n"); !strings.Contains(r.out+r.err, "would restore 1 file") {
		t.Errorf("%s%s", r.out, r.err)
	}
	if r := w.want(statusFailed, "restore", "latest:"+w.src, "--target", w.path("out")); !strings.Contains(r.err, "in the way") {
		t.Errorf("%s", r.err)
	}
	if _, err := os.Stat(w.path("out/big")); err != nil {
		t.Error(err)
	}
}

// What is left of a damaged file is asked for, and the status says damage in any case.
func TestRestoreDamaged(t *testing.T) {
	w := newWorld(t)
	whole := strings.Repeat("not a small file", 1<<15)
	w.write("src/whole", whole)
	w.ok("snapshot", w.src+"/whole")
	before, _ := filepath.Glob(w.path("repo/data/*/*"))
	w.ok("snapshot", w.src)
	packs, _ := filepath.Glob(w.path("repo/data/*/*"))
	for _, pack := range packs {
		if !slices.Contains(before, pack) {
			if err := os.Remove(pack); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, args := range [][]string{nil, {"--allow-damaged"}} {
		out := w.path(fmt.Sprint("out", len(args)))
		r := w.want(statusDamage, append([]string{"restore", "latest:" + w.src, "--target", out}, args...)...)
		if b, _ := os.ReadFile(out + "/whole"); string(b) != whole {
			t.Errorf("%q: a file that is not damaged is not restored", args)
		}
		_, err := os.Stat(out + "/big")
		part, _ := os.ReadFile(out + "/big.cairn-damaged")
		if err == nil || (len(part) > 0) != (len(args) > 0) || !strings.Contains(r.err, w.src+"/big") {
			t.Errorf("%q: %d bytes are left; %s", args, len(part), r.err)
		}
	}
}
