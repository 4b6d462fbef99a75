package copytext_test

import (
	"bytes"
	"encoding/csv"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/copytext"
)

// Rows in pieces sum up to what they do as a whole, and to what the hash is documented to
// be.
func FuzzScanner(f *testing.F) {
	f.Add([]byte("1\ta\\\\\t\\N\n2\t\\t\t\n"), 2, uint8(3))
	f.Add([]byte("\n\n"), 0, uint8(1))
	f.Add([]byte("\\.\n"), 1, uint8(2))
	f.Fuzz(func(t *testing.T, rows []byte, columns int, n uint8) {
		whole, err := scan(columns, rows, max(1, len(rows)))
		pieces, err2 := scan(columns, rows, int(n)+1)
		if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("%q: %v, in pieces: %v", rows, err, err2)
		}
		if err == nil && (whole != pieces || whole != sumOf(rows)) {
			t.Errorf("%q: %v, in pieces %v, want %v", rows, whole, pieces, sumOf(rows))
		}
	})
}

// What is read from the CSV with another reader is what AppendField decodes. That reader
// drops empty lines and carriage returns before newlines, so neither is tried.
func FuzzCSV(f *testing.F) {
	f.Add("1\t\\\\\t\\N\n2\t\\t\",\t\n")
	f.Add("é\t\"\t,\n")
	f.Fuzz(func(t *testing.T, rows string) {
		var want [][]string
		for row := range strings.Lines(rows) {
			var record []string
			for field := range strings.SplitSeq(strings.TrimSuffix(row, "\n"), "\t") {
				text, _, err := copytext.AppendField(nil, []byte(field))
				if err != nil || bytes.ContainsRune(text, '\r') {
					return
				}
				record = append(record, string(text))
			}
			want = append(want, record)
		}
		var out bytes.Buffer
		w := copytext.CSV(&out, []string{"a", "b", "c"})
		if _, err := w.Write([]byte(rows)); err != nil {
			return
		}
		if w.Close() != nil {
			return
		}
		r := csv.NewReader(&out)
		got, err := r.ReadAll()
		if err != nil || !reflect.DeepEqual(got[1:], append([][]string{}, want...)) {
			t.Errorf("%q becomes %q, want %q, %v", rows, got, want, err)
		}
	})
}
