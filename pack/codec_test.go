package pack_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

var levels = []pack.Compression{pack.Fastest, pack.Default, pack.Better}

func inputs() map[string][]byte {
	noise := make([]byte, 1<<20)
	io.ReadFull(random(1), noise)
	var text bytes.Buffer
	for i := 0; text.Len() < 1<<20; i++ {
		fmt.Fprintf(&text, "INSERT INTO t VALUES (%d, 'row number %x', NULL);\n", i, i*i)
	}
	return map[string][]byte{
		"one byte": {7}, "two bytes": {7, 7}, "noise": noise, "text": text.Bytes(), "largest": make([]byte, pack.MaxChunk),
		"half and half": append(bytes.Clone(noise[:1<<16]), text.Bytes()[:1<<16]...),
	}
}

func TestCodec(t *testing.T) {
	d := must[*pack.Decoder](t)(pack.NewDecoder(2))
	for _, level := range levels {
		e := must[*pack.Encoder](t)(pack.NewEncoder(level, 2))
		for name, in := range inputs() {
			if name == "largest" && level != pack.Fastest {
				continue // takes its time
			}
			out, encoding := e.Encode(nil, in)
			switch {
			case len(out) > len(in):
				t.Errorf("%s, %s: %d bytes became %d", level, name, len(in), len(out))
			case encoding == pack.Plain && !bytes.Equal(out, in):
				t.Errorf("%s, %s: the plain encoding is not the input", level, name)
			case encoding == pack.Zstd && len(out) >= len(in):
				t.Errorf("%s, %s: compressed without a gain", level, name)
			case (name == "noise" || name == "one byte") != (encoding == pack.Plain) && name != "two bytes":
				t.Errorf("%s, %s: encoded as %s", level, name, encoding)
			}
			got, err := d.Decode([]byte("front"), out, pack.Entry{Encoding: encoding, Raw: uint32(len(in))})
			if err != nil || !bytes.Equal(got, append([]byte("front"), in...)) {
				t.Errorf("%s, %s: came back as %d bytes, %v", level, name, len(got), err)
			}
		}
	}
}

