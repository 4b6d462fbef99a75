package restore_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
)

// kinds make what may stand in a place.
var kinds = []struct {
	name string
	make func(path string) error
}{
	{"absent", func(string) error { return nil }},
	{"file", func(p string) error { return os.WriteFile(p, []byte("contents"), 0o644) }},
	{"large", func(p string) error { return os.WriteFile(p, noise(1, 300<<10), 0o644) }},
	{"other", func(p string) error { return os.WriteFile(p, []byte("CONTENTS"), 0o600) }},
	{"old", func(p string) error { return os.WriteFile(p, noise(2, 300<<10), 0o600) }},
	{"link", func(p string) error { return os.Symlink("to", p) }},
	{"link2", func(p string) error { return os.Symlink("elsewhere", p) }},
	{"fifo", func(p string) error { return unix.Mkfifo(p, 0o600) }},
	{"empty", func(p string) error { return os.Mkdir(p, 0o755) }},
	{"full", func(p string) error {
		return errors.Join(os.MkdirAll(p+"/sub", 0o755), os.WriteFile(p+"/in", []byte("in"), 0o644), os.WriteFile(p+"/sub/x.spared", nil, 0o644))
	}},
	{"deleted", func(p string) error {
		return errors.Join(os.MkdirAll(p+"/gone", 0o755), os.WriteFile(p+"/gone/too", nil, 0o644))
	}},
}

