package tune

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/cairn-backup/cairn/bench/corpus"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
	"github.com/cairn-backup/cairn/pack"
	"github.com/cairn-backup/cairn/seal"
)

// A Primitive is one step of the data path, and how quick it is on one core.
type Primitive struct {
	Name         string
	Text, Random float64 // bytes of plaintext a second: of prose, and of what doesn't compress
}

// PrimitiveOptions say how to measure.
type PrimitiveOptions struct {
	// Duration is how long each step runs on each kind of data, at least once.
	Duration time.Duration
	Now      func() time.Time // nil: time.Now
	// Result hears of each step when it is done.
	Result func(Primitive)
}

const (
	primitiveData  = 8 << 20 // bytes that a step goes through again and again, at most
	primitiveRate  = 50      // of them for each microsecond that it may take
	primitiveChunk = 1 << 20 // in pieces of
	rounds         = 4       // of which the quickest counts: others may use the machine too
)

// step goes once through data, which is whole pieces.
type step func(data []byte) error

// size is how many bytes steps go through. Slow ones would take much longer than they may if
// that were always all.
func (o PrimitiveOptions) size() int {
	pieces := o.Duration.Microseconds() * primitiveRate / primitiveChunk
	return int(min(max(pieces, 1), primitiveData/primitiveChunk)) * primitiveChunk
}

// Primitives measures cutting, hashing, compressing, sealing and their counterparts, each
// alone and in one goroutine.
func Primitives(ctx context.Context, o PrimitiveOptions) ([]Primitive, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	text, random := make([]byte, o.size()), make([]byte, o.size())
	corpus.FillText(text, 1)
	corpus.FillRandom(random, 1)
	var all []Primitive
	for _, s := range primitives {
		p := Primitive{Name: s.name}
		for _, kind := range []struct {
			data  []byte
			speed *float64
		}{{text, &p.Text}, {random, &p.Random}} {
			run, err := s.prepare(kind.data)
			if err == nil {
				*kind.speed, err = repeat(ctx, o, run, kind.data)
			}
			if ctx.Err() != nil {
				return all, ctx.Err()
			}
			if err != nil {
				return all, fmt.Errorf("measure %s: %w", s.name, err)
			}
		}
		all = append(all, p)
		if o.Result != nil {
			o.Result(p)
		}
	}
	return all, nil
}

// repeat runs a step for the time that o says and returns its speed.
func repeat(ctx context.Context, o PrimitiveOptions, run step, data []byte) (best float64, err error) {
	if err := run(data); err != nil { // warm
		return 0, err
	}
	for range rounds {
		start, n := o.Now(), 0
		var took time.Duration
		for took < o.Duration/rounds || n == 0 {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if err := run(data); err != nil {
				return 0, err
			}
			n++
			took = o.Now().Sub(start)
		}
		best = max(best, float64(n*len(data))/max(took.Seconds(), 1e-9))
	}
	return best, nil
}

var primitives = []struct {
	name    string
	prepare func(data []byte) (step, error)
}{
	{"cut, fastcdc", cut(chunk.FastCDC)},
	{"cut, fastcdc-prf", cut(chunk.FastCDCPRF)},
	{"cut, rabin", cut(chunk.Rabin)},
	{"hash", hash},
	{"compress, fastest", compress(pack.Fastest)},
	{"compress, default", compress(pack.Default)},
	{"compress, better", compress(pack.Better)},
	{"decompress", decompress},
	{"seal", sealing},
	{"open", opening},
	{"sketch", sketch},
	{"delta", encodeDelta},
	{"undo delta", decodeDelta},
}

// eachChunk makes a step of what is done with a chunk.
func eachChunk(fn func(i int, p []byte) error) step {
	return func(data []byte) error {
		for i := 0; i*primitiveChunk < len(data); i++ {
			if err := fn(i, data[i*primitiveChunk:(i+1)*primitiveChunk]); err != nil {
				return err
			}
		}
		return nil
	}
}

