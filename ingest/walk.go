package ingest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// walker visits the targets in key order and makes jobs of what it finds.
type walker struct {
	*pipeline
	job    *job
	bundle bundler
	lastIn *dirHandle        // directory of the job's last file
	links  map[fileID]uint64 // files with several names: how many are to come
	levels []*level          // from / to where it is
}

// walkFiles takes the paths of the options.
func (p *pipeline) walkFiles() error {
	w := &walker{pipeline: p, job: p.newJob(), links: make(map[fileID]uint64)}
	w.bundle.seed = p.bundleSeed()
	if err := w.root(); err != nil {
		return err
	}
	return w.flush()
}

// root visits / and goes down to the targets.
func (w *walker) root() error {
	d, st, err := w.open(unix.AT_FDCWD, "/", fsmeta.OpenDirAt)
	if err != nil {
		return err
	}
	t := w.targets.root
	if t.whole {
		return w.dir(d, "", st, w.volume(d, st), t)
	}
	return w.between(d, "", st, t)
}

// open opens and describes a directory.
func (w *walker) open(dirfd int, name string, open func(dirfd int, name string) (int, error)) (*dirHandle, fsmeta.Stat, error) {
	d, err := w.dirs.open(w.ctx, func() (int, error) { return open(dirfd, name) })
	if err != nil {
		return nil, fsmeta.Stat{}, err
	}
	st, err := fsmeta.StatFd(d.fd)
	if err != nil {
		d.release()
		return nil, fsmeta.Stat{}, err
	}
	return d, st, nil
}

// volume tells what is mounted apart, also the mounts of one file system. It is the
// same for all if the walk may go everywhere.
type volume struct{ dev, mount uint64 }

func (w *walker) volume(d *dirHandle, st fsmeta.Stat) volume {
	if !w.opts.OneFileSystem {
		return volume{}
	}
	return volume{st.Dev, fsmeta.MountID(d.fd)}
}

// dir takes a directory with all its contents. t, if not nil, has what was named in it as
// well: that is taken though it is excluded or on another file system, and must be
// there. It takes over d.
func (w *walker) dir(d *dirHandle, key snapshot.Key, st fsmeta.Stat, on volume, t *target) error {
	return w.within(d, key, st, t, func(lv *level) error {
		var named []*target
		if t != nil {
			named = t.children
		}
		if w.volume(d, st) != on {
			return w.targetsIn(lv, key, named) // a mount point: not what is mounted
		}
		return w.contents(lv, key, on, named)
	})
}

// within goes into a directory, takes it as an entry, and does what is to be done in
// it, unless it is the repository itself. It takes over d.
func (w *walker) within(d *dirHandle, key snapshot.Key, st fsmeta.Stat, t *target, do func(*level) error) (err error) {
	lv := w.enter(d, key, st)
	defer func() {
		if leaveErr := w.leave(lv); err == nil {
			err = leaveErr
		}
	}()
	if err := w.addDir(d, key, st); err != nil {
		return err
	}
	if w.own.is(st) {
		return w.skipOwn(key, t)
	}
	return do(lv)
}

// contents takes what is in a directory, and named, which has what was named in it.
func (w *walker) contents(lv *level, key snapshot.Key, on volume, named []*target) error {
	names, err := fsmeta.ReadNames(lv.fd)
	if err != nil {
		w.report(key, err, true)
		return w.targetsIn(lv, key, named)
	}
	cache := w.opts.ExcludeCaches && isCache(lv.fd)
	for i := range names.Len() {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		name := names.At(i)
		before, sub, after := split(named, name)
		if err := w.targetsIn(lv, key, before); err != nil {
			return err
		}
		named = after
		if lv.dirHandle == nil {
			break // it was moved, which is reported
		}
		if cache && sub == nil && name != cacheTag { // the tag, so that it will be a cache again
			continue
		}
		if err := w.child(lv.dirHandle, key, name, on, sub); err != nil {
			return err
		}
	}
	return w.targetsIn(lv, key, named)
}

// child takes what has a name in a directory, if it is wanted. t is as for dir.
func (w *walker) child(d *dirHandle, dir snapshot.Key, name string, on volume, t *target) error {
	key := dir.Child(name)
	if t != nil && t.whole {
		return w.target(d, key, t)
	}
	err := tooLong(len(key), len(name))
	var st fsmeta.Stat
	if err == nil {
		st, err = fsmeta.StatAt(d.fd, name)
	}
	if err != nil && t != nil {
		return w.target(d, key, t)
	}
	if err != nil {
		if !w.excluded(key, true) || !w.excluded(key, false) { // whatever it is
			w.report(key, err, true)
		}
		return nil
	}
	excluded := w.excluded(key, st.IsDir())
	switch {
	case t != nil && (excluded || !st.IsDir()):
		return w.target(d, key, t)
	case excluded:
		return nil
	case !st.IsDir():
		return w.item(d, key, name, st)
	}
	return w.subdir(d, key, name, on, t)
}

func (w *walker) excluded(key snapshot.Key, isDir bool) bool {
	return w.opts.Excludes != nil && w.opts.Excludes.Match(key.Path(), isDir).Excluded
}

