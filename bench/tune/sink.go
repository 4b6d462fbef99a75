package tune

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend"
	"github.com/cairn-backup/cairn/backend/mem"
)

// sink is a storage that keeps of packs only their sizes, so that memory does not grow
// with what is measured. All else is kept in memory. A snapshot without a parent never
// reads a pack.
type sink struct {
	*mem.Mem
	now func() time.Time

	mu    sync.Mutex
	packs map[string]backend.Info
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
	return &dropped{sink: s}, ctx.Err()
}

// dropped is an object of which only the size is known.
type dropped struct {
	sink *sink
	size int64
}

func (d *dropped) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return len(p), nil
}

func (d *dropped) Commit(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !isPack(name) {
		return fmt.Errorf("%s is no pack, and would be lost", name)
	}
	s := d.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs[name] = backend.Info{Name: name, Size: d.size, Modified: s.now()}
	return nil
}

func (d *dropped) Abort() error { return nil }

var _ backend.Full = (*sink)(nil)
