package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/snapshot"
)

// damagedSuffix marks a file that lacks some of its contents.
const damagedSuffix = ".cairn-damaged"

var (
	errPartial = errors.New("its contents are known to be incomplete: it shrank or failed while the snapshot was made")
	errZeros   = errors.New("restored as NAME" + damagedSuffix + " with zeros for what is lost")
)

// file is a file with contents on its way to the target.
//
// All are written under a temporary name, so that whatever happens, a file of the
// snapshot's name is whole; but for Options.InPlace. One of a single extent, as small files are, is written in
// one go by whoever has its chunk; others by whoever has any of their chunks, and
// the last one completes them.
type file struct {
	entry    snapshot.Entry
	place    place
	action   Action // Created or Replaced
	inherits bool   // see dirState
	out      *outcome
	whole    bool  // of a single extent
	sparse   bool  // ends with a hole
	cloned   bool  // began as a copy of the file that it replaces
	inPlace  bool  // is that file itself; cloned is set too
	reused   int64 // bytes that were in that file, counted by the collector

	pending atomic.Int32 // extents to come, if not whole; and one for the collector

	mu     sync.Mutex // for what follows
	fd     int        // -1: none yet
	temp   string
	lost   error // some of the contents can't be had
	failed error // the target does not take it
}

// lose notes that some of a file's contents can't be had.
func (f *file) lose(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost == nil {
		f.lost = err
	}
}

// fail notes that the target does not take the file, and returns an error if it
// makes no sense to go on. err may be nil.
func (f *file) fail(err error) error {
	if err == nil {
		return nil
	}
	if err := hopeless(f.entry.Key.Path(), err); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
	}
	return nil
}

// damagedEntry says that an entry's extents don't make up its size.
func damagedEntry(have, want uint64) error {
	return &repo.DamageError{Object: "entry", Err: fmt.Errorf("it has extents for %d bytes of %d", have, want)}
}

// appeared explains that a name is taken that was free before.
func appeared(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return errAppeared
	}
	return err
}

// writeAt writes all of p.
func writeAt(fd int, p []byte, at uint64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, int64(at))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		p, at = p[n:], at+uint64(n)
	}
	return nil
}

// writeWhole makes a file of one extent.
func (s *session) writeWhole(f *file, contents []byte) error {
	above, name := f.place.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	fd, temp, err := s.temp.create(d.Fd())
	if err != nil {
		return err
	}
	if err = writeAt(fd, contents, 0); err == nil {
		s.metaProblems(&f.entry, fsmeta.ApplyFd(fd, s.owners.meta(&f.entry), s.applyOptions(f.inherits)))
	}
	if err == nil {
		err = publish(d, temp, name, f.action)
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return errors.Join(err, d.Remove(temp))
	}
	s.done(&f.entry, f.out, f.action)
	return nil
}

// writePart writes an extent.
func (s *session) writePart(f *file, contents []byte, at uint64) error {
	fd, err := s.begin(f)
	if err != nil || fd < 0 {
		return err
	}
	return writeAt(fd, contents, at)
}

// begin opens the temporary file of f, if that isn't done. The descriptor is -1 if there is
// no use in writing any more.
func (s *session) begin(f *file) (fd int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil || f.lost != nil && !s.o.AllowDamaged {
		return -1, nil
	}
	if f.fd >= 0 {
		return f.fd, nil
	}
	above, _ := f.place.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return -1, err
	}
	defer s.dirs.release(d)
	fd, temp, err := s.temp.create(d.Fd())
	if err != nil {
		return -1, err
	}
	f.fd, f.temp = fd, temp
	s.mu.Lock()
	s.partial[f] = true
	s.mu.Unlock()
	return fd, nil
}

// complete counts an extent, or the collector, as done, and after the last
// completes the file. The error is one that should end the restore.
func (s *session) complete(ctx context.Context, f *file) error {
	if f.pending.Add(-1) > 0 {
		return nil
	}
	err := s.end(ctx, f)
	s.mu.Lock()
	delete(s.partial, f)
	s.mu.Unlock()
	return err
}

