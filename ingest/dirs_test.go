package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// TestMovedAbove moves directories that the walk is in and has closed.
func TestMovedAbove(t *testing.T) {
	const depth = openLevels + 8
	// dir is the path of the directory at a level.
	dir := func(b *bench, level int) string { return b.dir + strings.Repeat("/d", level) }
	tests := []struct {
		name  string
		moved func(b *bench) error
		lost  int // level of the directory that is not found again; 0: none
	}{
		{"nothing", func(*bench) error { return nil }, 0},
		{"one that is open still", func(b *bench) error { return os.Rename(dir(b, depth-2), b.dir+"/moved") }, 0},
		{"below a closed one", func(b *bench) error { return os.Rename(dir(b, 5), b.dir+"/moved") }, 0},
		{"two closed ones", func(b *bench) error {
			return errors.Join(os.Rename(dir(b, 5), b.dir+"/moved"), os.Rename(dir(b, 4), dir(b, 3)+"/renamed"))
		}, 4},
		{"replaced", func(b *bench) error {
			return errors.Join(os.Rename(dir(b, 5), b.dir+"/moved"), os.Mkdir(b.dir+"/new", 0o755), os.Remove(dir(b, 4)), os.Rename(b.dir+"/new", dir(b, 4)))
		}, 4},
		{"by a link", func(b *bench) error {
			return errors.Join(os.Rename(dir(b, 5), b.dir+"/moved"), os.Remove(dir(b, 4)), os.Symlink("/", dir(b, 4)))
		}, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.must(os.MkdirAll(dir(b, depth), 0o755))
			w := &walker{pipeline: b.pipeline}
			key, err := snapshot.KeyOf(b.dir)
			b.must(err)
			at, name := unix.AT_FDCWD, b.dir
			for range depth {
				d, st, err := w.open(at, name, fsmeta.OpenDirAt)
				b.must(err)
				at, name = w.enter(d, key, st).fd, "d"
				key = key.Child("d")
			}
			if n := len(b.dirs.fds); n != openLevels {
				t.Errorf("%d directories are open, want %d", n, openLevels)
			}
			b.must(test.moved(b))
			for level := depth - 1; level >= 0; level-- {
				lv := w.levels[level]
				if found := lv.dirHandle != nil; found != (level != test.lost || level == 0) {
					t.Errorf("level %d is open: %t", level, found)
				} else if found {
					st, err := fsmeta.StatFd(lv.fd)
					if err != nil || st.Ino != lv.stat.Ino {
						t.Errorf("level %d: inode %d, want %d; %v", level, st.Ino, lv.stat.Ino, err)
					}
				}
				b.must(w.leave(lv))
			}
			if n := len(b.dirs.fds); n != 0 {
				t.Errorf("%d directories are open", n)
			}
			if lost := test.lost > 0; len(b.problems) > 1 || lost != (len(b.problems) == 1) {
				t.Errorf("problems are %q", b.problems)
			}
		})
	}
}

// TestNameTooLong: some file systems have names that no key can hold.
func TestNameTooLong(t *testing.T) {
	b := newBench(t)
	w := &walker{pipeline: b.pipeline, job: b.newJob()}
	_, _, d := b.file(1)
	defer d.release()
	b.must(w.child(d, "", strings.Repeat("n", 256), volume{}, nil))
	if want := fmt.Sprint(errLongName, " ", true); len(b.problems) != 1 || b.problems[0] != want {
		t.Errorf("problems are %q, want %q", b.problems, want)
	}
	// One that a key can hold is looked for.
	b.must(w.child(d, "", strings.Repeat("n", 255), volume{}, nil))
	if len(b.problems) != 2 || !strings.HasPrefix(b.problems[1], errVanished.Error()) {
		t.Errorf("problems are %q", b.problems)
	}
}

func TestBudget(t *testing.T) {
	b := newBudget(10)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.take(t.Context(), 25)) // too much, but nothing else is in use
	b.give(25)
	must(b.take(t.Context(), 7))
	must(b.take(t.Context(), 3))
	got := make(chan error)
	go func() { got <- b.take(t.Context(), 4) }()
	b.give(3)
	select {
	case err := <-got:
		t.Fatalf("4 were given while 7 of 10 were in use: %v", err)
	default:
	}
	b.give(7)
	must(<-got)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { got <- b.take(ctx, 10) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