// Several chunks may be decoded into one buffer, of more than a chunk's size in all.
func TestDecodeAppends(t *testing.T) {
	e := must[*pack.Encoder](t)(pack.NewEncoder(pack.Fastest, 1))
	d := must[*pack.Decoder](t)(pack.NewDecoder(1))
	in := bytes.Repeat([]byte("some text "), pack.MaxChunk/20)
	out, encoding := e.Encode(nil, in)
	var all []byte
	for range 3 {
		var err error
		if all, err = d.Decode(all, out, pack.Entry{Encoding: encoding, Raw: uint32(len(in))}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(all, bytes.Repeat(in, 3)) {
		t.Error("the chunks got mixed up")
	}
}

// Encode neither writes over the plaintext nor returns it, as Writer.Append
// seals the result in place, and leaves room for the tag.
func TestEncodeScratch(t *testing.T) {
	e := must[*pack.Encoder](t)(pack.NewEncoder(pack.Fastest, 1))
	scratch := make([]byte, 0, 1<<20)
	for name, in := range inputs() {
		before := bytes.Clone(in)
		a, ea := e.Encode(nil, in)
		b, eb := e.Encode(scratch, in)
		if ea != eb || !bytes.Equal(a, b) {
			t.Errorf("%s: the result depends on the scratch space", name)
		}
		if cap(a)-len(a) < seal.Overhead {
			t.Errorf("%s: room for %d bytes is left", name, cap(a)-len(a))
		}
		clear(a)
		if !bytes.Equal(in, before) {
			t.Errorf("%s: the result shares its bytes with the plaintext", name)
		}
	}
}

func TestCodecConcurrently(t *testing.T) {
	e := must[*pack.Encoder](t)(pack.NewEncoder(pack.Fastest, 2))
	d := must[*pack.Decoder](t)(pack.NewDecoder(2))
	text := inputs()["text"]
	var wg sync.WaitGroup
	for g := range 6 { // more than they were made for
		wg.Go(func() {
			in := text[g*1000 : g*1000+300_000]
			out, encoding := e.Encode(nil, in)
			got, err := d.Decode(nil, out, pack.Entry{Encoding: encoding, Raw: uint32(len(in))})
			if err != nil || !bytes.Equal(got, in) {
				t.Errorf("goroutine %d: %v", g, err)
			}
		})
	}
	wg.Wait()
}

// frameOf is a zstd frame that another program made, with or without its
// contents' size in front.
func frameOf(t *testing.T, contents []byte, streamed bool) []byte {
	var b bytes.Buffer
	z := must[*zstd.Encoder](t)(zstd.NewWriter(&b))
	if !streamed {
		return z.EncodeAll(contents, nil)
	}
	for i := range 2 { // two writes, so that the size is unknown at the first
		must[int](t)(z.Write(contents[i*len(contents)/2 : (i+1)*len(contents)/2]))
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A writer that may not be trusted can make frames that grow: they must be
// refused before they take more memory than their entries say.
func TestDecodeIsBounded(t *testing.T) {
	d := must[*pack.Decoder](t)(pack.NewDecoder(1))
	bomb := make([]byte, 64<<20)
	const raw = 1 << 20
	for name, frame := range map[string][]byte{
		"sized":         frameOf(t, bomb, false),
		"of no size":    frameOf(t, bomb, true),
		"a bit larger":  frameOf(t, bomb[:raw+1], true),
		"many frames":   bytes.Repeat(frameOf(t, bomb[:raw], false), 64),
		"one too large": append(frameOf(t, bomb[:raw], true), frameOf(t, bomb[:1], true)...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := d.Decode(nil, frame, pack.Entry{Encoding: pack.Zstd, Raw: raw})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, seal.ErrDamaged) || p != nil {
			t.Errorf("%s: %d bytes, %v", name, len(p), err)
		}
		// Tables and windows of the decoder come on top of what the entry says.
		if took := after.TotalAlloc - before.TotalAlloc; took > 4*raw {
			t.Errorf("%s: %d bytes of memory for %d", name, took, raw)
		}
	}
	for _, raw := range []uint32{pack.MaxChunk + 1, 1<<32 - 1} {
		if _, err := d.Decode(nil, frameOf(t, bomb[:100], false), pack.Entry{Encoding: pack.Zstd, Raw: raw}); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("chunk of %d bytes: %v", raw, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	d := must[*pack.Decoder](t)(pack.NewDecoder(1))
	in := []byte("some contents, some contents, some contents")
	z := frameOf(t, in, false)
	n := uint32(len(in))
	for name, c := range map[string]struct {
		encoded []byte
		entry   pack.Entry
		want    error
	}{
		"plain, shorter":      {in, pack.Entry{Encoding: pack.Plain, Raw: n - 1}, seal.ErrDamaged},
		"plain, longer":       {in, pack.Entry{Encoding: pack.Plain, Raw: n + 1}, seal.ErrDamaged},
		"zstd, shorter":       {z, pack.Entry{Encoding: pack.Zstd, Raw: n - 1}, seal.ErrDamaged},
		"zstd, longer":        {z, pack.Entry{Encoding: pack.Zstd, Raw: n + 1}, seal.ErrDamaged},
		"zstd, empty":         {nil, pack.Entry{Encoding: pack.Zstd, Raw: n}, seal.ErrDamaged},
		"zstd, cut off":       {z[:len(z)-1], pack.Entry{Encoding: pack.Zstd, Raw: n}, seal.ErrDamaged},
		"zstd, with a tail":   {append(bytes.Clone(z), 0), pack.Entry{Encoding: pack.Zstd, Raw: n}, seal.ErrDamaged},
		"not zstd":            {in, pack.Entry{Encoding: pack.Zstd, Raw: n}, seal.ErrDamaged},
		"encoding, not known": {in, pack.Entry{Encoding: 3, Raw: n}, seal.ErrNewer},
	} {
		if p, err := d.Decode(nil, c.encoded, c.entry); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: %q, %v", name, p, err)
		}
	}
}

func TestCompressionNames(t *testing.T) {
	for _, c := range levels {
		if got, err := pack.ParseCompression(c.String()); err != nil || got != c || !c.Valid() {
			t.Errorf("%s came back as %s, %v", c, got, err)
		}
	}
	if _, err := pack.ParseCompression("best"); err == nil {
		t.Error("an unknown name was accepted")
	}
	if pack.Compression(0).Valid() || pack.Compression(4).Valid() {
		t.Error("an unknown level is valid")
	}
	if _, err := pack.NewEncoder(0, 1); err == nil {
		t.Error("an encoder of no level")
	}
}

func FuzzDecode(f *testing.F) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	in := bytes.Repeat([]byte("contents "), 100)
	f.Add(z.EncodeAll(in, nil), uint32(len(in)), byte(pack.Zstd))
	f.Add(in, uint32(len(in)), byte(pack.Plain))
	d, err := pack.NewDecoder(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, p []byte, raw uint32, encoding byte) {
		raw %= 1 << 20
		got, err := d.Decode(nil, p, pack.Entry{Encoding: pack.Encoding(encoding), Raw: raw})
		if err == nil && len(got) != int(raw) {
			t.Fatalf("%d bytes, want %d", len(got), raw)
		}
	})
}

// BenchmarkEncode measures each level on chunks of 1 MiB that look like a dump of
// a database.
func BenchmarkEncode(b *testing.B) {
	in := inputs()["text"][:1<<20]
	for _, level := range levels {
		b.Run(level.String(), func(b *testing.B) {
			e := must[*pack.Encoder](b)(pack.NewEncoder(level, 1))
			dst := make([]byte, 0, 1<<20)
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				e.Encode(dst, in)
			}
		})
	}
}

// Contents in which nothing repeats become smaller if they have few different bytes, at every
// level, and those that can't take no longer than they must.
func TestFewDifferentBytes(t *testing.T) {
	noise := inputs()["noise"]
	for name, c := range map[string]struct {
		in    []byte
		part  float64
		plain bool
	}{
		"hexadecimal": {[]byte(hex.EncodeToString(noise)), 0.51, false},
		"base64":      {[]byte(base64.StdEncoding.EncodeToString(noise)), 0.77, false},
		"base85":      {few(noise, 85), 0.83, false},
		"short hex":   {[]byte(hex.EncodeToString(noise[:500])), 0.6, false},
		"noise":       {noise, 1, true},
		"short noise": {noise[:300], 1, true},
	} {
		for _, level := range levels {
			e := must[*pack.Encoder](t)(pack.NewEncoder(level, 1))
			out, encoding := e.Encode(nil, c.in)
			if float64(len(out)) > c.part*float64(len(c.in)) || (encoding == pack.Plain) != c.plain {
				t.Errorf("%s, %s: %d bytes became %d, encoding %s", name, level, len(c.in), len(out), encoding)
			}
			d := must[*pack.Decoder](t)(pack.NewDecoder(1))
			got, err := d.Decode(nil, out, pack.Entry{Encoding: encoding, Raw: uint32(len(c.in))})
			if err != nil || !bytes.Equal(got, c.in) {
				t.Errorf("%s, %s: came back as %d bytes, %v", name, level, len(got), err)
			}
		}
	}
}

// few turns noise into n different bytes.
func few(noise []byte, n int) []byte {
	out := make([]byte, len(noise))
	for i, b := range noise {
		out[i] = '!' + b%byte(n)
	}
	return out
}

func BenchmarkEncodeNoise(b *testing.B) {
	noise := inputs()["noise"]
	for _, c := range []struct {
		name string
		in   []byte
	}{{"noise", noise}, {"hex", []byte(hex.EncodeToString(noise))[:1<<20]}} {
		b.Run(c.name, func(b *testing.B) {
			e := must[*pack.Encoder](b)(pack.NewEncoder(pack.Fastest, 1))
			dst := make([]byte, 0, 1<<20+1<<12)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				e.Encode(dst, c.in)
			}
		})
	}
}
