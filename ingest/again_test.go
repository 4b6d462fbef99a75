package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
)

// fenceCommits lets another machine end the leases of the next runs before these commit,
// times times, and delete what doomed says just before.
func (w *world) fenceCommits(times int, doomed func() []string) {
	w.storage.ends = func(end string) {
		if times--; times < 0 {
			return
		}
		hook := w.storage.ends
		w.storage.ends = nil // for the other machine
		defer func() { w.storage.ends = hook }()
		for _, name := range doomed() {
			w.must(w.storage.Delete(w.Context(), name))
		}
		begin := strings.TrimSuffix(end, "end") + "begin"
		w.must(w.storage.Delete(w.Context(), begin))
		w.must(backend.PutBytes(w.Context(), w.storage, begin, []byte("damaged, so that a repair ends the lease")))
		_, err := w.open("full", "").Repair(w.Context(), repo.RepairOptions{})
		w.must(err)
		if !slices.Contains(w.names("leases/"), end) {
			w.Errorf("there is no %s: nobody is fenced", end)
		}
	}
}

func (s *storage) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if s.ends != nil && strings.HasSuffix(name, "/end") {
		s.ends(name)
	}
	return s.Mem.Put(ctx, name, body, size)
}

// isSound fails the test if a check that reads everything finds anything.
func (w *world) isSound() {
	w.Helper()
	report, err := w.open("full", "").Check(w.Context(), repo.CheckOptions{Read: repo.Sample{Percent: 100}})
	w.must(err)
	for _, p := range report.Problems {
		w.Errorf("problem with %s: %v", p.Object, p.Err)
	}
}

// told counts the calls of Observer.Again.
func told(n *int) func(*ingest.Options) {
	return func(o *ingest.Options) { o.Observer.Again = func(error) { *n++ } }
}

// A run that was fenced, and whose packs went, its own or those that it found, stores
// from its sources what is no longer there.
func TestFencedRunBeginsAgain(t *testing.T) {
	for _, going := range []string{"found", "stored", "found and stored"} {
		t.Run(going, func(t *testing.T) {
			w := newWorld(t)
			old, fresh := random(1, 700<<10), random(2, 900<<10)
			w.write("old", old)
			packed, opens := makeTar(t, file("member", "of an archive")), 0
			taking := func(o *ingest.Options) {
				o.Sources = []ingest.Source{&ingest.Tar{Name: "x", Reader: bytes.NewReader(packed), Again: func() (io.Reader, error) {
					opens++
					return bytes.NewReader(packed), nil
				}}}
			}
			first := w.clean(taking)
			found := w.names("data/")
			w.write("new", fresh)
			would := w.clean(taking, func(o *ingest.Options) { o.DryRun = true })

			progress, n := new(ingest.Progress), 0
			w.fenceCommits(1, func() []string {
				return slices.DeleteFunc(w.names("data/"), func(name string) bool {
					isFound := slices.Contains(found, name)
					return isFound && going == "stored" || !isFound && going == "found"
				})
			})
			o := w.clean(taking, told(&n), func(o *ingest.Options) { o.Observer.Progress = progress })
			if n != 1 || opens != 1 {
				t.Errorf("begun again %d times, the archive %d times", n, opens)
			}
			v := w.view(o.ID)
			v.wantContents(w.path("old"), old)
			v.wantContents(w.path("new"), fresh)
			v.wantContents("tar/x/member", []byte("of an archive"))
			w.view(first.ID).wantContents(w.path("old"), old)
			w.isSound()

			// What the first try stored and is still there counts as added, what went does
			// not. Nodes have times in them: they differ a little, and some were stored twice.
			const nodes = 20 << 10
			raw, stored := would.Totals.NewRaw, would.Totals.NewStored
			if going != "stored" {
				raw, stored = raw+uint64(len(old)), stored+uint64(len(old))
			}
			if got := o.Totals.NewRaw; got+nodes < raw || got > raw+nodes {
				t.Errorf("%d bytes are new, want %d", got, raw)
			}
			if got := o.Totals.NewStored; got+nodes < stored || got > stored+nodes {
				t.Errorf("%d bytes are stored, want %d", got, stored)
			}
			if o.Totals.Files != would.Totals.Files || progress.FilesDone.Load() != int64(len(o.changes)) {
				t.Errorf("%d files, want %d; progress %d of %d", o.Totals.Files, would.Totals.Files, progress.FilesDone.Load(), len(o.changes))
			}
			if o.Parent != first.ID {
				t.Errorf("the parent is %s", o.Parent.Short())
			}
		})
	}
}

// Nobody begins for ever.
func TestFencedRunGivesUp(t *testing.T) {
	w := newWorld(t)
	w.write("a", random(1, 100<<10))
	n := 0
	w.fenceCommits(1000, func() []string { return w.names("data/") })
	_, err := w.try(t.Context(), told(&n))
	if !errors.Is(err, repo.ErrFenced) || n != 2 {
		t.Errorf("begun again %d times, %v", n, err)
	}
	w.storage.ends = nil
	w.clean()
	w.isSound()
}

// What can't be read twice ends the run, and the error says what it is.
func TestFencedRunCannotBeginAgain(t *testing.T) {
	stream := func() io.Reader { return bytes.NewReader(random(3, 100<<10)) }
	for what, source := range map[string]func(*ingest.Options){
		`stream "dump"`: func(o *ingest.Options) { o.Sources = []ingest.Source{ingest.Stream{Name: "dump", Reader: stream()}} },
		`command for "dump"`: func(o *ingest.Options) {
			o.Sources = []ingest.Source{ingest.Stream{Name: "dump", Command: "echo run >> " + o.Paths[0] + ".runs; cat " + o.Paths[0] + "/a"}}
		},
		`archive "x"`: func(o *ingest.Options) {
			o.Sources = []ingest.Source{&ingest.Tar{Name: "x", Reader: bytes.NewReader(makeTar(t, file("a", strings.Repeat("b", 100<<10))))}}
		},
		`archive "y" again: gone`: func(o *ingest.Options) {
			o.Sources = []ingest.Source{&ingest.Tar{Name: "y", Reader: bytes.NewReader(makeTar(t, file("a", "b"))), Again: func() (io.Reader, error) { return nil, errors.New("gone") }}}
		},
	} {
		w := newWorld(t)
		w.write("a", random(1, 100<<10))
		n := 0
		w.fenceCommits(1, func() []string { return w.names("data/") })
		_, err := w.try(t.Context(), source, told(&n))
		if !errors.Is(err, repo.ErrFenced) || !strings.Contains(err.Error(), what) || n != 0 {
			t.Errorf("%s: begun again %d times, %v", what, n, err)
		}
		if runs, err := os.ReadFile(w.src + ".runs"); err == nil && string(runs) != "run\n" {
			t.Errorf("the command ran: %q", runs)
		}
		os.Remove(w.src + ".runs")
		if names := w.names("snapshots/"); len(names) > 0 {
			t.Errorf("%s: snapshots are %q", what, names)
		}
		w.clean(source)
		w.isSound()
	}
}

// A run that is fenced but whose packs are all there reads nothing again.
func TestFencedRunGoesOn(t *testing.T) {
	w := newWorld(t)
	w.write("a", random(1, 100<<10))
	n := 0
	w.fenceCommits(1, func() []string { return nil })
	w.clean(told(&n), func(o *ingest.Options) {
		o.Sources = []ingest.Source{ingest.Stream{Name: "dump", Reader: strings.NewReader("once")}}
	})
	if n != 0 {
		t.Errorf("begun again %d times", n)
	}
	w.isSound()
}