func cut(a chunk.Algorithm) func([]byte) (step, error) {
	return func([]byte) (step, error) {
		s, err := chunk.NewSplitter(chunk.ParamsOf(a, chunk.DefaultParams().Avg), [32]byte{1})
		return func(data []byte) error {
			for len(data) > 0 {
				data = data[s.Cut(data):]
			}
			return nil
		}, err
	}
}

func hash([]byte) (step, error) {
	h := chunk.NewHasher(chunk.Keys{})
	return eachChunk(func(_ int, p []byte) error {
		h.Sum(chunk.Data, p)
		return nil
	}), nil
}

func compress(c pack.Compression) func([]byte) (step, error) {
	return func([]byte) (step, error) {
		e, err := pack.NewEncoder(c, 1)
		var scratch []byte
		return eachChunk(func(_ int, p []byte) error {
			scratch, _ = e.Encode(scratch, p)
			return nil
		}), err
	}
}

func decompress(data []byte) (step, error) {
	e, err := pack.NewEncoder(pack.Fastest, 1)
	if err != nil {
		return nil, err
	}
	d, err := pack.NewDecoder(1)
	if err != nil {
		return nil, err
	}
	var frames [][]byte
	var entries []pack.Entry
	err = eachChunk(func(_ int, p []byte) error {
		frame, encoding := e.Encode(nil, p)
		frames = append(frames, frame)
		entries = append(entries, pack.Entry{Encoding: encoding, Raw: uint32(len(p))})
		return nil
	})(data)
	scratch := make([]byte, 0, primitiveChunk)
	return eachChunk(func(i int, _ []byte) error {
		_, err := d.Decode(scratch, frames[i], entries[i])
		return err
	}), err
}

func sealing([]byte) (step, error) {
	scratch := make([]byte, 0, primitiveChunk+seal.Overhead)
	return eachChunk(func(_ int, p []byte) error {
		seal.SealOnce(scratch, [32]byte{1}, p, nil)
		return nil
	}), nil
}

func opening(data []byte) (step, error) {
	var sealed [][]byte
	err := eachChunk(func(_ int, p []byte) error {
		sealed = append(sealed, seal.SealOnce(nil, [32]byte{1}, p, nil))
		return nil
	})(data)
	return eachChunk(func(i int, _ []byte) error {
		_, err := seal.OpenOnce([32]byte{1}, sealed[i], nil)
		return err
	}), err
}

func sketch([]byte) (step, error) {
	s := delta.NewSketcher([32]byte{1})
	return eachChunk(func(_ int, p []byte) error {
		s.Sketch(p)
		return nil
	}), nil
}

// editEvery is how far apart the edits are that make a chunk of its base, in bytes: one row in
// a hundred of a table.
const editEvery = 10_000

// base is the data before it was edited.
func base(data []byte) []byte {
	b := bytes.Clone(data)
	for i := 0; i < len(b); i += editEvery {
		copy(b[i:], "what was here before")
	}
	return b
}

func encodeDelta(data []byte) (step, error) {
	e, old := delta.NewEncoder(), base(data)
	var scratch []byte
	return eachChunk(func(i int, p []byte) error {
		scratch = e.Encode(scratch[:0], p, old[i*primitiveChunk:(i+1)*primitiveChunk])
		return nil
	}), nil
}

func decodeDelta(data []byte) (step, error) {
	e, old := delta.NewEncoder(), base(data)
	var deltas [][]byte
	err := eachChunk(func(i int, p []byte) error {
		deltas = append(deltas, e.Encode(nil, p, old[i*primitiveChunk:(i+1)*primitiveChunk]))
		return nil
	})(data)
	scratch := make([]byte, 0, primitiveChunk)
	return eachChunk(func(i int, _ []byte) error {
		_, err := delta.Decode(scratch, deltas[i], primitiveChunk, old[i*primitiveChunk:(i+1)*primitiveChunk])
		return err
	}), err
}
