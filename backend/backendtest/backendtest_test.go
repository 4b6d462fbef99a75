package backendtest_test

import (
	"bytes"
	"context"
	"io"
	"iter"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/backendtest"
	"github.com/cairn-backup/cairn/backend/faulty"
	"github.com/cairn-backup/cairn/backend/mem"
)

// broken are storages that break one promise each, as what they do to the good
// one.
var broken = map[string]func(*mem.Mem) backend.Interface{
	"none":                       func(m *mem.Mem) backend.Interface { return m },
	"Put replaces":               func(m *mem.Mem) backend.Interface { return putReplaces{m} },
	"Put is seen in part":        func(m *mem.Mem) backend.Interface { return putInPart{m} },
	"Swap compares beforehand":   func(m *mem.Mem) backend.Interface { return swapCarelessly{m} },
	"List matches half a name":   func(m *mem.Mem) backend.Interface { return listLoosely{m} },
	"bytes change":               rules("readat * #5-: corrupt byte 1"),
	"an object breaks off":       rules("open *: truncate 3000000"),
	"a listing lacks something":  rules("yield * #40-: hide"),
	"Delete does nothing":        rules("delete * #3: err"),
	"Put reports what is not so": rules("put * #9: done-but-error"),
	"Commit forgets ErrExist":    rules("commit *: err EIO"),
}

func rules(text string) func(*mem.Mem) backend.Interface {
	return func(m *mem.Mem) backend.Interface {
		in, err := faulty.Parse(text)
		if err != nil {
			panic(err)
		}
		return in.Wrap(m)
	}
}

// TestSuiteFindsBrokenStorages runs the suite in processes of its own, as a suite
// that fails fails its process.
func TestSuiteFindsBrokenStorages(t *testing.T) {
	for name := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenStorage$", "-test.failfast")
			cmd.Env = append(os.Environ(), "CAIRN_BROKEN_STORAGE="+name)
			out, err := cmd.CombinedOutput()
			if failed := err != nil && bytes.Contains(out, []byte("--- FAIL")); failed != (name != "none") {
				t.Errorf("the suite failed: %v (%v)\n%s", failed, err, out)
			}
		})
	}
}

// TestBrokenStorage is what the processes run.
func TestBrokenStorage(t *testing.T) {
	make, ok := broken[os.Getenv("CAIRN_BROKEN_STORAGE")]
	if !ok {
		t.Skip("runs only within TestSuiteFindsBrokenStorages")
	}
	backendtest.Run(t, func(*testing.T) backend.Interface { return make(mem.New(time.Now)) })
}

// putReplaces overwrites what exists.
type putReplaces struct{ *mem.Mem }

func (s putReplaces) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := s.Mem.Delete(ctx, name); err != nil && ctx.Err() != nil {
		return err
	}
	return s.Mem.Put(ctx, name, body, size)
}

// putInPart creates the object first and fills it then.
type putInPart struct{ *mem.Mem }

func (s putInPart) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := s.Mem.Put(ctx, name, bytes.NewReader(nil), 0); err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	if err != nil {
		return err
	}
	if int64(len(data)) < size {
		return io.ErrUnexpectedEOF
	}
	return s.Mem.Swap(ctx, name, []byte{}, data)
}

// swapCarelessly replaces whatever is there when it comes to that.
type swapCarelessly struct{ *mem.Mem }

func (s swapCarelessly) Swap(ctx context.Context, name string, old, new []byte) error {
	now, err := backend.ReadAll(ctx, s.Mem, name, 1<<20)
	if (err == nil) != (old != nil) || !bytes.Equal(now, old) {
		return s.Mem.Swap(ctx, name, old, new)
	}
	time.Sleep(time.Microsecond) // lets others in
	_ = s.Mem.Delete(ctx, name)
	return backend.PutBytes(ctx, s.Mem, name, new)
}

// listLoosely takes data/a/ for the beginning of data/ab/x.
type listLoosely struct{ *mem.Mem }

func (s listLoosely) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		if backend.ValidPrefix(prefix) != nil {
			s.Mem.List(ctx, prefix)(yield)
			return
		}
		for info, err := range s.Mem.List(ctx, "") {
			if err == nil && !strings.HasPrefix(info.Name, strings.TrimSuffix(prefix, "/")) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
