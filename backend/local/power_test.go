package local_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/internal/crashfs"
)

// The names that the test puts, and those that it swaps. They cover the root, a
// directory and a fan-out of two levels.
var (
	putNames  = []string{"config", "snapshots/a", "snapshots/b", "data/aa/x", "data/aa/y", "data/bb/x", "leases/l/end"}
	swapNames = []string{"condemned", "meta/aa/swapped"}
	rootPath  = "/srv/backup/repo"
)

// TestPowerCut runs random work of several processes, some of which are killed,
// and looks, before each single operation on the disk, at what is left if the
// power fails now. That must agree with what was acknowledged.
func TestPowerCut(t *testing.T) {
	n := seeds
	if soak, err := strconv.Atoi(os.Getenv("SOAK")); err == nil {
		n = max(n, soak)
	}
	for seed := range uint64(n) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			if err := powerCuts(t.Context(), seed, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestEverySyncIsNeeded takes one kind of sync away and expects that the same
// test then finds losses.
func TestEverySyncIsNeeded(t *testing.T) {
	under := func(name string) string { return rootPath + "/" + name }
	leaf := func(p string) bool { // a directory that has objects only
		return strings.HasPrefix(p, rootPath+"/") && p != under("data") && p != under("meta") && p != under("leases")
	}
	for name, ignore := range map[string]func(crashfs.Sync) bool{
		"file contents":                    func(s crashfs.Sync) bool { return !s.Dir },
		"root directory":                   func(s crashfs.Sync) bool { return s.Path == rootPath },
		"directory of objects":             func(s crashfs.Sync) bool { return s.Path == under("snapshots") },
		"directory of objects in a fanout": func(s crashfs.Sync) bool { return s.Path == under("data/aa") },
		"directory of swapped objects":     func(s crashfs.Sync) bool { return s.Path == under("meta/aa") },
		"parent of a new fanout directory": func(s crashfs.Sync) bool { return s.Path == under("data") },
		"parent of the root":               func(s crashfs.Sync) bool { return s.Path == path.Dir(rootPath) },
		"ancestors of the root":            func(s crashfs.Sync) bool { return s.Path == "/" },
		"directory where another process put what exists": func(s crashfs.Sync) bool {
			return s.Dir && s.Foreign && leaf(s.Path)
		},
		"parent of a directory that another process made": func(s crashfs.Sync) bool {
			return s.Dir && s.Foreign && s.Path == under("data")
		},
		"ancestors of the root that another process made": func(s crashfs.Sync) bool {
			return s.Dir && s.Foreign && strings.HasPrefix(rootPath, s.Path+"/")
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(400) {
				if err := powerCuts(t.Context(), seed, ignore); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("the test finds no loss without this sync: it is not needed, or the test is blind")
		})
	}
}

// powerCuts runs the work of a seed and returns the first disagreement between
// what was acknowledged and what a power cut before one of its operations, or
// after the last, may leave.
func powerCuts(ctx context.Context, seed uint64, ignore func(crashfs.Sync) bool) error {
	d := crashfs.New()
	w := &work{d: d, rng: rand.New(rand.NewPCG(seed, 0)), may: map[string][]state{}}
	var found error
	cut := func() {
		for n := uint64(0); n < 3 && found == nil; n++ { // some of the disks that it may leave
			rng := rand.New(rand.NewPCG(seed, uint64(d.Ops())<<8|n))
			left := d.After(rng)
			err := w.verify(ctx, left)
			if err == nil && n == 0 {
				err = usable(ctx, left)
			}
			if err != nil {
				found = fmt.Errorf("after a power cut at operation %d: %w\n%s", d.Ops(), err, strings.Join(w.log, "\n"))
			}
		}
	}
	d.Before, d.Ignore = cut, ignore
	if err := w.run(ctx); err != nil {
		return err
	}
	cut()
	return found
}

// state is what an object may be: absent (nil) or certain contents.
type state *string

// work is random use of one storage and, as the model, what each object may be
// after a power cut now: may, and what the present call makes of it.
type work struct {
	d       *crashfs.Disk
	rng     *rand.Rand
	p       *crashfs.Process
	l       *local.Local
	created bool // Create was acknowledged
	may     map[string][]state
	busy    string // the object that the present call changes
	result  state  // to this
	again   string // the object of the step before
	log     []string
}

const steps = 24

// run does the work.
func (w *work) run(ctx context.Context) error {
	for _, name := range slices.Concat(putNames, swapNames) {
		w.may[name] = []state{nil}
	}
	kind := 0 // of the step; after a kill most often the same again
	for step := range steps {
		killed := w.p != nil && w.p.Dead()
		if w.p == nil || killed || w.rng.IntN(8) == 0 {
			w.restart()
		}
		if w.l == nil {
			continue // killed in Create
		}
		if w.rng.IntN(3) == 0 {
			w.p.Kill(w.rng.IntN(12))
		}
		data := fmt.Sprintf("step %d %s", step, strings.Repeat("x", w.rng.IntN(50)))
		var err error
		if !killed || w.rng.IntN(4) == 0 {
			kind = w.rng.IntN(8)
		}
		switch kind {
		case 0:
			err = w.delete(ctx)
		case 1, 2, 3:
			err = w.swap(ctx, data)
		case 4:
			err = w.put(ctx, data, false)
		default:
			err = w.put(ctx, data, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restart starts a new process, which is sometimes killed within Create.
func (w *work) restart() {
	w.p = w.d.Start()
	if w.rng.IntN(3) == 0 {
		w.p.Kill(w.rng.IntN(8))
	}
	l, err := local.CreateOn(w.p, rootPath)
	if w.l = l; err == nil {
		w.created = true
	}
	w.log = append(w.log, fmt.Sprintf("%d create: %v", w.d.Ops(), err))
}

// pick chooses an object. What was left half done is the most telling.
func (w *work) pick(names []string) string {
	if slices.Contains(names, w.again) && w.rng.IntN(4) > 0 {
		return w.again
	}
	w.again = names[w.rng.IntN(len(names))]
	return w.again
}

func (w *work) note(what, name string, err error) {
	w.busy = ""
	w.log = append(w.log, fmt.Sprintf("%d %s %s: %v", w.d.Ops(), what, name, err))
}

// put puts an object, or stages and commits it.
func (w *work) put(ctx context.Context, data string, stage bool) error {
	name := w.pick(putNames)
	w.busy, w.result = name, &data
	var err error
	if stage {
		err = w.stage(ctx, name, data)
	} else {
		err = backend.PutBytes(ctx, w.l, name, []byte(data))
	}
	w.note("put", name, err)
	switch {
	case err == nil:
		w.may[name] = []state{&data}
	case errors.Is(err, backend.ErrExist):
		return w.settled(name)
	case w.p.Dead():
		w.may[name] = append(w.may[name], &data)
	default:
		return err
	}
	return nil
}

func (w *work) stage(ctx context.Context, name, data string) error {
	s, err := w.l.Stage(ctx)
	if err != nil {
		return err
	}
	defer s.Abort()
	for _, piece := range []string{data[:3], data[3:]} {
		if _, err := s.Write([]byte(piece)); err != nil {
			return err
		}
	}
	return s.Commit(ctx, name)
}

// delete deletes an object, which then may come back.
func (w *work) delete(ctx context.Context) error {
	name := w.pick(putNames)
	w.busy, w.result = name, nil
	err := w.l.Delete(ctx, name)
	w.note("delete", name, err)
	switch {
	case err == nil, w.p.Dead():
		w.may[name] = append(w.may[name], nil)
	case errors.Is(err, backend.ErrNotExist):
	default:
		return err
	}
	return nil
}

// swap swaps an object from its contents or, now and then, from others.
func (w *work) swap(ctx context.Context, data string) error {
	name := w.pick(swapNames)
	var old []byte
	if s, ok := w.visible(name); ok {
		old = []byte(*s)
	}
	w.busy, w.result = name, &data
	wrong := w.rng.IntN(3) == 0
	if wrong {
		w.busy, old = "", []byte("something else")
	}
	err := w.l.Swap(ctx, name, old, []byte(data))
	w.note("swap", name, err)
	switch {
	case err == nil && wrong:
		return fmt.Errorf("swap %s from what it is not succeeded", name)
	case err == nil:
		w.may[name] = []state{&data}
	case errors.Is(err, backend.ErrConflict) && wrong:
		if _, ok := w.visible(name); ok {
			return w.settled(name)
		}
	case w.p.Dead():
		w.may[name] = append(w.may[name], &data)
	default:
		return err
	}
	return nil
}

// visible returns the object that any process sees now.
func (w *work) visible(name string) (state, bool) {
	p, ok := w.d.Contents(rootPath + "/" + name)
	data := string(p)
	return &data, ok
}

// settled: the storage has said that the object exists, so what is seen now is
// certain from now on.
func (w *work) settled(name string) error {
	s, ok := w.visible(name)
	if !ok {
		return fmt.Errorf("%s is said to exist and does not", name)
	}
	w.may[name] = []state{s}
	return nil
}

// verify opens the storage on the disk that a power cut left and compares.
func (w *work) verify(ctx context.Context, d *crashfs.Disk) error {
	p := d.Start()
	l, err := local.OpenOn(p, rootPath)
	if err != nil {
		if w.created {
			return err
		}
		l, err = local.CreateOn(p, rootPath)
		if err != nil {
			return err
		}
	}
	listed := map[string]int64{}
	for info, err := range l.List(ctx, "") {
		if err != nil {
			return err
		}
		listed[info.Name] = info.Size
	}
	for name, may := range w.may {
		if name == w.busy {
			may = append(slices.Clip(may), w.result)
		}
		data, err := backend.ReadAll(ctx, l, name, 1<<20)
		got := string(data)
		size, isListed := listed[name]
		delete(listed, name)
		switch {
		case errors.Is(err, backend.ErrNotExist):
			if isListed || !allowed(may, nil) {
				return fmt.Errorf("%s is lost (listed: %v)", name, isListed)
			}
		case err != nil:
			return err
		case !isListed || size != int64(len(got)):
			return fmt.Errorf("%s has %d bytes, but listed: %v, with %d", name, len(got), isListed, size)
		case !allowed(may, &got):
			return fmt.Errorf("%s has contents %q, which were never its", name, got)
		}
	}
	if len(listed) > 0 {
		return fmt.Errorf("objects that nobody has put: %v", listed)
	}
	return nil
}

func allowed(may []state, got state) bool {
	return slices.ContainsFunc(may, func(s state) bool {
		if s == nil || got == nil {
			return s == nil && got == nil
		}
		return *s == *got
	})
}

// usable writes to the storage that is left: left-overs are in nobody's way.
func usable(ctx context.Context, d *crashfs.Disk) error {
	l, err := local.CreateOn(d.Start(), rootPath)
	if err != nil {
		return err
	}
	if err := backend.PutBytes(ctx, l, "data/aa/new", []byte("new")); err != nil {
		return err
	}
	if err := l.Swap(ctx, "new", nil, []byte("1")); err != nil {
		return err
	}
	if err := l.Swap(ctx, "new", []byte("1"), []byte("2")); err != nil {
		return err
	}
	return l.Delete(ctx, "data/aa/new")
}
