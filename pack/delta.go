package pack

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/seal"
)

// differ is what one goroutine encodes deltas with.
type differ struct {
	encoder        *delta.Encoder
	stream, target []byte
}

// EncodeDelta encodes plaintext as its differences to bases, one or two, in the order that
// the entry will name them. It reports whether they have at least half of it in common, before all is
// compressed: to compare the result with what Encode makes is up to the caller. What it returns was decoded, and
// compared with plaintext. dst is as for Encode.
func (e *Encoder) EncodeDelta(dst, plaintext []byte, bases ...[]byte) ([]byte, bool, error) {
	d := e.differ()
	defer e.release(d)
	d.stream = d.encoder.Encode(d.stream[:0], plaintext, bases...)
	if len(d.stream) > len(plaintext)/2 {
		return dst, false, nil
	}
	if need := len(d.stream) + len(d.stream)>>12 + 64 + seal.Overhead; cap(dst) < need {
		dst = make([]byte, 0, need)
	}
	encoded := e.zstd.EncodeAll(d.stream, dst[:0])
	if len(encoded) >= len(plaintext) {
		return encoded, false, nil
	}
	var err error
	d.target, err = e.decoder.decodeDelta(d.target[:0], encoded, len(plaintext), bases)
	if err == nil && !bytes.Equal(d.target, plaintext) {
		err = fmt.Errorf("a delta of %d bytes gave other contents than it was made from", len(plaintext))
	}
	return encoded, err == nil, err
}

func (e *Encoder) differ() *differ {
	select {
	case d := <-e.differs:
		return d
	default:
		return &differ{encoder: delta.NewEncoder()}
	}
}

func (e *Encoder) release(d *differ) {
	select {
	case e.differs <- d:
	default:
	}
}

// shortStream is how long the instructions may be, in bytes, of which the frame does not say it: zstd
// leaves that out of small frames.
const shortStream = 1 << 10

// decodeDelta appends raw bytes to dst, which the contents of a Delta frame make of bases.
func (d *Decoder) decodeDelta(dst, encoded []byte, raw int, bases [][]byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(encoded); err != nil {
		return dst, fmt.Errorf("%w: %w", seal.ErrDamaged, err)
	}
	if !h.HasFCS {
		h.FrameContentSize = shortStream
	}
	if h.FrameContentSize > MaxChunk {
		return dst, fmt.Errorf("%w: a delta of %d bytes of instructions", seal.ErrDamaged, h.FrameContentSize)
	}
	stream := d.streams.Get().(*[]byte)
	defer d.streams.Put(stream)
	*stream = slices.Grow((*stream)[:0], int(h.FrameContentSize))
	s, err := d.zstd.DecodeAll(encoded, (*stream)[:0:h.FrameContentSize])
	if err != nil {
		return dst, fmt.Errorf("%w: %w", seal.ErrDamaged, err)
	}
	return delta.Decode(dst, s, raw, bases...)
}
