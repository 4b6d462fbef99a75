package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/snapshot"
)

var cutKey = [32]byte{1, 2, 3}

// store keeps nodes in memory and counts how often they are read.
type store struct {
	nodes map[chunk.ID][]byte
	bytes int // of all nodes, each once
	reads int
}

func newStore() *store { return &store{nodes: make(map[chunk.ID][]byte)} }

// sink is a snapshot.Sink.
func (s *store) sink(_ context.Context, p []byte) (chunk.ID, error) {
	id := chunk.ID(blake3.Sum256(p))
	if _, ok := s.nodes[id]; !ok {
		s.nodes[id] = bytes.Clone(p)
		s.bytes += len(p)
	}
	return id, nil
}

func (s *store) Node(_ context.Context, id chunk.ID, _ chunk.Kind) ([]byte, error) {
	s.reads++
	p, ok := s.nodes[id]
	if !ok {
		return nil, fmt.Errorf("no node %s", id.Short())
	}
	return p, nil
}

// build makes a tree in s.
func build(t testing.TB, s *store, entries []snapshot.Entry) snapshot.Tree {
	t.Helper()
	b := snapshot.NewBuilder(cutKey, s.sink)
	for i := range entries {
		if err := b.Add(t.Context(), &entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Tree{Root: root, Source: s}
}

// random makes random things that are valid. It says its seed when the test fails.
type random struct{ *rand.Rand }

func newRandom(t testing.TB) random {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %#x", seed)
		}
	})
	return seeded(seed)
}

func seeded(seed uint64) random { return random{rand.New(rand.NewPCG(seed, seed))} }

func (r random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// name returns a component: bytes of all values that one may have.
func (r random) name() string {
	n := 1 + r.IntN(6)
	if r.IntN(50) == 0 {
		n = 255
	}
	for {
		b := r.bytes(n)
		for i := range b {
			if r.IntN(3) > 0 {
				b[i] = 'a' + b[i]%4 // so that names have common prefixes
			}
			if b[i] == 0 || b[i] == '/' {
				b[i] = 1
			}
		}
		if s := string(b); s != "." && s != ".." {
			return s
		}
	}
}

// entries returns a tree of about n entries.
func (r random) entries(n int) []snapshot.Entry {
	all := map[snapshot.Key]snapshot.Entry{"": r.directory(""), "stdin": r.directory("stdin")}
	dirs := []snapshot.Key{"", "stdin"}
	for range n {
		key := dirs[max(r.IntN(len(dirs)), r.IntN(len(dirs)))].Child(r.name())
		if _, ok := all[key]; ok {
			continue
		}
		if r.IntN(4) == 0 && len(key) < 4000 {
			all[key] = r.directory(key)
			dirs = append(dirs, key)
		} else {
			all[key] = r.entry(key)
		}
	}
	var sorted []snapshot.Entry
	for _, k := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, all[k])
	}
	return sorted
}

func (r random) directory(key snapshot.Key) snapshot.Entry {
	e := r.base(key)
	e.Type = snapshot.Directory
	return e
}

func (r random) time() snapshot.Time {
	if r.IntN(20) == 0 {
		return snapshot.Time{Sec: int64(r.Uint64()), Nsec: 999_999_999}
	}
	return snapshot.Time{Sec: 1_700_000_000 + r.Int64N(1000), Nsec: r.Uint32N(1e9)}
}

func (r random) base(key snapshot.Key) snapshot.Entry {
	e := snapshot.Entry{Key: key, Mode: r.Uint32N(0o10000), UID: r.Uint32N(3), Mtime: r.time(), Inode: r.Uint64N(1 << 20)}
	if e.Ctime = e.Mtime; r.IntN(2) == 0 {
		e.Ctime = r.time()
	}
	switch r.IntN(20) {
	case 0:
		e.UID, e.GID, e.Inode = 1<<32-1, 1<<32-1, r.Uint64()
	case 1:
		e.User, e.Group = "a\xff", "staff"
	case 2:
		e.Xattrs = []snapshot.Xattr{{Name: "security.x", Value: []byte{}}, {Name: "user.x", Value: r.bytes(r.IntN(300))}}
	}
	return e
}

