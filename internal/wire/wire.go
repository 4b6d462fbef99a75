// Package wire has the primitive encodings that the formats in docs/format.md
// are made of. Every value has one encoding only: Decoder refuses the others,
// so that what a format accepts encodes to the same bytes again.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is what every error of a Decoder wraps.
var ErrMalformed = errors.New("malformed")

// AppendBytes appends a length and p.
func AppendBytes[T ~string | ~[]byte](b []byte, p T) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// Decoder reads values from the front of a byte slice. After the first error
// all reads return zero values, so that a parser may read a whole structure
// and ask once; loops over counts must use Count, which bounds them by the
// bytes that are left.
type Decoder struct {
	p   []byte
	err error
}

// NewDecoder returns a decoder of p. It does not copy p.
func NewDecoder(p []byte) *Decoder { return &Decoder{p: p} }

// Err returns the first error.
func (d *Decoder) Err() error { return d.err }

// Len returns how many bytes are left.
func (d *Decoder) Len() int { return len(d.p) }

// Rest takes all bytes that are left.
func (d *Decoder) Rest() []byte {
	p := d.p
	d.p = nil
	return p
}

// Fail makes err the decoder's error, if it has none yet.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
		d.p = nil
	}
}

// Finish returns the first error, and one if bytes are left.
func (d *Decoder) Finish() error {
	if len(d.p) > 0 {
		d.Fail("%d bytes too many", len(d.p))
	}
	return d.err
}

// FinishPadded is Finish for an encoding that is followed by zero bytes up to
// size(n) of its length n, where whole is the length of all that was decoded.
func (d *Decoder) FinishPadded(whole int, size func(int) int) error {
	if d.err != nil {
		return d.err
	}
	n := whole - len(d.p)
	if whole != size(n) {
		d.Fail("%d bytes are padded to %d, not to %d", n, whole, size(n))
		return d.err
	}
	for _, c := range d.p {
		if c != 0 {
			d.Fail("padding is not zero")
			return d.err
		}
	}
	d.p = nil
	return nil
}

// Fixed takes n bytes, as a part of the decoder's slice.
func (d *Decoder) Fixed(n int) []byte {
	if d.err == nil && len(d.p) < n {
		d.Fail("%d bytes wanted, %d left", n, len(d.p))
	}
	if d.err != nil {
		return nil
	}
	p := d.p[:n:n]
	d.p = d.p[n:]
	return p
}

// Array32 takes 32 bytes.
func (d *Decoder) Array32() (a [32]byte) {
	copy(a[:], d.Fixed(32))
	return a
}

// U8 takes one byte.
func (d *Decoder) U8() uint8 {
	if p := d.Fixed(1); p != nil {
		return p[0]
	}
	return 0
}

// U16 takes two bytes.
func (d *Decoder) U16() uint16 {
	if p := d.Fixed(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

// U32 takes four bytes.
func (d *Decoder) U32() uint32 {
	if p := d.Fixed(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// U64 takes eight bytes.
func (d *Decoder) U64() uint64 {
	if p := d.Fixed(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// I64 takes eight bytes.
func (d *Decoder) I64() int64 { return int64(d.U64()) }

// Uvarint takes an unsigned number in its shortest LEB128 form.
func (d *Decoder) Uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.p)
	switch {
	case n == 0:
		d.Fail("number is cut off")
		return 0
	case n < 0:
		d.Fail("number is too large")
		return 0
	case n > 1 && d.p[n-1] == 0:
		d.Fail("number is not in its shortest form")
		return 0
	}
	d.p = d.p[n:]
	return v
}

// Svarint takes a zigzag-coded signed number.
func (d *Decoder) Svarint() int64 {
	u := d.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// UvarintMax takes a number that must not be larger than most.
func (d *Decoder) UvarintMax(most uint64) uint64 {
	v := d.Uvarint()
	if d.err == nil && v > most {
		d.Fail("number %d is larger than %d", v, most)
		return 0
	}
	return v
}

// Count takes the number of items that follow, each of at least itemSize
// bytes, and refuses one that the bytes left cannot hold. A loop over it is
// bounded by the input's size.
func (d *Decoder) Count(itemSize int) int {
	return d.bounded(d.Uvarint(), itemSize)
}

// Count32 is Count for a number of four bytes.
func (d *Decoder) Count32(itemSize int) int {
	return d.bounded(uint64(d.U32()), itemSize)
}

func (d *Decoder) bounded(n uint64, itemSize int) int {
	if d.err == nil && n > uint64(len(d.p)/itemSize) {
		d.Fail("%d items cannot fit into %d bytes", n, len(d.p))
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// Bytes takes a length and that many bytes, as a part of the decoder's slice.
func (d *Decoder) Bytes() []byte {
	return d.Fixed(d.Count(1))
}

// Text takes a length and that many bytes as a string.
func (d *Decoder) Text() string { return string(d.Bytes()) }
