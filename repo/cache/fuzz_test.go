package cache

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/seal"
)

// Contents that another program sealed, with a key that it has: the zstd frame may be
// anything.
func FuzzContents(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	key, additional := [32]byte{1}, []byte("of a file")
	for _, p := range [][]byte{nil, []byte("contents"), make([]byte, 1<<16)} {
		f.Add(c.encoder.EncodeAll(p, nil))
	}
	f.Fuzz(func(t *testing.T, z []byte) {
		if _, ok := c.open(key, additional, z); ok {
			t.Fatal("what nobody sealed was opened")
		}
		sealed := make([]byte, seal.NonceSize)
		sealed = seal.NewAEAD(key).Seal(sealed, sealed, z, additional)
		p, ok := c.open(key, additional, sealed)
		if !ok {
			return
		}
		if len(p) > maxContents {
			t.Errorf("%d bytes from %d", len(p), len(z))
		}
		if again, ok := c.open(key, additional, sealFrame(key, additional, c.compress(p))); !ok || !bytes.Equal(again, p) {
			t.Error("they can't be kept again")
		}
	})
}

// Whatever stands in the files of the memory: an older generation than one that can be
// read there is refused, and so is another repository. What can't be read counts as absent.
func FuzzPin(f *testing.F) {
	id := seal.RepositoryID{1}
	f.Add("3\n", id.String()+"\n", uint64(2))
	f.Add("18446744073709551615", "", uint64(1))
	f.Add("-1 x", "\x00", uint64(5))
	f.Fuzz(func(t *testing.T, generation, location string, now uint64) {
		d, err := Open(t.TempDir(), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Pin("here", id, 1); err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(d.root + "/locations")
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		for path, text := range map[string]string{d.Path("generation"): generation, d.root + "/locations/" + names[0].Name(): location} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err = d.Pin("here", id, now)
		seen, parsed := strconv.ParseUint(strings.TrimSpace(generation), 10, 64)
		known, unknown := seal.ParseRepositoryID(strings.TrimSpace(location))
		want := (unknown != nil || known == id) && (parsed != nil || now >= seen)
		if (err == nil) != want {
			t.Errorf("generation %q at %q, now %d: %v", generation, location, now, err)
		}
	})
}
