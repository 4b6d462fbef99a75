package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrTooLong: an object has more bytes than whoever reads it allows.
var ErrTooLong = errors.New("object is too long")

// ReadAll returns the whole object, which must not have more than limit bytes:
// what comes from a storage is not to be trusted, its size neither; if it has, the
// error is ErrTooLong. The bytes of
// an empty object are not nil, so that they can be Swap's old contents.
func ReadAll(ctx context.Context, b Interface, name string, limit int64) ([]byte, error) {
	r, err := b.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	buf := bytes.NewBuffer([]byte{})
	n, err := io.Copy(buf, io.LimitReader(r, limit))
	if err != nil {
		return nil, err
	}
	if n == limit {
		// One byte more tells a full object from one that is too long, and
		// reads the error that may stand in place of its end.
		var one [1]byte
		if _, err := io.ReadFull(r, one[:]); err == nil {
			return nil, fmt.Errorf("read %s in %s: %w: more than the %d bytes allowed here", name, b, ErrTooLong, limit)
		} else if err != io.EOF {
			return nil, err
		}
	}
	return buf.Bytes(), nil
}

// PutBytes puts an object that is in memory. data must not change meanwhile.
func PutBytes(ctx context.Context, b Interface, name string, data []byte) error {
	return b.Put(ctx, name, bytes.NewReader(data), int64(len(data)))
}
