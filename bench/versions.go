package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cairn-backup/cairn/bench/corpus"
)

// prepare makes the later versions of a workload in directories of dir, of which none is
// below the source, and returns the changes that bring the source there.
func (w workload) prepare(ctx context.Context, source, dir string) ([]change, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if w.next == nil {
		return []change{editFiles}, nil
	}
	var changes []change
	for n := 2; n <= w.versions; n++ {
		version := filepath.Join(dir, strconv.Itoa(n))
		if err := os.Mkdir(version, 0o755); err != nil {
			return nil, err
		}
		gone, err := w.next(ctx, version, n)
		if err != nil {
			return nil, err
		}
		changes = append(changes, func(root, stash string) (*edit, error) { return replaceFiles(root, version, gone, stash) })
	}
	return changes, nil
}

// replaceFiles moves the files of a version to where they belong, and those that they take
// the place of, and those that are gone, to the stash.
func replaceFiles(root, version string, gone []string, stash string) (*edit, error) {
	e := &edit{dirs: make(map[string]time.Time)}
	put := func(rel string, new bool) error {
		path, kept := filepath.Join(root, rel), filepath.Join(stash, rel)
		if err := e.makeDirs(root, filepath.Dir(rel)); err != nil {
			return err
		}
		if _, err := os.Lstat(path); err == nil {
			if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
				return err
			}
			if err := e.move(path, kept); err != nil {
				return err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if new {
			return e.move(filepath.Join(version, rel), path)
		}
		return nil
	}
	var files []string
	err := filepath.WalkDir(version, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, relErr := filepath.Rel(version, path)
			files, err = append(files, rel), relErr
		}
		return err
	})
	for _, rel := range files {
		if err == nil {
			err = put(rel, true)
		}
	}
	for _, rel := range gone {
		if err == nil {
			err = put(rel, false)
		}
	}
	if err != nil {
		return nil, errors.Join(err, e.undo())
	}
	return e, nil
}

// makeDirs makes a directory of the tree and those above it, as far as they are not there.
func (e *edit) makeDirs(root, rel string) error {
	dir := filepath.Join(root, rel)
	info, err := os.Stat(dir)
	switch {
	case err == nil && slices.Contains(e.made, dir):
		return nil
	case err == nil && info.IsDir():
		return e.touch(dir)
	case err == nil:
		return fmt.Errorf("%s is a file, and was to be a directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := e.makeDirs(root, filepath.Dir(rel)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	e.made = append(e.made, dir)
	return nil
}

// laterTime is when the files of a version were modified.
func laterTime(version int) time.Time { return epoch.AddDate(0, 0, version) }

const dumpName = "database.sql"

// setDump sets a dump of a database, and the one of the next day.
func setDump(w *workload, size int64) {
	write := func(root string, version int) error {
		return writeLarge(filepath.Join(root, dumpName), laterTime(version), func(f *os.File) error {
			_, err := corpus.Dump{Size: size, Version: version}.WriteTo(f)
			return err
		})
	}
	w.versions = 2
	w.make = func(_ context.Context, root string) error { return write(root, 1) }
	w.next = func(_ context.Context, root string, n int) ([]string, error) { return nil, write(root, n) }
}

// setImage sets the disk of a virtual machine, and what it is the next day.
func setImage(w *workload, size, data int64) {
	size -= size % corpus.BlockSize
	write := func(root string, version int) error {
		return writeLarge(filepath.Join(root, "disk.img"), laterTime(version), func(f *os.File) error {
			if err := f.Truncate(size); err != nil {
				return err
			}
			return corpus.Image{Size: size, Data: data, Version: version}.WriteBlocks(f)
		})
	}
	w.versions = 2
	w.make = func(_ context.Context, root string) error { return write(root, 1) }
	w.next = func(_ context.Context, root string, n int) ([]string, error) { return nil, write(root, n) }
}

func writeLarge(name string, modified time.Time, fill func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		return err
	}
	return os.Chtimes(name, time.Time{}, modified)
}

// sourceModules are modules of Go in consecutive releases, as they were published: some 60 MB,
// of which each release changes a part.
var sourceModules = []struct {
	path     string
	versions []string
}{
	{"golang.org/x/tools", []string{"v0.48.0", "v0.49.0", "v0.50.0", "v0.51.0"}},
	{"google.golang.org/grpc", []string{"v1.83.0", "v1.83.1", "v1.83.2", "v1.84.0"}},
	{"google.golang.org/protobuf", []string{"v1.36.9", "v1.36.10", "v1.36.11", "v1.36.12"}},
	{"k8s.io/client-go", []string{"v0.36.5", "v0.36.6", "v0.37.0", "v0.37.1"}},
}

// setSource sets trees of source code, release after release. They come from Go's module
// proxy, or from its cache if they are there.
func setSource(w *workload, scale int64) {
	modules := sourceModules
	if scale > 1 {
		modules = modules[:1]
	}
	w.versions = len(modules[0].versions)
	w.make = func(ctx context.Context, root string) error {
		for _, m := range modules {
			dir, err := module(ctx, m.path, m.versions[0])
			if err != nil {
				return err
			}
			if _, err := copyChanged(dir, "", filepath.Join(root, m.path), laterTime(1)); err != nil {
				return err
			}
		}
		return nil
	}
	w.next = func(ctx context.Context, root string, n int) (gone []string, err error) {
		for _, m := range modules {
			old, err := module(ctx, m.path, m.versions[n-2])
			if err != nil {
				return nil, err
			}
			dir, err := module(ctx, m.path, m.versions[n-1])
			if err != nil {
				return nil, err
			}
			g, err := copyChanged(dir, old, filepath.Join(root, m.path), laterTime(n))
			if err != nil {
				return nil, err
			}
			for _, rel := range g {
				gone = append(gone, filepath.Join(m.path, rel))
			}
		}
		return gone, nil
	}
}

// module returns the directory of a module's release in Go's cache.
func module(ctx context.Context, path, version string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", path+"@"+version)
	cmd.Dir = os.TempDir() // not in this module, which does not need them
	out, err := cmd.Output()
	var m struct{ Dir, Error string }
	if json.Unmarshal(out, &m) == nil && m.Error != "" {
		err = errors.New(m.Error)
	}
	if err != nil {
		return "", fmt.Errorf("get %s %s (the workload source needs Go's module proxy): %w", path, version, err)
	}
	return m.Dir, nil
}

// copyChanged copies the files of a tree that are not the same in the tree old, "" for
// all, and returns those of old that are gone.
func copyChanged(from, old, to string, modified time.Time) (gone []string, err error) {
	err = eachFile(from, func(rel string) error {
		data, err := os.ReadFile(filepath.Join(from, rel))
		if err != nil {
			return err
		}
		if old != "" {
			if was, err := os.ReadFile(filepath.Join(old, rel)); err == nil && bytes.Equal(was, data) {
				return nil
			}
		}
		name := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
		return os.Chtimes(name, time.Time{}, modified)
	})
	if err != nil || old == "" {
		return nil, err
	}
	err = eachFile(old, func(rel string) error {
		_, err := os.Lstat(filepath.Join(from, rel))
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, rel)
			return nil
		}
		return err
	})
	return gone, err
}

// eachFile calls fn for each regular file of a tree, in order.
func eachFile(root string, fn func(rel string) error) error {
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, relErr := filepath.Rel(root, path)
			files, err = append(files, rel), relErr
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, rel := range files {
		if err := fn(rel); err != nil {
			return err
		}
	}
	return nil
}
