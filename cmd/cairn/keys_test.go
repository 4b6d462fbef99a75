package main

import (
	"os"
	"strings"
	"testing"
)

// as returns the world as somebody with another key sees it, from a machine
// of its own.
func (w *world) as(name string, secret ...string) *world {
	other := *w
	other.extra = append([]string{"--repo", w.repo, "--cache-dir", w.path("cache-" + name)}, secret...)
	return &other
}

func TestWriteOnlyKey(t *testing.T) {
	admin := newWorld(t)
	recipient := strings.TrimSpace(admin.ok("key", "identity", admin.path("host-id")).out)
	admin.ok("key", "add", "--write-only", "--recipient", recipient, "--label", "web server")
	admin.ok("snapshot", admin.src, "--host", "elsewhere")

	host := admin.as("host", "--identity-file", admin.path("host-id"))
	host.ok("snapshot", host.src, "--host", "web")
	host.ok("snapshot", host.src, "--host", "web")
	admins := admin.ids()[0]
	for _, args := range [][]string{
		{"cat", admins + ":" + host.src + "/a/one"}, {"ls", admins}, {"restore", admins, "--target", host.path("stolen")}, {"diff", admins, admins},
		{"find", "one"}, {"check"}, {"key", "add", "--recipient", recipient}, {"key", "export"},
	} {
		r := host.want(statusFailed, args...)
		if !strings.Contains(r.err, "write-only") || !strings.Contains(r.err, "key with full access") || strings.Contains(r.out, admins) {
			t.Errorf("%q: stdout %q, stderr %s", args, r.out, r.err)
		}
	}
	if _, err := os.Stat(host.path("stolen")); err == nil {
		t.Error("a write-only key restored another host's files")
	}
	// It sees that the other's snapshot is there, and no more.
	for _, m := range messages(t, host.ok("snapshots", "--json").out) {
		if m["id"] == admins && (m["files"] != nil || len(m["sources"].([]any)) > 0 || m["host"] != "elsewhere") {
			t.Errorf("a write-only key sees %v", m)
		}
	}
	admin.ok("restore", "latest:"+host.src, "--host", "web", "--target", admin.path("out"))
	same(t, host.src, admin.path("out"))

	// Removed, it opens nothing any more.
	var id string
	for _, m := range messages(t, admin.ok("key", "list", "--json").out) {
		if m["label"] == "web server" {
			id = m["id"].(string)
		}
	}
	if r := admin.want(statusUsage, "key", "remove", id); !strings.Contains(r.err, "--yes") || !strings.Contains(r.err, "epoch") {
		t.Error(r.err)
	}
	admin.ok("key", "remove", id[:6], "--yes")
	host.want(statusWrongKey, "snapshot", host.src)
	admin.sound()
}

func TestPasswd(t *testing.T) {
	w := newWorld(t)
	old, fresh := w.write("pw", "old\n"), w.write("pw2", "new\r\n")
	w.ok("snapshot", w.src)
	w.want(statusFailed, "key", "passwd", "--new-password-file", fresh) // an identity is in use
	w.ok("key", "add", "--new-password-file", old, "--label", "mine")
	w.as("p", "--password-file", old).ok("key", "passwd", "--new-password-file", fresh)
	if r := w.as("p", "--password-file", old).want(statusWrongKey, "snapshots"); !strings.Contains(r.err, "--password-file") {
		t.Error(r.err)
	}
	if out := w.as("p", "--password-file", fresh).ok("key", "list").out; strings.Count(out, "mine") != 1 || !strings.Contains(out, "in use now") {
		t.Error(out)
	}
	if r := w.want(statusFailed, "key", "add", "--new-password-file", w.write("none", "\n")); !strings.Contains(r.err, "empty") {
		t.Error(r.err)
	}
}

// With the sheet alone, as it is printed, everything can be restored.
func TestRecoverySheet(t *testing.T) {
	w := newWorld(t)
	w.ok("snapshot", w.src)
	sheet := w.ok("key", "export").out
	var key []string
	for line := range strings.Lines(sheet) {
		if line = strings.TrimRight(line, "\n"); strings.Contains(line, "CAIRN-RECOVERY") || len(key) > 0 {
			if line == "" {
				break
			}
			key = append(key, line)
		}
	}
	if len(key) < 2 || !strings.Contains(sheet, w.repo) {
		t.Fatal(sheet)
	}
	for name, text := range map[string]string{
		"as printed": strings.Join(key, "\n"), "one line": strings.ReplaceAll(strings.Join(key, ""), " ", ""), "typed": strings.ToLower(strings.Join(key, "\r\n") + "\r\n"),
	} {
		finder := w.as(name, "--identity-file", w.write("key.txt", text))
		finder.ok("restore", finder.ids()[0]+":"+w.src, "--target", w.path(name))
		same(t, w.src, w.path(name))
	}
	if r := w.as("x", "--identity-file", w.write("key.txt", key[0]+"\n"+key[1])).want(statusWrongKey, "snapshots"); !strings.Contains(r.err, "mistyped") {
		t.Error(r.err)
	}
}

func TestIdentityFile(t *testing.T) {
	w := newWorld(t)
	info, err := os.Stat(w.path("id"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v) of an identity file", info.Mode(), err)
	}
	before, _ := os.ReadFile(w.path("id"))
	w.want(statusFailed, "key", "identity", w.path("id"))
	if after, _ := os.ReadFile(w.path("id")); string(after) != string(before) {
		t.Error("an identity was overwritten")
	}
	// The last key with full access stays.
	m := messages(t, w.ok("key", "list", "--json").out)
	if r := w.want(statusFailed, "key", "remove", "--yes", m[0]["id"].(string)); !strings.Contains(r.err, "last") {
		t.Error(r.err)
	}
	w.ok("key", "list")
}
