package refreader

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/zeebo/blake3"
)

// Section 10: walking the entry tree, and reading contents.

// keyPath returns the path of a key: "/" for the empty key, "/srv/x" for files, "stdin/dump" for others.
func keyPath(key string) string {
	if key == "" {
		return "/"
	}
	return strings.ReplaceAll(key, "\x00", "/")
}

// parentKey returns what stands before the last NUL of a key; ok is false if there is none.
func parentKey(key string) (parent string, ok bool) {
	i := strings.LastIndexByte(key, 0)
	if i < 0 {
		return "", false
	}
	return key[:i], true
}

// A walker checks what no node says of itself alone: the order across nodes, parents, sums.
type walker struct {
	r       *Repo
	keys    *realmKeys
	fn      func(path string, e Entry) error
	started bool
	last    string
	dirs    []string // keys of the directories that the last entry is in or is
}

// Walk calls fn for every entry of a snapshot in the order of keys, that is, each directory before
// what is in it. The path may hold any bytes. Walk stops at the first error, of its own or fn's.
func (r *Repo) Walk(s Snapshot, fn func(path string, e Entry) error) error {
	keys, err := r.keysOf(realm{domain: s.Domain, epoch: s.Epoch})
	if err != nil {
		return err
	}
	w := &walker{r: r, keys: keys, fn: fn}
	_, err = w.node(s.Root, s.RootLevel, true)
	return err
}

// node walks a subtree and returns what its parent must say of it.
func (w *walker) node(id ID, level uint8, root bool) (all child, err error) {
	plain, err := w.r.chunk(id, chunkNode)
	if err != nil {
		return all, err
	}
	n, err := parseNode(plain)
	if err != nil {
		return all, fmt.Errorf("node %v: %w", id, err)
	}
	if n.level != level {
		return all, fmt.Errorf("node %v is at level %d, not %d", id, n.level, level)
	}
	all.id = id
	if level > 0 {
		all.first = n.children[0].first
		for _, c := range n.children {
			got, err := w.node(c.id, level-1, false)
			if err != nil {
				return all, err
			}
			if got != c {
				return all, fmt.Errorf("node %v is not as its parent %v says", c.id, id)
			}
			all.entries += c.entries
			all.bytes += c.bytes
		}
		return all, nil
	}
	if len(n.entries) == 0 {
		if root {
			return all, nil // an empty tree
		}
		return all, fmt.Errorf("node %v: leaf without entries", id)
	}
	all.first = n.entries[0].Key
	all.entries = uint64(len(n.entries))
	for _, e := range n.entries {
		all.bytes += e.Size
		if err := w.entry(e); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (w *walker) entry(e Entry) error {
	path := keyPath(e.Key)
	if w.started && w.last >= e.Key {
		return fmt.Errorf("%q follows %q", path, keyPath(w.last))
	}
	w.started, w.last = true, e.Key
	if parent, ok := parentKey(e.Key); ok {
		// Whatever is in a directory follows it at once, so the parent is among those still open.
		for len(w.dirs) > 0 && w.dirs[len(w.dirs)-1] != parent {
			w.dirs = w.dirs[:len(w.dirs)-1]
		}
		if len(w.dirs) == 0 {
			return fmt.Errorf("%q has no parent directory", path)
		}
	}
	if e.Type == Directory {
		w.dirs = append(w.dirs, e.Key)
	}
	e.contentHashKey = w.keys.contentHash
	return w.fn(path, e)
}

// hashByExtents is the size in bytes from which on a file's content hash is made of its extents.
const hashByExtents = 1 << 18

// ReadFile writes the contents of a file that Walk returned. Each chunk is verified before it is written, the hash of
// the whole and its size at the end: only a nil error says that w has got the file.
func (r *Repo) ReadFile(e Entry, w io.Writer) error {
	if e.Type != File {
		return fmt.Errorf("%q is not a file", keyPath(e.Key))
	}
	if e.Size == 0 {
		return nil
	}
	f := fileReader{r: r, w: w, hash: newKeyed(e.contentHashKey), byExtents: e.Size >= hashByExtents}
	if f.byExtents {
		f.hash.Write([]byte{1})
	} else {
		f.hash.Write([]byte{0})
		f.w = io.MultiWriter(w, f.hash)
	}
	if err := f.contents(e); err != nil {
		return fmt.Errorf("read %q: %w", keyPath(e.Key), err)
	}
	if got := finish(f.hash, nil); [16]byte(got[:16]) != e.ContentHash {
		return fmt.Errorf("read %q: contents do not have the content hash", keyPath(e.Key))
	}
	return nil
}

type fileReader struct {
	r         *Repo
	w         io.Writer
	hash      *blake3.Hasher
	byExtents bool // the hash is of the extents' IDs and lengths, not of the contents
}

func (f *fileReader) contents(e Entry) error {
	if e.List != nil {
		return f.list(e.List.Root, e.List.Level, e.Size)
	}
	for _, x := range e.Extents {
		if err := f.extent(x); err != nil {
			return err
		}
	}
	return nil
}

// list reads a list tree of which size bytes of contents are known to be below.
func (f *fileReader) list(id ID, level uint8, size uint64) error {
	plain, err := f.r.chunk(id, chunkList)
	if err != nil {
		return err
	}
	n, err := parseListNode(plain)
	if err != nil {
		return fmt.Errorf("list node %v: %w", id, err)
	}
	if n.level != level {
		return fmt.Errorf("list node %v is at level %d, not %d", id, n.level, level)
	}
	left := size
	for _, x := range n.items {
		if x.Length > left {
			return fmt.Errorf("list node %v holds more than %d bytes", id, size)
		}
		left -= x.Length
		if level > 0 {
			err = f.list(x.Chunk, level-1, x.Length)
		} else {
			err = f.extent(x)
		}
		if err != nil {
			return err
		}
	}
	if left != 0 {
		return fmt.Errorf("list node %v holds %d bytes less than %d", id, left, size)
	}
	return nil
}

func (f *fileReader) extent(x Extent) error {
	if f.byExtents {
		f.hash.Write(x.Chunk[:])
		f.hash.Write(binary.LittleEndian.AppendUint64(nil, x.Length))
	}
	if x.Chunk == (ID{}) {
		_, err := io.CopyN(f.w, zeros{}, int64(x.Length))
		return err
	}
	plain, err := f.r.chunk(x.Chunk, chunkData)
	if err != nil {
		return err
	}
	if x.ChunkSize != uint64(len(plain)) {
		return fmt.Errorf("chunk %v has %d bytes, not %d", x.Chunk, len(plain), x.ChunkSize)
	}
	_, err = f.w.Write(plain[x.Offset : x.Offset+x.Length])
	return err
}

// zeros is what a hole reads as.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
