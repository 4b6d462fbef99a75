package snapshot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// leafOf returns the bytes of a leaf with one owner, the given chunks, n
// entries and what follows.
func leafOf(chunks int, n uint64, rest ...[]byte) []byte {
	p := []byte{0, 1, 0, 0, 0, 0}
	p = binary.AppendUvarint(p, uint64(chunks))
	for i := range chunks {
		p = append(p, 1, byte(i), byte(i>>8), byte(i>>16))
		p = append(p, make([]byte, 28)...)
		p = append(p, 1) // one byte long
	}
	p = binary.AppendUvarint(p, n)
	return append(p, bytes.Join(rest, nil)...)
}

// fields is an entry of type t with a key of one byte, up to what its flags say.
func fields(t snapshot.Type, flags byte) []byte {
	return []byte{0, 1, 'x', byte(t), flags, 0, 0, 0, 0, 0, 0, 0}
}

// No node makes its reader use much more memory than it has bytes itself, or
// some dozens of MiB.
func TestHostileNodesAreBounded(t *testing.T) {
	file := func(size uint64, extents uint64) []byte {
		p := binary.AppendUvarint(fields(snapshot.File, 0), size)
		return binary.AppendUvarint(append(p, make([]byte, 16)...), extents)
	}
	full := func(head []byte, pattern ...byte) []byte {
		return append(head, bytes.Repeat(pattern, (snapshot.MaxNode-len(head))/len(pattern))...)
	}
	const million = 1_000_000
	for name, p := range map[string][]byte{
		"extents of a byte":  full(leafOf(1, 1, file(million, million)), 2),
		"holes":              full(leafOf(0, 1, file(million, million)), 0, 1),
		"xattrs":             full(leafOf(0, 1, fields(snapshot.FIFO, 2), binary.AppendUvarint(nil, million)), 1, 'a', 0),
		"entries":            full(leafOf(0, 300_000), 1, 1, 'x', 4, 0, 0, 0, 0, 0, 0, 0),
		"chunks":             leafOf(120_000, 0),
		"owners":             full([]byte{0, 0x80, 0x80, 0x20}, 1, 0, 0, 0),
		"a key":              full(binary.AppendUvarint(append(leafOf(0, 1), 0), snapshot.MaxNode-100), 'x'),
		"a count":            append(leafOf(0, 0)[:7], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"inner of a level":   full([]byte{1, 0xff, 0xff, 6}, 0, 1, 'x'),
		"list of no level":   full([]byte{0, 0xff, 0xff, 7}, 0),
		"a large list":       make([]byte, snapshot.MaxNode+1),
		"nothing":            nil,
		"a level beyond all": {255},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var leaf snapshot.Leaf
		var inner snapshot.Inner
		var list snapshot.ListNode
		for kind, err := range map[string]error{"leaf": leaf.Decode(p), "inner node": inner.Decode(p, 1), "list node": list.Decode(p, 0)} {
			if !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("%s is a %s: %v", name, kind, err)
			}
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
			t.Errorf("%s: %d MiB for %d bytes", name, n, len(p))
		}
	}
}

