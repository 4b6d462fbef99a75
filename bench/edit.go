package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// editEvery is one in how many files editFiles edits: 1 % of them.
const editEvery = 100

// An edit is what was changed in a tree, so that it can be undone for the next
// tool: the files themselves are put back, not copies, so that inode numbers and
// times are again what they were.
type edit struct {
	files map[string]string    // path in the tree -> where the original is kept
	dirs  map[string]time.Time // when directories were modified
}

// editFiles edits every hundredth regular file below root as a person would: a
// few words in the middle replaced, a line at the end added, saved as a new file
// of the same name. The originals go to stash, which is on the same file
// system. The edits are the same on each call.
func editFiles(root, stash string) (*edit, error) {
	e := &edit{files: make(map[string]string), dirs: make(map[string]time.Time)}
	n := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n++; n%editEvery != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Sys().(*syscall.Stat_t).Nlink > 1 {
			return nil // replacing one name would take the link apart
		}
		return e.editFile(path, info, filepath.Join(stash, strconv.Itoa(n)))
	})
	if err != nil {
		e.undo() // what failed is the error to tell
		return nil, err
	}
	return e, nil
}

func (e *edit) editFile(path string, info fs.FileInfo, keep string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if _, ok := e.dirs[dir]; !ok {
		d, err := os.Stat(dir)
		if err != nil {
			return err
		}
		e.dirs[dir] = d.ModTime()
	}
	if err := os.Rename(path, keep); err != nil {
		return err
	}
	e.files[path] = keep
	copy(data[len(data)/2:], "what was written here is not what is written here now")
	data = append(data, "a line of "+filepath.Base(path)+"\n"...)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode())
}

// undo puts the originals back.
func (e *edit) undo() error {
	for path, kept := range e.files {
		if err := os.Rename(kept, path); err != nil {
			return err
		}
	}
	for dir, modified := range e.dirs {
		if err := os.Chtimes(dir, time.Time{}, modified); err != nil {
			return err
		}
	}
	return nil
}
