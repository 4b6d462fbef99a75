package limit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/backendtest"
	"github.com/cairn-backup/cairn/backend/limit"
	"github.com/cairn-backup/cairn/backend/mem"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Interface {
		c := newClock()
		return limit.New(mem.New(time.Now), c.config(1<<20, 1<<20))
	})
}

// clock is a time that passes only where somebody sleeps.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	slept time.Duration
}

func newClock() *clock { return &clock{now: time.Unix(1700000000, 0)} }

func (c *clock) config(up, down int64) limit.Config {
	return limit.Config{Upload: up, Download: down, Now: c.Now, Sleep: c.Sleep}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.pass(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
	return nil
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// took runs f and returns how long it slept.
func (c *clock) took(t *testing.T, f func() error) time.Duration {
	t.Helper()
	before := c.slept
	if err := f(); err != nil {
		t.Fatal(err)
	}
	return c.slept - before
}

// near compares durations that are sums of fractions.
func near(a, b time.Duration) bool { return (a - b).Abs() < time.Millisecond }

const kib = 1 << 10

// TestRates moves 10 KiB at 1 KiB a second up and at 5 KiB a second down. A tenth
// of a second is saved up and free.
func TestRates(t *testing.T) {
	ctx := t.Context()
	data := bytes.Repeat([]byte("x"), 10*kib)
	const up, down = 10*time.Second - 100*time.Millisecond, 2*time.Second - 100*time.Millisecond
	for _, c := range []struct {
		name string
		do   func(b backend.Interface) error
		want time.Duration
	}{
		{"Put", func(b backend.Interface) error { return backend.PutBytes(ctx, b, "new", data) }, up},
		{"Swap", func(b backend.Interface) error { return b.(backend.Swapper).Swap(ctx, "new", nil, data) }, up},
		{"Stage", func(b backend.Interface) error {
			s, err := b.(backend.Stager).Stage(ctx)
			if err != nil {
				return err
			}
			for range 10 {
				if _, err := s.Write(data[:kib]); err != nil {
					return err
				}
			}
			return s.Commit(ctx, "new")
		}, up},
		{"Open", func(b backend.Interface) error {
			_, err := backend.ReadAll(ctx, b, "old", 1<<20)
			return err
		}, down},
		{"ReadAt", func(b backend.Interface) error { return b.ReadAt(ctx, "old", make([]byte, 10*kib), 0) }, down},
		{"Stat", func(b backend.Interface) error {
			_, err := b.Stat(ctx, "old")
			return err
		}, 0},
		{"Delete", func(b backend.Interface) error { return b.Delete(ctx, "old") }, 0},
		{"PutEmpty", func(b backend.Interface) error { return backend.PutBytes(ctx, b, "new", nil) }, 0},
	} {
		base := mem.New(time.Now)
		if err := backend.PutBytes(ctx, base, "old", data); err != nil {
			t.Fatal(err)
		}
		clock := newClock()
		limited := limit.New(base, clock.config(kib, 5*kib))
		if got := clock.took(t, func() error { return c.do(limited) }); !near(got, c.want) {
			t.Errorf("%s slept %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNoLimit(t *testing.T) {
	clock := newClock()
	b := limit.New(mem.New(time.Now), clock.config(0, 0))
	got := clock.took(t, func() error {
		if err := backend.PutBytes(t.Context(), b, "x", make([]byte, 1<<20)); err != nil {
			return err
		}
		_, err := backend.ReadAll(t.Context(), b, "x", 1<<20)
		return err
	})
	if got != 0 {
		t.Errorf("slept %v", got)
	}
}

// TestSavedUp lets time pass unused: no more than a tenth of a second's bytes
// are free afterwards, however long it was.
func TestSavedUp(t *testing.T) {
	clock := newClock()
	b := limit.New(mem.New(time.Now), clock.config(1000, 0))
	put := func(name string) func() error {
		return func() error { return backend.PutBytes(t.Context(), b, name, make([]byte, 1000)) }
	}
	if got := clock.took(t, put("a")); !near(got, 900*time.Millisecond) {
		t.Errorf("the first slept %v", got)
	}
	if got := clock.took(t, put("b")); !near(got, time.Second) {
		t.Errorf("the second slept %v", got)
	}
	clock.pass(time.Hour)
	if got := clock.took(t, put("c")); !near(got, 900*time.Millisecond) {
		t.Errorf("after an hour it slept %v", got)
	}
	clock.pass(-time.Hour)
	if got := clock.took(t, put("d")); got > 2*time.Second {
		t.Errorf("after the clock was set back it slept %v", got)
	}
}

// TestCancelledWaitGivesBack ends a wait of an hour, which the next caller must
// not have to sit out.
func TestCancelledWaitGivesBack(t *testing.T) {
	clock := newClock()
	base := mem.New(time.Now)
	config := clock.config(1000, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	b := limit.New(base, limit.Config{Upload: 1000, Download: 1000, Now: clock.Now, Sleep: func(ctx context.Context, d time.Duration) error {
		if d > time.Minute {
			cancel()
		}
		return config.Sleep(ctx, d)
	}})
	if err := backend.PutBytes(ctx, b, "big", make([]byte, 3600_000)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := base.Stat(t.Context(), "big"); !errors.Is(err, backend.ErrNotExist) {
		t.Fatalf("the object is there: %v", err)
	}
	got := clock.took(t, func() error { return backend.PutBytes(t.Context(), b, "small", make([]byte, 1000)) })
	if !near(got, time.Second) {
		t.Errorf("the next slept %v", got)
	}
}

// TestSystemClock uses the clock of the system, whose sleep ends with its context.
func TestSystemClock(t *testing.T) {
	b := limit.New(mem.New(time.Now), limit.Config{Upload: 1})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- backend.PutBytes(ctx, b, "x", make([]byte, 1<<20)) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestReadErrorsPass(t *testing.T) {
	clock := newClock()
	b := limit.New(mem.New(time.Now), clock.config(1000, 1000))
	if err := b.Put(t.Context(), "x", bytes.NewReader([]byte("abc")), 4); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short body: %v", err)
	}
}