// What a decoder refuses, an encoder does not make: each of these is a leaf but
// for one rule.
func TestLeafRules(t *testing.T) {
	id := func(n byte) []byte { return append(bytes.Repeat([]byte{n}, 32), 20) } // a chunk of 20 bytes
	leaf := func(owners, chunks string, entries ...string) []byte {
		p := append([]byte{0}, owners...)
		p = append(p, chunks...)
		p = append(p, byte(len(entries)))
		return append(p, strings.Join(entries, "")...)
	}
	const one = "\x01\x00\x00\x00\x00" // owner 0:0
	none, chunk1, chunks2 := "\x00", "\x01"+string(id(1)), "\x02"+string(id(1))+string(id(2))
	hash := strings.Repeat("h", 16)
	entry := func(name string, kind, flags, owner byte, more string) string {
		return "\x00\x01" + name + string([]byte{kind, flags, 0, owner, 0, 0, 0, 0, 0}) + more
	}
	fifo := func(more string) string { return entry("x", 4, 0, 0, more) }
	file := func(more string) string { return entry("x", 1, 0, 0, more) }
	// behind returns an entry behind "x" that shares n bytes with it.
	behind := func(n byte, rest string) string {
		return string([]byte{n, byte(len(rest))}) + rest + string([]byte{4, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	for name, tt := range map[string]struct {
		p    []byte
		good bool
	}{
		"a FIFO":                           {leaf(one, none, fifo("")), true},
		"two":                              {leaf(one, none, fifo(""), behind(0, "y")), true},
		"a longer name":                    {leaf(one, none, fifo(""), behind(1, "y")), true},
		"a prefix that is not shared":      {leaf(one, none, behind(1, "x")), false},
		"a prefix that is too long":        {leaf(one, none, fifo(""), behind(2, "y")), false},
		"a prefix that could be longer":    {leaf(one, none, fifo(""), behind(0, "xy")), false},
		"the same key":                     {leaf(one, none, fifo(""), behind(1, "")), false},
		"a lesser key":                     {leaf(one, none, fifo(""), behind(0, "w")), false},
		"no type":                          {leaf(one, none, entry("x", 0, 0, 0, "")), false},
		"an unknown type":                  {leaf(one, none, entry("x", 8, 0, 0, "")), false},
		"an unknown flag":                  {leaf(one, none, entry("x", 4, 16, 0, "")), false},
		"a FIFO with a list":               {leaf(one, none, entry("x", 4, 4, 0, "")), false},
		"a partial FIFO":                   {leaf(one, none, entry("x", 4, 8, 0, "")), false},
		"an empty partial file":            {leaf(one, none, entry("x", 1, 8, 0, "\x00")), true},
		"an empty file with a list":        {leaf(one, none, entry("x", 1, 4, 0, "\x00")), false},
		"no xattrs where announced":        {leaf(one, none, entry("x", 4, 2, 0, "\x00")), false},
		"an xattr":                         {leaf(one, none, entry("x", 4, 2, 0, "\x01\x01n\x00")), true},
		"xattrs not sorted":                {leaf(one, none, entry("x", 4, 2, 0, "\x02\x01n\x00\x01m\x00")), false},
		"an owner beyond the table":        {leaf(one, none, entry("x", 4, 0, 1, "")), false},
		"an owner that nobody is":          {leaf("\x02\x00\x00\x00\x00\x01\x00\x00\x00", none, fifo("")), false},
		"an owner twice":                   {leaf("\x02\x00\x00\x00\x00\x00\x00\x00\x00", none, fifo(""), behind(0, "y")), false},
		"owners out of order":              {leaf("\x02\x00\x00\x00\x00\x01\x00\x00\x00", none, entry("x", 4, 0, 1, ""), behind(0, "y")), false},
		"owners out of order, but used":    {leaf("\x02\x00\x00\x00\x00\x01\x00\x00\x00", none, entry("x", 4, 0, 1, ""), behind(0, "y"), "\x00\x01z\x04\x00\x00\x01\x00\x00\x00\x00\x00"), false},
		"a whole chunk":                    {leaf(one, chunk1, file("\x14"+hash+"\x01\x02")), true},
		"a whole chunk twice":              {leaf(one, chunk1, file("\x28"+hash+"\x02\x02\x02")), true},
		"a part":                           {leaf(one, chunk1, file("\x0a"+hash+"\x01\x01\x0a")), true},
		"a chunk that nobody has":          {leaf(one, chunk1, fifo("")), false},
		"a chunk twice in the table":       {leaf(one, "\x02"+string(id(1))+string(id(1)), file("\x28"+hash+"\x02\x02\x04")), false},
		"chunks in order":                  {leaf(one, chunks2, file("\x28"+hash+"\x02\x02\x04")), true},
		"chunks out of order":              {leaf(one, chunks2, file("\x28"+hash+"\x02\x04\x02")), false},
		"a chunk beyond the table":         {leaf(one, chunk1, file("\x28"+hash+"\x02\x02\x04")), false},
		"a zero chunk ID":                  {leaf(one, "\x01"+string(id(0)), file("\x14"+hash+"\x01\x02")), false},
		"a chunk of no bytes":              {leaf(one, "\x01"+string(id(1)[:32])+"\x00", file("\x14"+hash+"\x01\x01\x00")), false},
		"a chunk of 16 MiB and a byte":     {leaf(one, "\x01"+string(id(1)[:32])+"\x81\x80\x80\x08", file("\x0a"+hash+"\x01\x01\x0a")), false},
		"a whole chunk as a part":          {leaf(one, chunk1, file("\x14"+hash+"\x01\x01\x00")), false},
		"a part beyond its chunk":          {leaf(one, chunk1, file("\x14"+hash+"\x01\x01\x02")), false},
		"a part before its chunk":          {leaf(one, chunk1, file("\x0a"+hash+"\x01\x01\x01")), false},
		"a part of no bytes":               {leaf(one, chunk1, file("\x0a"+hash+"\x02\x01\x02\x00\x01\x04")), false},
		"a hole and a part":                {leaf(one, chunk1, file("\x0f"+hash+"\x02\x00\x05\x01\x00")), true},
		"a hole of no bytes":               {leaf(one, chunk1, file("\x0a"+hash+"\x02\x00\x00\x01\x00")), false},
		"a hole that is too long":          {leaf(one, none, file("\x0a"+hash+"\x01\x00\x0b")), false},
		"a hole that is too short":         {leaf(one, none, file("\x0a"+hash+"\x01\x00\x09")), false},
		"a chunk that is too long":         {leaf(one, chunk1, file("\x13"+hash+"\x01\x02")), false},
		"a chunk that is too short":        {leaf(one, chunk1, file("\x15"+hash+"\x01\x02")), false},
		"no extents":                       {leaf(one, none, file("\x0a"+hash+"\x00")), false},
		"a list":                           {leaf(one, none, entry("x", 1, 4, 0, "\x0a"+hash+string(id(1)[:32])+"\x30")), true},
		"a list of level 49":               {leaf(one, none, entry("x", 1, 4, 0, "\x0a"+hash+string(id(1)[:32])+"\x31")), false},
		"a list of no ID":                  {leaf(one, none, entry("x", 1, 4, 0, "\x0a"+hash+string(id(0)[:32])+"\x00")), false},
		"a link":                           {leaf(one, none, entry("x", 4, 1, 0, "\x00\x00\x00\x00\x00\x00\x00\x00")), true},
		"an entry more than there is":      {append(leaf(one, none, fifo(""))[:7], append([]byte{2}, fifo("")...)...), false},
		"a byte more than an entry":        {leaf(one, none, fifo("\x00")), false},
		"a directory that is not there":    {leaf(one, none, fifo(""), behind(1, "y\x00z")), false},
		"a FIFO that something is in":      {leaf(one, none, fifo(""), behind(1, "\x00z")), false},
		"a directory that something is in": {leaf(one, none, entry("x", 2, 0, 0, ""), behind(1, "\x00z")), true},
		"a leaf that begins inside":        {leaf(one, none, "\x00\x03a\x00b"+"\x04\x00\x00\x00\x00\x00\x00\x00\x00"), true},
	} {
		var l snapshot.Leaf
		err := l.Decode(tt.p)
		if tt.good != (err == nil) || err != nil && !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if again, err := l.Append(nil); err != nil || !bytes.Equal(again, tt.p) {
				t.Errorf("%s: %x encodes to %x, %v", name, tt.p, again, err)
			}
		}
	}
}

// Deep keys, names of all bytes, entries as large as they may be: the builder
// ends nodes before they are more than a reader takes.
func TestBuilderAtTheLimits(t *testing.T) {
	dir := func(k snapshot.Key) snapshot.Entry { return snapshot.Entry{Key: k, Type: snapshot.Directory} }
	var entries []snapshot.Entry
	for k := snapshot.Key("d"); len(k) <= snapshot.MaxKey; k = k.Child(strings.Repeat("n", 255)) {
		entries = append(entries, dir(k)) // 256 directories in each other, with 8 MiB of keys
	}
	deepest := entries[len(entries)-1].Key
	for b := 1; b < 256; b++ {
		if k := snapshot.Key("e\x00" + string([]byte{byte(b)})); b != '/' && b != '.' {
			if len(entries) == 0 || entries[len(entries)-1].Key < "e" {
				entries = append(entries, dir("e"))
			}
			entries = append(entries, dir(k))
		}
	}
	entries = append(entries, dir("f"))
	for i := range 3 {
		e := snapshot.Entry{Key: snapshot.Key("f").Child(string(rune('a' + i))), Type: snapshot.File, Size: 1, Extents: []snapshot.Extent{{Length: 1}}}
		e.Xattrs = []snapshot.Xattr{{Name: "user.x", Value: make([]byte, snapshot.MaxEntry-100)}}
		if i == 1 {
			e.Xattrs = nil
			e.Size, e.Extents = 0, nil
			for range snapshot.MaxEntry/64 - 1 {
				e.Extents = append(e.Extents, snapshot.Extent{Chunk: chunk.ID{1}, ChunkSize: 1, Length: 1})
				e.Size++
			}
		}
		entries = append(entries, e)
	}
	s := newStore()
	tree := build(t, s, entries)
	if got := collect(t, tree); len(got) != len(entries) {
		t.Errorf("%d of %d entries come back", len(got), len(entries))
	}
	if e, err := tree.Lookup(t.Context(), deepest); err != nil || e == nil {
		t.Errorf("the deepest directory: %v, %v", e, err)
	}
	for _, p := range s.nodes {
		if len(p) > snapshot.MaxNode {
			t.Errorf("node of %d bytes", len(p))
		}
	}
	b := snapshot.NewBuilder(cutKey, s.sink)
	huge := dir("h")
	huge.Xattrs = []snapshot.Xattr{{Name: "user.x", Value: make([]byte, snapshot.MaxEntry)}}
	if err := b.Add(t.Context(), &huge); err == nil {
		t.Error("a builder takes an entry that is too large")
	}
}

// Many entries with long keys take few bytes each in a leaf, but a reader must
// not need too many for all of the keys.
func TestBuilderBoundsKeys(t *testing.T) {
	s := newStore()
	b := snapshot.NewBuilder(cutKey, s.sink)
	add := func(k snapshot.Key, kind snapshot.Type) {
		if err := b.Add(t.Context(), &snapshot.Entry{Key: k, Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	dir := snapshot.Key("d")
	for add(dir, snapshot.Directory); len(dir) < 48<<10; add(dir, snapshot.Directory) {
		dir = dir.Child(strings.Repeat("n", 255))
	}
	const files = 2000
	for i := range files {
		add(dir.Child(fmt.Sprintf("o%04d", i)), snapshot.FIFO)
	}
	root, err := b.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range (snapshot.Tree{Root: root, Source: s}).Below(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != files {
		t.Errorf("%d of %d files come back", n, files)
	}
}

// A tree of one entry is a leaf, whatever the entry.
func TestBuilderOneEntry(t *testing.T) {
	r := newRandom(t)
	for range 50 {
		entries := []snapshot.Entry{r.entry("stdin")}
		s := newStore()
		tree := build(t, s, entries)
		if got := collect(t, tree); tree.Root.Level != 0 || len(s.nodes) != 1 || len(got) != 1 || got[0].Key != "stdin" {
			t.Errorf("level %d, %d nodes, %d entries", tree.Root.Level, len(s.nodes), len(got))
		}
	}
}
