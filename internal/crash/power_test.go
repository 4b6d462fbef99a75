package crash_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/backend/local"
	"github.com/cairn-backup/cairn/internal/crashfs"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
)

const rootPath = "/srv/backup"

// cut is a moment at which the power fails.
type cut struct {
	op    int             // the operation of the disk that is not done any more
	world *world          // what was promised until then, and the cache of the machine
	disks []*crashfs.Disk // some of those that may be left
}

// TestPowerCut does everything that changes a repository, on a disk that loses
// power, and cuts the power before each operation of that disk.
func TestPowerCut(t *testing.T) {
	cuts := powerCuts(t, nil)
	work := make(chan *cut)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for c := range work {
				if err := c.survived(t); err != nil {
					t.Errorf("power cut before operation %d: %v", c.op, err)
				}
			}
		})
	}
	for _, c := range cuts {
		work <- c
	}
	close(work)
	workers.Wait()
	t.Logf("%d cuts of the power in %d operations", len(cuts), cuts[len(cuts)-1].op)
}

// TestSyncsAreNeeded takes some syncs away, and expects that power cuts then do
// harm: or else the test above could not fail.
func TestSyncsAreNeeded(t *testing.T) {
	below := func(folder string) func(crashfs.Sync) bool {
		return func(s crashfs.Sync) bool { return s.Dir && strings.HasPrefix(s.Path, rootPath+"/"+folder) }
	}
	for name, ignore := range map[string]func(crashfs.Sync) bool{
		"contents of files":      func(s crashfs.Sync) bool { return !s.Dir },
		"folders of data":        below("data"),
		"folders of nodes":       below("meta"),
		"folders of manifests":   below("snapshots"),
		"folder of tombstones":   below("tombstones"),
		"folder of keys":         below("keys"),
		"folder of the config":   func(s crashfs.Sync) bool { return s.Dir && s.Path == rootPath },
		"folder with the folder": func(s crashfs.Sync) bool { return s.Dir && s.Path == filepath.Dir(rootPath) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range powerCuts(t, ignore) {
				if err := c.survived(t); err != nil {
					t.Logf("found, before operation %d: %v", c.op, err)
					return
				}
			}
			t.Error("nothing is lost without these syncs: they are not needed, or the test is blind")
		})
	}
}

// TestFailedSync fails each sync in turn, once or from then on, and cuts the power
// when the commands have ended. What they acknowledged must have been synced all the same:
// that an object can be seen does not say that it will last.
func TestFailedSync(t *testing.T) {
	good := crashfs.New()
	good.Now = clock
	b, err := local.CreateOn(good.Start(), rootPath)
	if err != nil {
		t.Fatal(err)
	}
	base := newWorld(t, b)
	base.must(base.init(b))
	base.must(base.snapshot(b, admin))
	base.edit()
	// run works on a copy of the disk, and returns what was promised and is left.
	run := func(fail func(n int) bool) (c *cut, syncs int, errs error) {
		d := good.After(nil)
		d.Fail = func(s crashfs.Sync) error {
			if syncs++; fail(syncs) {
				return syscall.EIO
			}
			return nil
		}
		b, err := local.OpenOn(d.Start(), rootPath)
		if err != nil {
			t.Fatal(err)
		}
		w := base.on(t, b)
		errs = errors.Join(w.snapshot(b, admin), w.addKey(b, "other", seal.Full))
		return &cut{op: 1, world: w, disks: []*crashfs.Disk{d.After(nil)}}, syncs, errs
	}
	_, all, err := run(func(int) bool { return false })
	if err != nil || all < 10 {
		t.Fatalf("%d syncs, %v", all, err)
	}
	noticed, step := 0, failEvery
	if soak > 0 {
		step = 1
	}
	for k := 1; k <= all; k += step {
		for what, fail := range map[string]func(int) bool{
			"once":              func(n int) bool { return n == k },
			"from then on":      func(n int) bool { return n >= k },
			"one more time too": func(n int) bool { return n == k || n == k+1 },
		} {
			c, _, err := run(fail)
			if err != nil {
				noticed++
			}
			if err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("sync %d fails %s: the error does not say why: %v", k, what, err)
			}
			if bad := c.survived(t); bad != nil {
				t.Errorf("sync %d failed %s, the commands said %v, and the power went: %v", k, what, err, bad)
			}
		}
	}
	t.Logf("%d syncs; %d runs failed", all, noticed)
	if noticed == 0 {
		t.Error("no sync that failed was noticed")
	}
}

