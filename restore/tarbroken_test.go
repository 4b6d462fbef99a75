package restore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/restore"
	"github.com/cairn-backup/cairn/snapshot"
)

// Damage is never in an archive unseen.
func TestTarDamage(t *testing.T) {
	needTar(t)
	f := newFixture(t)
	for i := range byte(6) {
		f.write("large"+string('0'+rune(i)), noise(i, 700<<10))
	}
	f.write("small", []byte("s"))
	s := f.snapshot(ingest.Options{})
	want := contents(t, f.source)
	packs := f.objects("data/")
	f.spoil(packs[len(packs)/2])

	p, _, _, err := f.tryTar(restore.Options{Snapshot: s, Path: f.source})
	if !errors.Is(err, repo.ErrDamage) || !strings.Contains(err.Error(), f.path("large")) {
		t.Errorf("the error is %v", err)
	}
	f.wantBroken(p, want)

	p, res, ev := f.tar(restore.Options{Snapshot: s, Path: f.source, AllowDamaged: true})
	if res.Damaged == 0 || res.Damaged > 5 || int(res.Damaged) != len(ev.problems) {
		t.Errorf("result %+v, problems %v", res, ev.problems)
	}
	dir, err := f.extract("bsdtar", p)
	f.must(err)
	for name, got := range contents(t, dir) {
		problem := ev.problems[f.path(name)]
		if (problem == nil) != (got == want[name]) || problem != nil && (!zeroed(got, want[name]) || ev.actions[f.path(name)] != restore.Damaged) {
			t.Errorf("%s: %v", name, problem)
		}
	}
}

// wantBroken demands that programs find an archive broken, and that what they extract
// whole is right.
func (f *fixture) wantBroken(p []byte, want map[string]string) {
	f.Helper()
	for program := range extractors {
		dir, err := f.extract(program, p)
		if err == nil {
			f.Errorf("%s finds nothing wrong with an archive of %d bytes that is not whole", program, len(p))
		}
		for name, got := range contents(f.T, dir) {
			if got != want[name] && !strings.HasPrefix(want[name], got) && !zeroed(got, want[name]) {
				f.Errorf("%s extracts %s with wrong contents", program, name)
			}
		}
	}
}

// Between two members, the end of an archive looks like the end.
func TestTarDamagedTree(t *testing.T) {
	needTar(t)
	f := newFixture(t)
	entries := []snapshot.Entry{dirEntry("")}
	want := make(map[string]string)
	for i := range 3000 {
		e := snapshot.Entry{Key: snapshot.Key("").Child(fmt.Sprintf("%04d", i)), Type: snapshot.Symlink, Target: fmt.Appendf(nil, "%x", noise(byte(i), 32))}
		entries = append(entries, e)
		want[e.Key.Base()] = "-> " + string(e.Target)
	}
	s := f.made(entries...)
	broken := &brokenNodes{Interface: f.storage, spoil: 5, reads: make(map[string]int)}
	f.reopen(broken, 0)
	s = f.load(s.ID)
	p, _, _, err := f.tryTar(restore.Options{Snapshot: s})
	if !errors.Is(err, repo.ErrDamage) {
		t.Errorf("the error is %v", err)
	}
	f.wantBroken(p, want)
	p, res, ev := f.tar(restore.Options{Snapshot: s, AllowDamaged: true})
	got := names(t, p)
	if res.LostNodes != 1 || len(ev.problems) != 1 || len(got) < 1000 || len(got) >= 3000 || int(res.Others) != len(got) {
		t.Errorf("%d members, result %+v, problems %v", len(got), res, ev.problems)
	}
}

// An output that fails ends the run with its error.
func TestTarOutput(t *testing.T) {
	f := newFixture(t)
	f.write("large", noise(1, 3<<20))
	s := f.snapshot(ingest.Options{})
	full := errors.New("the tape is at its end")
	for _, room := range []int{0, 1000, 1 << 20} {
		_, err := restore.Tar(t.Context(), f.repo, restore.Options{Snapshot: s}, &limitedWriter{room, full})
		if !errors.Is(err, full) {
			t.Errorf("room for %d bytes: the error is %v", room, err)
		}
	}
}

// A restore ends when it is told to, also in the middle of a hole that takes long.
func TestTarStopsInHole(t *testing.T) {
	f := newFixture(t)
	f.write("sparse", nil)
	f.must(os.Truncate(f.path("sparse"), 1<<40))
	s := f.snapshot(ingest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wentOn := errors.New("it went on")
	written := 0
	_, err := restore.Tar(ctx, f.repo, restore.Options{Snapshot: s}, writerFunc(func(p []byte) (int, error) {
		if written += len(p); written > 10<<20 {
			cancel()
		}
		if written > 20<<20 { // less may be on its way
			return 0, wentOn
		}
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) || errors.Is(err, wentOn) {
		t.Errorf("the error is %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type limitedWriter struct {
	room int
	err  error
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	if w.room -= n; n < len(p) {
		return n, w.err
	}
	return n, nil
}
