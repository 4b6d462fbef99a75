package tune

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/bench/corpus"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/pack"
)

// write makes a file of prose, and returns its path.
func write(t testing.TB, dir, name string, size int, seed uint64) string {
	t.Helper()
	data := make([]byte, size)
	corpus.FillText(data, seed)
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t testing.TB, o Options) *Report {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var oneSetting = Axes{[]chunk.Algorithm{chunk.FastCDC}, []int{256 << 10}, []pack.Compression{pack.Fastest}, []bool{true}}

// sameSecrets makes repositories that cut alike in each run.
type sameSecrets struct {
	mu sync.Mutex
	r  io.Reader
}

func (s *sameSecrets) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Read(p)
}

// The second version of a file has a line more at its beginning: cuts that follow the
// contents find the rest again, those of fixed size find nothing.
func TestRunSeesWhatCuttingIsGoodFor(t *testing.T) {
	dir := t.TempDir()
	first := write(t, dir, "first", 4<<20, 1)
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "second"), append([]byte("one line more\n"), data...), 0o644); err != nil {
		t.Fatal(err)
	}
	axes := Axes{
		[]chunk.Algorithm{chunk.FastCDC, chunk.FastCDCPRF, chunk.Rabin, Fixed}, []int{128 << 10, 1 << 20}, []pack.Compression{pack.Fastest}, []bool{true, false},
	}
	var began []Setting
	var seen int
	r := run(t, Options{Paths: []string{dir}, Axes: axes, All: true, Random: &sameSecrets{r: rand.NewChaCha8([32]byte{1})}, Observer: Observer{
		Begin: func(n, total int, s *Setting) {
			if total != 8 || s != nil && n != len(began)+1 {
				t.Errorf("measurement %d of %d begins", n, total)
			}
			if s != nil {
				began = append(began, *s)
			}
		},
		Result: func(Result) { seen++ },
	}})
	if len(r.Results) != 8 || seen != 8 || len(began) != 8 {
		t.Fatalf("%d results, %d told of, %d begun", len(r.Results), seen, len(began))
	}
	total := int64(8<<20 + len("one line more\n"))
	if s := r.Sample; s.Files != 2 || s.Bytes != total || s.Taken != total || !s.Whole {
		t.Errorf("the sample is %+v", s)
	}
	for _, res := range r.Results {
		switch {
		case res.Bytes != total || res.Wall <= 0 || res.CPU <= 0 || res.PeakAnon < 1<<20:
			t.Errorf("%s: %+v", res.Setting, res)
		case res.Chunker == Fixed && res.Dedup() > 1.01:
			t.Errorf("%s: %.2f times less, though all is shifted", res.Setting, res.Dedup())
		case res.Chunker != Fixed && res.ChunkSize < 1<<20 && res.Dedup() < 1.6:
			t.Errorf("%s: only %.2f times less of two versions", res.Setting, res.Dedup())
		case res.Compressed() < 2:
			t.Errorf("%s: prose is stored in %d of %d bytes", res.Setting, res.Stored, res.Unique)
		}
	}
	if !r.Repeats() || !r.Best.Offered() || r.Best.ChunkSize != 128<<10 {
		t.Errorf("%s is recommended", r.Best.Setting)
	}
	if r.Reading <= 0 {
		t.Error("nothing was read")
	}
}

