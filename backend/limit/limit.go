// Package limit is a storage that keeps to a rate of bytes a second, so that a
// backup leaves something of the line to others.
//
// It counts the contents of objects, up and down apart; requests, listings and
// what a protocol adds are free.
package limit

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/cairn-backup/cairn/backend"
)

// Config says how fast and by which clock.
type Config struct {
	// Upload and Download are bytes a second. 0 is no limit.
	Upload, Download int64
	// Now and Sleep are the clock; nil is that of the system. Sleep returns
	// early with the context's error if the context ends.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// New returns base with the rates of c, which all calls of the returned storage
// share. It has Swapper and Stager if base has. It panics if a rate is negative.
func New(base backend.Interface, c Config) backend.Interface {
	if c.Upload < 0 || c.Download < 0 {
		panic(fmt.Sprintf("limit: negative rate: %d up, %d down", c.Upload, c.Download))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	s := &storage{base: base, up: newBucket(c.Upload, c), down: newBucket(c.Download, c)}
	return backend.Narrow(s, base)
}

// storage is a storage with rates.
type storage struct {
	base     backend.Interface
	up, down *bucket
}

// String is that of the storage beneath.
func (s *storage) String() string { return s.base.String() }

// Put counts what the storage beneath reads of the body, a second reading after
// a failure too: that is what goes over the line.
func (s *storage) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	return s.base.Put(ctx, name, &slowBody{ctx, body, s.up}, size)
}

func (s *storage) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := s.base.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &slowReader{ctx, r, s.down}, nil
}

// ReadAt waits before it asks, as the answer comes in one piece.
func (s *storage) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if err := s.down.take(ctx, len(p)); err != nil {
		return s.fail("read", name, err)
	}
	return s.base.ReadAt(ctx, name, p, off)
}

func (s *storage) Stat(ctx context.Context, name string) (backend.Info, error) {
	return s.base.Stat(ctx, name)
}

func (s *storage) List(ctx context.Context, prefix string) iter.Seq2[backend.Info, error] {
	return s.base.List(ctx, prefix)
}

func (s *storage) Delete(ctx context.Context, name string) error { return s.base.Delete(ctx, name) }

// Swap is there if base has it: see backend.Narrow.
func (s *storage) Swap(ctx context.Context, name string, old, new []byte) error {
	if err := s.up.take(ctx, len(new)); err != nil {
		return s.fail("swap", name, err)
	}
	return s.base.(backend.Swapper).Swap(ctx, name, old, new)
}

// Stage is there if base has it: see backend.Narrow.
func (s *storage) Stage(ctx context.Context) (backend.Staged, error) {
	st, err := s.base.(backend.Stager).Stage(ctx)
	if err != nil {
		return nil, err
	}
	return &slowStaged{st, ctx, s}, nil
}

func (s *storage) fail(op, name string, err error) error {
	return fmt.Errorf("%s %s in %s: wait for the rate limit: %w", op, name, s.base, err)
}

type slowBody struct {
	ctx  context.Context
	body io.ReaderAt
	up   *bucket
}

func (b *slowBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.body.ReadAt(p, off)
	if terr := b.up.take(b.ctx, n); terr != nil {
		return 0, terr
	}
	return n, err
}

type slowReader struct {
	ctx context.Context
	io.ReadCloser
	down *bucket
}

func (r *slowReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if terr := r.down.take(r.ctx, n); terr != nil {
		return n, terr
	}
	return n, err
}

type slowStaged struct {
	backend.Staged
	ctx context.Context
	s   *storage
}

func (st *slowStaged) Write(p []byte) (int, error) {
	if err := st.s.up.take(st.ctx, len(p)); err != nil {
		return 0, fmt.Errorf("write staged object in %s: wait for the rate limit: %w", st.s.base, err)
	}
	return st.Staged.Write(p)
}

// sleep is Config.Sleep by the clock of the system.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
