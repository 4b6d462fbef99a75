package index_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/index"
)

// The test binary runs itself as the other process. Both make the same world
// from the same seed.
const (
	roleEnv = "CAIRN_INDEX_TEST_ROLE"
	pathEnv = "CAIRN_INDEX_TEST_PATH"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "absorb":
		os.Exit(exitCode(absorbAll(os.Getenv(pathEnv))))
	case "busy":
		os.Exit(exitCode(busy(os.Getenv(pathEnv))))
	}
}

func exitCode(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child starts the test binary in a role.
func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), roleEnv+"="+role, pathEnv+"="+path)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// childWorld stands in for *testing.T in another process.
type childWorld struct{ testing.TB }

func (childWorld) Helper()        {}
func (childWorld) Fatal(a ...any) { panic(fmt.Sprint(a...)) }

// killWorld is the world of TestKill: segments of many sizes, one of which needs
// several transactions.
func killWorld(t testing.TB) (*world, []*index.Segment) {
	w := newWorld(t, 40)
	all := w.segments(15, 800)
	return w, append(all, w.open(w.object(w.admin, epoch1, nil, w.pack(20_000), w.pack(20_000))))
}

// absorbAll absorbs all segments, drops every third, and so on for ever.
func absorbAll(path string) error {
	w, all := killWorld(childWorld{})
	l, err := index.OpenLocal(path, w.ring.Repository, index.Options{})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".ready", nil, 0o600); err != nil {
		return err
	}
	for n := 0; ; n++ {
		for _, s := range all {
			if err := l.Absorb(context.Background(), w.adminSigner(), s); err != nil {
				return err
			}
		}
		if err := l.Merge(context.Background()); err != nil {
			return err
		}
		third := func(id index.SegmentID) bool { return int(id[0])%3 != n%3 }
		if err := l.Retain(context.Background(), third); err != nil {
			return err
		}
	}
}

// A process that is killed while it absorbs leaves each segment absorbed or not,
// and all answers right.
func TestKill(t *testing.T) {
	t.Parallel()
	w, all := killWorld(t)
	path := filepath.Join(t.TempDir(), "index")
	for round := range 4 {
		c := child(t, "absorb", path)
		for {
			if _, err := os.Stat(path + ".ready"); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		os.Remove(path + ".ready")
		time.Sleep(time.Duration(rand.IntN(20*(round+1))) * time.Millisecond)
		c.Process.Kill()
		if err := c.Wait(); c.ProcessState.Exited() {
			t.Fatalf("the other process stopped by itself: %v", err)
		}
		if err := index.CheckFile(path); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		l := w.localAt(path)
		have, err := l.Absorbed()
		if err != nil {
			t.Fatal(err)
		}
		absorbed := slices.Clone(all)
		absorbed = slices.DeleteFunc(absorbed, func(s *index.Segment) bool { return !have[s.ID] })
		t.Logf("round %d: %d of %d absorbed", round, len(absorbed), len(all))
		w.mustCompare(l, absorbed, 500)
		if err := walkEntries(w, l, absorbed, 5000); err != nil {
			t.Fatal(err)
		}
		w.absorb(l, all...)
		w.mustCompare(l, all, 500)
		l.Close()
	}
}

const (
	busySegments = 12
	busyLookups  = 3000
)

// busyWorld is the world of TestTwoProcesses.
func busyWorld(t testing.TB) (*world, []*index.Segment) {
	w := newWorld(t, 41)
	all := w.segments(2*busySegments, 400)
	return w, slices.DeleteFunc(all, func(s *index.Segment) bool { return len(s.Supersedes) > 0 })
}

// busy absorbs one segment after the other and looks up all the while, without
// ever a pause in which the file would be free.
func busy(path string) error {
	w, all := busyWorld(childWorld{})
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	l, err := index.OpenLocal(path, w.ring.Repository, index.Options{})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		for _, s := range all {
			if err := l.Absorb(context.Background(), w.adminSigner(), s); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := 0; ; n++ {
		if _, err := l.Lookup(w.chunks[n%len(w.chunks)]); err != nil {
			return err
		}
		if n < busyLookups {
			continue
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			return w.compare(l, all, 1000)
		default:
		}
	}
}

// Two processes that look up and absorb all the time both get through, while a
// third only reads, and never lets go of the file by itself.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	w, all := busyWorld(t)
	l, path := w.local()
	children := []*exec.Cmd{child(t, "busy", path), child(t, "busy", path)}
	results := make(chan error, len(children))
	for _, c := range children {
		go func() { results <- c.Wait() }()
	}
	for left, n := len(children), 0; left > 0; n++ {
		if _, err := l.Lookup(w.chunks[n%len(w.chunks)]); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-results:
			if err != nil {
				t.Fatal(err)
			}
			left--
		default:
		}
	}
	w.mustCompare(l, all, 0)
	if err := index.CheckFile(path); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to the bytes of the file: the answers are right, or the index says
// that it is lost, and after absorbing again they are right.
func TestDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 42)
	all := w.segments(30, 200)
	l, path := w.local()
	for _, s := range all[:20] {
		w.absorb(l, s)
	}
	// Leave something dead in it, and pages that are free.
	if err := l.Retain(context.Background(), func(id index.SegmentID) bool { return id[0]%8 != 0 }); err != nil {
		t.Fatal(err)
	}
	w.absorb(l, all...)
	l.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.mustCompare(w.localAt(path), all, 0)

	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	lost := 0
	const rounds = 30
	for round := range rounds {
		bad := slices.Clone(good)
		what := damage(rng, &bad)
		path := filepath.Join(t.TempDir(), "index")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := survive(w, path, all); err != nil {
			t.Fatalf("seed %d, round %d, %s: %v", seed, round, what, err)
		} else if n > 0 {
			lost++
		}
	}
	t.Logf("noticed while in use in %d of %d rounds", lost, rounds)
}

