package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cairn-backup/cairn/index"
	"github.com/cairn-backup/cairn/repo/cache"
)

// What this machine keeps of a repository spares time, and remembers. Without it all
// goes on as on a machine that never saw the repository. So when the disk that it is
// on is full, or fails, that is a warning. A folder that this user may not use is
// an error: it is a wrong option, and better known at once.

// diskFails reports whether an error says that a disk takes nothing.
func diskFails(err error) bool {
	for _, no := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// tolerate makes a warning of an error of the cache, if its disk is at fault.
func (r *Repository) tolerate(err error) error {
	if err == nil || !diskFails(err) {
		return err
	}
	r.opts.Observer.warn(fmt.Errorf("this machine's cache can't be written; the work goes on without: %w", err))
	return nil
}

func (r *Repository) openCache() (err error) {
	if r.opts.Cache == "" {
		r.cache, err = cache.Temporary(r.id)
		return err
	}
	r.cache, err = cache.Open(r.opts.Cache, r.id)
	return r.tolerate(err)
}

// pin compares the repository with what this machine remembers of it, and remembers
// the config's generation.
func (r *Repository) pin(generation uint64) error {
	err := r.cache.Pin(r.storage.String(), r.id, generation)
	var m cache.Mismatch
	if errors.As(err, &m) {
		return damaged(configName, err)
	}
	return r.tolerate(err)
}

// index returns the local index. It is opened when it is first asked for: what needs no chunk
// can do without, and it takes a while where there are thousands of segments.
func (r *Repository) index() (*index.Local, error) {
	if l := r.local.Load(); l != nil {
		return l, nil
	}
	r.opening.Lock()
	defer r.opening.Unlock()
	if l := r.local.Load(); l != nil {
		return l, nil
	}
	l, err := index.OpenLocal(r.cache.Path("index.bolt"), r.id, index.Options{})
	if err != nil {
		if err := r.moveIndex(nil, err); err != nil {
			return nil, err
		}
		return r.local.Load(), nil
	}
	r.local.Store(l)
	return l, nil
}

// indexError is an error of the local index, and not of the storage that it is
// filled from.
type indexError struct{ error }

func (e indexError) Unwrap() error { return e.error }

// moveIndex puts an empty index, in a temporary folder, in the place of one whose disk
// fails. Until it is filled, which is up to the caller, known chunks look new. If
// the index was moved already, there is nothing to do. If that can't help, the error is
// why.
func (r *Repository) moveIndex(from *index.Local, why error) error {
	if !diskFails(why) {
		return why
	}
	r.moving.Lock()
	defer r.moving.Unlock()
	if from != r.local.Load() {
		return nil
	}
	if r.spare != "" {
		return why
	}
	dir, err := os.MkdirTemp("", "cairn-")
	if err != nil {
		return errors.Join(why, fmt.Errorf("make temporary index: %w", err))
	}
	r.spare = dir
	l, err := index.OpenLocal(filepath.Join(dir, "index.bolt"), r.id, index.Options{})
	if err != nil {
		return errors.Join(why, fmt.Errorf("make temporary index: %w", err))
	}
	r.local.Store(l)
	r.opts.Observer.warn(fmt.Errorf("this machine's cache can't keep the index, which is made anew in %s for this run: %w", dir, why))
	if from != nil {
		return from.Close()
	}
	return nil
}

// absorbOwn takes a segment that this run has stored into the local index.
func (r *Repository) absorbOwn(ctx context.Context, s *index.Segment) error {
	l, err := r.index()
	if err != nil {
		return err
	}
	err = l.Absorb(ctx, r.config.Admin, s)
	if err == nil || !diskFails(err) {
		return err
	}
	if err := r.moveIndex(l, err); err != nil {
		return err
	}
	return r.loadIndex(ctx, nil) // from the storage, where s is too
}

// closeMachine releases what the repository holds on this machine.
func (r *Repository) closeMachine() error {
	var errs []error
	if l := r.local.Load(); l != nil {
		errs = append(errs, l.Close())
	}
	if r.spare != "" {
		errs = append(errs, os.RemoveAll(r.spare))
	}
	if err := r.tolerate(r.saveKnown()); err != nil {
		r.opts.Observer.warn(err) // it only spares time
	}
	return errors.Join(append(errs, r.cache.Close())...)
}
