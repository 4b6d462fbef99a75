package pgtest_test

import (
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// TestDifferences makes two equal databases, changes the second, and looks for what is
// found.
func TestDifferences(t *testing.T) {
	s := pgtest.Shared(t)
	pgtest.Globals(t, s)
	const both = `
		CREATE SCHEMA a;
		CREATE TABLE a."t t" (id integer PRIMARY KEY, b text, g integer GENERATED ALWAYS AS (id + 1) STORED);
		INSERT INTO a."t t" VALUES (1, 'x'), (2, NULL), (3, '\N');
		CREATE TABLE twice (n integer);
		INSERT INTO twice VALUES (1), (1), (2);
		CREATE TABLE up (n integer);
		CREATE TABLE down () INHERITS (up);
		INSERT INTO down VALUES (1);
		CREATE TABLE no_columns ();
		CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM twice;
		CREATE SEQUENCE seq;
		CREATE EXTENSION hstore VERSION '1.7';
		CREATE EXTENSION cairn_awkward;
		SELECT lo_from_bytea(9001, 'contents'), lo_put(9001, 4000000, 'end'), lo_create(9002);
		CREATE RULE r AS ON DELETE TO twice WHERE old.n > 100 DO INSTEAD NOTHING;`
	a := s.NewDatabase(t)
	s.Exec(a, both)
	for _, c := range []struct {
		name, change string
		want         []string // what is said, each a difference
	}{
		{"nothing", "", nil},
		{"order of rows", `DELETE FROM a."t t" WHERE id = 1; INSERT INTO a."t t" VALUES (1, 'x');`, nil},
		{"order of columns", "DROP TABLE up CASCADE; CREATE TABLE up (x integer, n integer); ALTER TABLE up DROP COLUMN x; CREATE TABLE down () INHERITS (up); INSERT INTO down VALUES (1);", nil},
		{"zeros in a hole", `SELECT lo_put(9001, 2000000, '\x00');`, nil},
		{"rows of an extension", `INSERT INTO cairn_awkward.scratch VALUES (1);`, nil},
		{"settings", `ALTER DATABASE :"DBNAME" SET datestyle = 'German'; ALTER DATABASE :"DBNAME" SET bytea_output = 'escape';`, nil},
		{"row lost", `DELETE FROM a."t t" WHERE id = 2;`, []string{`the rows of a."t t" (b, g, id) differ: 3 and 2 rows; "\\N\t3\t2" is 1 times in the first and 0 times in the other`}},
		{"row added", `INSERT INTO no_columns DEFAULT VALUES;`, []string{`the rows of public.no_columns () differ: 0 and 1 rows; "" is 1 times in the second and 0 times in the other`}},
		{"NULL for text", `UPDATE a."t t" SET b = NULL WHERE id = 3;`, []string{`the rows of a."t t" (b, g, id) differ: 3 and 3 rows; "\\N\t4\t3" is 1 times in the second`}},
		{"another of the same", "UPDATE twice SET n = 2;", []string{`the rows of public.twice (n) differ: 3 and 3 rows; "1" is 2 times in the first and 0 times in the other`}},
		{"row of the other table", "DELETE FROM down; INSERT INTO up VALUES (1);", []string{`the rows of public.down (n) differ: 1 and 0 rows`}},
		{"materialised view", "INSERT INTO twice VALUES (3); REFRESH MATERIALIZED VIEW m; DELETE FROM twice WHERE n = 3;", []string{`the rows of public.m (count) differ`}},
		{"not populated", "REFRESH MATERIALIZED VIEW m WITH NO DATA;", []string{"table public.m differs:\n  m | true | count\n  m | false | count"}},
		{"row of a configuration", "INSERT INTO cairn_awkward.places (id, name) VALUES (1, 'x');", []string{`the rows of cairn_awkward.places (id, name) differ`}},
		{"table", "CREATE TABLE more (n integer);", []string{"the schemas differ in line", "table public.more is only in the second database"}},
		{"comment", "COMMENT ON TABLE twice IS 'x';", []string{"the schemas differ in line"}},
		{"privilege", "GRANT SELECT (n) ON twice TO cairn_reader;", []string{"the schemas differ in line"}},
		{"rule switched off", "ALTER TABLE twice DISABLE RULE r;", []string{"the schemas differ in line"}},
		{"sequence", "SELECT nextval('seq');", []string{"sequence public.seq differs:\n  1 | f\n  1 | t"}},
		{"sequence lost", "DROP SEQUENCE seq;", []string{"the schemas differ in line", "sequence public.seq is missing in the second database"}},
		{"contents of a large object", "SELECT lo_put(9001, 3999999, 'x');", []string{"large object 0000009001 differs:\n  owner postgres | \\N | \\N | 4000003 bytes"}},
		{"length of a large object", "SELECT lo_put(9002, 0, '\\x00');", []string{"large object 0000009002 differs:\n  owner postgres | \\N | \\N | 0 bytes"}},
		{"owner of a large object", "ALTER LARGE OBJECT 9001 OWNER TO cairn_owner;", []string{"large object 0000009001 differs:\n  owner postgres"}},
		{"comment on a large object", "COMMENT ON LARGE OBJECT 9001 IS 'x';", []string{"large object 0000009001 differs"}},
		{"privilege for a large object", "GRANT SELECT ON LARGE OBJECT 9001 TO cairn_reader;", []string{"large object 0000009001 differs"}},
		{"large object lost", "SELECT lo_unlink(9002);", []string{"large object 0000009002 is missing in the second database"}},
		{"version of an extension", "ALTER EXTENSION hstore UPDATE;", []string{"extension hstore differs:\n  version 1.7 | schema public\n  version 1.8 | schema public"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := s.NewDatabase(t)
			s.Exec(b, both+c.change)
			compare(t, s.URL(a), s.URL(b), c.want)
		})
	}
	t.Run("encoding and locale", func(t *testing.T) {
		compare(t, s.URL(s.NewDatabase(t, pgtest.Encoding("LATIN1"), pgtest.Locale("C"))), s.URL(s.NewDatabase(t)), []string{"the database's encoding differs:\n  LATIN1\n  UTF8", "the schemas differ in line"})
		compare(t, s.URL(s.NewDatabase(t, pgtest.ICU("de"), pgtest.Locale("C"))), s.URL(s.NewDatabase(t)), []string{"the database's locale differs:\n  de\n  \\N"})
	})
}

func compare(t *testing.T, a, b string, want []string) {
	t.Helper()
	got, err := pgtest.Differences(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.Contains(got[i], want[i]) {
			t.Fatalf("found:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestProperties(t *testing.T) {
	s := pgtest.Shared(t)
	got := pgtest.Properties(t, s.URL(pgtest.Awkward(t, s)))
	for _, want := range []string{"owner postgres", "comment the awkward\none", "setting of all DateStyle=German, DMY", "setting of cairn_reader work_mem=9MB", "may cairn_other=Tc/postgres"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestHugeRow(t *testing.T) {
	s := pgtest.Shared(t)
	db := s.NewDatabase(t)
	pgtest.HugeRow(t, s, db)
	if got := s.Query(db, "SELECT id, length(b) FROM huge ORDER BY id"); got != "1|6\n2|67110912\n3|5" {
		t.Error(got)
	}
}
