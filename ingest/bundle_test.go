package ingest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/snapshot"
)

// someFile is a file as a bundler sees it.
type someFile struct {
	dir  int
	name string
	size int64
}

// someFiles makes files in directories of perDir files, with the sizes of source trees and
// of mail: half of them below 4 KiB, and some large.
func someFiles(r *rand.Rand, n, perDir int) []someFile {
	files := make([]someFile, n)
	for i := range files {
		files[i] = someFile{i / perDir, fmt.Sprintf("%08x", r.Uint32()), someSize(r)}
	}
	return files
}

func someSize(r *rand.Rand) int64 {
	return min(int64(math.Exp(8.3+1.3*r.NormFloat64())), smallFile-1)
}

// bundles cuts a run of files as the walk does.
func bundles(b *bundler, files []someFile) (out [][]someFile) {
	first, dirs := 0, 0
	b.reset()
	flush := func(end int) {
		if end > first {
			out = append(out, files[first:end])
		}
		first, dirs = end, 0
		b.reset()
	}
	for i, f := range files {
		if !b.fits(f.size) {
			flush(i)
		}
		if i == first || f.dir != files[i-1].dir {
			dirs++
		}
		if b.add(f.name, f.size) || dirs >= jobDirs {
			flush(i + 1)
		}
	}
	flush(len(files))
	return out
}

