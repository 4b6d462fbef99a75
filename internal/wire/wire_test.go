package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/cairn-backup/cairn/internal/wire"
)

func TestFixedSizes(t *testing.T) {
	d := wire.NewDecoder([]byte{
		1,
		2, 1,
		4, 3, 2, 1,
		8, 7, 6, 5, 4, 3, 2, 1,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		'a', 'b',
		9,
	})
	if v := d.U8(); v != 1 {
		t.Errorf("U8: %#x", v)
	}
	if v := d.U16(); v != 0x0102 {
		t.Errorf("U16: %#x", v)
	}
	if v := d.U32(); v != 0x01020304 {
		t.Errorf("U32: %#x", v)
	}
	if v := d.U64(); v != 0x0102030405060708 {
		t.Errorf("U64: %#x", v)
	}
	if v := d.I64(); v != -1 {
		t.Errorf("I64: %d", v)
	}
	if v := d.Fixed(2); string(v) != "ab" || cap(v) != 2 {
		t.Errorf("Fixed: %q of capacity %d: an append would write over what follows", v, cap(v))
	}
	if v := d.Rest(); string(v) != "\x09" || d.Len() != 0 {
		t.Errorf("Rest: %q, %d left", v, d.Len())
	}
	if err := d.Finish(); err != nil {
		t.Error(err)
	}
}

func TestArray32(t *testing.T) {
	p := make([]byte, 32)
	for i := range p {
		p[i] = byte(i + 1)
	}
	if a := wire.NewDecoder(p).Array32(); !bytes.Equal(a[:], p) {
		t.Errorf("got %x", a)
	}
	d := wire.NewDecoder(p[:31])
	if a := d.Array32(); a != [32]byte{} || d.Err() == nil {
		t.Errorf("of 31 bytes: %x, %v", a, d.Err())
	}
}

func TestUvarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, math.MaxUint32, math.MaxInt64, math.MaxUint64} {
		d := wire.NewDecoder(binary.AppendUvarint(nil, v))
		if got := d.Uvarint(); got != v || d.Finish() != nil {
			t.Errorf("%d came back as %d, %v", v, got, d.Err())
		}
	}
	for name, p := range map[string][]byte{
		"empty":               {},
		"cut off":             {0x80},
		"zero in two bytes":   {0x80, 0x00},
		"one in three bytes":  {0x81, 0x80, 0x00},
		"65 bits":             {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02},
		"eleven bytes":        {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"ten bytes, all zero": {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00},
	} {
		d := wire.NewDecoder(p)
		if v := d.Uvarint(); v != 0 || !errors.Is(d.Err(), wire.ErrMalformed) {
			t.Errorf("%s: %d, %v", name, v, d.Err())
		}
	}
}

func TestSvarint(t *testing.T) {
	for _, v := range []int64{0, -1, 1, -64, 64, math.MinInt64, math.MaxInt64} {
		d := wire.NewDecoder(binary.AppendVarint(nil, v)) // zigzag too
		if got := d.Svarint(); got != v || d.Finish() != nil {
			t.Errorf("%d came back as %d, %v", v, got, d.Err())
		}
	}
}

func TestUvarintMax(t *testing.T) {
	d := wire.NewDecoder([]byte{5, 6})
	if v := d.UvarintMax(5); v != 5 || d.Err() != nil {
		t.Errorf("the largest: %d, %v", v, d.Err())
	}
	if v := d.UvarintMax(5); v != 0 || !errors.Is(d.Err(), wire.ErrMalformed) {
		t.Errorf("one more: %d, %v", v, d.Err())
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		name     string
		p        []byte
		itemSize int
		want     int // -1 is an error
	}{
		{"none", []byte{0}, 8, 0},
		{"fits", []byte{2, 1, 2, 3, 4}, 2, 2},
		{"with bytes over", []byte{2, 1, 2, 3, 4, 5}, 2, 2},
		{"half an item short", []byte{2, 1, 2, 3}, 2, -1},
		{"huge", binary.AppendUvarint(nil, math.MaxUint64), 1, -1},
	} {
		d := wire.NewDecoder(c.p)
		if n := d.Count(c.itemSize); n != max(c.want, 0) || (d.Err() != nil) != (c.want < 0) {
			t.Errorf("%s: %d, %v", c.name, n, d.Err())
		}
	}
	d := wire.NewDecoder([]byte{2, 0, 0, 0, 9, 9})
	if n := d.Count32(1); n != 2 || d.Err() != nil {
		t.Errorf("Count32: %d, %v", n, d.Err())
	}
	d = wire.NewDecoder([]byte{0xff, 0xff, 0xff, 0xff, 9, 9})
	if n := d.Count32(1); n != 0 || !errors.Is(d.Err(), wire.ErrMalformed) {
		t.Errorf("huge Count32: %d, %v", n, d.Err())
	}
}

