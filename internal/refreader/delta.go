package refreader

import (
	"errors"
	"fmt"
)

// applyDelta makes raw bytes of a delta's instructions and its bases (section 6).
func applyDelta(instructions []byte, raw uint32, bases [][]byte) ([]byte, error) {
	var from []byte
	for _, b := range bases {
		from = append(from, b...)
	}
	c := newCursor(instructions)
	out := make([]byte, 0, raw)
	at := int64(0)
	afterCopy := false
	for uint32(len(out)) < raw && c.err == nil {
		left := uint64(raw) - uint64(len(out))
		n := c.uvarint()
		c.require(n <= left, "%d literals, and %d bytes to make", n, left)
		out = append(out, c.take(n)...)
		if c.err != nil || n == left {
			break
		}
		left -= n
		copied := c.uvarint()
		c.require(copied >= 1 && copied <= left, "a copy of %d bytes, and %d to make", copied, left)
		by := c.svarint()
		c.require(!afterCopy || n > 0 || by != 0, "a copy that goes on from the one before")
		if c.err != nil {
			break
		}
		start := at + by
		if by > int64(len(from)) || start < 0 || start > int64(len(from)) || copied > uint64(int64(len(from))-start) {
			return nil, errors.New("a copy from outside of the bases")
		}
		at = start + int64(copied)
		out = append(out, from[start:at]...)
		afterCopy = true
	}
	if err := c.end(); err != nil {
		return nil, fmt.Errorf("delta: %w", err)
	}
	return out, nil
}
