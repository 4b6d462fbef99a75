// Package tune measures, on the data of who asks, what a repository's settings cost and
// gain: the way of cutting, the size of chunks, the level of compression, deltas. It also
// measures the single steps of the data path (Primitives) and a storage (Storage).
//
// A measurement is a real snapshot, by package ingest into a repository made for it, of
// which the storage keeps nothing but what the run itself reads again. So what is
// measured is what a snapshot does: walk, read, cut, hash, look up, compress, seal, hash
// the pack. Several paths are taken for versions of the same, and each becomes a snapshot, in
// their order: differences are made to chunks of snapshots that are there already, as in life.
package tune

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// Fixed stands in place of an algorithm for chunks that are all of one size. No
// repository offers it: one byte more at the front of a file, and no chunk is found
// again. It shows what content-defined cuts cost and gain.
const Fixed chunk.Algorithm = 0

// A Setting is what is chosen when a repository is made, or for a snapshot.
type Setting struct {
	Chunker     chunk.Algorithm // or Fixed
	ChunkSize   int             // the average, in bytes
	Compression pack.Compression
	Deltas      bool // chunks are stored as differences to others, which is for each snapshot to choose
}

// Default is the setting that a repository has if nothing else is asked for.
func Default() Setting {
	p := chunk.DefaultParams()
	return Setting{p.Algorithm, p.Avg, pack.Fastest, true}
}

// Offered reports whether a repository can have the setting.
func (s Setting) Offered() bool { return s.Chunker != Fixed }

// Params returns the chunker's parameters. Of Fixed they are those of FastCDC.
func (s Setting) Params() chunk.Params {
	return chunk.ParamsOf(cmp.Or(s.Chunker, chunk.FastCDC), s.ChunkSize)
}

// Validate reports what is wrong with the setting.
func (s Setting) Validate() error {
	p := s.Params()
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Max > pack.MaxChunk {
		return fmt.Errorf("chunker: average of %d bytes is too large: choose at most %d", s.ChunkSize, pack.MaxChunk/(p.Max/p.Avg))
	}
	if !s.Compression.Valid() {
		return fmt.Errorf("unknown %v", s.Compression)
	}
	return nil
}

// A Result is what a snapshot with a setting came to.
type Result struct {
	Setting
	Bytes    int64         // read
	Unique   int64         // of Bytes, that of chunks that were new, and of the tree
	Stored   int64         // all objects that the snapshot made: packs, index, manifest
	Wall     time.Duration // from the first look at a file to the commit
	CPU      time.Duration // of the process meanwhile; 0 if the system does not say
	PeakAnon int64         // the most anonymous memory the process had, in bytes
}

// Dedup is how many times less is unique than was read.
func (r Result) Dedup() float64 { return ratio(r.Bytes, r.Unique) }

// Compressed is how many times less is stored than was unique.
func (r Result) Compressed() float64 { return ratio(r.Unique, r.Stored) }

// Speed is the bytes read a second.
func (r Result) Speed() float64 { return float64(r.Bytes) / max(r.Wall.Seconds(), 1e-9) }

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Axes are the values to try.
type Axes struct {
	Chunkers   []chunk.Algorithm
	ChunkSizes []int
	Levels     []pack.Compression
	Deltas     []bool // of use only if there are several versions, see Sample
}

// DefaultAxes returns what is tried if nothing else is asked for.
func DefaultAxes() Axes {
	return Axes{
		Chunkers:   []chunk.Algorithm{chunk.FastCDC, chunk.Rabin, Fixed},
		ChunkSizes: []int{256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20},
		Levels:     []pack.Compression{pack.Fastest, pack.Default, pack.Better},
		Deltas:     []bool{true, false},
	}
}

// base is the setting from which the axes go out: the default, as far as it is on
// them, and else the first.
func (a Axes) base() Setting {
	s := Default()
	return Setting{among(a.Chunkers, s.Chunker), among(a.ChunkSizes, s.ChunkSize), among(a.Levels, s.Compression), among(a.Deltas, s.Deltas)}
}

func among[T comparable](all []T, want T) T {
	if slices.Contains(all, want) {
		return want
	}
	return all[0]
}

// lines are the settings that differ from the base in one value at most.
func (a Axes) lines() []Setting {
	base := a.base()
	settings := []Setting{base}
	add := func(change func(*Setting)) {
		s := base
		if change(&s); s != base {
			settings = append(settings, s)
		}
	}
	for _, v := range a.Chunkers {
		add(func(s *Setting) { s.Chunker = v })
	}
	for _, v := range a.ChunkSizes {
		add(func(s *Setting) { s.ChunkSize = v })
	}
	for _, v := range a.Levels {
		add(func(s *Setting) { s.Compression = v })
	}
	for _, v := range a.Deltas {
		add(func(s *Setting) { s.Deltas = v })
	}
	return settings
}

