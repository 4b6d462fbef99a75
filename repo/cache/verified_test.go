package cache_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/repo/cache"
	"github.com/cairn-backup/cairn/seal"
)

var start = time.Unix(1_700_000_000, 7)

func isVerified(t *testing.T, v *cache.Verified, id byte, want time.Time) {
	t.Helper()
	at, ok := v.When([32]byte{id})
	if ok != !want.IsZero() || ok && !at.Equal(want) {
		t.Errorf("pack %d was verified at %v (%v), want %v", id, at, ok, want)
	}
}

func TestVerified(t *testing.T) {
	root := t.TempDir()
	later := start.Add(time.Hour)
	v := open(t, root).Verified("here", start)
	isVerified(t, v, 1, time.Time{})
	for id := range byte(4) {
		v.Note([32]byte{id}, start)
	}
	if err := v.Save(start); err != nil {
		t.Fatal(err)
	}
	// It needs no key, is of one location, and does not know the future.
	d, err := cache.Open(root, repositoryID)
	if err != nil {
		t.Fatal(err)
	}
	isVerified(t, d.Verified("here", later), 1, start)
	isVerified(t, d.Verified("elsewhere", later), 1, time.Time{})
	isVerified(t, d.Verified("here", start.Add(-1)), 1, time.Time{})
	other, err := cache.Open(root, seal.RepositoryID{9})
	if err != nil {
		t.Fatal(err)
	}
	isVerified(t, other.Verified("here", later), 1, time.Time{})

	// Two programs at once: what either says counts.
	a, b := d.Verified("here", later), d.Verified("here", later)
	a.Note([32]byte{1}, later)
	a.Forget([32]byte{2})
	b.Note([32]byte{4}, later)
	b.Retain(func(id [32]byte) bool { return id != [32]byte{3} })
	for _, v := range []*cache.Verified{a, b} {
		if err := v.Save(later); err != nil {
			t.Fatal(err)
		}
	}
	got := d.Verified("here", later)
	isVerified(t, got, 0, start)
	isVerified(t, got, 1, later)
	isVerified(t, got, 3, time.Time{})
	isVerified(t, got, 4, later)
	// b has not heard that a found 2 damaged. It says when that was good.
	isVerified(t, got, 2, start)
}

func TestVerifiedDamaged(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	v := d.Verified("here", start)
	v.Note([32]byte{1}, start)
	v.Note([32]byte{2}, start)
	if err := v.Save(start); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(d.Path("verified-*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	good, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{nil, append(bytes.Clone(good), 0), make([]byte, len(good))}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		damaged = append(damaged, good[:i], flipped)
	}
	for i, b := range damaged {
		if err := os.WriteFile(names[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		v := d.Verified("here", start)
		isVerified(t, v, 1, time.Time{})
		isVerified(t, v, 2, time.Time{})
		v.Note([32]byte{3}, start)
		if err := v.Save(start); err != nil {
			t.Fatal(err)
		}
		if isVerified(t, d.Verified("here", start), 3, start); t.Failed() {
			t.Fatalf("damage %d did not heal", i)
		}
	}
}

// What a check of ten million chunks remembers.
func TestVerifiedMany(t *testing.T) {
	d := open(t, t.TempDir())
	v := d.Verified("here", start)
	const packs = 300_000
	for i := range packs {
		v.Note([32]byte{byte(i), byte(i >> 8), byte(i >> 16), 30: 1}, start.Add(time.Duration(i)))
	}
	if err := v.Save(start.Add(packs)); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(d.Path("verified-*"))
	if fi, err := os.Stat(names[0]); err != nil || fi.Size() > 13<<20 {
		t.Errorf("it takes %v, %v", fi, err)
	}
	got := d.Verified("here", start.Add(packs))
	for i := range packs {
		if at, ok := got.When([32]byte{byte(i), byte(i >> 8), byte(i >> 16), 30: 1}); !ok || !at.Equal(start.Add(time.Duration(i))) {
			t.Fatalf("pack %d: %v, %v", i, at, ok)
		}
	}
}
