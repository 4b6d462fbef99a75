package archive_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
)

func TestParseCopy(t *testing.T) {
	for stmt, want := range map[string]archive.CopyStatement{
		"COPY app.users (id, name) FROM stdin;\n":          {Schema: "app", Table: "users", Columns: []string{"id", "name"}},
		"COPY public.nothing  FROM stdin;\n":               {Schema: "public", Table: "nothing"},
		"COPY users (id) FROM stdin;\n":                    {Table: "users", Columns: []string{"id"}},
		"COPY \"\xe9\".\"a\"\"\" (\"\xff\") FROM stdin;\n": {Schema: "\xe9", Table: `a"`, Columns: []string{"\xff"}},
		`COPY "Se. ""t"."Ta (b), le" ("co,l", "c""o) FROM stdin;", "é", plain) FROM stdin;` + "\n": {
			Schema: `Se. "t`, Table: "Ta (b), le", Columns: []string{"co,l", `c"o) FROM stdin;`, "é", "plain"}},
		"COPY \"\n\".\"\"\"\" (\"\n\") FROM stdin;\n": {Schema: "\n", Table: `"`, Columns: []string{"\n"}},
	} {
		got, err := archive.ParseCopy(stmt)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, %v", stmt, got, err)
		}
	}
	for _, stmt := range []string{
		"", "COPY ", "COPY a", "COPY a.b.c (d) FROM stdin;\n", "COPY a (b FROM stdin;\n", "COPY a (b,c) FROM stdin;\n",
		"COPY a (b) WITH OIDS FROM stdin;\n", "COPY a (b) FROM stdin;", "COPY a (b) FROM stdin;\nx", "COPY A (b) FROM stdin;\n",
		`COPY "a (b) FROM stdin;` + "\n", `COPY "" (b) FROM stdin;` + "\n", "COPY a () FROM stdin;\n", "COPY a (b,) FROM stdin;\n",
		"COPY é (b) FROM stdin;\n", "INSERT INTO a",
	} {
		if got, err := archive.ParseCopy(stmt); !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("%q: %q, %v", stmt, got, err)
		}
	}
}

// The tables of the archives, and their columns, are those of the statements.
func TestParseCopyOfDumps(t *testing.T) {
	for _, name := range dumps {
		toc := readTOC(t, name)
		n := 0
		for _, e := range toc.Entries {
			if !e.Rows() {
				continue
			}
			n++
			c, err := archive.ParseCopy(e.Copy.S)
			if err != nil || c.Schema != e.Schema.S || c.Table != e.Tag.S {
				t.Errorf("%q of %s: %q, %v", e.Copy.S, e.Relation(), c, err)
			}
		}
		if n != 9 {
			t.Errorf("%s: %d tables with rows", name, n)
		}
	}
}

func TestRelation(t *testing.T) {
	e := archive.Entry{Schema: archive.Text{S: `a".b`}, Tag: archive.Text{S: `"`}}
	if got, want := e.Relation(), `"a"".b".""""`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	e.Schema = archive.Text{Null: true}
	if got, want := e.Relation(), `""""`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
