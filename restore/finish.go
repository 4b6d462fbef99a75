package restore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// finish is the last pass: directories get their metadata, those below first, and
// lose what the snapshot does not have.
func (s *session) finish(ctx context.Context) error {
	f := &finisher{session: s, deletes: s.o.Delete}
	if s.sel.damaged && f.deletes {
		f.deletes = false
		s.warn(s.o.Target, errors.New("nothing is deleted, as it is not known what all the snapshot has"))
	}
	return s.sel.walk(ctx, f)
}

type finisher struct {
	*session
	deletes bool
}

// names are those that a directory has in the snapshot, as hashes: 8 bytes each
// however long they are, as a directory may have millions. Two names of equal hash
// would, once in the lifetime of many worlds, spare a file that should be deleted; no
// file of the snapshot is ever taken for another.
type names struct {
	seed   maphash.Seed
	hashes []uint64
	met    bool // the snapshot has something in it
}

func (n *names) add(name string) { n.hashes = append(n.hashes, maphash.String(n.seed, name)) }

// others returns the names in an open directory that are not among these, sorted.
func (n *names) others(d *fsmeta.Dir) ([]string, error) {
	slices.Sort(n.hashes)
	others, err := fsmeta.FindNames(d.Fd(), func(name []byte) bool {
		_, found := slices.BinarySearch(n.hashes, maphash.Bytes(n.seed, name))
		return !found
	})
	slices.Sort(others)
	return slices.Compact(others), err
}

func (f *finisher) enter(_ context.Context, d, parent *directory) (skip bool, err error) {
	f.pass(parent, d.entry.Key)
	action := f.outcomes.at(d.number).get()
	if action == Failed {
		return true, nil
	}
	// What this run made has nothing that is to be deleted.
	if f.deletes && action != Created && action != Replaced && f.isSource(d.entry.Key) {
		d.names = &names{seed: maphash.MakeSeed()}
	}
	return false, nil
}

func (f *finisher) item(_ context.Context, e *snapshot.Entry, number int, parent *directory) error {
	f.pass(parent, e.Key)
	if parent != nil && parent.names != nil && f.outcomes.at(number).get() == Damaged {
		// It stays as it was, or as what could be had of it.
		parent.names.add(damagedName(e.Key.Base()))
	}
	return nil
}

// pass notes an entry of a directory.
func (f *finisher) pass(parent *directory, key snapshot.Key) {
	if parent != nil && parent.names != nil {
		parent.names.met = true
		parent.names.add(key.Base())
	}
}

func (f *finisher) leave(_ context.Context, d, parent *directory) error {
	if d.names != nil {
		if err := f.deleteOthers(d); err != nil {
			return err
		}
	}
	action := f.outcomes.at(d.number).get()
	untouched := action == Unchanged && (f.o.Overwrite == Never || d.place == "") || d.lost
	if f.o.DryRun || untouched {
		return nil
	}
	dir, err := f.dirs.get(d.place)
	if err != nil {
		return f.trouble(d, err)
	}
	defer f.dirs.release(dir)
	f.metaProblems(&d.entry, fsmeta.ApplyFd(dir.Fd(), f.owners.meta(&d.entry), f.applyOptions(true)))
	return nil
}

// deleteOthers removes from a directory what the snapshot does not have.
func (f *finisher) deleteOthers(d *directory) error {
	dir, err := f.dirs.get(d.place)
	if err != nil {
		return f.trouble(d, err)
	}
	others, err := d.names.others(dir.Dir)
	f.dirs.release(dir)
	if err != nil {
		return f.trouble(d, err)
	}
	// A backup that stays on one file system has an empty directory where
	// another one is mounted.
	if len(others) > 0 && !d.names.met && f.isMount(d) {
		f.warn(d.entry.Key.Path(), errors.New("a file system is mounted here and the snapshot has nothing of it; nothing in it was deleted"))
		return nil
	}
	for _, name := range others {
		if err := f.delete(d, name); err != nil {
			return err
		}
	}
	return nil
}

func (f *finisher) isMount(d *directory) bool {
	if d.place == "" {
		return false
	}
	above, _ := d.place.split()
	parent, err := f.dirs.get(above)
	if err != nil {
		return true
	}
	defer f.dirs.release(parent)
	dir, err := f.dirs.get(d.place)
	if err != nil {
		return true
	}
	defer f.dirs.release(dir)
	outer, inner, err := statBoth(parent.Dir, dir.Dir)
	return err != nil || outer.Dev != inner.Dev
}

