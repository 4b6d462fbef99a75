package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The locks. A reader has a shared lock of the file and a writer an exclusive
// one; bbolt itself sees to that. Since readers of several processes could keep
// the file from a writer for ever, there is a second file, the gate: a writer
// holds it exclusively from the moment that it begins to wait, and a reader
// passes it before it opens the file.
const gateSuffix = ".gate"

// acquire waits for a lock.
func acquire(ctx context.Context, f *os.File, exclusive bool) error {
	for n := 0; ; n++ {
		ok, err := tryLock(f, exclusive)
		if ok || err != nil {
			return err
		}
		// Steps of different length keep two processes from missing each other
		// in step.
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(1+n%5) * time.Millisecond):
		}
	}
}

// passGate waits at the gate. The returned function lets the next one through.
func (l *Local) passGate(ctx context.Context, exclusive bool) (leave func(), err error) {
	f, err := os.OpenFile(l.path+gateSuffix, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock local index: %w", err)
	}
	if err := acquire(ctx, f, exclusive); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock local index %s: %w", l.path, err)
	}
	return func() {
		unlock(f)
		f.Close()
	}, nil
}

// checkedFile remembers which contents of the file were checked last, so that the
// check is made once after each change by others and not at each opening.
type checkedFile struct {
	info  os.FileInfo
	meta  boltMeta
	names bool // what is known of segments was verified too
}

func (c checkedFile) same(info os.FileInfo, m boltMeta) bool {
	return c.info != nil && os.SameFile(c.info, info) && c.info.Size() == info.Size() && c.info.ModTime().Equal(info.ModTime()) && c.meta == m
}

// checkOnce is checkFile for a file that may have been checked before. It returns what
// it found.
func (l *Local) checkOnce(f *os.File) (checkedFile, error) {
	now, err := stateOf(f)
	if err != nil {
		return now, err
	}
	l.mu.Lock()
	last := l.checked
	l.mu.Unlock()
	if last.same(now.info, now.meta) {
		return last, nil
	}
	if err := checkFile(f); err != nil {
		return now, err
	}
	l.haveChecked(now)
	return now, nil
}

func stateOf(f *os.File) (c checkedFile, err error) {
	if c.info, err = f.Stat(); err != nil {
		return c, err
	}
	c.meta, err = readMeta(f)
	return c, err
}

func (l *Local) haveChecked(c checkedFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checked = c
}

// database is the open file.
type database struct {
	*bolt.DB
	file    *os.File
	checked checkedFile // as it was opened
}

// opening says how to open the file.
type opening int

const (
	forReading opening = iota
	forWriting
	emptied // for writing, without what was in it
)

// open opens the file, whose gate the caller has passed. An error wraps
// errDamaged if the contents are at fault; after that, emptied will do.
func (l *Local) open(ctx context.Context, how opening) (*database, error) {
	d := &database{}
	err := guard(func() (err error) {
		d.DB, err = bolt.Open(l.path, fileMode, &bolt.Options{
			ReadOnly:     how == forReading,
			PageSize:     pageSize,
			NoStatistics: true,
			// The freelist is written out, because bbolt would otherwise search for
			// free pages in a goroutine, where its panics cannot be caught.
			NoFreelistSync: false,
			// It takes the lowest pages that fit. The other kind takes any, for
			// speed with many free pages, which merging in small steps does not leave,
			// and made files 7 % larger.
			FreelistType: bolt.FreelistArrayType,
			Timeout:      l.wait, // we have the lock already, where there is flock
			OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
				var err error
				d.file, d.checked, err = l.openFile(ctx, path, flag, mode, how)
				return d.file, err
			},
		})
		return err
	})
	switch {
	case err == nil:
		d.AllocSize = 1 << 20
		if d.checked.info != nil { // each growth costs a sync
			d.AllocSize *= int(min(1+d.checked.info.Size()>>26, 16))
		}
		return d, nil
	case errors.Is(err, errDamaged):
		if d.file != nil {
			d.abandon()
		}
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		err = fmt.Errorf("%w: %w", errDamaged, err)
	case errors.Is(err, bolterrors.ErrTimeout):
		err = ErrBusy
	case how == forReading && errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil, fmt.Errorf("open local index %s: %w", l.path, err)
}

// openFile is what bbolt opens the file with. It locks the file first, so that
// nobody writes while it is checked, and so that it is emptied by one process
// and not under the eyes of another.
func (l *Local) openFile(ctx context.Context, path string, flag int, mode os.FileMode, how opening) (*os.File, checkedFile, error) {
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, checkedFile{}, err
	}
	var c checkedFile
	if err = acquire(ctx, f, how != forReading); err == nil {
		c, err = l.prepare(f, how)
	}
	if err != nil {
		unlock(f)
		f.Close()
		return nil, c, err
	}
	return f, c, nil
}

func (l *Local) prepare(f *os.File, how opening) (checkedFile, error) {
	if how == emptied {
		return checkedFile{}, f.Truncate(0)
	}
	info, err := f.Stat()
	if err != nil {
		return checkedFile{}, err
	}
	if info.Size() == 0 && how == forWriting {
		return checkedFile{}, nil // bbolt makes a new one of it
	}
	return l.checkOnce(f)
}

// close closes the file. There must be no transactions.
func (d *database) close() {
	// Nothing is lost by an error here: all that counts was committed.
	if err := guard(d.Close); errors.Is(err, errDamaged) {
		d.abandon()
	}
}

// abandon gives up a file in which bbolt panicked. It may hold its own locks for
// ever, so Close could block; the mapping stays until the process ends.
func (d *database) abandon() {
	unlock(d.file)
	d.file.Close()
}

// guard runs what touches the mapped file. Panics of bbolt, and faults when the
// file is shorter than it should be or the disk cannot read it, become errDamaged.
func guard(fn func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return fn()
}