// powerCuts does the work, and returns the moments before each operation, or some,
// and after the last.
func powerCuts(t *testing.T, ignore func(crashfs.Sync) bool) []*cut {
	t.Helper()
	d := crashfs.New()
	d.Now = clock
	d.Ignore = ignore
	b, err := local.CreateOn(d.Start(), rootPath)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, b)
	var cuts []*cut
	take := func() {
		c := &cut{op: d.Ops(), world: w.on(t, nil)}
		outcomes := 1
		if soak > 0 {
			outcomes = 5
		}
		for n := range outcomes {
			var rng *rand.Rand // nil leaves what was synced
			if i := c.op + n; i%3 != 0 {
				rng = rand.New(rand.NewPCG(uint64(c.op), uint64(n)))
			}
			c.disks = append(c.disks, d.After(rng))
		}
		cuts = append(cuts, c)
	}
	d.Before = func() {
		if soak > 0 || d.Ops()%cutEvery == 0 {
			take()
		}
	}
	w.must(w.init(b))
	w.must(w.snapshot(b, admin))
	w.edit()
	w.must(w.snapshot(b, admin, stream{"dump", noise(9, 100<<10)}))
	w.must(w.addKey(b, "host", seal.WriteOnly))
	w.must(w.snapshot(b, "host"))
	w.must(w.removeKey(b, "host"))
	w.must(w.addKey(b, "other", seal.Full))
	w.must(w.snapshot(b, admin))
	w.must(w.forget(b, w.oldest(2)...))
	w.must(w.unforget(b))
	w.must(prune(w, b))
	w.must(w.forget(b, w.oldest(2)...))
	w.must(prune(w, b))
	w.must(w.snapshot(b, admin))
	take()
	return cuts
}

// survived looks at what is left.
func (c *cut) survived(t testing.TB) error {
	for n, d := range c.disks {
		err := verdict(t, func(t testing.TB) {
			b, err := local.OpenOn(d.Start(), rootPath)
			switch {
			case errors.Is(err, fs.ErrNotExist) && len(c.world.keys) == 0:
				if b, err = local.CreateOn(d.Start(), rootPath); err != nil {
					t.Fatal(err)
				}
			case err != nil:
				t.Fatal(err)
			}
			w := c.world.on(t, b)
			if (c.op/cutEvery+n)%2 == 0 { // the machine, too, lost what it did not wait for
				w.tearCache(rand.New(rand.NewPCG(uint64(c.op), uint64(n))))
			}
			if len(w.keys) == 0 {
				afterInit(w, repo.ErrNoRepository)
			}
			if len(w.forgotten) > 0 {
				afterPrune(w, nil)
			}
			w.holds()
		})
		if err != nil {
			return fmt.Errorf("outcome %d: %w", n, err)
		}
	}
	return nil
}

// unsynced are the folders of the cache whose files nobody waits for, as they have
// seals.
var unsynced = []string{"nodes", "manifests", "bodies", "thin"}

// tearCache does to the cache what a power cut may: files that were not synced are
// whole, in part, full of zeros or not there.
func (w *world) tearCache(rng *rand.Rand) {
	w.must(filepath.WalkDir(w.cache, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if class := filepath.Base(filepath.Dir(filepath.Dir(p))); !slices.Contains(unsynced, class) {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		switch torn := rng.IntN(len(b) + 1); rng.IntN(4) {
		case 0:
			return nil
		case 1:
			return os.Remove(p)
		case 2:
			b = b[:torn]
		default:
			clear(b[torn:])
		}
		return os.WriteFile(p, b, 0o600)
	}))
}
