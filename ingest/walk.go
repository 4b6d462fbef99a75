package ingest

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cairn-backup/cairn/internal/fsmeta"
	"github.com/cairn-backup/cairn/snapshot"
)

// dirHandle is an open directory, which the walk and the jobs with files in it
// share. The last one closes it.
type dirHandle struct {
	fd   int
	refs atomic.Int32
	of   *openDirs
}

// openDirs knows all open directories of a run, for when it ends early: jobs
// that nobody works on any more never give back theirs.
type openDirs struct {
	mu  sync.Mutex
	fds map[int]struct{}
}

// add takes over a descriptor.
func (o *openDirs) add(fd int) *dirHandle {
	d := &dirHandle{fd: fd, of: o}
	d.refs.Store(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fds == nil {
		o.fds = make(map[int]struct{})
	}
	o.fds[fd] = struct{}{}
	return d
}

func (o *openDirs) close(fd int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.fds, fd) // first: the next one to open gets the number again
	unix.Close(fd)
}

// closeAll closes what is left when nobody uses it.
func (o *openDirs) closeAll() {
	for fd := range o.fds {
		unix.Close(fd)
	}
	o.fds = nil
}

func (d *dirHandle) retain() *dirHandle { d.refs.Add(1); return d }

func (d *dirHandle) release() {
	if d.refs.Add(-1) == 0 {
		d.of.close(d.fd)
	}
}

// walker visits the targets in key order and makes jobs of what it finds.
type walker struct {
	*pipeline
	job    *job
	bundle bundler
	lastIn *dirHandle        // directory of the job's last file
	links  map[fileID]uint64 // files with several names: how many are to come
}

// walkFiles takes the paths of the options.
func (p *pipeline) walkFiles() error {
	w := &walker{pipeline: p, job: p.newJob(), links: make(map[fileID]uint64)}
	w.bundle.seed = p.bundleSeed()
	if err := w.root(); err != nil {
		return err
	}
	p.opts.Observer.Progress.WalkFinished.Store(true)
	return w.flush()
}

// problem records an item that could not be read as it should.
func (w *walker) problem(key snapshot.Key, err error, fatal bool) { w.report(key, err, fatal) }

// root visits / and goes down to the targets.
func (w *walker) root() error {
	fd, err := fsmeta.OpenDirAt(unix.AT_FDCWD, "/")
	if err != nil {
		return err
	}
	st, err := fsmeta.StatFd(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	d := w.dirs.add(fd)
	defer d.release()
	t := w.targets.root
	if t.whole {
		return w.dir(d, "", st, st.Dev)
	}
	return w.between(d, "", st, t)
}

// between takes a directory on the way to targets, without its other contents.
func (w *walker) between(d *dirHandle, key snapshot.Key, st fsmeta.Stat, t *target) error {
	if err := w.addDir(d, key, st); err != nil {
		return err
	}
	for _, c := range t.children {
		if err := w.target(d, key.Child(c.name), c); err != nil {
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
	if err == nil && t.whole && !st.IsDir() && len(t.children) == 0 {
		return w.item(parent, key, t.name, st, st.Dev)
	}
	var fd int
	if err == nil {
		if st.IsSymlink() {
			fd, err = unix.Openat(parent.fd, t.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		} else {
			fd, err = fsmeta.OpenDirAt(parent.fd, t.name)
		}
	}
	if err != nil {
		// What was asked for by name and is not there fails the run: a backup
		// that quietly lacks it would be a trap.
		var errno unix.Errno // without the name, which the path ends with
		if errors.As(err, &errno) {
			err = errno
		}
		return fmt.Errorf("source %s: %w", key.Path(), err)
	}
	viaLink := st.IsSymlink()
	d := w.dirs.add(fd)
	defer d.release()
	if st, err = fsmeta.StatFd(fd); err != nil {
		return fmt.Errorf("source %s: %w", key.Path(), err)
	}
	if t.whole && !viaLink {
		return w.dir(d, key, st, st.Dev)
	}
	return w.between(d, key, st, t)
}

// dir takes a directory with all its contents.
func (w *walker) dir(d *dirHandle, key snapshot.Key, st fsmeta.Stat, device uint64) error {
	if err := w.addDir(d, key, st); err != nil {
		return err
	}
	if w.opts.OneFileSystem && st.Dev != device {
		return nil // a mount point: the directory itself, without what is mounted
	}
	names, err := fsmeta.ReadNames(d.fd)
	if err != nil {
		w.report(key, err, true)
		return nil
	}
	if w.opts.ExcludeCaches && isCache(d.fd) {
		return nil
	}
	for i := range names.Len() {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		name := names.At(i)
		k := key.Child(name)
		if err := tooLong(k, name); err != nil {
			w.report(k, err, true)
			continue
		}
		st, err := fsmeta.StatAt(d.fd, name)
		if errors.Is(err, fs.ErrNotExist) {
			w.report(k, errVanished, true)
			continue
		}
		if err != nil {
			w.report(k, err, true)
			continue
		}
		if w.opts.Excludes != nil && w.opts.Excludes.Match(k.Path(), st.IsDir()).Excluded {
			continue
		}
		if !st.IsDir() {
			if err := w.item(d, k, name, st, device); err != nil {
				return err
			}
			continue
		}
		if err := w.subdir(d, k, name, device); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) subdir(parent *dirHandle, key snapshot.Key, name string, device uint64) error {
	fd, err := fsmeta.OpenDirAt(parent.fd, name)
	if err == nil {
		d := w.dirs.add(fd)
		defer d.release()
		var st fsmeta.Stat
		if st, err = fsmeta.StatFd(fd); err == nil {
			return w.dir(d, key, st, device)
		}
	}
	w.report(key, err, true)
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
	xs, err := fsmeta.Xattrs(d.fd)
	w.xattrs(&e, xs, err)
	return w.add(e)
}

// item takes anything but a directory.
func (w *walker) item(d *dirHandle, key snapshot.Key, name string, st fsmeta.Stat, device uint64) error {
	w.opts.Observer.Progress.Files.Add(1)
	e := w.entry(key, st)
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
	isCopy := w.link(&e, st, reused)
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
		return w.addAs(e, change)
	}
	if st.Size >= smallFile {
		w.job.large = append(w.job.large, largeWork{entry: len(w.job.entries), dir: d.retain(), name: name, stat: st})
		w.append(e, change)
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
	if w.lastIn != d {
		w.job.dirs++
		w.lastIn = d
	}
	w.job.small = append(w.job.small, smallWork{entry: len(w.job.entries), dir: d.retain(), name: name, stat: st})
	w.append(e, change)
	if w.bundle.add(name, st.Size) || w.job.dirs >= jobDirs {
		return w.flush()
	}
	return nil
}

// append puts an entry into the job.
func (w *walker) append(e snapshot.Entry, c Change) {
	w.job.entries = append(w.job.entries, e)
	w.job.changes = append(w.job.changes, c)
}

// add puts an entry without contents into the job.
func (w *walker) add(e snapshot.Entry) error {
	if w.parent.has(e.Key) {
		return w.addAs(e, Changed)
	}
	return w.addAs(e, New)
}

func (w *walker) addAs(e snapshot.Entry, c Change) error {
	w.append(e, c)
	// A job that has files goes on until its bundle is complete, unless too
	// much of other kinds comes between.
	if len(w.job.entries) >= jobEntries && (len(w.job.small) == 0 || len(w.job.entries) >= 16*jobEntries) {
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
