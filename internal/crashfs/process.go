package crashfs

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cairn-backup/cairn/internal/vfs"
)

// ErrKilled is in the errors of a process that was killed.
var ErrKilled = errors.New("process was killed")

// Process is a program's view of the disk. It implements vfs.FS.
type Process struct {
	d       *Disk
	left    int // operations until it is killed; negative: never
	dead    bool
	changed map[string]bool // directories that it changed since it synced them
	locks   []*node
}

// Start starts a process.
func (d *Disk) Start() *Process {
	return &Process{d: d, left: -1, changed: map[string]bool{}}
}

// Kill ends the process after n more operations.
func (p *Process) Kill(n int) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.left = n
}

// Dead reports whether the process was killed.
func (p *Process) Dead() bool {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.dead
}

// Contents returns what is in a file now, as every process sees it, and whether there is
// such a file.
func (d *Disk) Contents(name string) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := (&Process{d: d}).find("open", name)
	if err != nil || n.dir {
		return nil, false
	}
	return n.data, true
}

// alive is called with the lock held.
func (p *Process) alive() error {
	if p.dead {
		return ErrKilled
	}
	return nil
}

// operate counts an operation, which is not done if there is an error.
func (p *Process) operate() error {
	if err := p.alive(); err != nil {
		return err
	}
	if p.left == 0 {
		p.dead = true
		for _, n := range p.locks {
			n.holder = nil
		}
		return ErrKilled
	}
	if p.d.Before != nil {
		p.d.Before()
	}
	p.left--
	p.d.ops++
	return nil
}

// find returns the node at a path, called with the lock held.
func (p *Process) find(op, name string) (*node, error) {
	n := p.d.root
	for rest := name[1:]; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if !n.dir {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
		if n = n.entries[part]; n == nil {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
	}
	return n, nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// parent returns the directory of a path.
func (p *Process) parent(op, name string) (*node, error) {
	n, err := p.find(op, path.Dir(name))
	if err == nil && !n.dir {
		err = pathError(op, name, fs.ErrNotExist)
	}
	return n, err
}

// change sets an entry of the directory of a path.
func (p *Process) change(dir *node, name string, to *node) {
	dir.set(path.Base(name), to)
	p.changed[path.Dir(name)] = true
}

func (p *Process) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.alive(); err != nil {
		return nil, pathError("open", name, err)
	}
	n, err := p.find("open", name)
	switch {
	case err == nil && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, fs.ErrExist)
	case err == nil:
		return &handle{p: p, n: n, name: name}, nil
	case flag&os.O_CREATE == 0:
		return nil, err
	}
	if err := p.operate(); err != nil {
		return nil, pathError("open", name, err)
	}
	dir, err := p.parent("open", name)
	if err != nil {
		return nil, err
	}
	n = &node{perm: perm, modified: p.d.now()}
	p.change(dir, name, n)
	return &handle{p: p, n: n, name: name}, nil
}

func (p *Process) Stat(name string) (fs.FileInfo, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.alive(); err != nil {
		return nil, pathError("stat", name, err)
	}
	n, err := p.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(path.Base(name)), nil
}

func (p *Process) ReadDir(name string) ([]vfs.Entry, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.alive(); err != nil {
		return nil, pathError("readdir", name, err)
	}
	n, err := p.find("readdir", name)
	if err != nil {
		return nil, err
	}
	var entries []vfs.Entry
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		e := n.entries[name]
		entry := vfs.Entry{Name: name, Kind: vfs.Directory}
		if !e.dir {
			entry = vfs.Entry{Name: name, Kind: vfs.Regular, Size: int64(len(e.data)), Modified: e.modified}
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (p *Process) Mkdir(name string, perm fs.FileMode) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return pathError("mkdir", name, err)
	}
	dir, err := p.parent("mkdir", name)
	if err != nil {
		return err
	}
	if dir.entries[path.Base(name)] != nil {
		return pathError("mkdir", name, fs.ErrExist)
	}
	p.change(dir, name, newDir())
	return nil
}

func (p *Process) Link(old, new string) (moved bool, err error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return false, pathError("link", new, err)
	}
	n, err := p.find("link", old)
	if err != nil {
		return false, err
	}
	dir, err := p.parent("link", new)
	if err != nil {
		return false, err
	}
	if dir.entries[path.Base(new)] != nil {
		return false, pathError("link", new, fs.ErrExist)
	}
	p.change(dir, new, n)
	return false, nil
}

func (p *Process) Rename(old, new string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return pathError("rename", new, err)
	}
	n, err := p.find("rename", old)
	if err != nil {
		return err
	}
	from, err := p.parent("rename", old)
	if err != nil {
		return err
	}
	to, err := p.parent("rename", new)
	if err != nil {
		return err
	}
	// Two directories, so two changes that may survive each without the other.
	p.change(from, old, nil)
	p.change(to, new, n)
	return nil
}

func (p *Process) Remove(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return pathError("unlink", name, err)
	}
	n, err := p.find("unlink", name)
	if err != nil {
		return err
	}
	if n.dir {
		return pathError("unlink", name, errors.New("is a directory"))
	}
	dir, err := p.parent("unlink", name)
	if err != nil {
		return err
	}
	p.change(dir, name, nil)
	return nil
}

func (p *Process) SyncDir(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return pathError("sync", name, err)
	}
	n, err := p.find("sync", name)
	if err != nil {
		return err
	}
	call := Sync{Path: name, Dir: true, Foreign: !p.changed[name]}
	delete(p.changed, name)
	return p.d.sync(call, func() { clear(n.past) })
}

// sync does a sync, or fails, or only says that it did.
func (d *Disk) sync(s Sync, do func()) error {
	if d.Fail != nil {
		if err := d.Fail(s); err != nil {
			return pathError("sync", s.Path, err)
		}
	}
	if d.Ignore == nil || !d.Ignore(s) {
		do()
	}
	return nil
}

// info describes the node as it is now.
func (n *node) info(name string) fs.FileInfo {
	return nodeInfo{name, n.dir, n.perm, int64(len(n.data)), n.modified}
}

type nodeInfo struct {
	name     string
	dir      bool
	perm     fs.FileMode
	size     int64
	modified time.Time
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.size }
func (i nodeInfo) ModTime() time.Time { return i.modified }
func (i nodeInfo) IsDir() bool        { return i.dir }
func (i nodeInfo) Sys() any           { return nil }
func (i nodeInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | i.perm
	}
	return i.perm
}