// populate puts each of the kinds, for each of the kinds, into a directory.
func populate(t *testing.T, dir string, of func(want, have int) int) {
	t.Helper()
	for w, want := range kinds {
		for h, have := range kinds {
			path := filepath.Join(dir, want.name+"-over-"+have.name)
			if err := kinds[of(w, h)].make(path); err != nil {
				t.Fatal(err)
			}
			setTime(t, path, time.Unix(int64(1e9+(w*7+h*3+of(w, h))%5), 0))
		}
	}
	// Hard links, of which the target has some.
	for h, have := range kinds {
		first, second := filepath.Join(dir, "hard1-"+have.name), filepath.Join(dir, "hard2-"+have.name)
		var err error
		if of(0, h) == 0 { // the source
			err = errors.Join(os.WriteFile(first, noise(3, 300<<10), 0o644), os.Link(first, second))
		} else {
			err = kinds[h].make(second)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func setTime(t *testing.T, path string, when time.Time) {
	t.Helper()
	ts := []unix.Timespec{unix.NsecToTimespec(when.UnixNano()), unix.NsecToTimespec(when.UnixNano())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// A plan says for each entry what then happens to it, whatever stands in its place,
// with all options; it changes nothing; and what is excluded or not included stays as
// it is.
func TestPlanIsWhatHappens(t *testing.T) {
	f := newFixture(t)
	populate(t, mkdir(t, f.source), func(want, _ int) int { return want })
	s := f.snapshot(ingest.Options{})
	wanted := describe(t, f.source, false)
	sets := []struct {
		include, exclude []string
		matches          func(name string) bool
	}{
		{nil, nil, func(string) bool { return true }},
		{nil, []string{"*-over-old", "*.spared", "hard1-*"}, func(name string) bool {
			return !strings.Contains(name+"/", "-over-old/") && !strings.HasSuffix(name, ".spared") && !strings.HasPrefix(name, "hard1-")
		}},
		{[]string{"*-over-f*", "hard*"}, nil, func(name string) bool {
			return strings.Contains(name, "-over-f") || strings.HasPrefix(name, "hard")
		}},
		{[]string{"large-*", "full-*", "link-*"}, []string{"in"}, func(name string) bool {
			return (strings.HasPrefix(name, "large-") || strings.HasPrefix(name, "full-") || strings.HasPrefix(name, "link-")) && !strings.HasSuffix(name, "/in")
		}},
	}
	for _, mode := range []restore.Overwrite{restore.Always, restore.IfChanged, restore.IfNewer, restore.Never} {
		for _, deletes := range []bool{false, true} {
			for i, set := range sets {
				t.Run(fmt.Sprintf("mode %d delete %v patterns %d", mode, deletes, i), func(t *testing.T) {
					f := &fixture{T: t, repo: f.repo, source: f.source}
					target := realTempDir(t)
					populate(t, target, func(want, have int) int { return have })
					before := describe(t, target, true)
					o := restore.Options{Snapshot: s, Path: f.source, Target: target, Overwrite: mode, Delete: deletes}
					o.Include, o.Exclude = patterns(t, set.include...), patterns(t, set.exclude...)
					o.DryRun = true
					plan, planned, planErr := f.try(o)
					f.same(describe(t, target, true), before)
					o.DryRun = false
					res, happened, err := f.try(o)
					for _, err := range []error{planErr, err} {
						if err != nil && (!errors.Is(err, restore.ErrIncomplete) || errors.Is(err, repo.ErrDamage)) {
							t.Fatal(err)
						}
					}
					if *plan != *res {
						t.Errorf("planned %+v\ndid     %+v", *plan, *res)
					}
					sameMaps(t, "action", planned.actions, happened.actions)
					sameMaps(t, "problem", texts(planned.problems), texts(happened.problems))
					after := describe(t, target, false)
					f.judgeEntries(set.matches, happened, before, after, wanted, deletes)
					f.noTemporary(target)
				})
			}
		}
	}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// judgeEntries compares what was said with what is there.
func (f *fixture) judgeEntries(matches func(string) bool, ev *events, before, after, wanted map[string]string, deletes bool) {
	f.Helper()
	for name := range before {
		if name == "." {
			continue
		}
		path := f.path(name)
		switch a := ev.actions[path]; {
		case !matches(name) && after[name] != before[name] && !onTheWay(name, ev, f):
			f.Errorf("%s does not match the patterns, and changed", name)
		case a == restore.Kept && after[name] != before[name]:
			f.Errorf("%s was kept, and changed", name)
		case a == restore.Deleted && after[name] != "":
			f.Errorf("%s was deleted, and is there", name)
		case a == 0 && after[name] == "" && !deletes && !replacedAbove(name, ev, f):
			f.Errorf("%s is gone, without deletion", name)
		}
	}
	for name, want := range wanted {
		a := ev.actions[f.path(name)]
		isDir := strings.HasPrefix(want, "mode 4")
		if (a == restore.Created || a == restore.Replaced || a == restore.Updated || a == restore.Linked) && !isDir && unlinked(after[name]) != unlinked(want) {
			f.Errorf("%s was %s, and is\n\t%s, want\n\t%s", name, a, after[name], want)
		}
	}
}

// unlinked leaves out which name of a file came first.
func unlinked(line string) string { line, _, _ = strings.Cut(line, " linked to "); return line }

// onTheWay reports whether a directory leads to something that was restored.
func onTheWay(name string, ev *events, f *fixture) bool {
	return ev.actions[f.path(name)] == restore.Unchanged
}

// replacedAbove reports whether a directory above was replaced.
func replacedAbove(name string, ev *events, f *fixture) bool {
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if a := ev.actions[f.path(dir)]; a == restore.Replaced || a == restore.Deleted {
			return true
		}
	}
	return false
}

func texts(errs map[string]error) map[string]string {
	all := make(map[string]string)
	for path, err := range errs {
		all[path] = err.Error()
	}
	return all
}

func sameMaps[V comparable](t *testing.T, what string, planned, happened map[string]V) {
	t.Helper()
	paths := maps.Clone(planned)
	maps.Copy(paths, happened)
	for path := range paths {
		p, planned := planned[path]
		h, happened := happened[path]
		if p != h || planned != happened {
			t.Errorf("%s of %s: planned %v, happened %v", what, filepath.Base(path), p, h)
		}
	}
}
