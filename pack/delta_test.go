package pack_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// edited returns p with some bytes changed, and of another length.
func edited(p []byte) []byte {
	q := bytes.Clone(p)
	for i := 100; i < len(q); i += 5000 {
		q[i]++
	}
	return append(q[:len(q)/2:len(q)/2], append([]byte("in the middle"), q[len(q)/2:]...)...)
}

func TestDelta(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	first, second := make([]byte, 300_000), make([]byte, 200_000)
	random.Read(first)
	random.Read(second)
	across := append(bytes.Clone(first[250_000:]), second[:150_000]...)
	e, err := pack.NewEncoder(pack.Fastest, 2)
	if err != nil {
		t.Fatal(err)
	}
	d, err := pack.NewDecoder(2)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		target []byte
		bases  [][]byte
	}{
		"one base":             {edited(first), [][]byte{first}},
		"two bases":            {edited(append(bytes.Clone(first), second...)), [][]byte{first, second}},
		"across the bases":     {edited(across), [][]byte{first, second}},
		"a part":               {first[1000:3000], [][]byte{first}},
		"the same":             {first, [][]byte{first}},
		"of the largest chunk": {edited(bytes.Repeat(first, 56))[:pack.MaxChunk], [][]byte{bytes.Repeat(first, 56)}},
	} {
		t.Run(name, func(t *testing.T) {
			encoded, ok, err := e.EncodeDelta(nil, c.target, c.bases...)
			if err != nil || !ok || len(encoded) > len(c.target)/10+100 {
				t.Fatalf("%d bytes for %d, %v, %v", len(encoded), len(c.target), ok, err)
			}
			entry := pack.Entry{ID: chunk.ID{9}, Kind: chunk.Data, Encoding: pack.Delta, Raw: uint32(len(c.target))}
			for i := range c.bases {
				entry.Bases[i] = chunk.ID{byte(i + 1)}
			}
			got, err := d.Decode([]byte("front"), encoded, entry, c.bases...)
			if err != nil || !bytes.Equal(got, append([]byte("front"), c.target...)) {
				t.Fatalf("decoded %d bytes of %d: %v", len(got)-5, len(c.target), err)
			}
			if _, err := d.Decode(nil, encoded, entry); err == nil {
				t.Error("it was decoded without its bases")
			}
			entry.Raw--
			if _, err := d.Decode(nil, encoded, entry, c.bases...); !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("for one byte less: %v", err)
			}
		})
	}
	if _, ok, err := e.EncodeDelta(nil, second, first); ok || err != nil {
		t.Errorf("of chunks that share nothing: %v, %v", ok, err)
	}
}

// A frame may not take more memory than it says, and not say more than a chunk.
func TestDeltaRefuses(t *testing.T) {
	d, err := pack.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	base := bytes.Repeat([]byte("base "), 1000)
	stream := delta.NewEncoder().Encode(nil, base[10:2000], base)
	good := z.EncodeAll(stream, nil)
	var unsized bytes.Buffer
	s, err := zstd.NewWriter(&unsized)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.Write(make([]byte, 1000))
		s.Flush()
	}
	s.Close()
	entry := pack.Entry{ID: chunk.ID{9}, Kind: chunk.Data, Encoding: pack.Delta, Raw: 1990, Bases: pack.Bases{{1}}}
	if _, err := d.Decode(nil, good, entry, base); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{
		"nothing":                              nil,
		"no zstd":                              stream,
		"cut off":                              good[:len(good)-1],
		"two frames":                           append(bytes.Clone(good), good...),
		"a frame that does not say its length": unsized.Bytes(),
		"a bomb":                               z.EncodeAll(make([]byte, pack.MaxChunk+1), nil),
		"zeros":                                z.EncodeAll(make([]byte, 1000), nil),
	} {
		if got, err := d.Decode(nil, p, entry, base); !errors.Is(err, seal.ErrDamaged) || got != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func FuzzDecodeDelta(f *testing.F) {
	e, err := pack.NewEncoder(pack.Fastest, 1)
	if err != nil {
		f.Fatal(err)
	}
	d, err := pack.NewDecoder(1)
	if err != nil {
		f.Fatal(err)
	}
	base := bytes.Repeat([]byte("some contents, again and again; "), 40)
	encoded, _, err := e.EncodeDelta(nil, edited(base), base)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded, uint32(len(edited(base))), base, []byte(nil))
	f.Fuzz(func(t *testing.T, p []byte, raw uint32, first, second []byte) {
		raw %= 1 << 20
		bases, entry := [][]byte{first}, pack.Entry{Encoding: pack.Delta, Raw: raw, Bases: pack.Bases{{1}}}
		if len(second) > 0 {
			bases, entry.Bases[1] = append(bases, second), chunk.ID{2}
		}
		if got, err := d.Decode(nil, p, entry, bases...); err == nil && len(got) != int(raw) {
			t.Fatalf("%d bytes, want %d", len(got), raw)
		}
	})
}
