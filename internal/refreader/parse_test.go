package refreader

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

func sampleID(b byte) ID { return ID(bytes.Repeat([]byte{b}, 32)) }

// sampleLeaf has an entry of every type, and every kind of extent.
func sampleLeaf() node {
	group := uint64(7)
	root := Owner{0, 0, "root", "root"}
	other := Owner{1000, 100, "", "us\xffers"}
	a, b := sampleID(1), sampleID(2)
	hash := [16]byte{9}
	return node{entries: []Entry{
		{Key: "", Type: Directory, Mode: 0o755, Owner: root, MTime: Timespec{1700000000, 5}, CTime: Timespec{1700000001, 4}, Inode: 2},
		{Key: "\x00a", Type: File, Mode: 0o4755, Owner: other, MTime: Timespec{-1, 999999999}, Inode: math.MaxUint64, HardLink: &group,
			Xattrs: []Xattr{{"user.a", []byte("1")}, {"user.b", []byte{}}},
			Size:   60, ContentHash: hash, Extents: []Extent{
				{Chunk: a, Part: true, Offset: 10, Length: 20, ChunkSize: 100},
				{Length: 10},
				{Chunk: a, Part: true, Offset: 30, Length: 30, ChunkSize: 100},
			}},
		{Key: "\x00b", Type: File, Owner: root, MTime: Timespec{math.MinInt64, 0}, CTime: Timespec{math.MaxInt64, 0}, Partial: true,
			Size: 103, ContentHash: hash, Extents: []Extent{
				{Chunk: b, Length: 100, ChunkSize: 100},
				{Chunk: a, Part: true, Offset: 0, Length: 3, ChunkSize: 100},
			}},
		{Key: "\x00c", Type: File, Owner: root, Size: 1 << 40, ContentHash: hash, List: &ListRef{a, 2}},
		{Key: "\x00d", Type: File, Owner: root},
		{Key: "\x00e", Type: Symlink, Owner: root, Target: []byte("\xff/x")},
		{Key: "\x00f", Type: FIFO, Owner: root},
		{Key: "\x00g", Type: Socket, Owner: root},
		{Key: "\x00h", Type: CharDevice, Owner: root, Device: 0x103},
		{Key: "\x00i", Type: BlockDevice, Owner: root, Device: 0x800},
	}}
}

func sampleInner() node {
	return node{level: 2, children: []child{
		{first: "", id: sampleID(1), entries: 10, bytes: 1 << 50},
		{first: "\x00srv\x00x", id: sampleID(2), entries: 1},
		{first: "\x00srv\x00y", id: sampleID(3), entries: 2, bytes: 3},
	}}
}

func sampleLists() []listNode {
	return []listNode{
		{items: []Extent{{Chunk: sampleID(1), Length: 5, ChunkSize: 5}, {Length: 1 << 40}, {Chunk: sampleID(2), Length: maxChunk, ChunkSize: maxChunk}}},
		{level: 1, items: []Extent{{Chunk: sampleID(1), Length: 1 << 40}}},
	}
}

func sampleSegment() segment {
	d, m := packRef{kindData, sampleID(1)}, packRef{kindMeta, sampleID(2)}
	return segment{
		supersedes: []ID{sampleID(8), sampleID(9)},
		packs:      []listedPack{{d, 1 << 20}, {m, 1 << 21}},
		bases:      [][2]ID{{sampleID(5), sampleID(7)}},
		entries: []location{
			{d, frame{id: sampleID(4), kind: chunkData, encoding: encodingDelta, raw: 100, offset: 1248, stored: 40, bases: [2]ID{sampleID(5), sampleID(7)}}},
			{d, frame{id: sampleID(5), kind: chunkData, encoding: encodingZstd, raw: 100, offset: 1288, stored: 50}},
			{m, frame{id: sampleID(6), kind: chunkList, encoding: encodingPlain, raw: 100, offset: 1248, stored: 116}},
		},
	}
}

func sampleDirectory() []frame {
	return []frame{
		{id: sampleID(2), kind: chunkData, encoding: encodingPlain, raw: 10, offset: 1248, stored: 26},
		{id: sampleID(1), kind: chunkData, encoding: encodingDelta, raw: 10, offset: 1274, stored: 20, bases: [2]ID{sampleID(2)}},
		{id: sampleID(3), kind: chunkData, encoding: encodingZstd, raw: 1000, offset: 1294, stored: 30},
	}
}

