package termui_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/termui"
)

func write(t *testing.T, table *termui.Table, width int) string {
	t.Helper()
	var b strings.Builder
	if err := table.Write(&b, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTable(t *testing.T) {
	table := termui.NewTable(
		termui.Column{Title: "ID"},
		termui.Column{Title: "Size", Right: true},
		termui.Column{Title: "Path", Shrink: true},
		termui.Column{Title: "Tags"},
	)
	table.Row("abc", "1.2 GiB", "/srv/日本", "x")
	table.Row("0123456789", "5 B", "/a/very/long/path", "evil\x1b[2J")
	table.Row("d", "", "e\u0301", "y")
	table.Row("short")
	want := `
ID             Size  Path               Tags
abc         1.2 GiB  /srv/日本          x
0123456789      5 B  /a/very/long/path  evil\x1b[2J
d                    e` + "\u0301" + `                  y
short
`
	if got := write(t, table, 0); got != want[1:] {
		t.Errorf("got\n%swant%s", got, want)
	}
	if got := write(t, table, 51); got != want[1:] {
		t.Errorf("wide enough, got\n%swant%s", got, want)
	}
	want = `
ID             Size  Path       Tags
abc         1.2 GiB  /srv/日本  x
0123456789      5 B  /a/very/…  evil\x1b[2J
d                    e` + "\u0301" + `          y
short
`
	if got := write(t, table, 43); got != want[1:] {
		t.Errorf("width 43, got\n%swant%s", got, want)
	}
	want = `
ID             Size  Path      Tags
abc         1.2 GiB  /srv/日…  x
0123456789      5 B  /a/very…  evil\x1b[2J
d                    e` + "\u0301" + `         y
short
`
	if got := write(t, table, 5); got != want[1:] { // as narrow as it goes
		t.Errorf("width 5, got\n%swant%s", got, want)
	}
	if table.Len() != 4 {
		t.Error(table.Len())
	}
}

func TestTableShrinksTheWidest(t *testing.T) {
	table := termui.NewTable(termui.Column{Shrink: true}, termui.Column{Shrink: true}, termui.Column{Right: true})
	table.Row(strings.Repeat("a", 30), strings.Repeat("b", 12), "1")
	table.Row("x", "y", "22")
	want := "aaaaaaaaa…  bbbbbbbbb…   1\nx           y           22\n" // without titles
	if got := write(t, table, 26); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTableErrors(t *testing.T) {
	table := termui.NewTable(termui.Column{Title: "A"})
	broken := errors.New("broken pipe")
	if err := table.Write(brokenWriter{broken}, 0); !errors.Is(err, broken) {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a row with too many cells was taken")
		}
	}()
	table.Row("1", "2")
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
