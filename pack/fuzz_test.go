package pack_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// FuzzPack reads a pack that was changed at will. Whatever still opens says what the pack
// that was written says.
func FuzzPack(f *testing.F) {
	w := newWorld(f)
	var object bytes.Buffer
	p := w.writer(f, &object, seal.DataPack, 1)
	want := make(map[chunk.ID][]byte)
	for i := range byte(3) {
		it := newItem(chunk.Data, pack.Plain, bytes.Repeat([]byte{i + 1}, 100*int(i+1)))
		want[it.entry.ID] = bytes.Clone(it.encoded)
		must[pack.Entry](f)(p.Append(it.entry, it.encoded))
	}
	finished := must[pack.Finished](f)(p.Finish())
	f.Add(object.Bytes())
	f.Add(object.Bytes()[:object.Len()-1])
	f.Add(append(object.Bytes()[:pack.PrefixSize:pack.PrefixSize], object.Bytes()[object.Len()-300:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		size := int64(len(b))
		start, err := pack.DirectoryStart(size, b)
		if err != nil {
			return
		}
		entries, err := pack.OpenDirectory(b, b[start:size-pack.FooterSize], size, seal.DataPack, w.ring)
		if err == nil && !slices.Equal(entries, finished.Entries) {
			t.Fatalf("another directory: %+v", entries)
		}
		key, err := pack.OpenKey(b, seal.DataPack, w.ring, w.private)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrForeign) && !errors.Is(err, seal.ErrNewer) && !errors.Is(err, seal.ErrNoKey) {
				t.Error(err)
			}
			return
		}
		for _, e := range finished.Entries {
			end := int(e.Offset) + int(e.Stored)
			if end > len(b) {
				continue
			}
			if p, err := key.Open(nil, b[e.Offset:end], e); err == nil && !bytes.Equal(p, want[e.ID]) {
				t.Errorf("chunk %s came back otherwise", e.ID.Short())
			}
		}
	})
}
