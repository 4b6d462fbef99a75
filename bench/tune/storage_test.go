package tune

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/backend/mem"
)

func storageOptions() StorageOptions {
	return StorageOptions{Count: 20, Size: 1 << 20, Random: rand.NewChaCha8([32]byte{})}
}

func names(t testing.TB, b backend.Interface) (names []string) {
	t.Helper()
	for info, err := range b.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return names
}

func TestStorage(t *testing.T) {
	dir, err := local.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []backend.Interface{dir, mem.New(time.Now), struct{ backend.Interface }{mem.New(time.Now)}} {
		if err := backend.PutBytes(t.Context(), b, "config", []byte("of a repository")); err != nil {
			t.Fatal(err)
		}
		var told []string
		o := storageOptions()
		o.Result = func(op Operation) { told = append(told, op.Name) }
		ops, err := Storage(t.Context(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"put 4 KiB", "put large", "stat", "get 4 KiB", "get large", "get 64 KiB of a large one", "list bench/", "swap", "delete"}
		if _, ok := b.(backend.Swapper); !ok {
			want = slices.DeleteFunc(want, func(s string) bool { return s == "swap" })
		}
		if !slices.Equal(told, want) {
			t.Errorf("measured %q, want %q", told, want)
		}
		for _, op := range ops {
			if op.Count < largeCount || op.Wall <= 0 || op.Median > op.P95 || op.P95 > op.Wall || op.PerSecond() <= 0 {
				t.Errorf("%+v", op)
			}
			if hasBytes := strings.HasPrefix(op.Name, "put") || strings.HasPrefix(op.Name, "get") || op.Name == "swap"; hasBytes != (op.Speed() > 0) {
				t.Errorf("%+v has a speed of %v", op, op.Speed())
			}
		}
		if got := names(t, b); !slices.Equal(got, []string{"config"}) {
			t.Errorf("left: %q", got)
		}
	}
}

// Slow storages are not kept busy for hours.
func TestStorageKeepsToItsLimit(t *testing.T) {
	clock := time.Unix(0, 0)
	o := storageOptions()
	o.Limit = 5 * time.Second
	o.Now = func() time.Time { clock = clock.Add(time.Second); return clock }
	ops, err := Storage(t.Context(), mem.New(o.Now), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if op.Count < 1 || op.Count > 4 {
			t.Errorf("%s: %d calls of at least a second in 5 s", op.Name, op.Count)
		}
	}
}

func TestStorageTells(t *testing.T) {
	for rule, want := range map[string]string{
		"put bench/* #3: err EIO":            "measure put 4 KiB",
		"open bench/*: corrupt byte 17":      "do not trust this storage",
		"readat bench/*: corrupt byte 70000": "do not trust this storage",
		"yield bench/* #3: hide":             "do not trust this storage",
		"swap: err conflict":                 "measure swap",
		"delete bench/*: err EACCES":         "are left, which may be deleted at any time",
	} {
		rules, err := faulty.Parse(rule)
		if err != nil {
			t.Fatal(err)
		}
		base := mem.New(time.Now)
		_, err = Storage(t.Context(), rules.Wrap(base), storageOptions())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", rule, err, want)
		}
		if left := names(t, base); len(left) > 0 && !strings.HasPrefix(rule, "delete") {
			t.Errorf("%s: left %q", rule, left)
		}
	}
}

func TestStorageCleansUpWhenInterrupted(t *testing.T) {
	for _, at := range []string{"put large", "swap", "delete"} {
		b := mem.New(time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		o := storageOptions()
		o.Operation = func(name string) {
			if name == at {
				cancel()
			}
		}
		if _, err := Storage(ctx, b, o); !errors.Is(err, context.Canceled) {
			t.Errorf("at %s: %v", at, err)
		}
		if left := names(t, b); len(left) > 0 {
			t.Errorf("at %s: left %q", at, left)
		}
	}
}

// What a killed run has left goes with the next one, when it is old enough to be of none that
// still runs.
func TestStorageRemovesLeftOvers(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := mem.New(func() time.Time { return now })
	put := func(name string) {
		if err := backend.PutBytes(t.Context(), b, name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	put("bench/old")
	put("benchmark/other")
	now = now.Add(leftOver + time.Minute)
	put("bench/new")
	o := storageOptions()
	o.Now = func() time.Time { now = now.Add(time.Millisecond); return now }
	if _, err := Storage(t.Context(), b, o); err != nil {
		t.Fatal(err)
	}
	if got := names(t, b); !slices.Equal(got, []string{"bench/new", "benchmark/other"}) {
		t.Errorf("left: %q", got)
	}
}

// The sink counts what it drops, and loses nothing that is no pack.
func TestSink(t *testing.T) {
	s := newSink(time.Now)
	st, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st.Write(make([]byte, 100))
	if err := st.Commit(t.Context(), "index/x"); err == nil {
		t.Error("what is no pack was dropped")
	}
	if err := st.Commit(t.Context(), "data/aa/aa"); err != nil {
		t.Error(err)
	}
	if err := backend.PutBytes(t.Context(), s, "index/x", []byte("123")); err != nil {
		t.Error(err)
	}
	if s.bytes() != 103 || !slices.Equal(names(t, s), []string{"data/aa/aa", "index/x"}) {
		t.Errorf("%d bytes in %q", s.bytes(), names(t, s))
	}
}