// Without All, one value differs at a time, and the best are put together at the end.
func TestRunGoesAlongAxes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", 3<<20, 1)
	r := run(t, Options{Paths: []string{dir}, Axes: DefaultAxes(), Prefer: Size})
	if len(r.Results) < 9 || r.Results[0].Setting != Default() {
		t.Fatalf("%d results", len(r.Results))
	}
	for _, res := range r.Results[:9] {
		differs := 0
		for _, other := range []bool{res.Chunker != chunk.FastCDC, res.ChunkSize != 1<<20, res.Compression != pack.Fastest} {
			if other {
				differs++
			}
		}
		if differs > 1 {
			t.Errorf("%s differs in %d values from the default", res.Setting, differs)
		}
	}
	if r.Best.Compression != pack.Better || r.Repeats() || r.Best.ChunkSize > 1<<20 {
		t.Errorf("of one file of prose, %s is recommended where size counts", r.Best.Setting)
	}
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	file := write(t, dir, "file", 1000, 1)
	fixedOnly, huge := oneSetting, oneSetting
	fixedOnly.Chunkers, huge.ChunkSizes = []chunk.Algorithm{Fixed}, []int{8 << 20}
	for _, c := range []struct {
		name  string
		paths []string
		axes  Axes
		want  string
		is    error
	}{
		{"nothing", nil, oneSetting, "no path was given", ErrNothing},
		{"empty path", []string{file, ""}, oneSetting, "an empty path was given", nil},
		{"missing", []string{filepath.Join(dir, "nowhere")}, oneSetting, "nowhere can't be read: no such file", fs.ErrNotExist},
		{"no data", []string{empty}, oneSetting, "there is no data in " + empty, ErrNothing},
		{"a device", []string{"/dev/null"}, oneSetting, "/dev/null can't be read: it is neither a file nor a directory", nil},
		{"only fixed", []string{file}, fixedOnly, "for comparison only", nil},
		{"too large chunks", []string{file}, huge, "choose at most 4194304", nil},
	} {
		_, err := Run(t.Context(), Options{Paths: c.paths, Axes: c.axes})
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

// A file that can't be read when its turn comes is told of.
func TestReadTellsOfUnreadableFiles(t *testing.T) {
	path := write(t, t.TempDir(), "file", 1<<20, 1)
	var lost []string
	o := Options{Now: time.Now, Observer: Observer{Problem: func(path string, err error) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		lost = append(lost, path)
	}}}
	s := Sample{versions: []version{{"", []string{path}, []part{{path + "x", []window{{0, 1}}}}}}}
	if _, err := s.read(t.Context(), o); err != nil || !slices.Equal(lost, []string{path + "x"}) {
		t.Errorf("lost %q, %v", lost, err)
	}
	s.versions[0].paths = nil
	if _, err := s.read(t.Context(), o); !errors.Is(err, ErrNothing) {
		t.Errorf("where nothing can be read: %v", err)
	}
}

func TestRunStops(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", 1<<20, 1)
	t.Setenv("TMPDIR", t.TempDir())
	for at := range 3 { // while reading, and in the first and second setting
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Run(ctx, Options{Paths: []string{dir}, Axes: DefaultAxes(), Observer: Observer{Begin: func(n, _ int, _ *Setting) {
			if n == at {
				cancel()
			}
		}}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped at measurement %d: %v", at, err)
		}
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestSampleIsSpreadEvenly(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		for j := range 8 {
			write(t, dir, filepath.Join("small", string(rune('a'+i%26))+string(rune('a'+i/26)), string(rune('a'+j))), 4000, uint64(i*8+j))
		}
	}
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o644), os.Truncate(image, 1<<30)); err != nil {
		t.Fatal(err)
	}
	bytes := int64(1<<30 + 40*8*4000)
	for _, part := range []int64{2, 10} {
		s, err := take(t.Context(), []string{dir}, bytes/part, Observer{})
		if err != nil {
			t.Fatal(err)
		}
		if s.Bytes != bytes || s.Files != 321 || s.Whole {
			t.Fatalf("the sample is of %d files, %d bytes", s.Files, s.Bytes)
		}
		if s.Taken < bytes/part-windowSize || s.Taken > bytes/part+windowSize {
			t.Errorf("%d bytes are taken, not about %d", s.Taken, bytes/part)
		}
		if n := int64(len(s.versions[0].paths)); n < 320/part/2 || n > 320/part*2 {
			t.Errorf("%d of 320 small files are taken", n)
		}
		large := s.versions[0].large
		if len(large) != 1 || large[0].windows[0].off > 1<<30/4 || large[0].windows[len(large[0].windows)-1].off < 1<<30/4*3 {
			t.Errorf("the windows are %v", large)
		}
	}
}

// What is read of a large file is what stands in its windows.
func TestPartOfLargeFile(t *testing.T) {
	path := write(t, t.TempDir(), "file", 1000, 1)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := part{path, []window{{100, 50}, {300, 1}, {990, 10}}}
	got, err := io.ReadAll(&partReader{ctx: t.Context(), part: p})
	want := slices.Concat(data[100:150], data[300:301], data[990:])
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
	// It may shrink meanwhile.
	p.windows = append(p.windows, window{2000, 5})
	if got, err = io.ReadAll(&partReader{ctx: t.Context(), part: p}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("of a file that shrank, read %q, %v", got, err)
	}
	r := &partReader{ctx: t.Context(), part: part{path + "x", []window{{0, 1}}}}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a file that is gone: %v", err)
	}
}