func statBoth(a, b *fsmeta.Dir) (sa, sb fsmeta.Stat, err error) {
	if sa, err = fsmeta.StatFd(a.Fd()); err == nil {
		sb, err = fsmeta.StatFd(b.Fd())
	}
	return sa, sb, err
}

// trouble reports a problem with a directory.
func (f *finisher) trouble(d *directory, err error) error {
	if err := hopeless(d.entry.Key.Path(), err); err != nil {
		return err
	}
	f.problem(d.entry.Key.Path(), err)
	return nil
}

// isSource reports whether a directory was a source of the snapshot or is in one, so that the
// snapshot has all that it had.
func (s *session) isSource(key snapshot.Key) bool {
	for _, src := range s.o.Snapshot.Body.Sources {
		root := src.Kind + "/" + string(src.Name)
		if src.Kind == "files" {
			root = string(src.Name)
		}
		if k, err := snapshot.KeyOf(root); err == nil && src.Status == snapshot.Complete && (key == k || key.IsBelow(k)) {
			return true
		}
	}
	return false
}

// delete removes an entry of a directory that the snapshot does not have.
func (f *finisher) delete(d *directory, name string) error {
	if d.place == "" && f.isOther(name) {
		return nil
	}
	key := d.entry.Key.Child(name)
	dir, err := f.dirs.get(d.place)
	if err != nil {
		return f.trouble(d, err)
	}
	defer f.dirs.release(dir)
	if f.mayBeLeftover(dir.Dir, name) {
		return nil // of a restore that still runs, or it would have been swept
	}
	if _, err := f.remove(dir.Dir, false, name, key, d.matched); err != nil {
		if err := hopeless(key.Path(), err); err != nil {
			return err
		}
		f.problem(key.Path(), fmt.Errorf("delete: %w", err))
	}
	return nil
}

// isOther reports whether name, in the target, is where another source goes.
func (s *session) isOther(name string) bool {
	for _, o := range s.sel.others {
		if o == name {
			return true
		}
	}
	return false
}

// remove removes an entry of d and all below it but what the patterns spare. owned: d
// may be closed while it is below. matched: a directory above is included. all reports
// whether nothing is left.
func (s *session) remove(d *fsmeta.Dir, owned bool, name string, key snapshot.Key, matched bool) (all bool, err error) {
	st, err := d.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	path := key.Path()
	if s.protected.has(st) {
		s.warn(path, errors.New("it is the repository, and was not deleted"))
		return false, nil
	}
	if s.sel.exclude != nil && s.sel.exclude.Match(path, st.IsDir()).Excluded {
		return false, nil
	}
	matched = matched || s.sel.include.Match(path, st.IsDir()).Excluded
	remove := d.RemoveAll
	if st.IsDir() && (s.sel.exclude != nil || !matched || s.protected.inside) {
		if all, err := s.removeIn(d, owned, name, key, matched); err != nil || !all {
			return false, err
		}
		remove = d.Remove // it is empty now, or should be
	}
	if !matched {
		return false, nil
	}
	if !s.o.DryRun {
		if err := remove(name); err != nil {
			return false, err
		}
	}
	s.count.Deleted.Add(1)
	if s.o.Observer.Entry != nil {
		s.o.Observer.Entry(path, Deleted)
	}
	return true, nil
}

// removeIn removes what is in a directory.
func (s *session) removeIn(d *fsmeta.Dir, owned bool, name string, key snapshot.Key, matched bool) (all bool, err error) {
	sub, err := d.Open(name)
	if err != nil {
		return false, err
	}
	outer, inner, err := statBoth(d, sub)
	if err == nil && outer.Dev != inner.Dev {
		err = fsmeta.ErrMountPoint
	}
	if err != nil || !owned {
		defer sub.Close()
	} else if err = d.LeaveFor(sub); err != nil {
		sub.Close()
	} else {
		defer func() { err = errors.Join(err, d.ReturnFrom(sub)) }()
	}
	if err != nil {
		return false, err
	}
	names, err := sub.Names()
	if err != nil {
		return false, err
	}
	all = true
	var errs []error
	for _, n := range names {
		gone, err := s.remove(sub, true, n, key.Child(n), matched)
		all = all && gone
		if errs = append(errs, err); sub.Fd() < 0 {
			break // the way back to it was lost
		}
	}
	return all, errors.Join(errs...)
}
