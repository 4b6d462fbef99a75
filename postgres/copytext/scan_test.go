package copytext_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/copytext"
	"github.com/zeebo/blake3"
)

// The files in testdata are what COPY of PostgreSQL 15 wrote of the tables in values.sql.
func load(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// scan gives rows to a scanner in pieces of n bytes.
func scan(columns int, rows []byte, n int) (copytext.Sum, error) {
	s := copytext.NewScanner(columns)
	for p := range slices.Chunk(rows, n) {
		if _, err := s.Write(p); err != nil {
			if _, again := s.Write(p); again != err {
				return copytext.Sum{}, errors.New("the error did not stay")
			}
			break
		}
	}
	return s.Close()
}

// sumOf computes the hash as its documentation says, in another way.
func sumOf(rows []byte) copytext.Sum {
	total := new(big.Int)
	sum := copytext.Sum{Bytes: int64(len(rows))}
	for row := range bytes.Lines(rows) {
		h := blake3.Sum256(bytes.TrimSuffix(row, []byte("\n")))
		b := slices.Clone(h[:16])
		slices.Reverse(b)
		total.Add(total, new(big.Int).SetBytes(b))
		sum.Rows++
	}
	total.And(total, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	total.FillBytes(sum.Hash[:])
	slices.Reverse(sum.Hash[:])
	return sum
}

func TestScanner(t *testing.T) {
	long := strings.Repeat("x\\\\", 2000) + "\t" + strings.Repeat("y", 1023) + "\n"
	for name, c := range map[string]struct {
		columns int
		rows    []byte
		n       int64
	}{
		"many":      {5, load(t, "many.utf8.copy"), 259},
		"latin1":    {5, load(t, "many.latin1.copy"), 259},
		"one":       {1, load(t, "one.utf8.copy"), 9},
		"none":      {0, load(t, "none.utf8.copy"), 2},
		"empty":     {2, load(t, "empty.utf8.copy"), 0},
		"long":      {2, []byte(strings.Repeat(long+"a\tb\n", 20)), 40},
		"1024":      {1, []byte(strings.Repeat("x", 1024) + "\n" + strings.Repeat("x", 1025) + "\n"), 2},
		"backslash": {2, []byte("\\\\\t\\\\\n\\\\\\\\\t\n"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			want := sumOf(c.rows)
			if want.Rows != c.n {
				t.Fatalf("%d rows, want %d", want.Rows, c.n)
			}
			for _, n := range []int{1, 2, 3, 7, 1000, 1024, 1 << 20} {
				if got, err := scan(c.columns, c.rows, n); err != nil || got != want {
					t.Errorf("in pieces of %d: %v, %v, want %v", n, got, err, want)
				}
			}
		})
	}
}

// The hash does not depend on the order of rows; it does on each of them, and on how often
// it is there; it is a sum.
func TestHash(t *testing.T) {
	hash := func(rows string) copytext.Hash {
		s, err := scan(1, []byte(rows), 5)
		if err != nil {
			t.Fatal(err)
		}
		return s.Hash
	}
	if hash("a\nb\nccc\n") != hash("ccc\na\nb\n") {
		t.Error("it depends on the order")
	}
	seen := make(map[copytext.Hash]string)
	for _, rows := range []string{"", "\n", "\n\n", "a\n", "a\na\n", "a\na\na\n", "aa\n", "b\n", "a\nb\n"} {
		if other, ok := seen[hash(rows)]; ok {
			t.Errorf("%q and %q have the same", rows, other)
		}
		seen[hash(rows)] = rows
	}
	part := hash("a\nb\n")
	part.Add(hash("c\nd\n"))
	if part != hash("a\nb\nc\nd\n") {
		t.Error("it is not the sum of those of parts")
	}

	var all copytext.Hash
	all.Add(copytext.Hash(slices.Repeat([]byte{0xff}, 16)))
	all.Add(copytext.Hash{1})
	if all != (copytext.Hash{}) {
		t.Errorf("2^128 is %v", all)
	}
	var carried copytext.Hash
	binary.LittleEndian.PutUint64(carried[:], 1<<63)
	carried.Add(carried)
	if carried != (copytext.Hash{8: 1}) {
		t.Errorf("2^64 is %v", carried)
	}
}

// For other implementations: the hash of three rows of two columns.
func TestHashVector(t *testing.T) {
	s, err := scan(2, []byte("1\tann\n2\t\\N\n3\tb\\\\c\n"), 100)
	if want := "f32b21ba745ecf6cd7bdeca6c15d3597"; err != nil || s.Hash.String() != want {
		t.Errorf("%v, %v, want %s", s.Hash, err, want)
	}
	text, err := s.Hash.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var again copytext.Hash
	if err := again.UnmarshalText(text); err != nil || again != s.Hash {
		t.Errorf("%s is read as %v, %v", text, again, err)
	}
	for _, bad := range []string{"", "12", strings.Repeat("g", 32), strings.Repeat("1", 34)} {
		if again.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is a hash", bad)
		}
	}
}

func TestScannerRefuses(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for name, c := range map[string]struct {
		columns int
		rows    string
		row     int64
	}{
		"too few columns":           {3, "1\t2\t3\n1\t2\n", 2},
		"too many columns":          {1, "1\n2\n3\t4\n", 3},
		"in a long row":             {1, "1\n" + long + "\t" + long + "\n", 2},
		"no column":                 {0, "\nx\n", 2},
		"a column too many":         {0, "\n\t\n", 2},
		"none of two":               {2, "\n", 1},
		"the end":                   {1, "1\n\\.\n", 2},
		"the end of a long table":   {2, "1\t1\n\\.\n", 2},
		"no newline":                {1, "1\n2", 2},
		"no newline in a long row":  {1, "1\n" + long, 2},
		"a backslash, a tab":        {2, "1\t1\na\\\tb\n", 2},
		"a backslash, a tab, long":  {2, long + "\\\tb\n", 1},
		"a backslash, a newline":    {1, "1\na\\\nb\n", 2},
		"three backslashes, a tab":  {2, "\\\\\\\t1\n", 1},
		"backslash and end of data": {1, "a\\", 1},
	} {
		for _, n := range []int{1, 2, 3, 1 << 20} {
			_, err := scan(c.columns, []byte(c.rows), n)
			var re *copytext.RowError
			if !errors.As(err, &re) || re.Row != c.row {
				t.Errorf("%s, in pieces of %d: %v, want one of row %d", name, n, err, c.row)
			}
		}
	}
}

func TestScannerAllocs(t *testing.T) {
	for name, row := range map[string]string{"short": "1\tabc\n", "long": strings.Repeat("x", 5000) + "\ty\n"} {
		rows := []byte(strings.Repeat(row, 200))
		s := copytext.NewScanner(2)
		if n := testing.AllocsPerRun(10, func() {
			for _, p := range [][]byte{rows[:100], rows[100:1001], rows[1001:]} {
				if _, err := s.Write(p); err != nil {
					t.Fatal(err)
				}
			}
		}); n > 0 {
			t.Errorf("%s rows: %v allocations for 200", name, n)
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	for name, row := range map[string]string{
		"20B":  "12345\tabc\t\\N\t2026-01\n",
		"100B": "1234567\t2026-01-02 03:04:05\tsome text of a row that goes on a little\tt\t12.50\tabcdefghijklmnopqrs\n",
		"json": "1234567\t2026-01-02 03:04:05\t{\"name\": \"a \\\\\"quoted\\\\\" name\", \"list\": [1, 2, 3, 4, 5]}\t12.50\tabcdefgh\n",
		"8KB":  "1\t" + strings.Repeat("abcdefg ", 1000) + "\n",
	} {
		b.Run(name, func(b *testing.B) {
			rows := []byte(strings.Repeat(row, (4<<20)/len(row)))
			columns := strings.Count(row, "\t") + 1
			b.SetBytes(int64(len(rows)))
			b.ReportAllocs()
			for b.Loop() {
				s := copytext.NewScanner(columns)
				for p := range slices.Chunk(rows, 64<<10) {
					if _, err := s.Write(p); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
