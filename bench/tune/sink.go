package tune

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
)

// sink is a storage that keeps of packs only their sizes, so that neither memory nor disk grows
// with what is measured. All else is kept in memory. A snapshot without a parent never
// reads a pack, but for the bases of deltas: where there may be some, packs are files.
type sink struct {
	*mem.Mem
	now func() time.Time
	dir string // of packs; empty: they are dropped

	mu    sync.Mutex
	packs map[string]backend.Info
}

// file is where a pack is.
func (s *sink) file(name string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(name, "/", "-"))
}

// Open implements backend.Interface.
func (s *sink) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if s.dir == "" || !isPack(name) {
		return s.Mem.Open(ctx, name)
	}
	f, err := os.Open(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return s.Mem.Open(ctx, name) // which says it as a storage does
	}
	return f, err
}

// ReadAt implements backend.Interface.
func (s *sink) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if s.dir == "" || !isPack(name) {
		return s.Mem.ReadAt(ctx, name, p, off)
	}
	f, err := os.Open(s.file(name))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(p, off)
	return err
}

func newSink(now func() time.Time) *sink {
	return &sink{Mem: mem.New(now), now: now, packs: make(map[string]backend.Info)}
}

func isPack(name string) bool {
	return strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "meta/")
}

// bytes is the size of all that is stored.
func (s *sink) bytes() int64 {
	var n int64
	for info := range s.List(context.Background(), "") {
		n += info.Size
	}
	return n
}

func (s *sink) String() string { return "a storage that keeps nothing" }

// List implements backend.Interface.
func (s *sink) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	s.mu.Lock()
	var packs []backend.Info
	for name, info := range s.packs {
		if strings.HasPrefix(name, prefix) {
			packs = append(packs, info)
		}
	}
	s.mu.Unlock()
	return func(yield func(backend.Info, error) bool) {
		for _, info := range packs {
			if !yield(info, nil) {
				return
			}
		}
		for info, err := range s.Mem.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
		}
	}
}

// Stage implements backend.Stager.
func (s *sink) Stage(ctx context.Context) (backend.Staged, error) {
	p := &stagedPack{sink: s, Writer: io.Discard}
	if s.dir != "" {
		f, err := os.CreateTemp(s.dir, "pack-")
		if err != nil {
			return nil, err
		}
		p.file, p.Writer = f, f
	}
	return p, ctx.Err()
}

// stagedPack is a pack on its way.
type stagedPack struct {
	io.Writer
	sink *sink
	file *os.File // nil: only the size is known
	size int64
}

func (d *stagedPack) Write(p []byte) (int, error) {
	n, err := d.Writer.Write(p)
	d.size += int64(n)
	return n, err
}

func (d *stagedPack) Commit(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !isPack(name) {
		return fmt.Errorf("%s is no pack, and would be lost", name)
	}
	s := d.sink
	if d.file != nil {
		if err := errors.Join(d.file.Close(), os.Rename(d.file.Name(), s.file(name))); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs[name] = backend.Info{Name: name, Size: d.size, Modified: s.now()}
	return nil
}

func (d *stagedPack) Abort() error {
	if d.file == nil {
		return nil
	}
	return errors.Join(d.file.Close(), os.Remove(d.file.Name()))
}

var _ backend.Full = (*sink)(nil)
