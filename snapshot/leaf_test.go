package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

func TestLeafRoundTrip(t *testing.T) {
	r := newRandom(t)
	var decoded snapshot.Leaf // used again and again
	for range 200 {
		leaf := snapshot.Leaf{Entries: r.entries(r.IntN(60))}
		p, err := leaf.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := decoded.Decode(p); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(decoded.Entries, leaf.Entries) {
			for i, e := range decoded.Entries {
				if !reflect.DeepEqual(e, leaf.Entries[i]) {
					t.Fatalf("entry %d:\n got %+v\nwant %+v", i, e, leaf.Entries[i])
				}
			}
			t.Fatalf("%d entries, want %d", len(decoded.Entries), len(leaf.Entries))
		}
	}
}

// Copies of entries, with all that they point to, outlive the next Decode.
func TestLeafReuseKeepsCopies(t *testing.T) {
	r := newRandom(t)
	entries := r.entries(200)
	p, err := (&snapshot.Leaf{Entries: entries}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var leaf snapshot.Leaf
	if err := leaf.Decode(p); err != nil {
		t.Fatal(err)
	}
	copies := append([]snapshot.Entry(nil), leaf.Entries...)
	q, err := (&snapshot.Leaf{Entries: r.entries(200)}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.Decode(q); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(copies, entries) {
		t.Error("copies changed when the leaf was used again")
	}
	clone := copies[0].Clone()
	if !reflect.DeepEqual(*clone, copies[0]) {
		t.Errorf("clone %+v differs from %+v", clone, copies[0])
	}
}

// No part of an encoding is decoded, nor is one with a flipped bit accepted
// unless it encodes to the same bytes again.
func TestLeafDamage(t *testing.T) {
	r := newRandom(t)
	p, err := (&snapshot.Leaf{Entries: r.entries(40)}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	var leaf snapshot.Leaf
	for n := range p {
		if err := leaf.Decode(p[:n]); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(p), err)
		}
	}
	if err := leaf.Decode(append(bytes.Clone(p), 0)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a byte too many: %v", err)
	}
	for i := range p {
		q := bytes.Clone(p)
		q[i] ^= 1 << r.IntN(8)
		if leaf.Decode(q) != nil {
			continue
		}
		if again, err := leaf.Append(nil); err != nil || !bytes.Equal(again, q) {
			t.Fatalf("byte %d changed: accepted, but encodes otherwise: %v", i, err)
		}
	}
}

func TestEntryValidate(t *testing.T) {
	file := func(change func(*snapshot.Entry)) snapshot.Entry {
		e := snapshot.Entry{Key: "x", Type: snapshot.File, Size: 10, Extents: []snapshot.Extent{{Chunk: chunk.ID{1}, ChunkSize: 20, Offset: 5, Length: 10}}}
		change(&e)
		return e
	}
	good := file(func(*snapshot.Entry) {})
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]snapshot.Entry{
		"no type":               file(func(e *snapshot.Entry) { e.Type = 0 }),
		"unknown type":          file(func(e *snapshot.Entry) { e.Type = 8 }),
		"mode":                  file(func(e *snapshot.Entry) { e.Mode = 0o10000 }),
		"nanoseconds":           file(func(e *snapshot.Entry) { e.Mtime.Nsec = 1e9 }),
		"nanoseconds of ctime":  file(func(e *snapshot.Entry) { e.Ctime.Nsec = 1e9 }),
		"group without flag":    file(func(e *snapshot.Entry) { e.Link = 1 }),
		"target":                file(func(e *snapshot.Entry) { e.Target = []byte("x") }),
		"device":                file(func(e *snapshot.Entry) { e.Device = 1 }),
		"size without contents": file(func(e *snapshot.Entry) { e.Extents = nil }),
		"empty with extents":    file(func(e *snapshot.Entry) { e.Size = 0 }),
		"empty with hash":       {Key: "x", Type: snapshot.File, Hash: [16]byte{1}},
		"too short":             file(func(e *snapshot.Entry) { e.Size = 11 }),
		"too long":              file(func(e *snapshot.Entry) { e.Size = 9 }),
		"size of 2^63":          file(func(e *snapshot.Entry) { e.Size = 1 << 63; e.Extents = []snapshot.Extent{{Length: 1 << 63}} }),
		"list and extents":      file(func(e *snapshot.Entry) { e.List = &snapshot.ListRef{Root: chunk.ID{1}} }),
		"list without root":     file(func(e *snapshot.Entry) { e.Extents, e.List = nil, &snapshot.ListRef{} }),
		"high list":             file(func(e *snapshot.Entry) { e.Extents, e.List = nil, &snapshot.ListRef{Root: chunk.ID{1}, Level: 200} }),
		"beyond the chunk":      file(func(e *snapshot.Entry) { e.Extents[0].Offset = 11 }),
		"chunk without size":    file(func(e *snapshot.Entry) { e.Extents[0].ChunkSize = 0 }),
		"chunk too large":       file(func(e *snapshot.Entry) { e.Extents[0].ChunkSize = 1<<24 + 1 }),
		"hole with offset":      file(func(e *snapshot.Entry) { e.Extents[0] = snapshot.Extent{Offset: 1, Length: 10} }),
		"overflow":              file(func(e *snapshot.Entry) { e.Extents = []snapshot.Extent{{Length: 1<<64 - 1}, {Length: 11}} }),
		"xattrs not sorted":     file(func(e *snapshot.Entry) { e.Xattrs = []snapshot.Xattr{{Name: "b"}, {Name: "a"}} }),
		"xattrs twice":          file(func(e *snapshot.Entry) { e.Xattrs = []snapshot.Xattr{{Name: "a"}, {Name: "a"}} }),
		"xattr without name":    file(func(e *snapshot.Entry) { e.Xattrs = []snapshot.Xattr{{}} }),
		"xattr with NUL":        file(func(e *snapshot.Entry) { e.Xattrs = []snapshot.Xattr{{Name: "a\x00"}} }),
		"huge xattr": file(func(e *snapshot.Entry) {
			e.Xattrs = []snapshot.Xattr{{Name: "a", Value: make([]byte, snapshot.MaxEntry)}}
		}),
		"directory with links":   {Key: "x", Type: snapshot.Directory, HasLink: true},
		"directory with size":    {Key: "x", Type: snapshot.Directory, Size: 1},
		"partial FIFO":           {Key: "x", Type: snapshot.FIFO, Partial: true},
		"symlink without target": {Key: "x", Type: snapshot.Symlink},
		"target with NUL":        {Key: "x", Type: snapshot.Symlink, Target: []byte("a\x00b")},
		"bad key":                {Key: "x\x00..", Type: snapshot.FIFO},
	} {
		if err := e.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := (&snapshot.Leaf{Entries: []snapshot.Entry{e}}).Append(nil); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestLeafOrder(t *testing.T) {
	dir := func(k snapshot.Key) snapshot.Entry { return snapshot.Entry{Key: k, Type: snapshot.Directory} }
	fifo := func(k snapshot.Key) snapshot.Entry { return snapshot.Entry{Key: k, Type: snapshot.FIFO} }
	for name, entries := range map[string][]snapshot.Entry{
		"twice":                  {dir("a"), dir("a")},
		"descending":             {dir("b"), dir("a")},
		"directory behind":       {dir("a\x00b"), dir("a")},
		"no directory":           {dir("a"), dir("b\x00c")},
		"no directory, deep":     {dir("a"), dir("a\x00b\x00c")},
		"in a FIFO":              {fifo("a"), fifo("a\x00b")},
		"sibling of a directory": {dir("a"), dir("a\x00b"), dir("ab\x00c")},
	} {
		if _, err := (&snapshot.Leaf{Entries: entries}).Append(nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := addAll(t, entries); err == nil {
			t.Errorf("%s: the builder takes it", name)
		}
	}
	// A leaf, unlike a tree, may begin inside of a directory.
	inside := []snapshot.Entry{fifo("a\x00b"), fifo("a\x00c"), fifo("b")}
	if _, err := (&snapshot.Leaf{Entries: inside}).Append(nil); err != nil {
		t.Error(err)
	}
	if _, err := addAll(t, inside); err == nil {
		t.Error("a tree begins inside of a directory")
	}
}

func addAll(t *testing.T, entries []snapshot.Entry) (snapshot.Root, error) {
	b := snapshot.NewBuilder(cutKey, newStore().sink)
	for i := range entries {
		if err := b.Add(t.Context(), &entries[i]); err != nil {
			if _, ferr := b.Finish(t.Context()); ferr == nil {
				t.Error("Finish after an error gives none")
			}
			return snapshot.Root{}, err
		}
	}
	return b.Finish(t.Context())
}

// A small node can't make its reader build huge keys from shared prefixes.
func TestLeafKeysBounded(t *testing.T) {
	long := strings.Repeat("\x00d", snapshot.MaxKey/2-4)
	n := snapshot.MaxNodeKeys/len(long) + 1
	fifo := []byte{byte(snapshot.FIFO), 0, 0, 0, 0, 0, 0, 0, 0}
	p := []byte{0, 1, 0, 0, 0, 0, 0} // one owner, no chunks
	p = binary.AppendUvarint(p, uint64(n))
	p = binary.AppendUvarint(append(p, 0), uint64(len(long)))
	p = append(append(p, long...), fifo...)
	p[len(p)-len(fifo)] = byte(snapshot.Directory)
	prev := ""
	for i := range n - 1 { // what is in the directory has names of two bytes
		rest := string([]byte{0, byte('a' + i/128), byte(0x80 + i%128)})
		same := 0
		for prev != "" && rest[same] == prev[same] {
			same++
		}
		p = binary.AppendUvarint(p, uint64(len(long)+same))
		p = append(binary.AppendUvarint(p, uint64(len(rest)-same)), rest[same:]...)
		p = append(p, fifo...)
		prev = rest
	}
	var leaf snapshot.Leaf
	if err := leaf.Decode(p); err == nil || !strings.Contains(err.Error(), "bytes in a node") {
		t.Errorf("%d keys of %d bytes in %d bytes: %v", n, len(long), len(p), err)
	}
	if err := leaf.Decode(make([]byte, snapshot.MaxNode+1)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a node of more than MaxNode bytes: %v", err)
	}
}
