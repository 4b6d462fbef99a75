package cache

import (
	"crypto/rand"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/seal"
)

// maxContents bounds what Put keeps, and the memory that a Get may take. The
// largest chunk is half of it.
const maxContents = 32 << 20

// codec turns contents into what is on the disk: a nonce and the sealed zstd
// frame of the contents. It is safe for concurrent use.
type codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func newCodec() (codec, error) {
	// Two at a time are enough for what is small and written once.
	const goroutines = 2
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(goroutines),
		zstd.WithEncoderCRC(false), // the AEAD checks more
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(1<<20),
	)
	if err != nil {
		return codec{}, fmt.Errorf("set up zstd: %w", err)
	}
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(goroutines),
		zstd.WithDecoderMaxMemory(maxContents),
		zstd.WithDecoderLowmem(true),
	)
	if err != nil {
		return codec{}, fmt.Errorf("set up zstd: %w", err)
	}
	return codec{encoder: e, decoder: d}, nil
}

func (c codec) compress(contents []byte) []byte { return c.encoder.EncodeAll(contents, nil) }

func sealFrame(key [32]byte, additional, frame []byte) []byte {
	b := make([]byte, seal.NonceSize, seal.NonceSize+len(frame)+seal.Overhead)
	rand.Read(b) // it never fails
	return seal.NewAEAD(key).Seal(b, b, frame, additional)
}

// open returns false for whatever sealFrame did not make with this key and these
// additional data.
func (c codec) open(key [32]byte, additional, sealed []byte) ([]byte, bool) {
	if len(sealed) < seal.NonceSize {
		return nil, false
	}
	nonce, sealed := sealed[:seal.NonceSize], sealed[seal.NonceSize:]
	z, err := seal.NewAEAD(key).Open(nil, nonce, sealed, additional)
	if err != nil {
		return nil, false
	}
	p, err := c.decoder.DecodeAll(z, nil)
	return p, err == nil
}
