package ingest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// between takes a directory on the way to targets, without its other contents. It
// takes over d.
func (w *walker) between(d *dirHandle, key snapshot.Key, st fsmeta.Stat, t *target) error {
	return w.within(d, key, st, t, func(lv *level) error { return w.targetsIn(lv, key, t.children) })
}

// targetsIn takes targets in a directory that the walk is in.
func (w *walker) targetsIn(lv *level, key snapshot.Key, targets []*target) error {
	for _, t := range targets {
		if lv.dirHandle == nil {
			if err := w.lost(key.Child(t.name), t, errMoved); err != nil {
				return err
			}
			continue
		}
		if err := w.target(lv.dirHandle, key.Child(t.name), t); err != nil {
			return err
		}
	}
	return nil
}

// target takes a wanted path or goes on towards one. A component on the way
// may be a symbolic link: then its directory is taken in its place, as the
// user named the path through it (even if it was named itself as well).
func (w *walker) target(parent *dirHandle, key snapshot.Key, t *target) error {
	st, err := fsmeta.StatAt(parent.fd, t.name)
	isItem := err == nil && t.whole && !st.IsDir()
	if isItem && len(t.children) == 0 {
		return w.item(parent, key, t.name, st)
	}
	viaLink := st.IsSymlink()
	if err == nil {
		d, dirStat, openErr := w.openTarget(parent, t, viaLink)
		if openErr == nil {
			return w.targetDir(d, key, dirStat, viaLink, t)
		}
		err = openErr
	}
	if ctxErr := w.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if w.opts.AllowIncomplete && isItem {
		// It is there; only what was named in it can't be.
		if err := w.item(parent, key, t.name, st); err != nil {
			return err
		}
		t = &target{children: t.children}
	}
	return w.lost(key, t, err)
}

// targetDir takes a directory that is a target or on the way to one. It takes over d.
func (w *walker) targetDir(d *dirHandle, key snapshot.Key, st fsmeta.Stat, viaLink bool, t *target) error {
	if t.whole && !viaLink {
		return w.dir(d, key, st, w.volume(d, st), t)
	}
	return w.between(d, key, st, t)
}

// lost handles a target that can't be had. What was asked for by name and is not there
// fails the run: a backup that quietly lacks it would be a trap. If an incomplete one is
// allowed, all that was asked for at key and below it is reported instead.
func (w *walker) lost(key snapshot.Key, t *target, err error) error {
	var errno unix.Errno // without the name, which the path ends with
	if errors.As(err, &errno) {
		err = errno
	}
	if !w.opts.AllowIncomplete {
		return &SourceError{key.Path(), err}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errMissing // and not vanished
	}
	w.lostBelow(key, t, err)
	return nil
}

func (w *walker) lostBelow(key snapshot.Key, t *target, err error) {
	if t.whole {
		w.report(key, err, true)
		w.sourceFailed(key)
	}
	for _, c := range t.children {
		w.lostBelow(key.Child(c.name), c, err)
	}
}

// sourceFailed marks a source as failed. What is in another source is none itself.
func (w *walker) sourceFailed(key snapshot.Key) {
	at := func(t captured, key snapshot.Key) int { return strings.Compare(string(t.key), string(key)) }
	if i, found := slices.BinarySearchFunc(w.trees, key, at); found {
		w.trees[i].status = snapshot.Failed
	}
}

// openTarget opens a directory that is a target or on the way to one. On the way it
// need not be readable, as /home often is not.
func (w *walker) openTarget(parent *dirHandle, t *target, viaLink bool) (*dirHandle, fsmeta.Stat, error) {
	open := fsmeta.OpenDirAt
	if viaLink {
		open = fsmeta.OpenLinkedDirAt
	}
	d, st, err := w.open(parent.fd, t.name, open)
	if err == nil || t.whole && !viaLink || !errors.Is(err, fs.ErrPermission) {
		return d, st, err
	}
	if d, st, err = w.open(parent.fd, t.name, fsmeta.OpenSearchAt); err == nil {
		d.search = true
	}
	return d, st, err
}

// split returns the targets before a name, the one of that name or nil, and those after it.
func split(targets []*target, name string) (before []*target, at *target, after []*target) {
	i := 0
	for i < len(targets) && targets[i].name < name {
		i++
	}
	if i < len(targets) && targets[i].name == name {
		return targets[:i], targets[i], targets[i+1:]
	}
	return targets[:i], nil, targets[i:]
}
