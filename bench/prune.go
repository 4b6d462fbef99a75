package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The steps of the workload prune.
const (
	stepPrune       = "prune"
	stepAlone       = "snapshot alone"
	stepBeside      = "snapshot beside prune"
	stepPruneBeside = "prune beside snapshot"
	stepRest        = "prune after both"
)

// Sizes and numbers of the workloads forget and prune.
const (
	sizeKept   = "snapshots_kept"
	sizeBefore = "bytes_before"
	sizeAfter  = "bytes_after"
)

// makeGeneration makes, at a path that may hold another generation, files of 4 KiB that
// nothing else is like: 250 in a directory, each modified an hour after those of the
// generation before.
func makeGeneration(ctx context.Context, root string, generation, files int) error {
	modified := epoch.Add(time.Duration(generation) * time.Hour)
	data := make([]byte, 4096)
	for n := range files {
		dir := filepath.Join(root, fmt.Sprintf("%03d", n/250))
		if n%250 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		rand.NewChaCha8([32]byte{1: byte(generation), 2: byte(n), 3: byte(n >> 8), 4: byte(n >> 16)}).Read(data)
		name := filepath.Join(dir, fmt.Sprintf("%03d.bin", n%250))
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(name, time.Time{}, modified); err != nil {
			return err
		}
		if n%250 == 249 || n == files-1 {
			if err := os.Chtimes(dir, time.Time{}, modified); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return os.Chtimes(root, time.Time{}, modified)
}

// A pruning is the workload prune while it runs.
type pruning struct {
	*config
	files    int
	tools    []tool
	prepared map[string]places
	left     map[string][]kept // what each tool did not forget, the oldest first
	// What the source was when the oldest and the newest of these were made, and what
	// it is for one more.
	oldest, newest, next string
}

// runPrune measures prune of a repository with snapshots of so many generations, every
// second one forgotten.
func (c *config) runPrune(ctx context.Context, generations, files int, log io.Writer) (*workloadResult, error) {
	defer c.clear("prune")
	w := &pruning{config: c, files: files, left: make(map[string][]kept)}
	var err error
	if w.tools, w.prepared, err = c.keepers("prune"); err != nil {
		return nil, err
	}
	if err := w.prepare(ctx, generations, log); err != nil {
		return nil, err
	}
	res := &workloadResult{Name: "prune", Files: generations * files, Bytes: int64(generations*files) * 4096}
	for run := range c.runs {
		for i := range w.tools {
			t := w.tools[(i+run)%len(w.tools)]
			s := &sample{Tool: t.name, Run: run + 1, Steps: make(map[string]usage), Sizes: make(map[string]int64)}
			if err := w.alone(ctx, t, s); err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			fmt.Fprintf(log, "prune: run %d of %d: %s: %.2f s\n", run+1, c.runs, t.name, s.Steps[stepPrune].Wall.Seconds())
			if t.keeping.beside {
				if err := w.beside(ctx, t, s); err != nil {
					return nil, fmt.Errorf("%s: %w", t.name, err)
				}
				fmt.Fprintf(log, "prune: run %d of %d: %s: a snapshot took %.2f s alone and %.2f s beside prune, which took %.2f s\n", run+1, c.runs, t.name,
					s.Steps[stepAlone].Wall.Seconds(), s.Steps[stepBeside].Wall.Seconds(), s.Steps[stepPruneBeside].Wall.Seconds())
			}
			res.Samples = append(res.Samples, s)
		}
	}
	return res, nil
}

// prepare fills the repositories, all tools from the same files, and forgets the first
// snapshot, the third, and so on.
func (w *pruning) prepare(ctx context.Context, generations int, log io.Writer) error {
	dir := filepath.Join(w.tmpfs, "prune")
	w.oldest, w.newest, w.next = filepath.Join(dir, "oldest"), filepath.Join(dir, "source"), filepath.Join(dir, "next")
	for _, t := range w.tools {
		p := w.prepared[t.name]
		p.source = w.newest
		w.prepared[t.name] = p
		if _, err := t.output(ctx, p, t.init(p)); err != nil {
			return err
		}
	}
	for g := range generations {
		fmt.Fprintf(log, "prune: making snapshot %d of %d\n", g+1, generations)
		if err := makeGeneration(ctx, w.newest, g, w.files); err != nil {
			return err
		}
		for _, t := range w.tools {
			p := w.prepared[t.name]
			if _, err := t.output(ctx, p, t.snapshot(p, fmt.Sprint(g))); err != nil {
				return err
			}
		}
	}
	for _, t := range w.tools {
		p := w.prepared[t.name]
		all, err := t.snapshots(ctx, p)
		if err != nil {
			return err
		}
		if len(all) != generations {
			return fmt.Errorf("%s made %d snapshots and lists %d", t.name, generations, len(all))
		}
		var forget []string
		for g, s := range all {
			if g%2 == 0 {
				forget = append(forget, s.ID)
			} else {
				w.left[t.name] = append(w.left[t.name], s)
			}
		}
		if _, err := t.output(ctx, p, t.keeping.forget(p, forget...)); err != nil {
			return err
		}
	}
	return errors.Join(makeGeneration(ctx, w.oldest, 1, w.files), makeGeneration(ctx, w.next, generations, w.files))
}

// alone measures prune by itself.
func (w *pruning) alone(ctx context.Context, t tool, s *sample) error {
	defer w.clear("run")
	p, err := w.copyOf(ctx, w.prepared[t.name], "run")
	if err != nil {
		return err
	}
	if s.Sizes[sizeBefore], err = stored(p.repo); err != nil {
		return err
	}
	if err := s.step(ctx, t, p, stepPrune, t.keeping.prune(p)); err != nil {
		return err
	}
	if s.Sizes[sizeAfter], err = w.pruned(p, s.Sizes[sizeBefore], 0); err != nil {
		return err
	}
	return w.sound(ctx, t, p)
}

// mostLeft is how much may be left of a repository of which half is garbage: tools
// leave some 5 % of what they keep unused.
const mostLeft = 0.55

// pruned returns what is stored after a prune, and an error if that is too much for what
// was before, and what was added since.
func (w *pruning) pruned(p places, before, added int64) (int64, error) {
	after, err := stored(p.repo)
	if err == nil && float64(after-added) > mostLeft*float64(before) {
		err = fmt.Errorf("prune left %s of %s, of which half was garbage", formatMB(float64(after-added)), formatMB(float64(before)))
	}
	return after, err
}

// sound looks whether the snapshots that were not forgotten are there and whole.
func (w *pruning) sound(ctx context.Context, t tool, p places) error {
	left, err := t.snapshots(ctx, p)
	if err != nil {
		return err
	}
	want := w.left[t.name]
	for i, s := range want {
		if i >= len(left) || left[i].ID != s.ID {
			return fmt.Errorf("the snapshot %s of %v is gone", s.ID, s.Time)
		}
	}
	if _, err := t.output(ctx, p, t.check(p)); err != nil {
		return err
	}
	if err := t.restored(ctx, p, want[0].ID, w.oldest); err != nil {
		return err
	}
	return t.restored(ctx, p, want[len(want)-1].ID, w.newest)
}

// beside measures a snapshot of new files, alone and while prune runs. Prune is not asked
// to wait for the snapshot: it ends when it has nothing to do but wait, and another
// one takes what it had to leave.
func (w *pruning) beside(ctx context.Context, t tool, s *sample) error {
	fresh := func() (places, error) {
		p, err := w.copyOf(ctx, w.prepared[t.name], "run")
		p.source = w.next
		return p, err
	}
	defer w.clear("run")
	p, err := fresh()
	if err != nil {
		return err
	}
	if err := s.step(ctx, t, p, stepAlone, t.snapshot(p, "next")); err != nil {
		return err
	}
	w.clear("run")
	if p, err = fresh(); err != nil {
		return err
	}
	if err := s.both(ctx, t, p); err != nil {
		return err
	}
	if err := s.step(ctx, t, p, stepRest, t.keeping.prune(p)); err != nil {
		return err
	}
	if _, err := w.pruned(p, s.Sizes[sizeBefore], int64(w.files)*4096); err != nil {
		return err
	}
	all, err := t.snapshots(ctx, p)
	if err != nil {
		return err
	}
	if err := t.restored(ctx, p, all[len(all)-1].ID, w.next); err != nil {
		return err
	}
	p.source = w.newest
	return w.sound(ctx, t, p)
}

// both measures a snapshot and a prune that are started together.
func (s *sample) both(ctx context.Context, t tool, p places) error {
	syscall.Sync()
	var prune usage
	var pruneErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		prune, pruneErr = measure(ctx, t.command(ctx, p, t.keeping.prune(p)))
	}()
	beside, err := measure(ctx, t.command(ctx, p, t.snapshot(p, "next")))
	<-done
	if err := errors.Join(err, pruneErr); err != nil {
		return fmt.Errorf("%s: %w", stepBeside, err)
	}
	s.Steps[stepBeside], s.Steps[stepPruneBeside] = beside, prune
	return nil
}

// speedBeside is how fast a snapshot was beside prune, in parts of its usual speed.
func speedBeside(s *sample) float64 {
	alone, beside := s.Steps[stepAlone].Wall.Seconds(), s.Steps[stepBeside].Wall.Seconds()
	if beside == 0 {
		return 0
	}
	return alone / beside
}

// relativeSpeed is how fast it was while prune ran: what it did after prune had ended,
// it did as usual. It is as uncertain as the difference of two times is.
func relativeSpeed(s *sample) float64 {
	alone, beside, prune := s.Steps[stepAlone].Wall.Seconds(), s.Steps[stepBeside].Wall.Seconds(), s.Steps[stepPruneBeside].Wall.Seconds()
	if alone == 0 || beside == 0 || prune == 0 {
		return 0
	}
	if both := min(prune, beside); both > 0 {
		return (alone - (beside - both)) / both
	}
	return 0
}
