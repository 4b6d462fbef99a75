package delta

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cairn-backup/cairn/seal"
)

// MaxBases is how many bases a delta may have.
const MaxBases = 2

// Decode appends to dst the target that delta describes and returns the
// extended slice. raw is the length of the target in bytes, bases are those
// that Encode was given, in the same order. dst must not overlap the others.
//
// Deltas are taken from storage: whatever delta and bases hold, Decode appends
// exactly raw bytes or returns an error that wraps seal.ErrDamaged, in time
// linear in the lengths of delta and raw, and allocates nothing but to let dst
// grow by raw. Which deltas are good is in docs/format.md. That the target is
// the right one only its ID can say. Decode may be called concurrently. It
// panics if there are more than MaxBases bases.
func Decode(dst, delta []byte, raw int, bases ...[]byte) ([]byte, error) {
	d := decoder{space: newSpace(bases), raw: raw}
	if err := d.split(delta); err != nil {
		return dst, fmt.Errorf("delta is %w: %w", seal.ErrDamaged, err)
	}
	out, err := d.run(slices.Grow(dst, raw))
	if err != nil {
		return dst, fmt.Errorf("delta is %w: %w", seal.ErrDamaged, err)
	}
	return out, nil
}

// decoder carries out one delta.
type decoder struct {
	space
	raw    int
	copies int

	// What is left of the delta's four parts. The first three have a number
	// for each copy.
	inserts, lengths, offsets, literals []byte
}

// split finds the parts of a delta.
func (d *decoder) split(delta []byte) error {
	n, rest, err := uvarint(delta)
	if err != nil {
		return err
	}
	// Each copy takes three bytes or more, and makes one byte or more.
	if n > uint64(len(rest)/3) || n > uint64(d.raw) {
		return fmt.Errorf("%d copies in %d bytes for a chunk of %d", n, len(rest), d.raw)
	}
	d.copies = int(n)
	for _, part := range []*[]byte{&d.inserts, &d.lengths, &d.offsets} {
		size, ok := numbers(rest, d.copies)
		if !ok {
			return errCutOff
		}
		*part, rest = rest[:size], rest[size:]
	}
	d.literals = rest
	return nil
}

// numbers returns how many bytes n numbers at the front of p take.
func numbers(p []byte, n int) (size int, ok bool) {
	for ; n > 0; n-- {
		for {
			if size == len(p) {
				return 0, false
			}
			size++
			if p[size-1] < 0x80 {
				break
			}
		}
	}
	return size, true
}

// run appends the target to dst, which has room for it.
func (d *decoder) run(dst []byte) ([]byte, error) {
	left := uint64(d.raw)
	end := int64(0) // of the last copy
	for i := range d.copies {
		insert, length, step, err := d.next()
		switch {
		case err != nil:
			return nil, err
		case insert > left || insert > uint64(len(d.literals)):
			return nil, fmt.Errorf("insert of %d bytes is too long", insert)
		case i > 0 && insert == 0 && step == 0:
			return nil, fmt.Errorf("a copy goes on where the last one ended")
		case length == 0 || length > left-insert:
			return nil, fmt.Errorf("copy of %d bytes with %d to make", length, left-insert)
		}
		from := end + step // no overflow: |step| < 2^62
		if from < 0 || from > d.size() || int64(length) > d.size()-from {
			return nil, fmt.Errorf("copy of %d bytes from %d of %d", length, from, d.size())
		}
		dst = append(dst, d.literals[:insert]...)
		d.literals = d.literals[insert:]
		dst = d.appendTo(dst, int(from), int(length))
		end = from + int64(length)
		left -= insert + length
	}
	if uint64(len(d.literals)) != left {
		return nil, fmt.Errorf("%d literals are left for %d bytes", len(d.literals), left)
	}
	return append(dst, d.literals...), nil
}

// next takes the three numbers of the next copy: how many literals go before
// it, its length, and where it begins, relative to the end of the last one.
func (d *decoder) next() (insert, length uint64, step int64, err error) {
	if insert, d.inserts, err = uvarint(d.inserts); err != nil {
		return 0, 0, 0, err
	}
	if length, d.lengths, err = uvarint(d.lengths); err != nil {
		return 0, 0, 0, err
	}
	var zigzag uint64
	zigzag, d.offsets, err = uvarint(d.offsets)
	return insert, length, int64(zigzag>>1) ^ -int64(zigzag&1), err
}

var (
	errCutOff = fmt.Errorf("cut off")
	errNumber = fmt.Errorf("a number is too large or not in its shortest form")
)

// uvarint takes a number below 2^63 in its shortest LEB128 form from the front
// of p.
func uvarint(p []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(p)
	switch {
	case n == 0:
		return 0, nil, errCutOff
	case n < 0 || v>>63 != 0 || n > 1 && p[n-1] == 0:
		return 0, nil, errNumber
	}
	return v, p[n:], nil
}
