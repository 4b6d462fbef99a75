package pgtest

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the databases below are made of.
//
//go:embed awkward/*.sql
var scripts embed.FS

// script gives one of them.
func script(t testing.TB, name string) string {
	t.Helper()
	text, err := scripts.ReadFile("awkward/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Globals makes the roles and the tablespace that the awkward databases need on a
// server, if it lacks them. A server that such a database is restored to without its
// globals needs them too.
func Globals(t testing.TB, s *Server) {
	t.Helper()
	s.globals.Lock()
	defer s.globals.Unlock()
	s.Exec("postgres", script(t, "0-globals.sql"))
	if s.Query("postgres", "SELECT count(*) FROM pg_tablespace WHERE spcname = 'cairn_space'") == "1" {
		return
	}
	dir := filepath.Join(s.dir, "a \"space\"")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.home.give(dir); err != nil {
		t.Fatal(err)
	}
	s.Exec("postgres", "CREATE TABLESPACE cairn_space OWNER cairn_owner LOCATION "+literal(dir)+
		" WITH (seq_page_cost = 2); COMMENT ON TABLESPACE cairn_space IS 'some space'; GRANT CREATE ON TABLESPACE cairn_space TO cairn_reader;")
}

// Awkward makes a database of all that is awkward to dump, keep and restore, some
// hundred tables of 17 MB, and gives its name, which is awkward too. It is made in two
// seconds. Only security labels are missing, as no package has a provider of them.
func Awkward(t testing.TB, s *Server) string {
	t.Helper()
	Globals(t, s)
	name := fmt.Sprintf("awk %d/%%ä\"'.\\", s.databases.Add(1))
	s.CreateDatabase(t, name)
	for _, file := range []string{"1-types.sql", "2-tables.sql", "3-objects.sql", "4-names.sql", "5-large-objects.sql", "6-grants.sql"} {
		s.Exec(name, script(t, file))
	}
	return name
}

// HugeRow adds a table to a database with one row that COPY writes as a line of 128
// MB, between two small ones: kept.huge, or huge where there is no such schema.
func HugeRow(t testing.TB, s *Server, db string) {
	t.Helper()
	s.Exec(db, `
		SELECT set_config('search_path', coalesce(to_regnamespace('kept')::text, 'public'), false);
		CREATE TABLE huge (id integer PRIMARY KEY, b bytea);
		ALTER TABLE huge ALTER b SET STORAGE EXTERNAL;
		INSERT INTO huge VALUES (1, 'before'), (3, 'after');
		WITH block AS MATERIALIZED (SELECT string_agg(sha256(i::text::bytea), '') AS b FROM generate_series(1, 32768) i)
		INSERT INTO huge SELECT 2, string_agg(sha256(i::text::bytea) || block.b, '') FROM block, generate_series(1, 64) i;`)
}

// AwkwardLatin1 makes a database in LATIN1 with text that is not ASCII, in names too.
func AwkwardLatin1(t testing.TB, s *Server) string {
	t.Helper()
	name := s.NewDatabase(t, Encoding("LATIN1"), Locale("C"))
	s.Exec(name, `SET client_encoding = 'UTF8';
		CREATE TABLE "Größe" ("Länge" integer PRIMARY KEY, "ÿ" text DEFAULT 'ß');
		INSERT INTO "Größe" SELECT i, chr(i) || E'\\' || chr(i) FROM generate_series(128, 255) i;
		COMMENT ON TABLE "Größe" IS 'à côté';
		CREATE FUNCTION "é"() RETURNS text LANGUAGE sql AS 'SELECT ''ÿ''::text';`)
	return name
}

// AwkwardBytes makes a database in SQL_ASCII, which checks nothing: with text that is
// neither UTF-8 nor all of one encoding, in names too.
func AwkwardBytes(t testing.TB, s *Server) string {
	t.Helper()
	name := s.NewDatabase(t, Encoding("SQL_ASCII"), Locale("C"))
	var rows strings.Builder
	for b := 128; b < 256; b++ {
		fmt.Fprintf(&rows, "INSERT INTO t VALUES (%d, E'a\\x%02xb\\\\');\n", b, b)
	}
	s.Exec(name, `CREATE TABLE t (n integer PRIMARY KEY, t text);`+rows.String()+
		"INSERT INTO t VALUES (1, 'UTF-8: \xc3\xa9'), (2, 'LATIN1: \xe9'), (3, '\xff\xfe');\n"+
		"CREATE TABLE \"t\xe9\xff\" (\"\xc3\" integer); INSERT INTO \"t\xe9\xff\" VALUES (1); COMMENT ON TABLE \"t\xe9\xff\" IS '\xe9';")
	return name
}

// AwkwardICU makes a database whose text ICU compares, as a German phone book does,
// with a primary key of text in an order other than that of its bytes.
func AwkwardICU(t testing.TB, s *Server) string {
	t.Helper()
	name := s.NewDatabase(t, Encoding("UTF8"), ICU("de-u-co-phonebk"), Locale("C"))
	s.Exec(name, `
		CREATE TABLE book (name text PRIMARY KEY, n integer);
		INSERT INTO book VALUES ('Öl', 1), ('Oel', 2), ('Ofen', 3), ('Z', 4), ('a', 5), ('B', 6), ('ä', 7);
		CREATE TABLE parts (name text) PARTITION BY RANGE (name);
		CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('Od');
		CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM ('Od') TO (MAXVALUE);
		INSERT INTO parts SELECT name FROM book;`)
	return name
}
