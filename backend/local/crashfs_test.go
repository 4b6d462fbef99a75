package local_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/cairn-backup/cairn/backend/local"
)

// disk is a file system in memory that can lose power. It keeps, beside what a
// program sees, what is certain to survive: the contents that a file had at its
// last sync, the entries that a directory had at its own. After a loss of power
// (after) everything else is there or not, each piece by itself.
//
// Programs use it through processes, which can be killed without loss of power.
// Every call that may change the disk is an operation.
type disk struct {
	mu   sync.Mutex
	root *node
	ops  int // operations so far

	// before, if set, is called before each operation, with the disk locked.
	before func()

	// ignore, if set, says which syncs do nothing, to prove that each is needed.
	ignore func(s syncCall) bool
}

// syncCall is a sync as disk.ignore sees it.
type syncCall struct {
	path string
	dir  bool
	// foreign: this process has changed nothing in the directory since it last
	// synced it, so that the sync can only be for what others did.
	foreign bool
}

// node is a file or a directory.
type node struct {
	dir      bool
	perm     fs.FileMode
	modified time.Time

	data   []byte // contents now
	synced []byte // contents at the last sync
	holder *handle

	entries map[string]*node   // now
	past    map[string][]*node // entries changed since the last sync: all that they were from then on, nil for none
}

func newDir() *node {
	return &node{dir: true, perm: 0o700, entries: map[string]*node{}, past: map[string][]*node{}}
}

var errKilled = errors.New("process was killed")

func newDisk() *disk { return &disk{root: newDir()} }

// set changes an entry of a directory; nil removes it.
func (n *node) set(name string, to *node) {
	n.past[name] = append(n.past[name], n.entries[name])
	if to == nil {
		delete(n.entries, name)
	} else {
		n.entries[name] = to
	}
}

// after returns a disk as it may be found when the power is back, one of many
// possible, chosen by rng. It is called with the disk locked, or at rest.
func (d *disk) after(rng *rand.Rand) *disk {
	return &disk{root: d.root.after(rng, map[*node]*node{})}
}

// after returns what is left of a node; seen keeps two links to one file together.
func (n *node) after(rng *rand.Rand, seen map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if m, ok := seen[n]; ok {
		return m
	}
	m := &node{dir: n.dir, perm: n.perm, modified: n.modified, entries: map[string]*node{}, past: map[string][]*node{}}
	seen[n] = m
	if !n.dir {
		m.data = n.dataAfter(rng)
		m.synced = m.data
		return m
	}
	names := map[string]bool{}
	for name := range n.entries {
		names[name] = true
	}
	for name := range n.past {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		choices := append(slices.Clone(n.past[name]), n.entries[name])
		if left := choices[rng.IntN(len(choices))].after(rng, seen); left != nil {
			m.entries[name] = left
		}
	}
	return m
}

// dataAfter returns what is left of a file's contents: all, what was synced, a
// part of what came later, or the full length with zeros at the end.
func (n *node) dataAfter(rng *rand.Rand) []byte {
	if len(n.synced) == len(n.data) {
		return n.data // files are only ever appended to
	}
	torn := len(n.synced) + rng.IntN(len(n.data)-len(n.synced))
	switch rng.IntN(4) {
	case 0:
		return n.data
	case 1:
		return n.synced
	case 2:
		return n.data[:torn]
	default:
		return append(slices.Clone(n.data[:torn]), make([]byte, len(n.data)-torn)...)
	}
}

// process is a program's view of the disk. It implements local.FS.
type process struct {
	d       *disk
	left    int // operations until it is killed; negative: never
	dead    bool
	changed map[string]bool // directories that it changed since it synced them
	locks   []*node
}

func (d *disk) start() *process {
	return &process{d: d, left: -1, changed: map[string]bool{}}
}

// kill ends the process after n more operations.
func (p *process) kill(n int) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.left = n
}

// alive is called with the lock held.
func (p *process) alive() error {
	if p.dead {
		return errKilled
	}
	return nil
}

// operate counts an operation, which is not done if there is an error.
func (p *process) operate() error {
	if err := p.alive(); err != nil {
		return err
	}
	if p.left == 0 {
		p.dead = true
		for _, n := range p.locks {
			n.holder = nil
		}
		return errKilled
	}
	if p.d.before != nil {
		p.d.before()
	}
	p.left--
	p.d.ops++
	return nil
}

