package index

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// Values of the local file have checksums, by which a fuzzer does not come. So these
// targets begin behind them, or put them right.

func FuzzState(f *testing.F) {
	id := seal.RepositoryID{1}
	for _, s := range []*state{
		{repository: id},
		{repository: id, commit: 3, nextRun: 9, runs: []run{{number: 1, role: input, to: endKey, records: 5}, {number: 2, role: output}}},
	} {
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := parseState(p, id)
		if err != nil {
			return
		}
		if again := s.encode(); !bytes.Equal(again, p) {
			t.Errorf("%x\nencodes to\n%x", p, again)
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add(source{pack: Pack{ID: pack.ID{1}, Kind: seal.DataPack, Size: 5000}, segment: 3}.encode())
	f.Add(segmentInfo{id: SegmentID{1}, ordinal: 2, packs: 3, records: 4, alive: true}.encode())
	f.Add(name{absorbed: true, number: 5, superseders: 6}.encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		for what, again := range map[string]func() ([]byte, error){
			"source":  func() ([]byte, error) { s, err := parseSource(p); return s.encode(), err },
			"segment": func() ([]byte, error) { s, err := parseSegmentInfo(p); return s.encode(), err },
			"name":    func() ([]byte, error) { n, err := parseName(p); return n.encode(), err },
		} {
			if b, err := again(); err == nil && !bytes.Equal(b, p) {
				t.Errorf("%s %x\nencodes to\n%x", what, p, b)
			}
		}
	})
}

// seedBlock is a block of n records, every third with a base.
func seedBlock(f *testing.F, n int) (key, value []byte) {
	w := blockWriter{run: 7}
	put := func(k, v []byte) error { key, value = k, v; return nil }
	for i := range n {
		r := record{key: newKey(chunk.ID{byte(i)}, uint32(i), 1300), stored: 100, raw: 84, kind: chunk.Data}
		if i%3 == 0 {
			r.encoding, r.bases = pack.Delta, pack.Bases{{byte(i), 1}}
		}
		if err := w.add(&r, put); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.flush(&endKey, put); err != nil {
		f.Fatal(err)
	}
	return key, value
}

func FuzzBlock(f *testing.F) {
	for _, n := range []int{1, groupRecords, groupRecords + 1, 40} {
		key, value := seedBlock(f, n)
		f.Add(key, value, value[:keySize])
	}
	f.Fuzz(func(t *testing.T, key, value, probe []byte) {
		if len(value) > maxBlock {
			return
		}
		value = slices.Clone(value)
		b, err := openBlock(key, value)
		if err != nil {
			return
		}
		for g := range groups(b.records) {
			s, err := b.sumGroup(g)
			if err != nil {
				continue // that a base is missing is found before it is read
			}
			copy(b.sumAt(g), s[:])
		}
		var k recordKey
		copy(k[:], probe)
		if i, err := b.find(&k); err == nil {
			before, after := b.keyAt(max(i-1, 0)), b.keyAt(i)
			if bytes.Compare(after, k[:]) < 0 || i > 0 && bytes.Compare(before, k[:]) >= 0 {
				t.Errorf("record %d, %x after %x, is said to be the first not below %x", i, after, before, k)
			}
		}
		var r record
		for i := range b.records {
			if b.verify(i/groupRecords) == nil {
				b.read(i, &r)
				r.entry()
			}
		}
	})
}

// FuzzLocalFile opens whatever lies in place of the index's file: it is good, or it is
// made anew.
func FuzzLocalFile(f *testing.F) {
	id := seal.RepositoryID{1}
	dir := f.TempDir()
	path := filepath.Join(dir, "seed")
	l, err := OpenLocal(path, id, Options{})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := l.Lookup(chunk.ID{1}); err != nil {
		f.Fatal(err)
	}
	l.Close()
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	for _, at := range []int{0, 16, 24, 4096, 8192 + 8, 8192 + 16, len(seed) - 4096} {
		bad := slices.Clone(seed)
		bad[at] ^= 1
		f.Add(bad)
	}
	f.Add(seed[:len(seed)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<20 {
			return
		}
		path := filepath.Join(t.TempDir(), "index.bolt")
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLocal(path, id, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for range 2 { // ErrLost says that it was made anew
			if _, err = l.Lookup(chunk.ID{1}); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("after it was made anew: %v", err)
		}
		if _, err := l.Absorbed(); err != nil {
			t.Error(err)
		}
	})
}
