package ingest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

func TestSkipIfUnchanged(t *testing.T) {
	w := newWorld(t)
	skip := func(o *ingest.Options) { o.SkipIfUnchanged = true }
	w.write("a", []byte("a"))
	w.write("b", random(1, 300<<10))
	if o := w.clean(skip); o.Skipped || o.ID == (snapshot.ID{}) {
		t.Error("the first snapshot was skipped")
	}
	var again *outcome
	var before, after []string
	w.quietly(func() {
		w.clean(skip) // perhaps a directory above has changed
		before = w.names("snapshots/")
		again = w.clean(skip)
		after = w.names("snapshots/")
	})
	if !again.Skipped || again.ID != (snapshot.ID{}) || !slices.Equal(before, after) {
		t.Errorf("skipped %t, ID %s, %d snapshots, before %d", again.Skipped, again.ID.Short(), len(after), len(before))
	}
	if left := w.names("leases/"); len(left) > 0 {
		t.Errorf("leases %q are left", left)
	}
	w.write("a", []byte("A"))
	if o := w.clean(skip); o.Skipped || o.ID == (snapshot.ID{}) {
		t.Error("a snapshot with a change was skipped")
	}
}

// What is above the sources, and the times of streams, are no changes.
func TestSkipLooksAtSourcesOnly(t *testing.T) {
	w := newWorld(t)
	w.write("in/a", []byte("a"))
	stream := "a dump"
	only := func(o *ingest.Options) {
		o.SkipIfUnchanged = true
		o.Paths = []string{filepath.Join(w.src, "in")}
		o.Sources = []ingest.Source{ingest.Stream{Name: "dump", Reader: strings.NewReader(stream)}}
	}
	w.clean(only)
	w.write("beside", []byte("changes the directory above"))
	if o := w.clean(only); !o.Skipped {
		t.Error("a change beside the source made a snapshot")
	}
	stream = "another dump"
	if o := w.clean(only); o.Skipped {
		t.Error("a changed stream made no snapshot")
	}
	w.write("in/a", []byte("b"))
	if o := w.clean(only); o.Skipped {
		t.Error("a changed file made no snapshot")
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t)
	w.zoo()
	w.write("large", random(1, 5<<20))
	dry := func(o *ingest.Options) { o.DryRun = true }
	objects := w.names("")
	tried := w.snap(dry)
	if got := w.names(""); !slices.Equal(got, objects) {
		t.Errorf("a dry run left %d objects, before there were %d", len(got), len(objects))
	}
	if tried.ID != (snapshot.ID{}) || tried.Totals.NewRaw < 5<<20 || tried.Totals.NewStored < 5<<20 {
		t.Errorf("a dry run made %s, and says %+v", tried.ID.Short(), tried.Totals)
	}
	o := w.snap()
	if got, want := tried.Totals.NewRaw, o.Totals.NewRaw; got != want {
		t.Errorf("a dry run says that %d bytes are new, but it were %d", got, want)
	}
	objects = w.names("")
	if tried = w.snap(dry); tried.Totals.Unmodified != o.Totals.Files || tried.Parent != o.ID {
		t.Errorf("a dry run says %+v", tried.Totals)
	}
	if got := w.names(""); !slices.Equal(got, objects) {
		t.Error("a dry run changed the repository")
	}
}

func TestRecorded(t *testing.T) {
	w := newWorld(t)
	w.write("a", []byte("a"))
	at := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	clock := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	tick := func() time.Time { clock = clock.Add(time.Second); return clock }
	o := w.clean(func(o *ingest.Options) {
		o.Tags, o.Host, o.User, o.Program, o.Time, o.Now = []string{"weekly", "a tag", "weekly"}, "the host", "the user", "cairn 1.2", at, tick
	})
	open, body := w.view(o.ID).info.Open, w.view(o.ID).info.Body
	if !open.Time.Equal(at) || open.Flags != snapshot.TimeGiven || open.Host != "the host" {
		t.Errorf("open part: %+v", open)
	}
	if body.User != "the user" || body.Program != "cairn 1.2" || !slices.Equal(body.Tags, []string{"a tag", "weekly"}) || body.Root != o.Root {
		t.Errorf("closed part: %+v", body)
	}
	if body.Start.Year() != 2020 || !body.End.After(body.Start) || o.Duration < body.End.Sub(body.Start) {
		t.Errorf("it took from %v to %v, %v", body.Start, body.End, o.Duration)
	}
	if s := source(t, body.Sources, "files", w.src); s.Status != snapshot.Complete {
		t.Errorf("the source is %+v", s)
	}
	o = w.clean(func(o *ingest.Options) { o.Now = tick })
	if open := w.view(o.ID).info.Open; open.Flags != 0 || open.Time.Year() != 2020 {
		t.Errorf("without a given time: %+v", open)
	}
}

// A clock that is wrong by more than an hour is met before anything is read.
func TestFromTheFuture(t *testing.T) {
	w := newWorld(t)
	w.write("a", []byte("a"))
	before := w.names("")
	for name, edit := range map[string]func(*ingest.Options){
		"clock": func(o *ingest.Options) { o.Now = func() time.Time { return time.Now().Add(2 * time.Hour) } },
		"time":  func(o *ingest.Options) { o.Time = time.Now().Add(2 * time.Hour) },
	} {
		o, err := w.try(t.Context(), edit)
		if !errors.Is(err, repo.ErrClock) || len(o.changes) > 0 {
			t.Errorf("%s: %v, %v", name, err, o.changes)
		}
	}
	if after := w.names(""); !slices.Equal(after, before) {
		t.Errorf("left behind: %v", after)
	}
}

func TestCancelledBefore(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.try(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if left := append(w.names("snapshots/"), w.names("leases/")...); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

func TestEmptyDirectory(t *testing.T) {
	w := newWorld(t)
	w.must(os.Mkdir(w.path("empty"), 0o755))
	o := w.clean(func(o *ingest.Options) { o.Paths = []string{w.path("empty")} })
	w.view(o.ID).want("empty")
	if o.Totals.Files != 0 || w.dataPacks() != 0 {
		t.Errorf("totals are %+v", o.Totals)
	}
}