// entry returns anything but a directory.
func (r random) entry(key snapshot.Key) snapshot.Entry {
	e := r.base(key)
	e.Type = snapshot.File
	if r.IntN(10) == 0 {
		e.HasLink, e.Link = true, r.Uint64N(3)
	}
	switch r.IntN(12) {
	case 0:
		e.Type, e.Target = snapshot.Symlink, []byte("../"+r.name())
	case 1:
		e.Type = snapshot.FIFO
	case 2:
		e.Type = snapshot.Socket
	case 3:
		e.Type, e.Device = snapshot.CharDevice, r.Uint64()
	case 4:
		e.Type = snapshot.BlockDevice
	case 5: // an empty file
	case 6:
		e.Size, e.List = 1+r.Uint64N(1<<62), &snapshot.ListRef{Root: r.id(), Level: uint8(r.IntN(3))}
	default:
		for range 1 + r.IntN(4)*r.IntN(3) {
			e.Extents = append(e.Extents, r.extent())
			e.Size += e.Extents[len(e.Extents)-1].Length
		}
		e.Partial = r.IntN(10) == 0
	}
	if e.Size > 0 {
		copy(e.Hash[:], r.bytes(16))
	}
	return e
}

func (r random) id() chunk.ID { return chunk.ID(r.bytes(32)) }

// extent returns one of few chunks, so that extents of a leaf share them.
func (r random) extent() snapshot.Extent {
	n := r.IntN(8)
	x := snapshot.Extent{Chunk: chunk.ID{1, byte(n)}, ChunkSize: uint32(1 + n*n*100)}
	switch r.IntN(4) {
	case 0:
		return snapshot.Extent{Length: 1 + r.Uint64N(1<<40)}
	case 1:
		x.Length = uint64(x.ChunkSize)
	default:
		x.Offset = r.Uint32N(x.ChunkSize)
		x.Length = 1 + r.Uint64N(uint64(x.ChunkSize-x.Offset))
	}
	return x
}

// plainFiles returns a directory tree of n files as on a disk. size 0 makes
// them empty, else they are small files in bundles of 512 KiB.
func plainFiles(n int, size uint32) []snapshot.Entry {
	r := seeded(1)
	dir := func(path string, i int) snapshot.Entry {
		return snapshot.Entry{Key: key(path), Type: snapshot.Directory, Mode: 0o755, UID: 1000, GID: 1000, User: "app", Group: "app", Mtime: snapshot.Time{Sec: 1_700_000_000 + int64(i), Nsec: r.Uint32N(1e9)}}
	}
	entries := []snapshot.Entry{dir("/", 0), dir("/data", 1)}
	const bundle = 512 << 10
	offset := uint32(0)
	for i := range n {
		if i%200 == 0 {
			entries = append(entries, dir(fmt.Sprintf("/data/%05d", i/200), i))
		}
		e := dir(fmt.Sprintf("/data/%05d/object-%04d.json", i/200, i%200), i)
		e.Type, e.Mode, e.Inode = snapshot.File, 0o644, uint64(1000+i)
		e.Ctime = e.Mtime
		if size > 0 {
			n := size/2 + r.Uint32N(size)
			if offset+n > bundle {
				offset = 0
			}
			e.Size = uint64(n)
			e.Extents = []snapshot.Extent{{Chunk: chunk.ID{byte(i >> 16), byte(i >> 8), 1}, ChunkSize: bundle, Offset: offset, Length: uint64(n)}}
			if offset > 0 {
				e.Extents[0].Chunk = entries[len(entries)-1].Extents[0].Chunk
			}
			offset += n
			copy(e.Hash[:], r.bytes(16))
		}
		if size > 0 && i%200 == 199 {
			offset = 0 // the next entry is a directory, which has no chunk to go on with
		}
		entries = append(entries, e)
	}
	return entries
}

// key is snapshot.KeyOf for paths that are right.
func key(path string) snapshot.Key {
	k, err := snapshot.KeyOf(path)
	if err != nil {
		panic(err)
	}
	return k
}