func (s *session) end(ctx context.Context, f *file) error {
	e := &f.entry
	if f.failed == nil && f.lost == nil || f.failed == nil && s.o.AllowDamaged {
		if _, err := s.begin(f); err != nil { // of a file that is but a hole
			f.failed = err
		}
	}
	switch {
	case f.failed != nil:
	case f.lost != nil && (!s.o.AllowDamaged || s.hasDamagedName(ctx, f)):
		if f.inPlace {
			f.lost = fmt.Errorf("%w; %w", f.lost, errMixture)
		}
		s.discard(f)
		s.damaged(e, f.out, f.lost)
		return nil
	default:
		f.failed = s.finishFile(f)
	}
	if f.failed != nil {
		if f.inPlace && !errors.Is(f.failed, errExchanged) {
			f.failed = fmt.Errorf("%w; %w", f.failed, errMixture)
		}
		s.discard(f)
		return s.fail(e, f.out, f.failed)
	}
	if f.lost != nil {
		s.damaged(e, f.out, fmt.Errorf("%w; %w", f.lost, errZeros))
		return nil
	}
	s.count.Reused.Add(f.reused)
	s.done(e, f.out, f.action)
	return nil
}

// finishFile gives a file its metadata and its name.
func (s *session) finishFile(f *file) error {
	if f.sparse || f.cloned || f.lost != nil {
		if err := unix.Ftruncate(f.fd, int64(f.entry.Size)); err != nil {
			return fmt.Errorf("truncate: %w", err)
		}
	}
	if f.inPlace {
		if err := s.endInPlace(f); err != nil {
			return err
		}
	}
	s.metaProblems(&f.entry, fsmeta.ApplyFd(f.fd, s.owners.meta(&f.entry), s.applyOptions(f.inherits)))
	fd := f.fd
	f.fd = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	above, name := f.place.split()
	d, err := s.dirs.get(above)
	if err != nil {
		return err
	}
	defer s.dirs.release(d)
	action := f.action
	if f.lost != nil {
		name, action = damagedName(name), Replaced
	}
	temp := f.temp
	if f.inPlace {
		if f.lost == nil {
			return nil
		}
		_, temp = f.place.split()
	}
	if err = publish(d, temp, name, action); err == nil {
		f.temp = ""
	}
	return err
}

// hasDamagedName reports whether the name for what is left of a file is that of
// another entry. Then what is left is not restored, and that is said.
func (s *session) hasDamagedName(ctx context.Context, f *file) bool {
	above, _ := f.entry.Key.Parent()
	key := above.Child(damagedName(f.entry.Key.Base()))
	if !s.sel.inRange(key) {
		return false
	}
	e, err := s.sel.tree.Lookup(ctx, key)
	if taken := e != nil || ignoreDamage(err) != nil; taken {
		f.lost = fmt.Errorf("%w; what is left of it is not restored, as another entry has the name %s; restore it alone", f.lost, damagedName(f.entry.Key.Base()))
		return true
	}
	return false
}

// damagedName is what a file is called that lacks some of its contents. Names
// may have 255 bytes.
func damagedName(name string) string {
	return name[:min(len(name), 255-len(damagedSuffix))] + damagedSuffix
}

// discard takes a file away that was begun.
func (s *session) discard(f *file) {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
	if f.temp == "" {
		return
	}
	above, _ := f.place.split()
	d, err := s.dirs.get(above)
	if err == nil {
		err = d.Remove(f.temp)
		s.dirs.release(d)
	}
	if err != nil {
		s.problem(f.entry.Key.Path(), fmt.Errorf("a temporary file is left behind: %w", err))
	}
}

// damaged reports a file whose contents can't be had whole.
func (s *session) damaged(e *snapshot.Entry, out *outcome, err error) {
	out.set(Damaged)
	s.count.Damaged.Add(1)
	s.fileDone(e)
	if s.o.Observer.Problem != nil {
		s.o.Observer.Problem(e.Key.Path(), err)
	}
	if s.o.Observer.Entry != nil {
		s.o.Observer.Entry(e.Key.Path(), Damaged)
	}
}
