package crash_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// recorder is a testing.TB that takes down why something failed, where that is no
// failure of the test, or not yet.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	errs []error
	dir  string
	dirs int
}

// verdict runs f and returns why it failed.
func verdict(t testing.TB, f func(t testing.TB)) error {
	dir, err := os.MkdirTemp("", "verdict-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r := &recorder{TB: t, dir: dir}
	var done sync.WaitGroup
	done.Go(func() { f(r) }) // which Fatal ends
	done.Wait()
	return errors.Join(r.errs...)
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, errors.New(text))
}

func (r *recorder) Helper()                         {}
func (r *recorder) Error(args ...any)               { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(f string, args ...any)    { r.note(fmt.Sprintf(f, args...)) }
func (r *recorder) Fatal(args ...any)               { r.note(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(f string, args ...any)    { r.note(fmt.Sprintf(f, args...)); runtime.Goexit() }
func (r *recorder) Logf(format string, args ...any) {}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errs) > 0
}

// TempDir is gone when verdict returns.
func (r *recorder) TempDir() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirs++
	dir := filepath.Join(r.dir, fmt.Sprint(r.dirs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		panic(err)
	}
	return dir
}
