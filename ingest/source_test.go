package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/snapshot"
)

// third is a source as another package would write one.
type third struct {
	name    string
	capture func(context.Context, *ingest.Sink) error
	rewinds int
}

func (s *third) Place() (kind, name string)                         { return "third", s.name }
func (s *third) Capture(ctx context.Context, to *ingest.Sink) error { return s.capture(ctx, to) }
func (s *third) Rewind() error                                      { s.rewinds++; return nil }

func sources(s ...ingest.Source) func(*ingest.Options) {
	return func(o *ingest.Options) { o.Paths, o.Sources = nil, s }
}

// put delivers a file.
func put(to *ingest.Sink, path string, r io.Reader) error {
	key, err := to.Key(path)
	if err != nil {
		return err
	}
	_, err = to.File(snapshot.Entry{Key: key, Mode: 0o600, Mtime: to.Now()}, r)
	return err
}

func TestThirdSource(t *testing.T) {
	w := newWorld(t)
	const files = 40
	contents := func(i int) []byte { return random(uint64(i), i*i*1000) } // the first of them are small
	version, parent := 1, ""
	s := &third{name: "at/x"}
	s.capture = func(ctx context.Context, to *ingest.Sink) error {
		var wg sync.WaitGroup
		errs := make([]error, files)
		for i := range files {
			wg.Go(func() {
				errs[i] = put(to, fmt.Sprintf("d%d/%d", i%3, i), bytes.NewReader(contents(i)))
			})
		}
		wg.Wait()
		before, err := to.Previous("note")
		if parent == "" && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("without a parent: %w", err)
		}
		if parent != "" {
			if p, err := io.ReadAll(before); err != nil || string(p) != parent {
				return fmt.Errorf("the parent has %q, %w", p, err)
			}
		}
		to.Describe("version", []byte(fmt.Sprint(version)))
		return errors.Join(append(errs, put(to, "note", strings.NewReader(fmt.Sprint("version ", version))))...)
	}
	for ; version <= 2; version++ {
		o := w.clean(sources(s))
		v := w.view(o.ID)
		for i := range files {
			v.wantContents(fmt.Sprintf("third/at/x/d%d/%d", i%3, i), contents(i))
		}
		if src := source(t, o.Sources, "third", "at/x"); src.Totals.Files != files+1 || string(src.Attributes["version"]) != fmt.Sprint(version) {
			t.Errorf("the source is %+v", src)
		}
		parent = fmt.Sprint("version ", version)
		if version == 2 && o.Totals.Changed == 0 {
			t.Errorf("totals are %+v", o.Totals)
		}
	}
	version = 2
	if o := w.clean(sources(s), func(o *ingest.Options) { o.SkipIfUnchanged = true }); !o.Skipped {
		t.Error("a source in which only the time of the run is new counts as changed")
	}
	w.isSound()
}

func TestThirdSourceBeginsAgain(t *testing.T) {
	w := newWorld(t)
	s := &third{name: "x", capture: func(_ context.Context, to *ingest.Sink) error { return put(to, "a", strings.NewReader("a")) }}
	n := 0
	w.fenceCommits(1, func() []string { return w.names("data/") })
	w.clean(sources(s), told(&n))
	if n != 1 || s.rewinds != 1 {
		t.Errorf("begun again %d times, rewound %d times", n, s.rewinds)
	}
	w.isSound()
}

// Nothing of a source that failed is in the snapshot, and what failed is told as it is.
func TestThirdSourceFails(t *testing.T) {
	broken := errors.New("broken")
	for name, capture := range map[string]func(context.Context, *ingest.Sink) error{
		"by its own word": func(_ context.Context, to *ingest.Sink) error {
			return errors.Join(put(to, "a", strings.NewReader("a")), put(to, "b", bytes.NewReader(random(1, 3<<20))), broken)
		},
		"in a small file": func(_ context.Context, to *ingest.Sink) error { return put(to, "a", iotest.ErrReader(broken)) },
		"in a large file": func(_ context.Context, to *ingest.Sink) error {
			return put(to, "a", io.MultiReader(bytes.NewReader(random(1, 3<<20)), iotest.ErrReader(broken)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := &third{name: "x", capture: capture}
			if _, err := w.try(t.Context(), sources(s)); !errors.Is(err, ingest.ErrIncomplete) {
				t.Fatalf("the error is %v", err)
			}
			o := w.snap(sources(s, stdin("good", []byte("good"))), allowIncomplete)
			v := w.view(o.ID)
			v.wantContents("stdin/good", []byte("good"))
			for p := range v.entries {
				if strings.HasPrefix(p, "third/x") {
					t.Errorf("%s is there", p)
				}
			}
			if p := o.problem(t, "third/x"); !p.fatal || !errors.Is(p.err, broken) {
				t.Errorf("the problem is %v", p.err)
			}
		})
	}
}

// What can't be stored ends the run, even if the source says that all went well.
func TestThirdSourceCannotHideStorage(t *testing.T) {
	w := newWorld(t)
	w.clean(sources(stdin("x", nil)))
	full := errors.New("storage is full")
	w.storage.full = full
	s := &third{name: "x", capture: func(_ context.Context, to *ingest.Sink) error {
		for i := range 40 {
			_ = put(to, fmt.Sprint(i), bytes.NewReader(random(uint64(i), 1<<20)))
		}
		return nil
	}}
	if _, err := w.try(t.Context(), sources(s), allowIncomplete); !errors.Is(err, full) {
		t.Errorf("the error is %v", err)
	}
}
