package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// objectsOf returns the files of a repository that stand below a folder, the largest first.
func (w *world) objectsOf(folder string) []string {
	w.t.Helper()
	var names []string
	size := make(map[string]int64)
	err := filepath.WalkDir(filepath.Join(w.repo, folder), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			names, size[p] = append(names, p), info.Size()
		}
		return err
	})
	if err != nil || len(names) == 0 {
		w.t.Fatal(names, err)
	}
	slices.SortFunc(names, func(a, b string) int { return int(size[b] - size[a]) })
	return names
}

// damagedAs changes an object, as path p: harm gets its bytes and returns others, nil
// to remove it.
func damagedAs(t testing.TB, p string, harm func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(p)
	if err == nil {
		err = os.Remove(p)
	}
	if b = harm(b); err == nil && b != nil {
		err = os.WriteFile(p, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamageAndRepair is what a user meets when a pack went bad: a check that
// names pack, chunk, files and snapshots; a restore of what is left; a repair; and a
// next snapshot that heals, although no file has changed.
func TestDamageAndRepair(t *testing.T) {
	w := newWorld(t)
	w.write("src/whole", strings.Repeat("abcdefgh", 1<<17))
	w.ok("snapshot", w.src)
	w.ok("snapshot", w.src)
	id := w.ids()[1]
	for name, harm := range map[string]func(b []byte) []byte{
		"flipped": func(b []byte) []byte { b[1300] ^= 1; return b },
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"emptied": func([]byte) []byte { return []byte{} },
		"removed": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := w.copied(t)
			victim := w.objectsOf("data")[0]
			object, _ := filepath.Rel(w.repo, victim)
			damagedAs(t, victim, harm)
			r := w.want(statusDamage, "check", "--read-data")
			want := regexp.MustCompile(`(?m)^damaged: ` + object + `: .*\n(.*\n)*?  \d+ chunks? lost: [0-9a-f]{10}.*\n(  needed by .*\n)*  needed by ` + id[:8] + `:` + w.src + `/.* and 1 older snapshot$`)
			if !want.MatchString(r.err) || !strings.Contains(r.err, "cairn repair") {
				t.Errorf("the check says\n%s", r.err)
			}
			w.ok("ls", "latest:"+w.src)
			w.want(statusDamage, "restore", "latest", "--target", w.path("out"))
			w.want(statusDamage, "restore", "latest", "--target", w.path("left"), "--allow-damaged")
			for _, p := range w.objectsIn("left") {
				if !strings.HasSuffix(p, ".cairn-damaged") && !sameFile(t, p, strings.TrimPrefix(p, w.path("left"))) {
					t.Errorf("%s came back false, and not marked", p)
				}
			}

			plan := w.want(statusDamage, "repair", "--read-data", "--dry-run")
			r = w.want(statusDamage, "repair", "--read-data")
			if name != "removed" && (!strings.Contains(plan.out, "would repair "+object) || !strings.Contains(r.out, "repaired "+object)) {
				t.Errorf("planned\n%s\ndone\n%s", plan.out, r.out)
			}
			if !strings.Contains(r.err, "needed by "+id[:8]) || !strings.Contains(r.err, "back the same sources up again") {
				t.Errorf("the repair says\n%s", r.err)
			}
			w.want(statusDamage, "check")
			w.ok("snapshot", w.src) // nothing has changed, and yet what is lost is read
			w.ok("check", "--read-data")
			w.ok("restore", id+":"+w.src, "--target", w.path("healed"), "--verify")
			same(t, w.src, w.path("healed"))
			if out := w.ok("repair", "--read-data").out; !strings.Contains(out, "0 repairs; no problems are left") {
				t.Errorf("repairing again: %s", out)
			}
		})
	}
}

// copied returns the world with a copy of the repository, which the caches do not
// know yet.
func (w *world) copied(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "copy-")
	if err != nil {
		t.Fatal(err)
	}
	c := &world{t: t, dir: dir, repo: filepath.Join(dir, "repo"), src: w.src}
	if err := os.CopyFS(c.repo, os.DirFS(w.repo)); err != nil {
		t.Fatal(err)
	}
	c.extra = []string{"--repo", c.repo, "--identity-file", w.path("id"), "--cache-dir", c.path("cache")}
	return c
}

// objectsIn returns the plain files below a folder of the world.
func (w *world) objectsIn(folder string) (files []string) {
	w.t.Helper()
	err := filepath.WalkDir(w.path(folder), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

// TestDamageStatus samples the damage matrix (package repo) by exit statuses and
// messages.
func TestDamageStatus(t *testing.T) {
	base := newWorld(t)
	for range 3 {
		base.write("src/a/one", fmt.Sprint(len(base.src)))
		base.ok("snapshot", base.src)
	}
	base.ok("key", "add", "--write-only", "--recipient", strings.TrimSpace(base.ok("key", "identity", base.path("id2")).out))
	status := func(check, ls, restore, snapshot, repair int) map[string]int {
		return map[string]int{"check": check, "ls": ls, "restore": restore, "snapshot": snapshot, "repair": repair}
	}
	const damage = statusDamage
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	remove := func([]byte) []byte { return nil }
	for _, test := range []struct {
		name   string
		object func(w *world) string
		harm   func([]byte) []byte
		want   map[string]int
	}{
		{"config flipped", func(*world) string { return "config" }, flip, status(damage, damage, damage, damage, damage)},
		{"config removed", func(*world) string { return "config" }, remove, status(damage, damage, damage, damage, damage)},
		{"write-only slot flipped", writeOnlySlot, flip, status(damage, 0, 0, 0, damage)},
		{"older manifest flipped", olderManifest, flip, status(damage, damage, damage, 0, damage)},
		{"older manifest removed", olderManifest, remove, status(damage, damage, damage, 0, damage)},
		{"segment flipped", func(w *world) string { return w.first("index") }, flip, status(damage, 0, 0, 0, 0)},
		{"segment removed", func(w *world) string { return w.first("index") }, remove, status(0, 0, 0, 0, 0)},
		{"nodes removed", func(w *world) string { return w.first("meta") }, remove, status(damage, -1, -1, 0, damage)},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := base.copied(t)
			object := test.object(w)
			damagedAs(t, filepath.Join(w.repo, object), test.harm)
			for _, line := range []string{"check", "ls latest", "restore latest --target " + w.path("out"), "snapshot " + w.src, "repair"} {
				words := strings.Fields(line)
				c := w.copied2(t)
				r := c.run(words...)
				want := test.want[words[0]]
				if want >= 0 && r.status != want {
					t.Errorf("%s: status %d, want %d: %s", line, r.status, want, r.err)
				}
				if words[0] == "check" && want == damage && !strings.Contains(r.err, object) {
					t.Errorf("the check does not name %s: %s", object, r.err)
				}
			}
		})
	}
}

// copied2 copies a world whose key is elsewhere.
func (w *world) copied2(t *testing.T) *world {
	c := w.copied(t)
	c.extra[3] = w.extra[3]
	return c
}

func (w *world) first(folder string) string {
	name, _ := filepath.Rel(w.repo, w.objectsOf(folder)[0])
	return name
}

func writeOnlySlot(w *world) string {
	for _, m := range messages(w.t, w.ok("key", "list", "--json").out) {
		if m["access"] == "write-only" {
			return "keys/" + m["id"].(string)
		}
	}
	w.t.Fatal("there is no write-only key")
	return ""
}

func olderManifest(w *world) string { return "snapshots/" + w.ids()[1] }
