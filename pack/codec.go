package pack

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-backup/cairn/seal"
)

// Compression is how hard a writer tries to make chunks small. Readers need
// not know it.
type Compression uint8

// The levels, from quick to small.
const (
	Fastest Compression = 1
	Default Compression = 2
	Better  Compression = 3
)

var levels = map[Compression]struct {
	name  string
	level zstd.EncoderLevel
}{
	Fastest: {"fastest", zstd.SpeedFastest},
	Default: {"default", zstd.SpeedDefault},
	Better:  {"better", zstd.SpeedBetterCompression},
}

// Valid reports whether c is one of the levels.
func (c Compression) Valid() bool { _, ok := levels[c]; return ok }

func (c Compression) String() string {
	if l, ok := levels[c]; ok {
		return l.name
	}
	return fmt.Sprintf("compression %d", uint8(c))
}

// ParseCompression reads a level's name.
func ParseCompression(s string) (Compression, error) {
	for c, l := range levels {
		if l.name == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("compression %q: want fastest, default or better", s)
}

// Encoder turns plaintexts into the contents of frames. It is safe for
// concurrent use by as many goroutines as it was made for; more of them wait
// for each other. It keeps 5 to 9 MiB for each, by level; below Better once more as much when
// it has met contents of few different bytes in which nothing repeats, which only one encodes at a time.
type Encoder struct {
	zstd     *zstd.Encoder
	literals func() (*zstd.Encoder, error) // of one goroutine, to save memory; nil: zstd does what it does

	decoder *Decoder     // of the deltas that it makes
	differs chan *differ // that are not in use
}

// NewEncoder returns an encoder for a number of goroutines.
func NewEncoder(c Compression, goroutines int) (*Encoder, error) {
	l, ok := levels[c]
	if !ok {
		return nil, fmt.Errorf("unknown %s", c)
	}
	set := func(more ...zstd.EOption) (*zstd.Encoder, error) {
		z, err := zstd.NewWriter(nil, append([]zstd.EOption{
			zstd.WithEncoderLevel(l.level),
			zstd.WithEncoderConcurrency(goroutines),
			zstd.WithEncoderCRC(false), // the AEAD and the chunk ID check more
			zstd.WithLowerEncoderMem(true),
			// Few repositories have larger chunks: a larger window, the choice of
			// the higher levels, would only cost memory.
			zstd.WithWindowSize(4 << 20),
		}, more...)...)
		if err != nil {
			return nil, fmt.Errorf("set up zstd: %w", err)
		}
		return z, nil
	}
	z, err := set()
	if err != nil {
		return nil, err
	}
	d, err := NewDecoder(goroutines)
	if err != nil {
		return nil, err
	}
	e := &Encoder{zstd: z, decoder: d, differs: make(chan *differ, goroutines)}
	if c < Better {
		e.literals = sync.OnceValues(func() (*zstd.Encoder, error) {
			return set(zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderConcurrency(1))
		})
	}
	return e, nil
}

// Encode encodes plaintext and returns the result with its encoding: plaintext
// as it is, if compression gains nothing. dst is scratch space that the result
// is put into, if it is large enough; there is room behind the result for the
// tag of Writer.Append.
func (e *Encoder) Encode(dst, plaintext []byte) ([]byte, Encoding) {
	// zstd adds at most three bytes to each of its blocks, and a header.
	need := len(plaintext) + len(plaintext)>>12 + 64 + seal.Overhead
	if cap(dst) < need {
		dst = make([]byte, 0, need)
	}
	z := e.zstd.EncodeAll(plaintext, dst[:0])
	if e.literals != nil && len(z) > len(plaintext)/2 && len(z) > leastSize(plaintext) {
		if l, err := e.literals(); err == nil { // which was set up once already, but for this
			z = l.EncodeAll(plaintext, dst[:0])
		}
	}
	if len(z) >= len(plaintext) {
		return append(dst[:0], plaintext...), Plain
	}
	return z, Zstd
}

// leastSize returns the size above which contents, by how often each byte is in a sample of them, could have
// been made smaller by a tenth without finding anything twice. Below its better levels zstd does not
// even try that in blocks in which nothing repeats, which saves much time where contents are compressed
// already. But hexadecimal digits, as of bytea in a dump, become half of their size, and base64, as of
// mail, three quarters.
func leastSize(p []byte) int {
	const runs, run = 16, 256
	var counts [256]int
	n := 0
	for i := range runs {
		at := i * (len(p) / runs)
		for _, c := range p[at:min(at+run, len(p))] {
			counts[c]++
			n++
		}
	}
	bits := 0.0 // of a byte, on average (Shannon 1948)
	for _, k := range counts {
		if k > 0 {
			bits -= float64(k) / float64(n) * math.Log2(float64(k)/float64(n))
		}
	}
	return int(1.1 * bits / 8 * float64(len(p)))
}

// Decoder turns the contents of frames back into plaintexts. It is safe for
// concurrent use.
type Decoder struct {
	zstd    *zstd.Decoder
	streams sync.Pool // *[]byte, for deltas
}

// NewDecoder returns a decoder for a number of goroutines.
func NewDecoder(goroutines int) (*Decoder, error) {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(goroutines),
		zstd.WithDecoderMaxMemory(MaxChunk),
		zstd.WithDecodeAllCapLimit(true), // Decode makes room for what the entry says
		zstd.WithDecoderLowmem(true),
		zstd.IgnoreChecksum(true), // the AEAD and the chunk ID check more
	)
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &Decoder{zstd: z, streams: sync.Pool{New: func() any { return new([]byte) }}}, nil
}

// Decode decodes what Encode or EncodeDelta returned and appends it to dst. bases are the
// plaintexts of e.Bases, which the caller must have compared with their IDs. The result has
// e.Raw bytes or there is an error. A frame that would give more is refused
// before it takes more memory than e.Raw, and that of a delta's instructions, MaxChunk at most.
func (d *Decoder) Decode(dst, encoded []byte, e Entry, bases ...[]byte) ([]byte, error) {
	if n := len(e.Bases.IDs()); n != len(bases) {
		return nil, fmt.Errorf("chunk %s has %d bases, and %d were given", e.ID.Short(), n, len(bases))
	}
	if e.Raw > MaxChunk {
		return nil, fmt.Errorf("chunk %s is %w: %d bytes", e.ID.Short(), seal.ErrDamaged, e.Raw)
	}
	start := len(dst)
	switch e.Encoding {
	case Plain:
		dst = append(dst, encoded...)
	case Zstd:
		// The decoder's limits count what is in its buffer already, so it gets
		// the free part of dst alone.
		dst = slices.Grow(dst, int(e.Raw))
		p, err := d.zstd.DecodeAll(encoded, dst[start:start:start+int(e.Raw)])
		if err != nil {
			return nil, fmt.Errorf("chunk %s is %w: %w", e.ID.Short(), seal.ErrDamaged, err)
		}
		dst = append(dst, p...) // onto itself
	case Delta:
		p, err := d.decodeDelta(dst, encoded, int(e.Raw), bases)
		if err != nil {
			return nil, fmt.Errorf("chunk %s: %w", e.ID.Short(), err)
		}
		dst = p
	default:
		return nil, fmt.Errorf("chunk %s in %s %w", e.ID.Short(), e.Encoding, seal.ErrNewer)
	}
	if len(dst)-start != int(e.Raw) {
		return nil, fmt.Errorf("chunk %s is %w: %d bytes, not %d", e.ID.Short(), seal.ErrDamaged, len(dst)-start, e.Raw)
	}
	return dst, nil
}
