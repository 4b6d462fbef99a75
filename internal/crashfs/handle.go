package crashfs

import (
	"io"
	"io/fs"
	"path"
	"slices"
)

// handle is an open file. It implements vfs.File.
type handle struct {
	p    *Process
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
	return h.p.d.sync(Sync{Path: h.name}, func() { h.n.synced = h.n.data })
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
