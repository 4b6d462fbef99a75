package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/backendtest"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/backend/mem"
)

func TestConformanceWithoutFaults(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Interface { return parse(t, "").Wrap(mem.New(time.Now)) })
}

func parse(t testing.TB, text string) *faulty.Injector {
	t.Helper()
	in, err := faulty.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// newStorage returns a storage with some objects, and the same one with faults.
func newStorage(t *testing.T, rules string) (base *mem.Mem, b backend.Interface, in *faulty.Injector) {
	t.Helper()
	base = mem.New(time.Now)
	for _, name := range []string{"config", "data/a", "data/b", "data/c", "snapshots/s"} {
		if err := backend.PutBytes(t.Context(), base, name, []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	in = parse(t, rules)
	return base, in.Wrap(base), in
}

func read(ctx context.Context, b backend.Interface, name string) (string, error) {
	data, err := backend.ReadAll(ctx, b, name, 1000)
	return string(data), err
}

func names(ctx context.Context, b backend.Interface, prefix string) (string, error) {
	var names []string
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return strings.Join(names, " "), err
		}
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " "), nil
}

// outcome writes down what each method of a storage does: "ok", the bytes, or the
// cause of the error, for one rule or none.
func outcome(ctx context.Context, b backend.Interface) map[string]string {
	say := func(ok string, err error) string {
		if err == nil {
			return ok
		}
		for _, cause := range []error{
			faulty.ErrCrashed, syscall.EIO, syscall.ENOSPC, io.ErrUnexpectedEOF, backend.ErrNotExist, backend.ErrExist, faulty.ErrInjected,
		} {
			if errors.Is(err, cause) {
				return cause.Error()
			}
		}
		return err.Error()
	}
	got := map[string]string{}
	got["put"] = say("ok", backend.PutBytes(ctx, b, "data/new", []byte("abcdef")))
	data, err := read(ctx, b, "data/a")
	got["open"] = say(data, err)
	p := make([]byte, 4)
	err = b.ReadAt(ctx, "data/a", p, 3)
	got["readat"] = say(string(p), err)
	info, err := b.Stat(ctx, "data/a")
	got["stat"] = say(fmt.Sprint(info.Size), err)
	all, err := names(ctx, b, "data/")
	got["list"] = say(all, err)
	got["delete"] = say("ok", b.Delete(ctx, "data/c"))
	got["swap"] = say("ok", b.(backend.Swapper).Swap(ctx, "config", []byte("0123456789"), []byte("new")))
	got["commit"] = say("ok", stage(ctx, b, "data/staged"))
	return got
}

func stage(ctx context.Context, b backend.Interface, name string) error {
	s, err := b.(backend.Stager).Stage(ctx)
	if err != nil {
		return err
	}
	defer s.Abort()
	for _, piece := range []string{"abc", "def"} {
		if _, err := s.Write([]byte(piece)); err != nil {
			return err
		}
	}
	return s.Commit(ctx, name)
}

// TestFaults gives one rule at a time and what differs from a storage without.
func TestFaults(t *testing.T) {
	const (
		injected = "injected fault"
		eio      = "input/output error"
		short    = "unexpected EOF"
		dead     = "process is dead"
	)
	type diff map[string]string
	for rule, want := range map[string]diff{
		"":                            {},
		"put: err":                    {"put": injected, "list": "data/a data/b data/c"},
		"put data/*: err EIO":         {"put": eio, "list": "data/a data/b data/c"},
		"put index/*: err":            {},
		"put *: done-but-error":       {"put": injected},
		"put data/* #2: err":          {},
		"put: corrupt byte 2":         {}, // its effect is in TestEffects
		"open data/a: corrupt byte 1": {"open": "0\xce23456789"},
		"open data/a: corrupt byte 9": {"open": "012345678\xc6"},
		"open *: corrupt byte 10":     {},
		"open *: truncate 3":          {"open": "012"},
		"open *: truncate":            {"open": ""},
		"open *: truncate 100":        {},
		"open *: err notexist":        {"open": "object does not exist"},
		"read *: err EIO":             {"open": eio},
		"read * #2: err EIO":          {"open": eio},
		"read snapshots/*: err":       {},
		"readat *: corrupt byte 3":    {"readat": "\xcc456"},
		"readat *: corrupt byte 6":    {"readat": "345\xc9"},
		"readat *: corrupt byte 2":    {},
		"readat *: corrupt byte 7":    {},
		"readat *: truncate":          {"readat": short},
		"readat *: truncate 6":        {"readat": short},
		"readat *: truncate 7":        {},
		"stat *: err EIO":             {"stat": eio},
		"list: err":                   {"list": injected},
		"list data/: err EIO":         {"list": eio},
		"list index/: err EIO":        {},
		"yield * #2: err EIO":         {"list": eio},
		"yield data/b: hide":          {"list": "data/a data/c data/new"},
		"yield *: crash":              {"list": dead, "delete": dead, "swap": dead, "commit": dead},
		"delete *: err ENOSPC":        {"delete": "no space left on device"},
		"delete *: done-but-error":    {"delete": injected},
		"swap *: err":                 {"swap": injected},
		"swap *: done-but-error EIO":  {"swap": eio},
		"stage: err":                  {"commit": injected},
		"write: err EIO":              {"commit": eio},
		"write #3: err EIO":           {},
		"commit *: err exist":         {"commit": "object exists already"},
		"commit *: done-but-error":    {"commit": injected},
		"* #7: crash":                 {"swap": dead, "commit": dead},
		"* #2-3: err EIO":             {"open": eio, "readat": eio},
		"* #6-: err EIO":              {"delete": eio, "swap": eio, "commit": eio},
		"* #6: done-and-crash":        {"delete": dead, "swap": dead, "commit": dead},
		"commit: done-and-crash":      {"commit": dead},
		"*: err":                      nil,
		"open: err EIO\nopen: err":    {"open": eio},
	} {
		t.Run(strings.ReplaceAll(rule, "/", "|"), func(t *testing.T) {
			_, clean, _ := newStorage(t, "")
			expected := outcome(t.Context(), clean)
			for method := range expected {
				if diff, ok := want[method]; ok {
					expected[method] = diff
				} else if want == nil {
					expected[method] = injected
				}
			}
			_, b, _ := newStorage(t, rule)
			got := outcome(t.Context(), b)
			for method, want := range expected {
				if got[method] != want {
					t.Errorf("%s: %q, want %q", method, got[method], want)
				}
			}
		})
	}
}

// TestEffects looks at what faulty writes left in the storage.
func TestEffects(t *testing.T) {
	const nothing = "(nothing)"
	for rule, want := range map[string]struct{ put, staged, swapped string }{
		"":                      {"abcdef", "abcdef", "new"},
		"*: err":                {nothing, nothing, "0123456789"},
		"*: crash":              {nothing, nothing, "0123456789"},
		"put: done-but-error":   {"abcdef", "abcdef", "new"},
		"put: done-and-crash":   {"abcdef", nothing, "0123456789"},
		"swap: done-and-crash":  {"abcdef", nothing, "new"},
		"put: corrupt byte 2":   {"ab\x9cdef", "abcdef", "new"},
		"put: truncate 2":       {"ab", "abcdef", "new"},
		"write: corrupt byte 4": {"abcdef", "abcd\x9af", "new"},
		"commit: err":           {"abcdef", nothing, "new"},
		"*: done-but-error":     {"abcdef", nothing, "new"},
	} {
		ctx := t.Context()
		base, b, _ := newStorage(t, rule)
		outcome(ctx, b)
		for name, want := range map[string]string{"data/new": want.put, "data/staged": want.staged, "config": want.swapped} {
			got, err := read(ctx, base, name)
			if errors.Is(err, backend.ErrNotExist) {
				got = nothing
			}
			if got != want {
				t.Errorf("%q: %s holds %q, want %q", rule, name, got, want)
			}
		}
	}
}

func TestOpsCountsCalls(t *testing.T) {
	_, b, in := newStorage(t, "* #12: crash")
	outcome(t.Context(), b)
	// put, open, readat, stat, list, delete, swap, stage, two writes, commit.
	if in.Ops() != 11 || in.Crashed() {
		t.Errorf("Ops = %d, crashed %v; want 11", in.Ops(), in.Crashed())
	}
	if _, err := b.Stat(t.Context(), "data/a"); !errors.Is(err, faulty.ErrCrashed) || !errors.Is(err, faulty.ErrInjected) {
		t.Error(err)
	}
	if in.Ops() != 12 || !in.Crashed() {
		t.Errorf("Ops = %d, crashed %v; want 12, true", in.Ops(), in.Crashed())
	}
}

// Each site hits the operation that it names, and all of them are all operations.
func TestSites(t *testing.T) {
	_, b, in := newStorage(t, "")
	outcome(t.Context(), b)
	sites := in.Sites()
	want := "put data/* #1, open data/* #1, read data/* #1, read data/* #2, readat data/* #1, stat data/* #1, list data/ #1, " +
		"yield data/* #1, yield data/* #2, yield data/* #3, yield data/* #4, delete data/* #1, swap config #1, stage #1, write #1, write #2, commit data/* #1"
	if got := strings.Join(sites, ", "); got != want {
		t.Errorf("sites:\n%s\nwant\n%s", got, want)
	}
	for _, site := range sites {
		_, b, in := newStorage(t, site+": crash")
		outcome(t.Context(), b)
		if !in.Crashed() {
			t.Errorf("%s hits nothing", site)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"put", "put: ", ": err", "x *: err", "put a b: err", "put A: err", "put #0: err", "put #3-2: err", "put #x: err",
		"put #-1: err", "put #1 #2: err", "put: err EWHAT", "put: err EIO EIO", "put: corrupt", "put: corrupt 3",
		"put: corrupt byte", "put: corrupt byte -1", "put: corrupt byte x", "put: truncate -1", "put: truncate 1 2",
		"put: hide", "yield: corrupt byte 1", "stat: truncate", "*: corrupt byte 1", "open: done-but-error", "put: crash now",
		"put: explode", "yield: hide x", "put: err\nput", "put #99999999999999999999: err",
	} {
		if in, err := faulty.Parse(text); err == nil {
			t.Errorf("%q parsed as %q", text, in)
		}
	}
	if _, err := faulty.Parse("# comment\n\nput: err\nput: explode"); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("error %v does not name line 4", err)
	}
}

func TestStringIsCanonical(t *testing.T) {
	in := parse(t, "  # comment\nput:err\n\n  open   data/*/x  #3 :  corrupt   byte 017\r\n* #1-: crash\nput #2-2: err EIO")
	want := "put *: err\nopen data/*/x #3: corrupt byte 17\n* *: crash\nput * #2: err EIO\n"
	if in.String() != want {
		t.Errorf("got\n%swant\n%s", in, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("put data/* #3: err EIO\nopen snapshots/*: corrupt byte 17\nreadat data/*: truncate\n")
	f.Add("put *: done-but-error\ndelete *: err\nlist: err\nyield a #2-4: hide\n* #57-: crash\n# comment\n")
	f.Add("swap: done-but-error conflict\nwrite #1: corrupt byte 0\ncommit a/b-c.d: err exist\nstage: crash")
	f.Fuzz(func(t *testing.T, text string) {
		in, err := faulty.Parse(text)
		if err != nil {
			return
		}
		again, err := faulty.Parse(in.String())
		if err != nil {
			t.Fatalf("%q: its own form %q does not parse: %v", text, in, err)
		}
		if again.String() != in.String() {
			t.Errorf("%q became %q", in, again)
		}
		b := in.Wrap(mem.New(func() time.Time { return time.Time{} }))
		outcome(t.Context(), b) // no rule may panic
	})
}