func TestOutermost(t *testing.T) {
	got := outermost([]string{"/a/b", "/a", "/ab", "/a", "/c/d", "/c/e"})
	if want := []string{"/a", "/ab", "/c/d", "/c/e"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := outermost([]string{"/a", "/"}); !slices.Equal(got, []string{"/"}) {
		t.Errorf("%q", got)
	}
}

func TestPreference(t *testing.T) {
	result := func(c chunk.Algorithm, size int, l pack.Compression, stored int64, wall time.Duration) Result {
		return Result{Setting: Setting{c, size, l, true}, Bytes: 1000, Unique: 500, Stored: stored, Wall: wall}
	}
	usual := result(chunk.FastCDC, 1<<20, pack.Fastest, 300, 10)
	slow := result(chunk.FastCDC, 1<<20, pack.Better, 200, 30)
	middle := result(chunk.FastCDC, 1<<20, pack.Default, 250, 15)
	rabin := result(chunk.Rabin, 1<<20, pack.Fastest, 299, 9)
	quick := result(Fixed, 1<<20, pack.Fastest, 100, 1)
	large := result(chunk.FastCDC, 4<<20, pack.Fastest, 150, 10)
	once := large
	once.Unique = 1000
	for _, c := range []struct {
		name    string
		results []Result
		want    map[Preference]Result
	}{
		{"levels", []Result{usual, slow, middle, quick}, map[Preference]Result{Balance: middle, Speed: usual, Size: slow}},
		{"about the same size", []Result{rabin, usual, quick}, map[Preference]Result{Balance: usual, Speed: usual, Size: usual}},
		{"large chunks", []Result{usual, large}, map[Preference]Result{Balance: large, Size: large}},
		{"large chunks of data that do not repeat", []Result{usual, once}, map[Preference]Result{Balance: usual, Size: usual}},
		{"nothing but large chunks", []Result{once}, map[Preference]Result{Balance: once}},
	} {
		for p, want := range c.want {
			if got := p.best(c.results); got != want {
				t.Errorf("%s, %s: %s is best, want %s", c.name, p, got.Setting, want.Setting)
			}
		}
	}
	axes := DefaultAxes()
	if got := combine([]Result{usual, slow, middle, large, rabin, quick}, axes, Size); got != (Setting{chunk.FastCDC, 4 << 20, pack.Better, true}) {
		t.Errorf("the best together are %s", got)
	}
	for _, p := range []Preference{Balance, Speed, Size} {
		if got, err := ParsePreference(p.String()); got != p || err != nil {
			t.Errorf("%s is read as %s, %v", p, got, err)
		}
	}
	if _, err := ParsePreference("quality"); err == nil {
		t.Error("an unknown preference is read")
	}
}

func TestChunkerNames(t *testing.T) {
	for _, a := range []chunk.Algorithm{Fixed, chunk.FastCDC, chunk.FastCDCPRF, chunk.Rabin} {
		if got, err := ParseChunker(ChunkerName(a)); got != a || err != nil {
			t.Errorf("%s is read as %v, %v", ChunkerName(a), got, err)
		}
	}
	if _, err := ParseChunker("buzhash"); err == nil || !strings.Contains(err.Error(), "or for comparison fixed") {
		t.Errorf("%v", err)
	}
}

func TestPrimitives(t *testing.T) {
	var told []string
	all, err := Primitives(t.Context(), PrimitiveOptions{Result: func(p Primitive) { told = append(told, p.Name) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(primitives) || len(told) != len(all) {
		t.Errorf("%d results, %d told of, of %d", len(all), len(told), len(primitives))
	}
	for _, p := range all {
		if p.Text <= 0 || p.Random <= 0 {
			t.Errorf("%+v", p)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Primitives(ctx, PrimitiveOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// The clock says what a step took, and the quickest round counts.
func TestRepeat(t *testing.T) {
	clock := time.Unix(0, 0)
	takes := []time.Duration{9, 4, 2, 8, 6} // the first is not measured
	o := PrimitiveOptions{Now: func() time.Time { return clock }}
	got, err := repeat(t.Context(), o, func([]byte) error {
		clock = clock.Add(takes[0] * time.Second)
		takes = takes[1:]
		return nil
	}, make([]byte, 100))
	if err != nil || got != 50 {
		t.Errorf("100 bytes in 2 s are %v a second, %v", got, err)
	}
	failed := errors.New("failed")
	if _, err := repeat(t.Context(), o, func([]byte) error { return failed }, nil); err != failed {
		t.Errorf("a step that fails: %v", err)
	}
}

// What a step goes through is no more than it can in time, and as much as there is for a long one.
func TestPrimitiveSize(t *testing.T) {
	for d, want := range map[time.Duration]int{
		0:                      primitiveChunk,
		time.Millisecond:       primitiveChunk,
		100 * time.Millisecond: 4 * primitiveChunk,
		200 * time.Millisecond: primitiveData,
		time.Hour:              primitiveData,
	} {
		if got := (PrimitiveOptions{Duration: d}).size(); got != want {
			t.Errorf("%s: %d bytes, want %d", d, got, want)
		}
	}
}
