package pack

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/seal"
)

// sample has entries of all encodings, as parseDirectory gives them.
func sample(kind chunk.Kind) []Entry {
	entries := []Entry{
		{ID: chunk.ID{1}, Kind: kind, Encoding: Plain, Offset: PrefixSize, Stored: 116, Raw: 100},
		{ID: chunk.ID{2}, Kind: kind, Encoding: Zstd, Offset: PrefixSize + 116, Stored: 17, Raw: MaxChunk},
		{ID: chunk.ID{3}, Kind: kind, Encoding: Zstd, Offset: PrefixSize + 133, Stored: MaxChunk + 16, Raw: 1},
	}
	if kind == chunk.Data {
		next := uint32(PrefixSize + 133 + MaxChunk + 16)
		entries = append(entries,
			Entry{ID: chunk.ID{4}, Kind: kind, Encoding: Delta, Offset: next, Stored: 20, Raw: 1, Bases: Bases{{1}}},
			Entry{ID: chunk.ID{5}, Kind: kind, Encoding: Delta, Offset: next + 20, Stored: 21, Raw: MaxChunk, Bases: Bases{{2}, {1}}})
	}
	return entries
}

func TestDirectory(t *testing.T) {
	for kind, pack := range map[chunk.Kind]seal.Kind{chunk.Data: seal.DataPack, chunk.Node: seal.MetaPack, chunk.List: seal.MetaPack} {
		want := sample(kind)
		got, err := parseDirectory(appendDirectory(nil, want), pack)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: came back as %v, %v", kind, got, err)
		}
	}
}

func TestDirectoryErrors(t *testing.T) {
	good := appendDirectory(nil, sample(chunk.Data))
	const (
		first = 4
		large = first + 2*entrySize
		delta = first + 3*entrySize
	)
	change := func(at int, p ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], p)
		return b
	}
	u32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	for name, p := range map[string][]byte{
		"empty":              {},
		"no chunks":          make([]byte, 4),
		"too many chunks":    change(0, u32(6)...),
		"too few chunks":     change(0, u32(2)...),
		"huge count":         change(0, u32(1<<32-1)...),
		"node in data":       change(first+32, byte(chunk.Node)),
		"unknown encoding":   change(first+33, 3),
		"no plaintext":       change(first+entrySize+34, u32(0)...),
		"large plaintext":    change(first+entrySize+34, u32(MaxChunk+1)...),
		"plain size":         change(first+34, u32(101)...),
		"small frame":        change(first+entrySize+38, u32(16)...),
		"large frame":        change(large+38, u32(MaxChunk+17)...),
		"base of zeros":      change(delta+entrySize, make([]byte, 32)...),
		"only a second base": change(delta+entrySize, append(make([]byte, 32), 1)...),
		"its own base":       change(delta+entrySize, 4),
		"base left out":      change(delta+33, byte(Zstd)),
		"padding not zero":   change(len(good)-1, 1),
		"padding too short":  good[:len(good)-1],
		"padding too long":   append(bytes.Clone(good), make([]byte, seal.Padme(len(good)+1)-len(good))...),
		"cut off in a chunk": good[:50],
	} {
		if entries, err := parseDirectory(p, seal.DataPack); err == nil || entries != nil {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
	}
}

// Offsets have 32 bits; lengths that add up to more must not wrap around.
func TestDirectoryBeyond4GiB(t *testing.T) {
	entries := make([]Entry, 257)
	for i := range entries {
		entries[i] = Entry{ID: chunk.ID{byte(i), byte(i >> 8)}, Kind: chunk.Data, Encoding: Plain, Stored: MaxChunk + 16, Raw: MaxChunk}
	}
	if _, err := parseDirectory(appendDirectory(nil, entries[:255]), seal.DataPack); err != nil {
		t.Errorf("just below 4 GiB: %v", err)
	}
	if _, err := parseDirectory(appendDirectory(nil, entries), seal.DataPack); err == nil {
		t.Error("offsets wrapped around")
	}
}

func TestPaddedSize(t *testing.T) {
	for n := 1; n < 1<<17; n++ {
		got := paddedSize(n)
		switch {
		case got < n, got > n && got-n < seal.Overhead:
			t.Fatalf("%d is padded to %d", n, got)
		case got != seal.Padme(got):
			t.Fatalf("%d is padded to %d, which Padmé would not give", n, got)
		case n > 1000 && float64(got-n) > 0.13*float64(n):
			t.Fatalf("%d is padded to %d, too much", n, got)
		}
	}
}

// Append refuses what would make offsets overflow, long before it happens.
func TestFull(t *testing.T) {
	p := &Writer{size: MaxSize/2 - 100, dirSize: 50}
	if _, err := p.Append(Entry{}, make([]byte, 60)); err != ErrFull {
		t.Errorf("got %v", err)
	}
	if _, err := p.Append(Entry{}, make([]byte, 40)); err == nil || err == ErrFull {
		t.Errorf("a chunk that fits, but is no chunk: %v", err)
	}
	for size, full := range map[int]bool{maxDirectory - 1: false, maxDirectory: true} {
		p := &Writer{dirSize: size}
		if _, err := p.Append(Entry{}, nil); (err == ErrFull) != full || p.Full() != full {
			t.Errorf("a directory of %d bytes: %v", size, err)
		}
	}
	if last := maxDirectory - 1 + entrySize + BasesSize; seal.Padme(last)+seal.Overhead > MaxDirectory {
		t.Errorf("the largest directory that a writer makes has %d bytes", seal.Padme(last)+seal.Overhead)
	}
}

// What a footer says decides how much a reader takes into memory.
func TestDirectoryIsBounded(t *testing.T) {
	for length, good := range map[uint32]bool{MaxDirectory: true, MaxDirectory + 1: false, 1<<32 - 2000: false} {
		tail := append(binary.LittleEndian.AppendUint32(nil, length), footerMagic...)
		if _, err := DirectoryStart(MaxSize, tail); (err == nil) != good {
			t.Errorf("a directory of %d bytes: %v", length, err)
		}
	}
}

func FuzzParseDirectory(f *testing.F) {
	f.Add(appendDirectory(nil, sample(chunk.Data)), true)
	f.Add(appendDirectory(nil, sample(chunk.List)), false)
	f.Add(appendDirectory(nil, sample(chunk.Data)[2:]), true)
	f.Fuzz(func(t *testing.T, p []byte, data bool) {
		kind := seal.MetaPack
		if data {
			kind = seal.DataPack
		}
		// Inputs rarely have the right padding; try them with it too.
		for _, p := range [][]byte{p, append(bytes.Clone(p), make([]byte, seal.Padme(len(p))-len(p))...)} {
			entries, err := parseDirectory(p, kind)
			if err != nil {
				continue
			}
			if again := appendDirectory(nil, entries); !bytes.Equal(again, p) {
				t.Fatalf("%x was read, %x encodes it", p, again)
			}
			for _, e := range entries {
				if err := e.Validate(kind); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzDirectoryStart(f *testing.F) {
	f.Add(int64(2000), []byte("\x40\x00\x00\x00crnP"))
	f.Add(int64(1<<32), []byte("\xff\xff\xff\xffcrnP"))
	f.Fuzz(func(t *testing.T, size int64, tail []byte) {
		start, err := DirectoryStart(size, tail)
		if err == nil && (start < PrefixSize+minFrame || start+seal.Overhead+4 > size-FooterSize || size-FooterSize-start > MaxDirectory) {
			t.Fatalf("directory at %d of %d", start, size)
		}
	})
}