func sampleOpenPart() OpenPart {
	return OpenPart{Time: -5, Flags: FlagIncomplete | FlagImported, Host: "höst", Parent: sampleID(3), Links: []ID{sampleID(1), sampleID(3)}}
}

func sampleClosedPart() ClosedPart {
	totals := Totals{1, 2, 3, 4, 5, 6, 7, 8, 9, 1 << 40, 11}
	return ClosedPart{Root: sampleID(1), RootLevel: 3, Set: "set", User: "user", Program: "cairn 1", Start: 1, End: 2,
		Tags: []string{"a", "b"}, Totals: totals,
		Sources: []Source{
			{Kind: "", Name: []byte("/srv\xff"), Totals: totals, Attributes: map[string][]byte{}},
			{Kind: "redis", Incomplete: true, Attributes: map[string][]byte{"offset": {1, 2}, "role": {}}},
		}}
}

// roundTrip parses an encoding of v and compares.
func roundTrip[T any](t *testing.T, v T, encode func(T) []byte, parse func([]byte) (T, error)) {
	t.Helper()
	b := encode(v)
	got, err := parse(b)
	if err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	if !bytes.Equal(encode(got), b) {
		t.Errorf("%T is not what was encoded: %+v, want %+v", v, got, v)
	}
	for n := range b {
		if _, err := parse(b[:n]); err == nil {
			t.Errorf("%T cut to %d of %d bytes: no error", v, n, len(b))
		}
	}
	if _, err := parse(append(b, 0)); err == nil {
		t.Errorf("%T with a byte more: no error", v)
	}
}

func parseDataDirectory(b []byte) ([]frame, error) { return parseDirectory(b, kindData) }

func TestRoundTrip(t *testing.T) {
	roundTrip(t, sampleLeaf(), encodeNode, parseNode)
	roundTrip(t, node{}, encodeNode, parseNode)
	roundTrip(t, sampleInner(), encodeNode, parseNode)
	for _, n := range sampleLists() {
		roundTrip(t, n, encodeListNode, parseListNode)
	}
	roundTrip(t, sampleSegment(), encodeSegment, parseSegment)
	roundTrip(t, sampleDirectory(), encodeDirectory, parseDataDirectory)
	roundTrip(t, sampleOpenPart(), encodeOpenPart, parseOpenPart)
	roundTrip(t, sampleClosedPart(), encodeClosedPart, parseClosedPart)
}

func TestLeafKeepsValues(t *testing.T) {
	want := sampleLeaf()
	got, err := parseNode(encodeNode(want))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range got.entries {
		if !reflect.DeepEqual(e, want.entries[i]) {
			t.Errorf("entry %d is %+v, want %+v", i, e, want.entries[i])
		}
	}
}

