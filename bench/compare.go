package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// compareTrees says how the tree at got differs from the one at want: names,
// types, modes, owners, times of modification, links, sizes and contents. It
// gives up after ten differences.
func compareTrees(want, got string) error {
	c := comparison{links: make(map[inode]inode)}
	err := c.compare(want, got)
	if err == nil && len(c.found) == 0 {
		return nil
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return errors.New(strings.Join(c.found, "\n"))
}

// compareFiles says that a file differs from another one in its contents.
func compareFiles(want, got string) error {
	w, err := os.Stat(want)
	if err != nil {
		return err
	}
	g, err := os.Stat(got)
	if err != nil {
		return err
	}
	if w.Size() != g.Size() {
		return fmt.Errorf("%s: %d bytes, not %d", got, g.Size(), w.Size())
	}
	var c comparison
	if err := c.compareContents(want, got); err != nil {
		return err
	}
	if len(c.found) > 0 {
		return errors.New(c.found[0])
	}
	return nil
}

var errEnough = errors.New("enough differences")

type inode struct{ device, number uint64 }

type comparison struct {
	links       map[inode]inode // of files with several names: where each one's first name was found
	found       []string
	left, right [128 << 10]byte
}

func (c *comparison) differ(path, format string, args ...any) error {
	c.found = append(c.found, path+": "+fmt.Sprintf(format, args...))
	if len(c.found) == 10 {
		return errEnough
	}
	return nil
}

func (c *comparison) compare(want, got string) error {
	w, err := os.Lstat(want)
	if err != nil {
		return err
	}
	g, err := os.Lstat(got)
	if errors.Is(err, fs.ErrNotExist) {
		return c.differ(want, "missing")
	} else if err != nil {
		return err
	}
	ws, gs := w.Sys().(*syscall.Stat_t), g.Sys().(*syscall.Stat_t)
	switch {
	case w.Mode() != g.Mode():
		return c.differ(want, "mode %v, not %v", g.Mode(), w.Mode())
	case ws.Uid != gs.Uid || ws.Gid != gs.Gid:
		return c.differ(want, "owner %d:%d, not %d:%d", gs.Uid, gs.Gid, ws.Uid, ws.Gid)
	case !w.ModTime().Equal(g.ModTime()):
		return c.differ(want, "modified %v, not %v", g.ModTime(), w.ModTime())
	case w.Mode().Type() == fs.ModeSymlink:
		return c.compareLinks(want, got)
	case w.IsDir():
		return c.compareDirs(want, got)
	case !w.Mode().IsRegular():
		return nil
	case w.Size() != g.Size():
		return c.differ(want, "%d bytes, not %d", g.Size(), w.Size())
	}
	if ws.Nlink > 1 {
		from, to := inode{uint64(ws.Dev), ws.Ino}, inode{uint64(gs.Dev), gs.Ino}
		if first, ok := c.links[from]; ok && first != to {
			return c.differ(want, "no longer a link to the same file as its other names")
		}
		c.links[from] = to
	}
	return c.compareContents(want, got)
}

func (c *comparison) compareLinks(want, got string) error {
	w, err := os.Readlink(want)
	if err != nil {
		return err
	}
	g, err := os.Readlink(got)
	if err != nil {
		return err
	}
	if w != g {
		return c.differ(want, "links to %q, not %q", g, w)
	}
	return nil
}

func (c *comparison) compareDirs(want, got string) error {
	w, err := os.ReadDir(want)
	if err != nil {
		return err
	}
	g, err := os.ReadDir(got)
	if err != nil {
		return err
	}
	expected := make(map[string]bool, len(w))
	for _, d := range w {
		expected[d.Name()] = true
		if err := c.compare(filepath.Join(want, d.Name()), filepath.Join(got, d.Name())); err != nil {
			return err
		}
	}
	for _, d := range g {
		if !expected[d.Name()] {
			if err := c.differ(filepath.Join(want, d.Name()), "was not there"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *comparison) compareContents(want, got string) error {
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer w.Close()
	g, err := os.Open(got)
	if err != nil {
		return err
	}
	defer g.Close()
	for {
		n, err := io.ReadFull(w, c.left[:])
		m, gotErr := io.ReadFull(g, c.right[:])
		if !bytes.Equal(c.left[:n], c.right[:m]) {
			return c.differ(want, "other contents")
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil // the lengths are the same
		}
		if err = errors.Join(err, gotErr); err != nil {
			return err
		}
	}
}