// validate reports what is wrong with the values.
func (a Axes) validate() error {
	if len(a.Chunkers) == 0 || len(a.ChunkSizes) == 0 || len(a.Levels) == 0 || len(a.Deltas) == 0 {
		return errors.New("there must be a value of each kind to try")
	}
	for _, s := range a.all() {
		if err := s.Validate(); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(a.Chunkers, func(c chunk.Algorithm) bool { return c != Fixed }) {
		return errors.New("chunks of fixed size are for comparison only: no repository offers them; add fastcdc or rabin")
	}
	return nil
}

// all are all combinations.
func (a Axes) all() []Setting {
	var settings []Setting
	for _, c := range a.Chunkers {
		for _, n := range a.ChunkSizes {
			for _, l := range a.Levels {
				for _, d := range a.Deltas {
					settings = append(settings, Setting{c, n, l, d})
				}
			}
		}
	}
	return settings
}

// Options say what to measure.
type Options struct {
	Paths []string // files and directories
	// Budget is how many bytes are read for a setting. Of more a sample is taken, evenly
	// spread. 0: no limit.
	Budget int64
	Axes   Axes
	// All measures each combination of the axes. Otherwise one value at a time differs from
	// the default, and the combination of the best ones is measured at the end.
	All    bool
	Prefer Preference

	Now      func() time.Time // nil: time.Now
	Random   io.Reader        // of the repositories' secrets; nil: crypto/rand.Reader
	Observer Observer
}

// Observer hears how a run gets on. All its callbacks may be nil. But for Progress they
// are called from Run's own goroutine.
type Observer struct {
	// Sample: what there is, and what is taken of it.
	Sample func(Sample)
	// Problem: a file could not be read, and is left out.
	Problem func(path string, err error)
	// Begin: the n-th of so many measurements begins; nil stands for mere reading.
	// The total may grow by one.
	Begin func(n, total int, s *Setting)
	// Progress: so many of so many bytes of it are done. From any goroutine.
	Progress func(done, total int64)
	// Result: one is done.
	Result func(Result)
}

// A Report is what a run found.
type Report struct {
	Sample  Sample
	Reading time.Duration // of the sample, by one goroutine that does nothing else
	Results []Result
	Best    Result // one of Results, that can be recommended
}

// Repeats reports whether the data hold the same things more than once, as two versions of
// something do. If they do not, nothing can be said for larger chunks than the default's.
func (r *Report) Repeats() bool {
	return slices.ContainsFunc(r.Results, func(r Result) bool { return r.Dedup() >= repeated })
}

// ErrNothing: there is nothing to measure with.
var ErrNothing = errors.New("there is no data")

// Run measures. The error matches ErrNothing if the paths hold no data. A file inside of a
// path that can't be read is left out (Observer.Problem); a path that can't is an error.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if err := o.Axes.validate(); err != nil {
		return nil, err
	}
	sample, err := take(ctx, o.Paths, o.Budget, o.Observer)
	if err != nil {
		return nil, err
	}
	if len(sample.versions) == 1 { // there is nothing to store differences to
		o.Axes.Deltas = []bool{o.Axes.base().Deltas}
	}
	settings := o.Axes.lines()
	if o.All {
		settings = o.Axes.all()
	}
	o.Observer.sample(sample)
	r := &Report{Sample: sample}
	// Read once before, so that the first setting finds in the page cache what all others
	// will; as far as it holds that much.
	o.Observer.begin(0, len(settings), nil)
	if r.Reading, err = sample.read(ctx, o); err != nil {
		return nil, err
	}
	for i, s := range settings {
		if err := r.measure(ctx, o, i+1, len(settings), s); err != nil {
			return nil, err
		}
	}
	if s := combine(r.Results, o.Axes, o.Prefer); !o.All && !slices.Contains(settings, s) && s.Validate() == nil {
		n := len(settings) + 1
		if err := r.measure(ctx, o, n, n, s); err != nil {
			return nil, err
		}
	}
	r.Best = o.Prefer.best(r.Results)
	return r, nil
}

// measure adds a setting to the report.
func (r *Report) measure(ctx context.Context, o Options, n, total int, s Setting) error {
	o.Observer.begin(n, total, &s)
	res, err := measure(ctx, o, r.Sample, s)
	if err != nil {
		return fmt.Errorf("measure %s: %w", s, err)
	}
	r.Results = append(r.Results, res)
	if o.Observer.Result != nil {
		o.Observer.Result(res)
	}
	return nil
}

// Names of chunkers, with the one that is no chunk.Algorithm.
const fixedName = "fixed"

// ChunkerName returns the name that ParseChunker reads.
func ChunkerName(a chunk.Algorithm) string {
	if a == Fixed {
		return fixedName
	}
	return a.String()
}

// ParseChunker returns the algorithm of that name, or Fixed.
func ParseChunker(name string) (chunk.Algorithm, error) {
	if name == fixedName {
		return Fixed, nil
	}
	a, err := chunk.ParseAlgorithm(name)
	if err != nil {
		return 0, fmt.Errorf("%w, or for comparison %s", err, fixedName)
	}
	return a, nil
}

func (s Setting) String() string {
	text := fmt.Sprintf("%s, %d KiB, %s", ChunkerName(s.Chunker), s.ChunkSize>>10, s.Compression)
	if !s.Deltas {
		text += ", without deltas"
	}
	return text
}

func (o Observer) sample(s Sample) {
	if o.Sample != nil {
		o.Sample(s)
	}
}

func (o Observer) problem(path string, err error) {
	if o.Problem != nil {
		o.Problem(path, err)
	}
}

func (o Observer) begin(n, total int, s *Setting) {
	if o.Begin != nil {
		o.Begin(n, total, s)
	}
}

func (o Observer) progress(done, total int64) {
	if o.Progress != nil {
		o.Progress(done, total)
	}
}