// Each of these is well formed but for one rule.
func TestNodeRefuses(t *testing.T) {
	edit := func(f func(e []Entry) []Entry) []byte {
		n := sampleLeaf()
		n.entries = f(n.entries)
		return encodeNode(n)
	}
	entry := func(i int, f func(e *Entry)) []byte {
		return edit(func(e []Entry) []Entry { f(&e[i]); return e })
	}
	for name, b := range map[string][]byte{
		"order":            edit(func(e []Entry) []Entry { e[4], e[5] = e[5], e[4]; return e }),
		"repeated key":     edit(func(e []Entry) []Entry { return append(e, e[len(e)-1]) }),
		"bad component":    entry(9, func(e *Entry) { e.Key = "\x00z\x00.." }),
		"type":             entry(6, func(e *Entry) { e.Type = 8 }),
		"mode":             entry(6, func(e *Entry) { e.Mode = 0o10000 }),
		"nanoseconds":      entry(6, func(e *Entry) { e.MTime.Nsec = 1e9 }),
		"ctime":            entry(6, func(e *Entry) { e.CTime.Nsec = 1e9 }),
		"xattr order":      entry(1, func(e *Entry) { e.Xattrs[0], e.Xattrs[1] = e.Xattrs[1], e.Xattrs[0] }),
		"no xattrs":        entry(6, func(e *Entry) { e.Xattrs = []Xattr{} }),
		"no extents":       entry(1, func(e *Entry) { e.Extents = nil }),
		"extents too long": entry(2, func(e *Entry) { e.Size = 100 }),
		"part too long":    entry(2, func(e *Entry) { e.Size = 100 + 101 }),
		"hole of 0 bytes":  entry(1, func(e *Entry) { e.Extents[1].Length = 0 }),
		"list tree of a FIFO": entry(6, func(e *Entry) {
			e.List = &ListRef{}
		}),
		"child order": encodeNode(func() node { n := sampleInner(); n.children[2].first = "\x00"; return n }()),
		"no children": {1, 0},
		"unused owner, no entries": {0,
			1, 0, 0, 0, 0,
			0,
			0},
	} {
		if _, err := parseNode(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPrefixMustBeLongest(t *testing.T) {
	inner := func(prefix uint64, rest string) []byte {
		e := enc{1, 2}
		for _, k := range []struct {
			prefix uint64
			rest   string
		}{{0, "ab"}, {prefix, rest}} {
			e.uvarint(k.prefix)
			e.text(k.rest)
			e.id(sampleID(1))
			e.uvarint(1)
			e.uvarint(1)
		}
		return e
	}
	if _, err := parseNode(inner(1, "c")); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{"shorter": inner(0, "ac"), "longer": inner(3, "c")} {
		if _, err := parseNode(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSegmentRefuses(t *testing.T) {
	for name, f := range map[string]func(s *segment){
		"superseded order": func(s *segment) { s.supersedes[1] = s.supersedes[0] },
		"pack order":       func(s *segment) { s.packs[1].id = s.packs[0].id },
		"pack kind":        func(s *segment) { s.packs[0].kind = 'Q' },
		"pack size":        func(s *segment) { s.packs[0].size = 1 << 32 },
		"entry order":      func(s *segment) { s.entries[1].id = sampleID(3) },
		"repeated entry":   func(s *segment) { s.entries[1] = s.entries[0] },
		"chunk kind":       func(s *segment) { s.entries[1].kind = chunkNode },
		"encoding":         func(s *segment) { s.entries[1].encoding = 3 },
		"empty chunk":      func(s *segment) { s.entries[1].raw = 0 },
		"large chunk":      func(s *segment) { s.entries[1].raw = maxChunk + 1 },
		"short frame":      func(s *segment) { s.entries[1].stored = 16 },
		"plain length":     func(s *segment) { s.entries[2].stored++ },
		"frame in preamble": func(s *segment) {
			s.entries[1].offset = 1247
		},
		"frame past the end": func(s *segment) { s.entries[1].offset = 1<<20 - 49 },
	} {
		s := sampleSegment()
		f(&s)
		if _, err := parseSegment(encodeSegment(s)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOneFrameRefuses(t *testing.T) {
	b := newEncoder(t).EncodeAll(bytes.Repeat([]byte("cairn "), 100), nil)
	if err := oneFrame(b); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"two frames":     append(bytes.Clone(b), b...),
		"cut":            b[:len(b)-1],
		"trailing byte":  append(bytes.Clone(b), 0),
		"skippable only": {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0},
		"nothing":        {},
	} {
		if err := oneFrame(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// fuzzCanonical holds a parser to the rule of section 1: what it accepts encodes to the same bytes.
func fuzzCanonical[T any](f *testing.F, encode func(T) []byte, parse func([]byte) (T, error), samples ...T) {
	for _, s := range samples {
		f.Add(encode(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		if err != nil {
			return
		}
		if again := encode(v); !bytes.Equal(again, b) {
			t.Errorf("%x was accepted as %+v, which is %x", b, v, again)
		}
	})
}

func FuzzNode(f *testing.F) {
	fuzzCanonical(f, encodeNode, parseNode, sampleLeaf(), sampleInner(), node{})
}

func FuzzListNode(f *testing.F) {
	fuzzCanonical(f, encodeListNode, parseListNode, sampleLists()...)
}

func FuzzSegment(f *testing.F) {
	fuzzCanonical(f, encodeSegment, parseSegment, sampleSegment(), segment{})
}

func FuzzDirectory(f *testing.F) {
	fuzzCanonical(f, encodeDirectory, parseDataDirectory, sampleDirectory())
}

func FuzzOpenPart(f *testing.F) {
	fuzzCanonical(f, encodeOpenPart, parseOpenPart, sampleOpenPart(), OpenPart{})
}

func FuzzClosedPart(f *testing.F) {
	fuzzCanonical(f, encodeClosedPart, parseClosedPart, sampleClosedPart(), ClosedPart{Root: sampleID(1)})
}
