package copytext_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/copytext"
)

var tables = []struct {
	name    string
	columns []string
}{
	{"many.utf8", []string{"n", "a,b", `q"`, "é", "plain"}},
	{"many.latin1", []string{"n", "a,b", `q"`, "\xe9", "plain"}},
	{"one.utf8", []string{"\\.\n"}},
	{"none.utf8", nil},
	{"empty.utf8", []string{"a", "b"}},
}

// CSV is what the server's COPY writes, byte for byte.
func TestCSV(t *testing.T) {
	for _, c := range tables {
		rows, want := load(t, c.name+".copy"), load(t, c.name+".csv")
		for _, n := range []int{1, 2, 3, 1000, 1 << 20} {
			var out bytes.Buffer
			w := copytext.CSV(&out, c.columns)
			for p := range slices.Chunk(rows, n) {
				if _, err := w.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("%s in pieces of %d:\n%q\nwant\n%q", c.name, n, &out, want)
			}
		}
	}
}

func TestCSVRefuses(t *testing.T) {
	for rows, row := range map[string]int64{
		"1\t2\n1\n": 2, "1\t2\t3\n": 1, "1\t2\n1\t2": 2, "1\t2\n\\.\n": 2, "1\\\t2\n": 1, "1\t2\\\n": 1,
	} {
		w := copytext.CSV(io.Discard, []string{"a", "b"})
		_, err := io.WriteString(w, rows)
		closed := w.Close()
		var re *copytext.RowError
		if !errors.As(closed, &re) || re.Row != row || err != nil && err != closed {
			t.Errorf("%q: %v, %v, want an error of row %d", rows, err, closed, row)
		}
	}
	w := copytext.CSV(io.Discard, []string{"a"})
	if _, err := io.WriteString(w, "\\.\n"); err == nil {
		t.Error("the end of data is a row")
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestCSVError(t *testing.T) {
	w := copytext.CSV(full{}, []string{"a"})
	for i := 0; ; i++ {
		if _, err := io.WriteString(w, strings.Repeat("x", 1000)+"\n"); err != nil {
			if err != errFull || w.Close() != errFull {
				t.Error(err)
			}
			return
		}
		if i == 1000 {
			t.Fatal("no error")
		}
	}
}

func TestAppendField(t *testing.T) {
	for field, want := range map[string]string{
		"": "", "abc": "abc", `a\\b`: `a\b`, `\\N`: `\N`, `\b\f\n\r\t\v`: "\b\f\n\r\t\v", `\.`: ".", `\a\"`: `a"`,
		`\101`: "A", `\1018`: "A8", `\8`: "8", `\x41`: "A", `\x414`: "A4", `\xg`: "xg", `\x`: "x", `\7x`: "\ax", "\xe9\\n\xff": "\xe9\n\xff",
	} {
		got, null, err := copytext.AppendField([]byte("+"), []byte(field))
		if err != nil || null || string(got) != "+"+want {
			t.Errorf("%q: %q, %v, %v, want %q", field, got, null, err, want)
		}
	}
	if got, null, err := copytext.AppendField(nil, []byte(`\N`)); err != nil || !null || got != nil {
		t.Errorf("NULL: %q, %v, %v", got, null, err)
	}
	if _, _, err := copytext.AppendField(nil, []byte(`a\`)); err == nil {
		t.Error("a backslash at the end: no error")
	}
}

func BenchmarkCSV(b *testing.B) {
	row := "1234567\t2026-01-02 03:04:05\tsome text of a \\\\ row, that goes on a little\tt\t12.50\tabcdefghijklmnopqrs\n"
	rows := []byte(strings.Repeat(row, 10000))
	b.SetBytes(int64(len(rows)))
	b.ReportAllocs()
	for b.Loop() {
		w := copytext.CSV(io.Discard, []string{"a", "b", "c", "d", "e", "f"})
		if _, err := w.Write(rows); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