// find returns the node at a path, called with the lock held.
func (p *process) find(op, name string) (*node, error) {
	n := p.d.root
	for rest := name[1:]; rest != ""; {
		var part string
		part, rest, _ = cut(rest)
		if !n.dir {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
		if n = n.entries[part]; n == nil {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
	}
	return n, nil
}

func cut(s string) (first, rest string, more bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// parent returns the directory of a path.
func (p *process) parent(op, name string) (*node, error) {
	n, err := p.find(op, path.Dir(name))
	if err == nil && !n.dir {
		err = pathError(op, name, fs.ErrNotExist)
	}
	return n, err
}

// change sets an entry of the directory of a path.
func (p *process) change(dir *node, name string, to *node) {
	dir.set(path.Base(name), to)
	p.changed[path.Dir(name)] = true
}

func (p *process) OpenFile(name string, flag int, perm fs.FileMode) (local.File, error) {
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
	n = &node{perm: perm, modified: time.Unix(int64(p.d.ops), 0)}
	p.change(dir, name, n)
	return &handle{p: p, n: n, name: name}, nil
}

func (p *process) Stat(name string) (fs.FileInfo, error) {
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

func (p *process) ReadDir(name string) ([]fs.DirEntry, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.alive(); err != nil {
		return nil, pathError("readdir", name, err)
	}
	n, err := p.find("readdir", name)
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		entries = append(entries, fs.FileInfoToDirEntry(n.entries[name].info(name)))
	}
	return entries, nil
}

func (p *process) Mkdir(name string, perm fs.FileMode) error {
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

func (p *process) Link(old, new string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return pathError("link", new, err)
	}
	n, err := p.find("link", old)
	if err != nil {
		return err
	}
	dir, err := p.parent("link", new)
	if err != nil {
		return err
	}
	if dir.entries[path.Base(new)] != nil {
		return pathError("link", new, fs.ErrExist)
	}
	p.change(dir, new, n)
	return nil
}

func (p *process) Rename(old, new string) error {
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

func (p *process) Remove(name string) error {
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

func (p *process) SyncDir(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.operate(); err != nil {
		return pathError("sync", name, err)
	}
	n, err := p.find("sync", name)
	if err != nil {
		return err
	}
	call := syncCall{path: name, dir: true, foreign: !p.changed[name]}
	delete(p.changed, name)
	if p.d.ignore == nil || !p.d.ignore(call) {
		clear(n.past)
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

// handle is an open file. It implements local.File.
type handle struct {
	p    *process
	n    *node
	name string
	off  int
}

func (h *handle) Read(b []byte) (int, error) {
	n, err := h.ReadAt(b, int64(h.off))
	h.off += n
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (h *handle) ReadAt(b []byte, off int64) (int, error) {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	if err := h.p.alive(); err != nil {
		return 0, pathError("read", h.name, err)
	}
	n := copy(b, h.n.data[min(off, int64(len(h.n.data))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) Write(b []byte) (int, error) {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	if err := h.p.operate(); err != nil {
		return 0, pathError("write", h.name, err)
	}
	// A new slice, as synced and the disks left after a crash share the old one.
	h.n.data = append(slices.Clip(h.n.data), b...)
	return len(b), nil
}

func (h *handle) Stat() (fs.FileInfo, error) {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	if err := h.p.alive(); err != nil {
		return nil, pathError("stat", h.name, err)
	}
	return h.n.info(path.Base(h.name)), nil
}

func (h *handle) Sync() error {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	if err := h.p.operate(); err != nil {
		return pathError("sync", h.name, err)
	}
	if h.p.d.ignore == nil || !h.p.d.ignore(syncCall{path: h.name}) {
		h.n.synced = h.n.data
	}
	return nil
}

func (h *handle) TryLock() (bool, error) {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	if err := h.p.alive(); err != nil {
		return false, pathError("flock", h.name, err)
	}
	if h.n.holder != nil && h.n.holder != h {
		return false, nil
	}
	h.n.holder = h
	h.p.locks = append(h.p.locks, h.n)
	return true, nil
}

func (h *handle) Close() error {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	if h.n.holder == h {
		h.n.holder = nil
	}
	return h.p.alive()
}
