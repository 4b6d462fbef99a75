package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

func dump(t testing.TB, size int64, version int) string {
	t.Helper()
	var b bytes.Buffer
	n, err := Dump{Size: size, Version: version}.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	return b.String()
}

// What tests and measurements of years ago worked on is what it is now.
func TestDumpIsTheSameForEver(t *testing.T) {
	for version, want := range map[int]string{
		1: "a565acad2829f286",
		2: "eb0164629765159b",
	} {
		sum := sha256.Sum256([]byte(dump(t, 1e6, version)))
		if got := hex.EncodeToString(sum[:8]); got != want {
			t.Errorf("version %d has the hash %s, want %s", version, got, want)
		}
	}
}

func TestDumpHasAboutItsSize(t *testing.T) {
	if n := len(dump(t, 5e6, 1)); n < 4.8e6 || n > 5.2e6 {
		t.Errorf("a dump of 5 MB has %d bytes", n)
	}
}

// Of a table, rows by their ID in the order of the dump.
func rowsOf(dump, table string) (order []string, text map[string]string) {
	_, rest, _ := strings.Cut(dump, "COPY public."+table+" ")
	_, rest, _ = strings.Cut(rest, ";\n")
	rest, _, _ = strings.Cut(rest, "\\.\n")
	text = make(map[string]string)
	for line := range strings.Lines(rest) {
		id, _, _ := strings.Cut(line, "\t")
		order = append(order, id)
		text[id] = line
	}
	return order, text
}

func TestDumpVersionsDifferAsInLife(t *testing.T) {
	first, second := dump(t, 5e6, 1), dump(t, 5e6, 2)
	for _, c := range []struct {
		table   string
		updated bool
	}{{"pgbench_accounts", true}, {"documents", true}, {"events", false}} {
		was, before := rowsOf(first, c.table)
		is, after := rowsOf(second, c.table)
		if len(was) < 1000 || len(before) != len(was) || len(after) != len(is) {
			t.Fatalf("%s: %d rows, then %d, of %d and %d IDs", c.table, len(was), len(is), len(before), len(after))
		}
		changed := 0
		for id, text := range before {
			if now, ok := after[id]; !ok {
				t.Fatalf("%s: row %s is lost", c.table, id)
			} else if now != text {
				changed++
			}
		}
		added, end := len(is)-len(was), 0
		for _, id := range is[len(is)-added-len(was)/200:] {
			if text, ok := before[id]; ok && text != after[id] {
				end++
			}
		}
		percent := 100 * float64(changed) / float64(len(was))
		switch {
		case !c.updated && changed > 0:
			t.Errorf("%s: %d rows are updated of a table that is only appended to", c.table, changed)
		case c.updated && (percent < 0.9 || percent > 1.01):
			t.Errorf("%s: %.2f %% of the rows are updated", c.table, percent)
		case c.updated && (end < changed/3 || end > 2*changed/3):
			t.Errorf("%s: of %d updated rows %d went to the end", c.table, changed, end)
		case added < len(was)/appendedRows:
			t.Errorf("%s: %d rows are added to %d", c.table, added, len(was))
		}
	}
}

func TestDumpTellsWhatFails(t *testing.T) {
	if n, err := (Dump{Size: 1e6, Version: 1}).WriteTo(&short{left: 70_000}); err != io.ErrShortWrite || n > 70_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// short takes so many bytes.
type short struct{ left int }

func (s *short) Write(p []byte) (int, error) {
	if len(p) > s.left {
		return 0, io.ErrShortWrite
	}
	s.left -= len(p)
	return len(p), nil
}

func BenchmarkDump(b *testing.B) {
	b.SetBytes(1e6)
	for b.Loop() {
		Dump{Size: 1e6, Version: 2}.WriteTo(io.Discard)
	}
}