// damage does something bad to a file and says what.
func damage(rng *rand.Rand, p *[]byte) string {
	b := *p
	pages := len(b) / 4096
	page := rng.IntN(pages) * 4096
	switch rng.IntN(6) {
	case 0:
		*p = b[:rng.IntN(len(b))]
		return fmt.Sprintf("cut to %d bytes", len(*p))
	case 1:
		clear(b[page : page+4096])
		return fmt.Sprintf("zeroed page %d", page/4096)
	case 2:
		from := rng.IntN(pages) * 4096
		copy(b[page:page+4096], b[from:])
		return fmt.Sprintf("copied page %d to %d", from/4096, page/4096)
	case 3: // in the first bytes of a page, where the structure is
		at := page + rng.IntN(128)
		b[at] ^= 1 << rng.IntN(8)
		return fmt.Sprintf("flipped a bit at %d of page %d", at%4096, at/4096)
	case 4: // in the first pages, where the small buckets are
		at := rng.IntN(min(len(b), 40*4096))
		b[at] ^= 1 << rng.IntN(8)
		return fmt.Sprintf("flipped a bit at %d of page %d", at%4096, at/4096)
	}
	var at []string
	for range 1 + rng.IntN(8) {
		i := rng.IntN(len(b))
		b[i] ^= byte(1 + rng.IntN(255))
		at = append(at, fmt.Sprint(i))
	}
	return "changed bytes " + strings.Join(at, ", ")
}

// survive uses the file as a caller would, and returns how often it was lost.
func survive(w *world, path string, all []*index.Segment) (lost int, err error) {
	l, err := index.OpenLocal(path, w.ring.Repository, index.Options{})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	for ; lost < 3; lost++ {
		have, err := l.Absorbed()
		if err != nil {
			return lost, err
		}
		// The answers are those of what it says that it has, and then of everything.
		held := slices.DeleteFunc(slices.Clone(all), func(s *index.Segment) bool { return !have[s.ID] })
		for _, use := range []func() error{
			func() error { return w.compare(l, held, 0) },
			func() error { return walkPacks(w, l, held) },
			func() error { return walkEntries(w, l, held, 700) },
			func() error { return l.Absorb(context.Background(), w.adminSigner(), all...) },
			func() error { return w.compare(l, all, 500) },
			func() error { return walkPacks(w, l, all) },
			func() error { return walkEntries(w, l, all, 700) },
		} {
			if err = use(); err != nil {
				break
			}
		}
		if !errors.Is(err, index.ErrLost) {
			return lost, err
		}
	}
	return lost, errors.New("lost again and again")
}

func walkPacks(w *world, l *index.Local, segments []*index.Segment) error {
	want := make(map[index.Pack]int)
	for _, s := range w.live(segments) {
		for _, p := range s.Packs {
			want[p]++
		}
	}
	for k, err := range l.Packs() {
		if err != nil {
			return err
		}
		if want[k.Pack] == 0 {
			return fmt.Errorf("pack %s is not known", k.ID.Short())
		}
		delete(want, k.Pack)
	}
	if len(want) > 0 {
		return fmt.Errorf("%d packs are missing", len(want))
	}
	return nil
}

// A page that is its own child would send bbolt down for ever, which ends the process:
// it must be noticed before bbolt sees it. So must a page that is free and in use.
func TestDamagedTree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 43)
	s := w.open(w.object(w.admin, epoch1, nil, w.pack(20_000)))
	l, path := w.local()
	w.absorb(l, s)
	l.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const branch, freelist = 0x01, 0x10
	done := make(map[uint16]int)
	for page := 2; page*4096 < len(good); page++ {
		p := good[page*4096:]
		flags, count := binary.NativeEndian.Uint16(p[8:]), binary.NativeEndian.Uint16(p[10:])
		if binary.NativeEndian.Uint64(p) != uint64(page) || count == 0 || flags != branch && flags != freelist {
			continue
		}
		bad := slices.Clone(good)
		p = bad[page*4096:]
		switch flags {
		case branch: // the children become the page itself
			for i := range int(count) {
				binary.NativeEndian.PutUint64(p[16+16*i+8:], uint64(page))
			}
		case freelist: // the list frees itself
			binary.NativeEndian.PutUint64(p[16:], uint64(page))
		}
		path := filepath.Join(t.TempDir(), "index")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if index.CheckFile(path) != nil {
			done[flags]++
		}
		if _, err := survive(w, path, []*index.Segment{s}); err != nil {
			t.Fatalf("page %d of type %#x: %v", page, flags, err)
		}
	}
	if done[branch] == 0 || done[freelist] == 0 {
		t.Errorf("noticed %v: want branches and the freelist", done)
	}
}
