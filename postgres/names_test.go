package postgres_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/snapshot"
)

func TestTableFile(t *testing.T) {
	seen := make(map[string]string)
	for _, test := range []struct{ schema, table, file string }{
		{"public", "orders", "public.orders"},
		{"public", "Or ders", "public.Or ders"},
		{"a.b", "c", `"a.b".c`},
		{"a", "b.c", `a."b.c"`},
		{`a"`, `"b`, `"a""".""` + `"b"`},
		{"größe", "日本", "größe.日本"},
		{"a/b", "50%", "a%2Fb.50%25"},
		{"%2F", "x", "%252F.x"},
		{"", "x", `"".x`},
		{".", "..", `".".".."`},
		{"latin\xf6", "\xff", "latin%F6.%FF"},
		{"new\nline", "\ttab", "new\nline.\ttab"},
	} {
		got := postgres.TableFile(test.schema, test.table)
		if got != test.file {
			t.Errorf("%q, %q: %q, want %q", test.schema, test.table, got, test.file)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q stands for two tables, %s and %s.%s", got, other, test.schema, test.table)
		}
		seen[got] = test.schema + "." + test.table
		if _, err := snapshot.KeyOf("postgres/db/" + got); err != nil {
			t.Errorf("%q is no path: %v", got, err)
		}
	}
}

// What cairn puts beside the tables is never taken for one.
func TestNamesDoNotCollide(t *testing.T) {
	for _, name := range []string{postgres.TOCFile, postgres.RecordFile, postgres.GlobalsFile, postgres.BlobsDir, postgres.BlobFile(7)} {
		if strings.Contains(name, ".") {
			t.Errorf("%s could be the name of a table", name)
		}
	}
	if a, b := postgres.BlobFile(9), postgres.BlobFile(4294967295); len(a) != len(b) || a >= b {
		t.Errorf("%s does not stand before %s", a, b)
	}
	for name, want := range map[string]string{"shop": "shop", "a/b": "a%2Fb", ".": "%2E", "..": "%2E%2E", "...": "..."} {
		if got := postgres.DatabaseFile(name); got != want {
			t.Errorf("database %q: %q, want %q", name, got, want)
		}
	}
}

// The longest names that a server of the usual build allows have place in a path, whatever they are
// of, and what differs in the last byte differs.
func TestLongNames(t *testing.T) {
	for _, c := range []string{"x", `"`, "/", "%", "."} {
		name := strings.Repeat(c, 63)
		a, b := postgres.TableFile(name, name), postgres.TableFile(name, name[1:]+"!")
		for _, file := range []string{a, b} {
			if _, err := snapshot.KeyOf("postgres/db/" + file); err != nil {
				t.Error(err)
			}
		}
		if a == b {
			t.Errorf("%q stands for two tables", a)
		}
	}
}

func FuzzTableFile(f *testing.F) {
	f.Add("public", "orders", "public.orders", "")
	f.Add(`a"."b`, "%/.", "a", "b")
	f.Fuzz(func(t *testing.T, schema, table, otherSchema, otherTable string) {
		a, b := postgres.TableFile(schema, table), postgres.TableFile(otherSchema, otherTable)
		if (a == b) != (schema == otherSchema && table == otherTable) {
			t.Errorf("%q, %q became %q, and %q, %q became %q", schema, table, a, otherSchema, otherTable, b)
		}
		if !utf8.ValidString(a) || len(a) > snapshot.MaxComponent || strings.ContainsAny(a, "/\x00") || !strings.Contains(a, ".") {
			t.Errorf("%q is no component of a path", a)
		}
	})
}
