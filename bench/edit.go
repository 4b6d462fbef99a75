package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// editEvery is one in how many files editFiles edits: 1 % of them.
const editEvery = 100

// A change makes a tree what it is some time later. What it takes away goes to stash, which
// does not exist yet and is on the same file system.
type change func(root, stash string) (*edit, error)

// An edit is what was changed in a tree, so that it can be undone for the next
// tool: the files themselves are put back, not copies, so that inode numbers and
// times are again what they were.
type edit struct {
	moves []move               // in their order
	made  []string             // directories
	dirs  map[string]time.Time // when directories were modified
}

type move struct{ from, to string }

// move moves a file out of the tree, into it or within it.
func (e *edit) move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	e.moves = append(e.moves, move{from, to})
	return nil
}

// touch is called before an entry of a directory of the tree is changed.
func (e *edit) touch(dir string) error {
	if _, ok := e.dirs[dir]; ok {
		return nil
	}
	d, err := os.Stat(dir)
	if err != nil {
		return err
	}
	e.dirs[dir] = d.ModTime()
	return nil
}

// editFiles edits every hundredth regular file below root as a person would: a
// few words in the middle replaced, a line at the end added, saved as a new file
// of the same name. It is a change, and the same one on each call.
func editFiles(root, stash string) (*edit, error) {
	e := &edit{dirs: make(map[string]time.Time)}
	if err := os.MkdirAll(stash, 0o700); err != nil {
		return nil, err
	}
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
	if err := e.touch(filepath.Dir(path)); err != nil {
		return err
	}
	if err := e.move(path, keep); err != nil {
		return err
	}
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
	for _, m := range slices.Backward(e.moves) {
		if err := os.Rename(m.to, m.from); err != nil {
			return err
		}
	}
	for _, dir := range slices.Backward(e.made) {
		if err := os.Remove(dir); err != nil {
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
