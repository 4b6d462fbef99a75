// Package mem is a storage in memory: what tests of everything above run on,
// and a place for scratch repositories. It is whole: it keeps all promises of
// package backend but, of course, durability.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend"
)

// Mem is a storage in memory. It implements backend.Interface, backend.Swapper
// and backend.Stager. All methods may be called concurrently.
type Mem struct {
	now func() time.Time

	mu      sync.RWMutex
	objects map[string]object
}

// object is never changed once it is in the map, so that readers need no lock.
type object struct {
	data     []byte
	modified time.Time
}

var _ backend.Full = (*Mem)(nil)

// New returns an empty storage that takes the time of its objects from now.
func New(now func() time.Time) *Mem {
	return &Mem{now: now, objects: make(map[string]object)}
}

// Clone returns a storage with the same objects and the same clock. From then
// on the two are independent.
func (m *Mem) Clone() *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Mem{now: m.now, objects: maps.Clone(m.objects)}
}

// String implements backend.Interface.
func (m *Mem) String() string { return "memory" }

// Put implements backend.Interface.
func (m *Mem) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if err := m.check(ctx, "put", name); err != nil {
		return err
	}
	if size < 0 {
		return m.fail("put", name, fmt.Errorf("negative size %d", size))
	}
	data, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	if err == nil && int64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return m.fail("put", name, err)
	}
	return m.create("put", name, data)
}

// create makes an object of data, which nobody may change afterwards.
func (m *Mem) create(op, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok {
		return m.fail(op, name, backend.ErrExist)
	}
	m.objects[name] = object{data, m.now()}
	return nil
}

// Open implements backend.Interface.
func (m *Mem) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := m.get(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	return &reader{Reader: bytes.NewReader(o.data), ctx: ctx}, nil
}

// ReadAt implements backend.Interface.
func (m *Mem) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	o, err := m.get(ctx, "read", name)
	if err != nil {
		return err
	}
	if off < 0 {
		return m.fail("read", name, fmt.Errorf("negative offset %d", off))
	}
	if off > int64(len(o.data)) || copy(p, o.data[off:]) < len(p) {
		return m.fail("read", name, io.ErrUnexpectedEOF)
	}
	return nil
}

// Stat implements backend.Interface.
func (m *Mem) Stat(ctx context.Context, name string) (backend.Info, error) {
	o, err := m.get(ctx, "stat", name)
	if err != nil {
		return backend.Info{}, err
	}
	return o.info(name), nil
}

// List implements backend.Interface. It yields the objects of one moment.
func (m *Mem) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return func(yield func(backend.Info, error) bool) {
		err := ctx.Err()
		if err == nil {
			err = backend.ValidPrefix(prefix)
		}
		if err != nil {
			yield(backend.Info{}, m.fail("list", prefix, err))
			return
		}
		// A copy, as the loop body may call what takes the lock.
		for _, info := range m.matching(prefix) {
			if err := ctx.Err(); err != nil {
				yield(backend.Info{}, m.fail("list", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Mem) matching(prefix string) []backend.Info {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var infos []backend.Info
	for name, o := range m.objects {
		if strings.HasPrefix(name, prefix) {
			infos = append(infos, o.info(name))
		}
	}
	return infos
}

// Delete implements backend.Interface.
func (m *Mem) Delete(ctx context.Context, name string) error {
	if err := m.check(ctx, "delete", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; !ok {
		return m.fail("delete", name, backend.ErrNotExist)
	}
	delete(m.objects, name)
	return nil
}

// Swap implements backend.Swapper.
func (m *Mem) Swap(ctx context.Context, name string, old, new []byte) error {
	if err := m.check(ctx, "swap", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if ok != (old != nil) || !bytes.Equal(o.data, old) {
		return m.fail("swap", name, backend.ErrConflict)
	}
	m.objects[name] = object{bytes.Clone(new), m.now()}
	return nil
}

// Stage implements backend.Stager.
func (m *Mem) Stage(ctx context.Context) (backend.Staged, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("stage in %s: %w", m, err)
	}
	return &staged{m: m, ctx: ctx}, nil
}

// get returns the object of that name.
func (m *Mem) get(ctx context.Context, op, name string) (object, error) {
	if err := m.check(ctx, op, name); err != nil {
		return object{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[name]
	if !ok {
		return object{}, m.fail(op, name, backend.ErrNotExist)
	}
	return o, nil
}

func (m *Mem) check(ctx context.Context, op, name string) error {
	if err := backend.ValidName(name); err != nil {
		return fmt.Errorf("%s in %s: %w", op, m, err)
	}
	if err := ctx.Err(); err != nil {
		return m.fail(op, name, err)
	}
	return nil
}

func (m *Mem) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", op, name, m, err)
}

func (o object) info(name string) backend.Info {
	return backend.Info{Name: name, Size: int64(len(o.data)), Modified: o.modified}
}

// reader reads an object until its context is done. It embeds io.Reader and
// not *bytes.Reader, whose WriteTo would let io.Copy pass Read by.
type reader struct {
	io.Reader
	ctx context.Context
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func (r *reader) Close() error { return nil }

// staged is an object being written; m is nil when it has ended.
type staged struct {
	m   *Mem
	ctx context.Context
	buf []byte
}

func (s *staged) Write(p []byte) (int, error) {
	if s.m == nil {
		return 0, fmt.Errorf("write staged object: %w", fs.ErrClosed)
	}
	if err := s.ctx.Err(); err != nil {
		return 0, fmt.Errorf("write staged object in %s: %w", s.m, err)
	}
	s.buf = append(s.buf, p...)
	return len(p), nil
}

func (s *staged) Commit(ctx context.Context, name string) error {
	m := s.m
	if m == nil {
		return fmt.Errorf("commit %s: staged object: %w", name, fs.ErrClosed)
	}
	data := s.buf
	s.m, s.buf = nil, nil
	if err := m.check(ctx, "commit", name); err != nil {
		return err
	}
	return m.create("commit", name, data)
}

func (s *staged) Abort() error {
	s.m, s.buf = nil, nil
	return nil
}
