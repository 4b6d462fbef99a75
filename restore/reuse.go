package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// spare looks whether what is in an entry's place has its contents already. If so,
// the answer is Unchanged or, if its metadata was set, Updated; else it is a, which
// is Unchanged if that is not to be looked into, and otherwise Replaced.
//
// Metadata of what has further names is not set, as these may be anywhere.
func (c *collector) spare(ctx context.Context, p place, e *snapshot.Entry, st fsmeta.Stat, a Action) (Action, error) {
	above, name := p.split()
	d, err := c.dirs.get(above)
	if err != nil {
		return 0, err
	}
	defer c.dirs.release(d)
	if a == Replaced {
		if equal, err := c.isEqual(ctx, d, name, e, st); err != nil || !equal {
			return Replaced, err
		}
	}
	m, opts := c.owners.meta(e), c.applyOptions(true)
	switch {
	case fsmeta.IsApplied(d.Fd(), name, m, opts):
		return Unchanged, nil
	case st.Nlink > 1 && a == Unchanged && !e.HasLink:
		c.warn(e.Key.Path(), errManyLinks)
		return Unchanged, nil
	case st.Nlink > 1, a == Replaced && !c.owns(st):
		return Replaced, nil
	}
	if !c.o.DryRun {
		c.metaProblems(e, d.Apply(name, m, opts))
	}
	return Updated, nil
}

// isEqual reports whether what is there is of the type of e and has its contents,
// all of which it reads.
func (c *collector) isEqual(ctx context.Context, d *dir, name string, e *snapshot.Entry, st fsmeta.Stat) (bool, error) {
	if e.Type != snapshot.File {
		return same(d.Dir, name, e, &st), nil
	}
	if !st.IsRegular() || uint64(st.Size) != e.Size {
		return false, nil
	}
	fd, st, err := fsmeta.OpenAt(d.Fd(), name)
	if err != nil {
		return false, nil // then it is replaced
	}
	defer unix.Close(fd)
	if uint64(st.Size) != e.Size {
		return false, nil
	}
	err = c.local.contents(ctx, fd, e)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, nil
}

// openOld opens the file that a large file replaces, as parts of it may be the same.
// The descriptor is -1 if there is none to be had. Where the file system can share
// blocks between files, the new file begins as a copy of the old one, so that only
// what differs is written at all; in place it is the old one.
func (c *collector) openOld(f *file) (old int, err error) {
	if f.action != Replaced || f.entry.Size < smallFile {
		return -1, nil
	}
	above, name := f.place.split()
	d, err := c.dirs.get(above)
	if err != nil {
		return -1, err
	}
	defer c.dirs.release(d)
	old, st, err := fsmeta.OpenAt(d.Fd(), name)
	if err != nil {
		return -1, nil
	}
	if c.o.DryRun || st.Size == 0 || c.o.InPlace && c.beginInPlace(f, old, st) {
		return old, nil
	}
	fd, err := c.begin(f)
	if err != nil {
		return old, err
	}
	f.cloned = unix.IoctlFileClone(fd, old) == nil
	return old, nil
}

// reuse takes an extent from the old file, if it is the same there. What is compared
// is what is written: a clone is compared itself, and otherwise the bytes read are
// written, whatever happens to the old file meanwhile.
func (c *collector) reuse(ctx context.Context, f *file, old int, x snapshot.Extent, at uint64) (bool, error) {
	if old < 0 {
		return false, nil
	}
	if f.cloned {
		old = f.fd
	}
	if err := c.local.extent(ctx, old, x, at); err != nil {
		return false, ctx.Err() // what can't be read is not the same
	}
	f.reused += int64(x.Length)
	c.o.Observer.Progress.BytesDone.Add(int64(x.Length))
	if c.o.DryRun || f.cloned {
		return true, nil
	}
	return true, f.fail(c.writePart(f, c.local.buf[:x.Length], at))
}

// zero makes a hole in a clone.
func (s *session) zero(f *file, at, length uint64) error {
	fd, err := s.begin(f)
	if err != nil || fd < 0 {
		return err
	}
	for {
		err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(length))
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		err = writeZeros(fd, at, length)
	}
	if err != nil {
		return fmt.Errorf("make a hole: %w", err)
	}
	return nil
}

// writeZeros writes zeros up to the end of a file, where no hole can be made.
func writeZeros(fd int, at, length uint64) error {
	st, err := fsmeta.StatFd(fd)
	if err != nil {
		return err
	}
	zeros := make([]byte, 64<<10)
	for end := min(at+length, uint64(st.Size)); at < end; {
		n := min(end-at, uint64(len(zeros)))
		if err := writeAt(fd, zeros[:n], at); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// copySparse copies a file, holes as holes.
func copySparse(dst, src int, size uint64) error {
	buf := make([]byte, maxRead)
	for at := uint64(0); at < size; {
		start, end, err := nextData(src, at, size)
		if err != nil {
			return err
		}
		for at = start; at < end; {
			n, err := unix.Pread(src, buf[:min(end-at, maxRead)], int64(at))
			switch {
			case err == unix.EINTR:
				continue
			case err != nil:
				return fmt.Errorf("read: %w", err)
			case n == 0:
				return errors.New("the file became shorter while it was copied")
			}
			if err := writeAt(dst, buf[:n], at); err != nil {
				return err
			}
			at += uint64(n)
		}
	}
	if err := unix.Ftruncate(dst, int64(size)); err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	return nil
}
