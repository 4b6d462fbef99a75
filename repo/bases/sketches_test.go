package bases

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/chunk/delta"
)

// room is that of the files of most tests, in bytes.
const room = 1 << 16

func open(t testing.TB, name string, size int64, label string) *Sketches {
	t.Helper()
	s, err := OpenSketches(name, size, []byte(label))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func id(n int) (id chunk.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

// sketch returns one that has nothing in common with that of any other number.
func sketch(n int) (s delta.Sketch) {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range s {
		s[i] = r.Uint64() | 1
	}
	return s
}

// mixed returns a sketch with the first k numbers of a and the rest of b.
func mixed(a, b delta.Sketch, k int) delta.Sketch {
	copy(b[:k], a[:k])
	return b
}

func TestSketches(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sketches")
	s := open(t, name, room, "a")
	if !s.IsNew() {
		t.Error("it is new, and does not know")
	}
	a, b := sketch(1), sketch(2)
	s.Add(id(1), a, 100)
	s.Add(id(2), b, 100)
	s.Add(id(1), a, 200)
	s = open(t, name, room, "a")
	if s.IsNew() {
		t.Error("it says that it is new")
	}
	for _, test := range []struct {
		of   delta.Sketch
		want []chunk.ID
	}{
		{a, []chunk.ID{id(1)}},
		{b, []chunk.ID{id(2)}},
		{mixed(a, sketch(3), 1), []chunk.ID{id(1)}},
		{mixed(a, b, 1), []chunk.ID{id(2), id(1)}}, // the more in common, the earlier
		{mixed(b, a, 1), []chunk.ID{id(1), id(2)}},
		{sketch(4), nil},
		{delta.Sketch{}, nil},
	} {
		if got := s.Similar(nil, test.of); !slices.Equal(got, test.want) {
			t.Errorf("%x: %v, want %v", test.of, got, test.want)
		}
	}
	got := s.Similar([]chunk.ID{id(9)}, a)
	if !slices.Equal(got, []chunk.ID{id(9), id(1)}) {
		t.Errorf("appended: %v", got)
	}
}

// TestAnother: what was made under another label, by another version, or with another size, is of
// no use, and begun anew.
func TestAnother(t *testing.T) {
	for name, spoil := range map[string]func(name string){
		"label":   func(string) {},
		"cut off": func(name string) { os.Truncate(name, room-1) },
		"empty":   func(name string) { os.Truncate(name, 0) },
		"version": func(name string) { flip(t, name, 8) },
		"magic":   func(name string) { flip(t, name, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "sketches")
			s := open(t, file, room, "a")
			s.Add(id(1), sketch(1), 0)
			spoil(file)
			label := "a"
			if name == "label" {
				label = "b"
			}
			s = open(t, file, room, label)
			if got := s.Similar(nil, sketch(1)); len(got) > 0 || !s.IsNew() {
				t.Errorf("it was not begun anew: %v", got)
			}
			s.Add(id(2), sketch(2), 0)
			if got := s.Similar(nil, sketch(2)); len(got) != 1 {
				t.Errorf("the new one finds %v", got)
			}
		})
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		b[at] ^= 1
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestDamagedSlots: each bit of a slot counts.
func TestDamagedSlots(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sketches")
	s := open(t, file, room, "a")
	one := delta.Sketch{12345}
	s.Add(id(1), one, 0)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(b[bucketSize:], byte(12345&255)) + bucketSize // where the number begins
	for i := range slotSize {
		flip(t, file, int64(at+i))
		if got := s.Similar(nil, one); len(got) > 0 {
			t.Errorf("with byte %d of a slot changed: %v", i, got)
		}
		flip(t, file, int64(at+i))
	}
	if got := s.Similar(nil, one); len(got) != 1 {
		t.Errorf("undamaged: %v", got)
	}
}

// TestOldestGo: the file never grows, and takes in what is new.
func TestOldestGo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sketches")
	s := open(t, file, room, "a")
	n := 4 * room / slotSize
	for i := range n {
		s.Add(id(i), sketch(i), int64(i))
	}
	found := func(i int) bool { return slices.Contains(s.Similar(nil, sketch(i)), id(i)) }
	news, olds := 0, 0
	for i := range n / 50 {
		if found(n - 1 - i) {
			news++
		}
		if found(i) {
			olds++
		}
	}
	if news < n/50 || olds > 0 {
		t.Errorf("of %d each, %d of the newest are found and %d of the oldest", n/50, news, olds)
	}
	if fi, err := os.Stat(file); err != nil || fi.Size() > room {
		t.Errorf("%v, %v", fi.Size(), err)
	}
}

// TestManyAlike: many chunks with the same sketch, as of zeros with a header, leave others alone.
func TestManyAlike(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sketches"), 2*bucketSize, "a") // of one bucket
	s.Add(id(0), sketch(0), 0)
	for i := range 100 {
		s.Add(id(1+i), sketch(1), int64(1+i))
	}
	if got := s.Similar(nil, sketch(1)); len(got) > len(delta.Sketch{})*maxAlike || got[0] != id(100) {
		t.Errorf("%d, first %v", len(got), got[0])
	}
}

func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	if s, err := OpenSketches(filepath.Join(dir, "no folder", "sketches"), room, nil); err == nil || s.Failed() == nil || !s.IsNew() {
		t.Errorf("%v, %v", err, s.Failed())
	} else {
		s.Add(id(1), sketch(1), 0)
		if got := s.Similar(nil, sketch(1)); len(got) > 0 {
			t.Errorf("it found %v", got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	// A disk that takes nothing more.
	file := filepath.Join(dir, "sketches")
	s := open(t, file, room, "a")
	s.Add(id(1), sketch(1), 0)
	s.file.Close()
	r, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	s.file = r
	s.Add(id(2), sketch(2), 0)
	if got := s.Similar(nil, sketch(1)); s.Failed() == nil || len(got) != 1 {
		t.Errorf("%v: %v", s.Failed(), got)
	}
}

// TestTwoAtOnce: what two write at once is never anything but what one of them wrote.
func TestTwoAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sketches")
	open(t, file, room, "a")
	var g sync.WaitGroup
	for k := range 4 {
		s := open(t, file, room, "a")
		g.Go(func() {
			for i := range 2000 {
				n := i%500 + 500*(k%2) // two of them the same
				s.Add(id(n), sketch(n), int64(i))
				for _, got := range s.Similar(nil, sketch(n)) {
					if got != id(n) {
						t.Errorf("%d: %v", n, got)
					}
				}
			}
		})
	}
	g.Wait()
}

func BenchmarkAdd(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "sketches"), SketchesSize, "a")
	all := make([]delta.Sketch, 1<<14)
	for i := range all {
		all[i] = sketch(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Add(id(i), all[i%len(all)], int64(i))
	}
}

// FuzzSketches: whatever is in the file, asking gives no more than there are slots, and what is
// added is found.
func FuzzSketches(f *testing.F) {
	h := header([]byte("a"))
	var b [slotSize]byte
	slot{sketch(1)[0], id(1), 5}.encode(&b)
	f.Add(append(append(slices.Clone(h), make([]byte, bucketSize-len(h))...), b[:]...), uint64(7))
	f.Add(h, uint64(0))
	f.Add([]byte{}, sketch(1)[0])
	f.Fuzz(func(t *testing.T, file []byte, number uint64) {
		name := filepath.Join(t.TempDir(), "sketches")
		if len(file) < 2*bucketSize {
			file = append(file, make([]byte, 2*bucketSize-len(file))...)
		}
		if err := os.WriteFile(name, file[:2*bucketSize], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, name, 2*bucketSize, "a")
		one := delta.Sketch{number | 1, sketch(1)[0]}
		if got := s.Similar(nil, one); len(got) > 2*bucketSlots {
			t.Errorf("%d found", len(got))
		}
		s.Add(id(3), one, 1)
		if got := s.Similar(nil, one); !slices.Contains(got, id(3)) {
			t.Errorf("what was added is not in %v", fmt.Sprint(got))
		}
	})
}
