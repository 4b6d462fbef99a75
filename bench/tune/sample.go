package tune

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// windowSize is the piece in which files of at least that size are sampled, in bytes:
	// a few of the largest chunks.
	windowSize = 16 << 20
	// unitFiles is how many neighbouring smaller files are sampled together, so that they
	// can be bundled as they would be.
	unitFiles = 64
	// maxFiles bounds the files of a sample: each is a path in memory.
	maxFiles = 200_000
)

// A Sample is what is read for each setting.
type Sample struct {
	Files int64 // there are, in the paths
	Bytes int64 // of them
	Taken int64 // bytes that are read
	Whole bool  // all of it

	versions []version // at least one, in the order of the paths
}

// take walks the paths and decides what to read.
func take(ctx context.Context, paths []string, budget int64, o Observer) (Sample, error) {
	if len(paths) == 0 {
		return Sample{}, fmt.Errorf("%w: no path was given", ErrNothing)
	}
	paths, err := resolve(paths)
	if err != nil {
		return Sample{}, err
	}
	var s Sample
	err = walk(ctx, paths, o.problem, func(_ string, size int64) {
		s.Files++
		s.Bytes += size
	})
	if err != nil {
		return s, err
	}
	if s.Bytes == 0 {
		return s, fmt.Errorf("%w in %s", ErrNothing, strings.Join(paths, ", "))
	}
	roots := [][]string{paths}
	if len(paths) <= maxVersions {
		roots = slices.Collect(slices.Chunk(paths, 1))
	}
	if budget <= 0 || s.Bytes <= budget {
		for _, r := range roots {
			v, err := wholeVersion(r)
			if err != nil {
				return s, err
			}
			s.versions = append(s.versions, v)
		}
		s.Taken, s.Whole = s.Bytes, true
		return s, nil
	}
	part := even{part: min(float64(budget)/float64(s.Bytes), maxFiles/float64(s.Files))}
	for _, r := range roots {
		// Each begins to choose anew, so that of versions of the same the same parts are taken.
		c := chooser{sample: &s, version: new(version), windows: part, units: part}
		if len(r) == 1 {
			c.root = r[0]
		}
		if err := walk(ctx, r, func(string, error) {}, c.file); err != nil {
			return s, err
		}
		c.endUnit()
		if c.paths != nil || c.version.large != nil {
			s.versions = append(s.versions, *c.version)
		}
	}
	if s.Taken == 0 {
		return s, fmt.Errorf("%w: the files vanished", ErrNothing)
	}
	return s, nil
}

// resolve follows the paths to where files are, and says why one can't be read.
func resolve(paths []string) ([]string, error) {
	var out []string
	for _, p := range paths {
		if p == "" {
			return nil, errors.New("an empty path was given")
		}
		abs, err := filepath.Abs(p)
		if err == nil {
			abs, err = filepath.EvalSymlinks(abs)
		}
		if err == nil {
			err = readable(abs)
		}
		if err != nil {
			return nil, unreadable(p, err)
		}
		out = append(out, abs)
	}
	return outermost(out), nil
}

// unreadable says of a path that was named why it can't be measured with.
func unreadable(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("%s can't be read: %w", path, err)
}

// outermost leaves out what is inside of another path, or is named twice.
func outermost(paths []string) []string {
	var out []string
	for i, p := range paths {
		inside := false
		for j, q := range paths {
			inside = inside || p == q && j < i || p != q && strings.HasPrefix(p, strings.TrimSuffix(q, "/")+"/")
		}
		if !inside {
			out = append(out, p)
		}
	}
	return out
}

// readable says why a path that was named can't be read.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return errors.New("it is neither a file nor a directory")
	}
	return nil
}

// walk calls fn for each regular file of the paths, in the same order each time, with its
// size.
func walk(ctx context.Context, paths []string, problem func(string, error), fn func(path string, size int64)) error {
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return nil // gone since
				}
				problem(path, err)
				return nil
			}
			if !d.Type().IsRegular() {
				return nil
			}
			if info, err := d.Info(); err == nil { // or else it is gone since
				fn(path, info.Size())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// even takes evenly of what goes by: whatever comes while less than its part was taken.
type even struct {
	part        float64
	seen, taken int64
}

func (e *even) takes(n int64) bool {
	ok := float64(e.taken) <= e.part*float64(e.seen)
	e.seen += n
	if ok {
		e.taken += n
	}
	return ok
}

// chooser chooses of files that go by. It keeps two accounts: or else one window of a large
// file would stand for very many small ones.
type chooser struct {
	sample *Sample
	*version
	windows, units even

	dir   string
	files []string // of the unit that is being filled
	size  int64
}

func (c *chooser) file(path string, size int64) {
	if size >= windowSize {
		c.large(path, size)
		return
	}
	if dir := filepath.Dir(path); dir != c.dir || len(c.files) == unitFiles {
		c.endUnit()
		c.dir = dir
	}
	c.files = append(c.files, path)
	c.size += size
}

func (c *chooser) endUnit() {
	if c.units.takes(c.size) {
		c.paths = append(c.paths, c.files...)
		c.sample.Taken += c.size
	}
	c.files, c.size = c.files[:0], 0
}

func (c *chooser) large(path string, size int64) {
	p := part{path: path}
	for off := int64(0); off < size; off += windowSize {
		n := min(windowSize, size-off)
		if c.windows.takes(n) {
			p.windows = append(p.windows, window{off, n})
			c.sample.Taken += n
		}
	}
	if p.windows != nil {
		c.version.large = append(c.version.large, p)
	}
}

// read reads the sample and does nothing with it. It tells of what can't be read, which
// the measurements then leave out as well.
func (s Sample) read(ctx context.Context, o Options) (time.Duration, error) {
	buf := make([]byte, 1<<20)
	var done int64
	start := o.Now()
	drain := func(path string, r io.Reader) error {
		for {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n, err := r.Read(buf)
			done += int64(n)
			o.Observer.progress(done, s.Taken)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				o.Observer.problem(path, err)
				return nil
			}
		}
	}
	for _, v := range s.versions {
		if err := v.read(ctx, o, drain); err != nil {
			return 0, err
		}
	}
	if done == 0 && ctx.Err() == nil {
		return 0, fmt.Errorf("%w that can be read", ErrNothing)
	}
	return o.Now().Sub(start), ctx.Err()
}
