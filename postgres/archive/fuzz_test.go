package archive_test

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// What ReadTOC accepts, Append writes again byte by byte; and nothing that follows from
// it panics.
func FuzzReadTOC(f *testing.F) {
	for _, name := range append(dumps, tocs...) {
		toc := readTOC(f, name)
		toc.Entries = append(toc.Entries[:3], toc.Entries[len(toc.Entries)-3:]...)
		f.Add(toc.Append(nil))
		toc.Version.Minor = 12
		f.Add(toc.Append(nil))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		toc, err := archive.ReadTOC(r)
		if err != nil {
			return
		}
		if again := toc.Append(nil); !bytes.Equal(again, p[:len(p)-r.Len()]) {
			t.Errorf("%x\nis written as\n%x", p, again)
		}
		sel := toc.Select(func(e *archive.Entry) bool { return e.DumpID%2 == 0 })
		if lines := bytes.Count(archive.AppendList(nil, sel.Entries), []byte("\n")); lines != len(sel.Entries) {
			t.Errorf("%d lines for %d entries", lines, len(sel.Entries))
		}
		if _, err := archive.ReadTOC(bytes.NewReader(toc.Directory().Append(nil))); err != nil {
			t.Error(err)
		}
	})
}

// Contents that Data accepts, Writer writes so that they are read again.
func FuzzData(f *testing.F) {
	toc := readTOC(f, "pg15.dump")
	head := len(toc.Append(nil))
	f.Add(load(f, "pg15.dump")[head:])
	var small bytes.Buffer
	_, all, err := readAll(bytes.NewReader(load(f, "pg15.dump")))
	if err != nil {
		f.Fatal(err)
	}
	for i := range all {
		all[i].data = all[i].data[:min(5, len(all[i].data))]
		all[i].Size = int64(len(all[i].data))
	}
	if err := write(&small, toc, all, 1); err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes()[head:])
	f.Fuzz(func(t *testing.T, p []byte) {
		_, all, err := readAll(io.MultiReader(bytes.NewReader(toc.Append(nil)), bytes.NewReader(p)))
		if err != nil {
			return
		}
		var w bytes.Buffer
		if err := write(&w, toc, all, 7); err != nil {
			if strings.Contains(err.Error(), "stands elsewhere") {
				return // blocks in another order than entries
			}
			t.Fatal(err)
		}
		_, again, err := readAll(&w)
		if err != nil || !reflect.DeepEqual(again, all) {
			t.Errorf("%+v\nis read again as\n%+v, %v", all, again, err)
		}
	})
}

// A statement made of the names that ParseCopy finds says the same.
func FuzzParseCopy(f *testing.F) {
	for _, e := range readTOC(f, "pg15.dump").Entries {
		if e.Rows() {
			f.Add(e.Copy.S)
		}
	}
	f.Fuzz(func(t *testing.T, stmt string) {
		c, err := archive.ParseCopy(stmt)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("COPY ")
		if c.Schema != "" {
			b.WriteString(archive.QuoteName(c.Schema) + ".")
		}
		b.WriteString(archive.QuoteName(c.Table) + " ")
		for i, column := range c.Columns {
			b.WriteString(map[bool]string{true: "(", false: ", "}[i == 0] + archive.QuoteName(column))
		}
		if len(c.Columns) > 0 {
			b.WriteString(")")
		}
		b.WriteString(" FROM stdin;\n")
		again, err := archive.ParseCopy(b.String())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q: %q, then %q of %q, %v", stmt, c, again, b.String(), err)
		}
	})
}