func TestBytesAndText(t *testing.T) {
	b := wire.AppendBytes(nil, "näme")
	b = wire.AppendBytes(b, []byte{0, 1})
	b = wire.AppendBytes(b, "")
	d := wire.NewDecoder(b)
	if s := d.Text(); s != "näme" {
		t.Errorf("text %q", s)
	}
	if p := d.Bytes(); !bytes.Equal(p, []byte{0, 1}) {
		t.Errorf("bytes %x", p)
	}
	if s := d.Text(); s != "" {
		t.Errorf("empty text %q", s)
	}
	if err := d.Finish(); err != nil {
		t.Error(err)
	}
	d = wire.NewDecoder([]byte{3, 'a', 'b'})
	if s := d.Text(); s != "" || !errors.Is(d.Err(), wire.ErrMalformed) {
		t.Errorf("cut off: %q, %v", s, d.Err())
	}
}

func TestFinishRefusesBytesLeft(t *testing.T) {
	d := wire.NewDecoder([]byte{1, 2})
	d.U8()
	if err := d.Finish(); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestFinishPadded(t *testing.T) {
	tens := func(n int) int { return (n + 9) / 10 * 10 }
	for _, c := range []struct {
		name string
		p    []byte
		good bool
	}{
		{"padded", make([]byte, 10), true},
		{"one too few", make([]byte, 9), false},
		{"one step too many", make([]byte, 20), false},
		{"not zero", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, false},
	} {
		d := wire.NewDecoder(c.p)
		d.U16()
		if err := d.FinishPadded(len(c.p), tens); (err == nil) != c.good || err != nil && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	d := wire.NewDecoder(make([]byte, 10))
	d.Fixed(11)
	first := d.Err()
	if err := d.FinishPadded(10, tens); err == nil || err != first {
		t.Errorf("after %v: %v", first, err)
	}
}

// What comes after an error must not look like data.
func TestErrorIsSticky(t *testing.T) {
	d := wire.NewDecoder(bytes.Repeat([]byte{1}, 100))
	d.Fail("the %s", "first")
	d.Fail("the second")
	if d.Err() == nil || d.Err().Error() != "malformed: the first" {
		t.Errorf("got %v", d.Err())
	}
	if d.U8() != 0 || d.U16() != 0 || d.U32() != 0 || d.U64() != 0 || d.Uvarint() != 0 || d.Svarint() != 0 ||
		d.Count(1) != 0 || d.Count32(1) != 0 || d.Text() != "" || d.Bytes() != nil || d.Fixed(1) != nil || d.Array32() != [32]byte{} {
		t.Error("a read after an error gave a value")
	}
	if len(d.Rest()) != 0 || d.Finish() == nil {
		t.Error("the error was forgotten")
	}
}

// FuzzDecoder reads values in an order that the input chooses: no input may make a
// read panic, and what was read encodes to the bytes that it was read from.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, bytes.Repeat([]byte{1}, 100))
	f.Add([]byte{5, 5, 6}, []byte{0x80, 0x01, 0x80, 0x00, 0xff})
	f.Add([]byte{7, 8}, []byte{0x85, 0x01, 1, 2, 3})
	le := binary.LittleEndian
	f.Fuzz(func(t *testing.T, script, p []byte) {
		d := wire.NewDecoder(p)
		var again []byte
		for _, op := range script {
			before := len(again)
			switch op % 9 {
			case 0:
				again = append(again, d.U8())
			case 1:
				again = le.AppendUint16(again, d.U16())
			case 2:
				again = le.AppendUint32(again, d.U32())
			case 3:
				again = le.AppendUint64(again, d.U64())
			case 4:
				a := d.Array32()
				again = append(again, a[:]...)
			case 5:
				again = binary.AppendUvarint(again, d.Uvarint())
			case 6:
				again = binary.AppendVarint(again, d.Svarint())
			case 7:
				again = wire.AppendBytes(again, d.Bytes())
			case 8:
				n := d.Count(2)
				if n > d.Len()/2 {
					t.Fatalf("%d items in %d bytes", n, d.Len())
				}
				again = binary.AppendUvarint(again, uint64(n))
			}
			if d.Err() != nil {
				again = again[:before]
				break
			}
		}
		if !bytes.HasPrefix(p, again) {
			t.Fatalf("%x was read, %x encodes it", p, again)
		}
		if d.Err() == nil && len(again)+d.Len() != len(p) {
			t.Fatalf("%d bytes were read as %d", len(p)-d.Len(), len(again))
		}
	})
}