func (w *walker) subdir(parent *dirHandle, key snapshot.Key, name string, on volume, t *target) error {
	d, st, err := w.open(parent.fd, name, fsmeta.OpenDirAt)
	if err == nil {
		return w.dir(d, key, st, on, t)
	}
	if ctxErr := w.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	w.report(key, err, true)
	if t != nil {
		return w.target(parent, key, t)
	}
	if st, serr := fsmeta.StatAt(parent.fd, name); serr == nil && st.IsDir() {
		// It can't be read, but its own metadata can.
		e := w.entry(key, st)
		e.Type = snapshot.Directory
		xs, err := fsmeta.XattrsAt(parent.fd, name)
		w.xattrs(&e, xs, err)
		return w.add(e)
	}
	return nil
}

func (w *walker) addDir(d *dirHandle, key snapshot.Key, st fsmeta.Stat) error {
	w.opts.Observer.Progress.Dirs.Add(1)
	e := w.entry(key, st)
	e.Type = snapshot.Directory
	if old := w.old(&e); old != nil {
		e.Xattrs = old.Xattrs
		return w.addAs(e, Unmodified)
	}
	xs, err := d.xattrs()
	w.xattrs(&e, xs, err)
	return w.add(e)
}

// xattrs gives an entry the attributes that were read.
func (w *walker) xattrs(e *snapshot.Entry, xs []fsmeta.Xattr, err error) {
	if lacks := addXattrs(e, xs, err); lacks != nil {
		w.report(e.Key, lacks, true)
	}
}

// xattrs are those of the directory.
func (d *dirHandle) xattrs() ([]fsmeta.Xattr, error) {
	if d.search {
		return fsmeta.XattrsAt(d.fd, ".")
	}
	return fsmeta.Xattrs(d.fd)
}

// item takes anything but a directory.
func (w *walker) item(d *dirHandle, key snapshot.Key, name string, st fsmeta.Stat) error {
	w.opts.Observer.Progress.Files.Add(1)
	e := w.entry(key, st)
	if st.Nlink > 1 {
		e.HasLink, e.Link = true, fileID{st.Dev, st.Ino}.group()
	}
	switch st.Type() {
	case unix.S_IFREG:
		return w.file(d, e, name, st)
	case unix.S_IFLNK:
		e.Type = snapshot.Symlink
		target, err := fsmeta.ReadlinkAt(d.fd, name)
		if err != nil {
			w.report(key, err, true)
			return nil
		}
		if target == "" {
			w.report(key, errNoTarget, true)
			return nil
		}
		e.Target = []byte(target)
	case unix.S_IFIFO:
		e.Type = snapshot.FIFO
	case unix.S_IFCHR:
		e.Type, e.Device = snapshot.CharDevice, st.Rdev
	case unix.S_IFBLK:
		e.Type, e.Device = snapshot.BlockDevice, st.Rdev
	case unix.S_IFSOCK:
		w.report(key, errSocket, false)
		return nil
	default:
		w.report(key, fmt.Errorf("file type %o is unknown", st.Type()), true)
		return nil
	}
	if old := w.old(&e); old != nil {
		e.Xattrs = old.Xattrs
		return w.addAs(e, Unmodified)
	}
	xs, err := fsmeta.XattrsAt(d.fd, name)
	w.xattrs(&e, xs, err)
	return w.add(e)
}

// file takes a regular file: from the parent snapshot if it is unchanged, else
// its contents are work for a job.
func (w *walker) file(d *dirHandle, e snapshot.Entry, name string, st fsmeta.Stat) error {
	w.opts.Observer.Progress.Bytes.Add(st.Size)
	e.Type = snapshot.File
	e.Size = uint64(st.Size)
	reused, same, err := w.reuse(&e)
	if err != nil {
		return err
	}
	link := w.link(&e, st, reused)
	isCopy := link != nil && link.copy
	if reused || isCopy {
		w.opts.Observer.Progress.BytesDone.Add(st.Size)
	}
	change := New
	switch {
	case same: // perhaps it is read only to be bundled anew
		change = Unmodified
	case w.parent.has(e.Key):
		change = Changed
	}
	if reused || isCopy {
		w.job.link(link)
		return w.addAs(e, change)
	}
	if st.Size >= smallFile {
		w.job.link(link)
		w.job.large = append(w.job.large, largeWork{entry: len(w.job.entries), dir: d.retain(), name: name, stat: st, old: w.parent.copyOf(w.ctx, e.Key)})
		w.job.add(e, change)
		if len(w.job.large) == jobLarge || len(w.job.small) == 0 {
			return w.flush()
		}
		return nil
	}
	if !w.bundle.fits(st.Size) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.job.link(link)
	if w.lastIn != d {
		w.job.dirs++
		w.lastIn = d
	}
	w.job.small = append(w.job.small, smallWork{entry: len(w.job.entries), dir: d.retain(), name: name, stat: st, old: oldChunkOf(w.parent.find(w.ctx, e.Key))})
	w.job.add(e, change)
	if w.bundle.add(name, st.Size) || w.job.dirs >= jobDirs || w.job.cost >= jobCost {
		return w.flush()
	}
	return nil
}

// add puts an entry without contents into the job.
func (w *walker) add(e snapshot.Entry) error {
	if w.parent.has(e.Key) {
		return w.addAs(e, Changed)
	}
	return w.addAs(e, New)
}

func (w *walker) addAs(e snapshot.Entry, c Change) error {
	w.job.add(e, c)
	if w.job.full() {
		return w.flush()
	}
	return nil
}

// flush sends the job off and begins another.
func (w *walker) flush() error {
	if len(w.job.entries) == 0 {
		return nil
	}
	j := w.job
	w.job, w.lastIn = w.newJob(), nil
	w.bundle.reset()
	return w.dispatch(j)
}
