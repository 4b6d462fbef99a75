package delta

import (
	"encoding/binary"
	"errors"
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
// Deltas come from storage: whatever delta and bases hold, Decode appends
// exactly raw bytes or returns dst and an error that wraps seal.ErrDamaged. It
// takes time linear in the lengths of delta and raw, and no memory but to let
// dst grow by raw. Which deltas are good is in docs/format.md, section 6. That
// the target is the right one, only its ID can say. Decode may be called
// concurrently. It panics if there are more than MaxBases bases.
func Decode(dst, delta []byte, raw int, bases ...[]byte) ([]byte, error) {
	d := decoder{space: newSpace(bases), delta: delta}
	out, err := d.run(slices.Grow(dst, raw), raw)
	if err != nil {
		return dst, fmt.Errorf("delta of %d bytes is %w: %w", len(delta), seal.ErrDamaged, err)
	}
	return out, nil
}

// decoder carries out one delta.
type decoder struct {
	space space
	delta []byte // what is left of it
	end   int    // of the last copy
}

// run appends the target to dst, which has room for its raw bytes.
func (d *decoder) run(dst []byte, raw int) ([]byte, error) {
	for first := true; raw > 0; first = false {
		literals, err := d.insert(raw)
		if err != nil {
			return nil, err
		}
		dst = append(dst, literals...)
		if raw -= len(literals); raw == 0 {
			break
		}
		last := d.end
		at, n, err := d.copy(raw)
		if err != nil {
			return nil, err
		}
		if len(literals) == 0 && at == last && !first {
			return nil, errors.New("a copy goes on where the last one ended")
		}
		dst = d.space.appendTo(dst, at, n)
		raw -= n
	}
	if len(d.delta) > 0 {
		return nil, fmt.Errorf("%d bytes too many", len(d.delta))
	}
	return dst, nil
}

// insert takes the literals before a copy or the end. At most raw bytes are
// left to make.
func (d *decoder) insert(raw int) ([]byte, error) {
	n, err := d.number()
	switch {
	case err != nil:
		return nil, err
	case n > uint64(raw):
		return nil, fmt.Errorf("%d literals for the last %d bytes", n, raw)
	case n > uint64(len(d.delta)):
		return nil, errCutOff
	}
	literals := d.delta[:n]
	d.delta = d.delta[n:]
	return literals, nil
}

// copy takes a copy of n bytes from position at. At most raw bytes are left to
// make.
func (d *decoder) copy(raw int) (at, n int, err error) {
	length, err := d.number()
	if err != nil {
		return 0, 0, err
	}
	zigzag, err := d.number()
	if err != nil {
		return 0, 0, err
	}
	if length == 0 || length > uint64(raw) {
		return 0, 0, fmt.Errorf("copy of %d bytes for the last %d", length, raw)
	}
	// A step has 62 bits and a sign, so the sum does not overflow.
	from := int64(d.end) + (int64(zigzag>>1) ^ -int64(zigzag&1))
	size := int64(d.space.size())
	if from < 0 || from > size || int64(length) > size-from {
		return 0, 0, fmt.Errorf("copy of %d bytes from %d, of %d", length, from, size)
	}
	d.end = int(from) + int(length)
	return int(from), int(length), nil
}

var errCutOff = errors.New("it is cut off")

// number takes a number below 2^63 in its shortest LEB128 form.
func (d *decoder) number() (uint64, error) {
	v, n := binary.Uvarint(d.delta)
	switch {
	case n == 0:
		return 0, errCutOff
	case n < 0 || v>>63 != 0 || n > 1 && d.delta[n-1] == 0:
		return 0, errors.New("a number is too large or not in its shortest form")
	}
	d.delta = d.delta[n:]
	return v, nil
}
