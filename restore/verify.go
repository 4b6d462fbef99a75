package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

var errMismatch = errors.New("what was read back is not what the snapshot has; the target's disk or memory may be at fault: restore it again, elsewhere")

// readBack is a file to verify.
type readBack struct {
	entry snapshot.Entry
	place place
}

// verify is the third pass: it reads each file that is as in the snapshot, also
// those that were there before, from the disk and compares it.
func (s *session) verify(ctx context.Context) error {
	// What is on the disk and clean can be dropped from memory, so that it is
	// read from there. This is an attempt: tmpfs has no disk.
	if err := s.sync(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	files := make(chan readBack, 64)
	for range s.repo.Goroutines() {
		g.Go(func() error {
			c := s.newComparer(true)
			for f := range files {
				if err := s.readBack(ctx, c, &f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(files)
		return s.sel.walk(ctx, &verifier{session: s, files: files})
	})
	return g.Wait()
}

// verifier is the walk of that pass.
type verifier struct {
	*session
	files chan<- readBack
}

func (v *verifier) enter(_ context.Context, d, _ *directory) (skip bool, err error) {
	return v.outcomes.at(d.number).get() == Failed, nil
}

func (v *verifier) leave(context.Context, *directory, *directory) error { return nil }

func (v *verifier) item(ctx context.Context, e *snapshot.Entry, number int, _ *directory) error {
	if e.Type != snapshot.File {
		return nil
	}
	switch v.outcomes.at(number).get() {
	case Created, Replaced, Updated, Unchanged:
	default:
		return nil
	}
	select {
	case v.files <- readBack{entry: *e, place: v.sel.place(e.Key)}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readBack verifies one file.
func (s *session) readBack(ctx context.Context, c *comparer, f *readBack) error {
	err := s.compare(ctx, c, f)
	switch {
	case err == nil:
		s.count.Verified.Add(1)
	case ctx.Err() != nil:
		return err
	default:
		s.problem(f.entry.Key.Path(), fmt.Errorf("verify: %w", err))
	}
	return nil
}

func (s *session) compare(ctx context.Context, c *comparer, f *readBack) error {
	above, name := f.place.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	fd, st, err := fsmeta.OpenAt(d.Fd(), name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if uint64(st.Size) != f.entry.Size {
		return fmt.Errorf("it has %d bytes, not %d: %w", st.Size, f.entry.Size, errMismatch)
	}
	unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) // see verify
	return c.contents(ctx, fd, &f.entry)
}
