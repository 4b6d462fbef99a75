package backend_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
)

func TestValidName(t *testing.T) {
	for _, name := range []string{
		"config", "data/ab/0123456789abcdef", "leases/a.b-c/beat-7", "...", "a..b", "-", ".hidden",
		strings.Repeat("a", backend.MaxName),
	} {
		if err := backend.ValidName(name); err != nil {
			t.Errorf("ValidName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/..", "a/./b", "A", "a_b", "a b", "a\x00b", "a\\b", "ä",
		strings.Repeat("a", backend.MaxName+1),
	} {
		if err := backend.ValidName(name); err == nil {
			t.Errorf("ValidName(%q) accepted", name)
		}
	}
}

func TestValidPrefix(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"": true, "data/": true, "data/ab/": true,
		"data": false, "/": false, "../": false, "data//": false, "Data/": false,
	} {
		if err := backend.ValidPrefix(prefix); (err == nil) != ok {
			t.Errorf("ValidPrefix(%q) = %v", prefix, err)
		}
	}
}

func TestReadAll(t *testing.T) {
	ctx := t.Context()
	b := mem.New(time.Now)
	if err := backend.PutBytes(ctx, b, "x", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{5, 6, 1 << 40} {
		got, err := backend.ReadAll(ctx, b, "x", limit)
		if err != nil || string(got) != "12345" {
			t.Errorf("limit %d: %q, %v", limit, got, err)
		}
	}
	for _, limit := range []int64{0, 4} {
		if got, err := backend.ReadAll(ctx, b, "x", limit); err == nil {
			t.Errorf("limit %d: read %q", limit, got)
		}
	}
	if err := backend.PutBytes(ctx, b, "empty", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := backend.ReadAll(ctx, b, "empty", 0); err != nil || got == nil || len(got) != 0 {
		t.Errorf("empty object: %v, %v; want bytes that are not nil", got, err)
	}
	if _, err := backend.ReadAll(ctx, b, "y", 5); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("missing object: %v", err)
	}
}

func TestReadAllReportsShortObject(t *testing.T) {
	b := short{mem.New(time.Now)}
	if err := backend.PutBytes(t.Context(), b, "x", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	// Also where the damage stands exactly at the limit.
	for _, limit := range []int64{5, 9} {
		if got, err := backend.ReadAll(t.Context(), b, "x", limit); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("limit %d: %q, %v", limit, got, err)
		}
	}
}

func TestNarrow(t *testing.T) {
	full := mem.New(time.Now)
	for _, base := range []backend.Interface{
		full,
		struct{ backend.Interface }{full},
		struct {
			backend.Interface
			backend.Swapper
		}{full, full},
		struct {
			backend.Interface
			backend.Stager
		}{full, full},
	} {
		got := backend.Narrow(full, base)
		_, want := base.(backend.Swapper)
		if _, is := got.(backend.Swapper); is != want {
			t.Errorf("%T: Swapper %v, want %v", base, is, want)
		}
		_, want = base.(backend.Stager)
		if _, is := got.(backend.Stager); is != want {
			t.Errorf("%T: Stager %v, want %v", base, is, want)
		}
	}
}