func sizeOf(files []someFile) (n int64) {
	for _, f := range files {
		n += f.size
	}
	return n
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestBundlesKeepTheirBounds(t *testing.T) {
	for seed := range uint64(20) {
		r := newRand(seed)
		files := someFiles(r, 5000, 1<<30)
		switch seed % 5 {
		case 1: // only large ones
			for i := range files {
				files[i].size = smallFile - 1 - r.Int64N(10)
			}
		case 2: // only tiny and empty ones
			for i := range files {
				files[i].size = r.Int64N(3)
			}
		case 3: // all alike
			for i := range files {
				files[i].name, files[i].size = "same", 1000
			}
		case 4: // the extremes
			for i := range files {
				files[i].size = r.Int64N(2) * (smallFile - 1)
			}
		}
		b := &bundler{seed: seed}
		got := bundles(b, files)
		if !slices.Equal(slices.Concat(got...), files) {
			t.Fatalf("seed %d: files were lost or moved", seed)
		}
		for i, bundle := range got {
			n := int64(0)
			for _, f := range bundle {
				n += max(f.size, leastBundled)
			}
			if n > maxBundle {
				t.Errorf("seed %d: a bundle of %d bytes", seed, n)
			}
			if n < minBundle && i < len(got)-1 {
				t.Errorf("seed %d: a bundle of only %d bytes before the end", seed, n)
			}
			if len(bundle) > maxBundle/leastBundled {
				t.Errorf("seed %d: a bundle of %d files", seed, len(bundle))
			}
		}
	}
}

func TestBundlesHaveTheirMean(t *testing.T) {
	r := newRand(1)
	files := someFiles(r, 200_000, 1<<30)
	got := bundles(&bundler{seed: 7}, files)
	mean := float64(sizeOf(files)) / float64(len(got))
	if want := float64(minBundle + tailBundle); mean < 0.8*want || mean > 1.2*want {
		t.Errorf("the mean is %.0f KiB, want about %.0f", mean/1024, want/1024)
	}
}

// shared returns the part of b's bytes that are in bundles which a has too.
func shared(a, b [][]someFile) float64 {
	have := make(map[string]bool)
	for _, bundle := range a {
		have[fmt.Sprint(bundle)] = true
	}
	var same, all int64
	for _, bundle := range b {
		n := sizeOf(bundle)
		all += n
		if have[fmt.Sprint(bundle)] {
			same += n
		}
	}
	return float64(same) / float64(all)
}

func TestBundlesResynchronize(t *testing.T) {
	r := newRand(1)
	files := someFiles(r, 20_000, 1<<30)
	b := &bundler{seed: 7}
	before := bundles(b, files)
	tests := []struct {
		name  string
		files []someFile
	}{
		{"one inserted in front", slices.Insert(slices.Clone(files), 0, someFile{0, "first", 12345})},
		{"one inserted", slices.Insert(slices.Clone(files), 9999, someFile{0, "new", 200 << 10})},
		{"one removed", slices.Delete(slices.Clone(files), 7000, 7001)},
		{"a run removed in front", slices.Clone(files[777:])},
		{"a run moved", slices.Concat(files[:100], files[9000:12000], files[100:9000], files[12000:])},
	}
	for _, test := range tests {
		got := shared(before, bundles(b, test.files))
		t.Logf("%s: %.1f %% of the bytes are in known bundles", test.name, 100*got)
		if got < 0.95 {
			t.Errorf("%s: only %.1f %% of the bytes are in known bundles", test.name, 100*got)
		}
	}
}

func TestBundleEndsAreSecret(t *testing.T) {
	files := someFiles(newRand(1), 20_000, 1<<30)
	if got := shared(bundles(&bundler{seed: 1}, files), bundles(&bundler{seed: 2}, files)); got > 0.02 {
		t.Errorf("with another seed, %.1f %% of the bytes are in the same bundles", 100*got)
	}
}

func TestThin(t *testing.T) {
	id := func(b byte) (id chunk.ID) { id[0] = b; return id }
	part := func(b byte, length uint64) *snapshot.Entry {
		return &snapshot.Entry{Extents: []snapshot.Extent{{Chunk: id(b), ChunkSize: 100, Length: length}}}
	}
	var l liveness
	if l.thin() != nil {
		t.Error("nothing is thin")
	}
	l.add(part(1, 49))
	l.add(part(2, 50))
	l.add(part(3, 30))
	l.add(part(3, 30))
	l.add(part(4, 100)) // a file in a chunk of its own
	l.add(&snapshot.Entry{Extents: []snapshot.Extent{{Length: 10}}})
	if got := l.thin(); !slices.Equal(got, [][32]byte{id(1)}) {
		t.Errorf("thin are %x, want the first", got)
	}
}

// year is a simulation of daily snapshots of small files, of which a part is
// changed each day. Only sizes and bundles are real.
type year struct {
	r        *rand.Rand
	bundler  bundler
	files    []someFile
	in       []chunk.ID          // bundle of each file
	size     map[chunk.ID]uint32 // of each bundle that was ever written
	written  int64               // bytes
	serial   uint32
	rebundle bool
}

// store bundles files, by their positions, as one snapshot does.
func (y *year) store(which []int) {
	files := make([]someFile, len(which))
	for i, f := range which {
		files[i] = y.files[f]
	}
	for _, b := range bundles(&y.bundler, files) {
		y.serial++
		id := chunk.ID{byte(y.serial), byte(y.serial >> 8), byte(y.serial >> 16), 1}
		y.size[id] = uint32(sizeOf(b))
		y.written += sizeOf(b)
		for _, f := range which[:len(b)] {
			y.in[f] = id
		}
		which = which[len(b):]
	}
}

// liveness counts as the sequencer of a snapshot does.
func (y *year) liveness() (l liveness) {
	e := &snapshot.Entry{Extents: make([]snapshot.Extent, 1)}
	for i, f := range y.files {
		e.Extents[0] = snapshot.Extent{Chunk: y.in[i], ChunkSize: y.size[y.in[i]], Length: uint64(f.size)}
		l.add(e)
	}
	return l
}

// needed returns the bytes of the bundles that are in use.
func (y *year) needed() (n int64) {
	seen := make(map[chunk.ID]bool)
	for _, id := range y.in {
		if !seen[id] {
			seen[id] = true
			n += int64(y.size[id])
		}
	}
	return n
}

// run returns, at the end of the year, the bytes of the bundles that the last snapshot
// needs per live byte, and the bytes written per byte changed.
func (y *year) run(churn float64) (factor, writes float64) {
	everything := make([]int, len(y.files))
	for i := range everything {
		everything[i] = i
	}
	y.store(everything)
	y.written = 0
	var changed int64
	for range 365 {
		thin := make(map[chunk.ID]bool)
		if y.rebundle {
			l := y.liveness()
			for _, id := range l.thin() {
				thin[id] = true
			}
		}
		read := make([]bool, len(y.files))
		for range int(churn * float64(len(y.files))) {
			f := y.r.IntN(len(y.files))
			if !read[f] {
				read[f] = true
				y.files[f].size = someSize(y.r)
				changed += y.files[f].size
			}
		}
		var which []int
		for i := range y.files {
			if read[i] || len(thin) > 0 && thin[y.in[i]] {
				which = append(which, i)
			}
		}
		y.store(which)
	}
	return float64(y.needed()) / float64(sizeOf(y.files)), float64(y.written) / float64(changed)
}

// TestYearOfChurn holds the reason for thin bundles: without bundling them
// again, a few live files keep many dead ones.
func TestYearOfChurn(t *testing.T) {
	simulate := func(rebundle bool) (factor, writes float64) {
		r := newRand(3)
		y := &year{
			r: r, bundler: bundler{seed: 9}, files: someFiles(r, 20_000, 50), in: make([]chunk.ID, 20_000),
			size: make(map[chunk.ID]uint32), rebundle: rebundle,
		}
		return y.run(0.01)
	}
	factor, writes := simulate(false)
	t.Logf("bundles left alone:  %.2f x the live bytes are needed, %.2f x the changed bytes are written", factor, writes)
	if factor < 2 {
		t.Errorf("only %.2f x the live bytes are needed without bundling anew: is that worth it?", factor)
	}
	factor, writes = simulate(true)
	t.Logf("thin ones made anew: %.2f x the live bytes are needed, %.2f x the changed bytes are written", factor, writes)
	if factor > 1.6 {
		t.Errorf("%.2f x the live bytes are needed", factor)
	}
	if writes > 2.5 {
		t.Errorf("%.2f x the changed bytes are written", writes)
	}
}
