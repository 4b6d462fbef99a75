package local

import (
	"errors"
	"io/fs"
	"maps"
	"path"

	"github.com/cairn-backup/cairn/internal/vfs"
)

// inDir runs do, which needs the directory of the object name. Somebody who
// tidies up may have removed an empty directory that this Local knows; then it is
// made again, and do runs once more.
func (l *Local) inDir(name string, do func() error) error {
	dir := path.Dir(name)
	if err := l.makeDir(dir); err != nil {
		return err
	}
	err := do()
	if dir == "." || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.mu.Lock()
	clear(l.durable)
	l.mu.Unlock()
	if err := l.makeDir(dir); err != nil {
		return err
	}
	return do()
}

// makeDir makes sure that dir, relative to the root, exists and survives a loss
// of power: it makes what is missing from the root downwards and syncs each
// parent before the next step, as an object is only as durable as every
// directory on the way to it.
//
// A directory that is there already is synced into its parent as well, once in
// the life of a Local: the process that made it may have been killed before its
// own sync, or be about to do it, and an object acknowledged here must not wait
// for that one.
func (l *Local) makeDir(dir string) error {
	if dir == "." {
		return nil // Create has seen to the root
	}
	l.mu.Lock()
	known := l.durable[dir]
	l.mu.Unlock()
	if known {
		return nil
	}
	parent := path.Dir(dir)
	if err := l.makeDir(parent); err != nil {
		return err
	}
	// Nothing is locked meanwhile: done twice, it is done as well.
	safe := map[string]bool{dir: true}
	err := l.fs.Mkdir(l.path(dir), dirPerm)
	switch {
	case errors.Is(err, fs.ErrExist):
		// The sync makes all its present siblings safe too, which spares
		// a sync for each of the 256 directories of a fan-out.
		if err := l.addSubdirs(safe, parent); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if err := l.fs.SyncDir(l.path(parent)); err != nil {
		return err
	}
	l.mu.Lock()
	maps.Copy(l.durable, safe)
	l.mu.Unlock()
	return nil
}

// addSubdirs adds the directories that are in dir now.
func (l *Local) addSubdirs(set map[string]bool, dir string) error {
	entries, err := l.fs.ReadDir(l.path(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Kind == vfs.Directory {
			set[path.Join(dir, e.Name)] = true
		}
	}
	return nil
}

// makeRoot makes the directory root and its missing parents, all of them durable
// when it returns. Of the directories above, those that were there are synced as
// well where that is permitted: they may be as new as the root, made by a script
// a moment ago.
func makeRoot(sys vfs.FS, root string) error {
	if root == "/" {
		return nil
	}
	parent := path.Dir(root)
	info, err := sys.Stat(root)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: root, Err: fs.ErrExist}
	case err == nil:
		if err := makeRoot(sys, parent); err != nil {
			return err
		}
		if err := sys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeRoot(sys, parent); err != nil {
		return err
	}
	if err := sys.Mkdir(root, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return sys.SyncDir(parent)
}
