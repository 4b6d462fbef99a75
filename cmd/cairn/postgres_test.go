package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/pgtest"
)

const shopSQL = `
CREATE TABLE orders (id int PRIMARY KEY, who text, note text);
INSERT INTO orders SELECT i, 'user ' || i, nullif(i % 3, 0)::text FROM generate_series(1, 2000) i;
CREATE TABLE items (of int REFERENCES orders, what text);
INSERT INTO items SELECT i, 'a, "b"' FROM generate_series(1, 300) i;
SELECT lo_from_bytea(4711, 'large object');`

// shopWorld is a repository with a snapshot of a database.
func shopWorld(t *testing.T) (w *world, s *pgtest.Server, db string) {
	s, w = pgtest.Shared(t), newWorld(t)
	db = s.NewDatabase(t)
	s.Exec(db, shopSQL)
	w.ok("snapshot", s.URL(db), "--pg-bin", s.BinDir())
	return w, s, db
}

func TestDatabaseFromOutside(t *testing.T) {
	w, s, db := shopWorld(t)
	at := "latest:postgres/" + db
	if got := w.ok("ls", at).out; !strings.Contains(got, "postgres/"+db+"/public.orders\n") || !strings.Contains(got, "/toc\n") {
		t.Errorf("ls:\n%s", got)
	}
	if got := w.ok("cat", at+"/public.orders").out; !strings.HasPrefix(got, "1\tuser 1\t1\n2\tuser 2\t2\n3\tuser 3\t\\N\n") {
		t.Errorf("cat:\n%.200s", got)
	}
	if got, want := w.ok("cat", "--csv", at+"/public.items").out, "of,what\n1,\"a, \"\"b\"\"\"\n"; !strings.HasPrefix(got, want) {
		t.Errorf("cat --csv: %.200q", got)
	}
	w.want(statusUsage, "cat", "--csv", at+"/toc")
	w.want(statusUsage, "cat", "--csv", at+"/blobs/0000004711")

	s.Exec(db, "DELETE FROM orders WHERE id > 1900; DELETE FROM items WHERE of > 100; UPDATE orders SET who = 'x' WHERE id = 1; ALTER TABLE orders DROP COLUMN note")
	w.ok("snapshot", s.URL(db), "--pg-bin", s.BinDir())
	ids := w.ids()
	got := w.ok("diff", ids[0], ids[1]).out
	for _, want := range []string{"/public.items  100 rows (-200), 992 B (-2.1 KiB)\n", "/public.orders  1,900 rows (-100)", "other columns"} {
		if !strings.Contains(got, want) {
			t.Errorf("diff does not say %q:\n%s", want, got)
		}
	}
	var rows float64
	for _, m := range messages(t, w.ok("diff", "--json", ids[0], ids[1]).out) {
		if p, _ := m["path"].(string); strings.HasSuffix(p, "/public.items") {
			rows = m["new_rows"].(float64)
		}
	}
	if rows != 100 {
		t.Errorf("diff --json says %v rows", rows)
	}

	r := w.ok("check", "--semantic")
	if !strings.Contains(r.out, "checked the meaning of 2 databases: 4 tables, 2 large objects") || !strings.Contains(r.err, "public.items has 100 rows, 200 fewer") {
		t.Errorf("check --semantic:\n%s%s", r.out, r.err)
	}
	if r := w.ok("check", "--semantic", "--max-row-loss", "80%"); r.err != "" {
		t.Errorf("check --semantic --max-row-loss:\n%s", r.err)
	}
	for _, args := range [][]string{{"--max-row-loss", "10%"}, {"--semantic", "--max-row-loss", "10"}, {"--semantic", "--max-row-loss", "110%"}, {"--host", "x"}} {
		w.want(statusUsage, append([]string{"check"}, args...)...)
	}
}

func TestDatabaseIntoServer(t *testing.T) {
	w, s, db := shopWorld(t)
	bin := []string{"--pg-bin", s.BinDir()}
	to := s.NewDatabase(t)
	into := func(more ...string) []string {
		return append(append([]string{"restore", "latest", "--to", s.URL(to)}, bin...), more...)
	}
	if got := w.ok(into("--dry-run")...).out; !strings.Contains(got, "would restore public.orders: 2,000 rows") {
		t.Errorf("dry run:\n%s", got)
	}
	if got := s.Query(to, "SELECT count(*) FROM pg_class WHERE relname = 'orders'"); got != "0" {
		t.Error("a dry run restored something")
	}
	if got := w.ok(into("-v", "--jobs", "2")...).out; !strings.Contains(got, "restored 2 tables, 2,300 rows, 1 large object") || !strings.Contains(got, "restored  public.items: 300 rows") {
		t.Errorf("restore:\n%s", got)
	}
	pgtest.Compare(t, s.URL(db), s.URL(to))

	// It is not empty any more.
	if r := w.want(statusFailed, into()...); !strings.Contains(r.err, "is not empty") || !strings.Contains(r.err, "--clean") {
		t.Errorf("restore over something:\n%s", r.err)
	}
	s.Exec(to, "UPDATE orders SET who = 'spoilt'")
	w.want(statusUsage, into("--clean")...)
	w.ok(into("--clean", "--yes")...)
	pgtest.Compare(t, s.URL(db), s.URL(to))

	other := s.NewDatabase(t)
	r := w.ok(append([]string{"restore", "latest:postgres/" + db, "--to", s.URL(other), "--pg-table", "items"}, bin...)...)
	if !strings.Contains(r.err, "left out") || s.Query(other, "SELECT count(*) FROM items") != "300" {
		t.Errorf("restore of a table:\n%s%s", r.out, r.err)
	}
	// One of several that is misspelt is not left out without a word, whatever is made of the rest.
	few := append([]string{"restore", "latest", "--pg-table", "orders", "--pg-table", "itmes"}, bin...)
	for _, more := range [][]string{{"--to", s.URL(s.NewDatabase(t))}, {"--to", s.URL("new"), "--create", "--dry-run"}, {"--dump", w.path("few.dump")}} {
		if r := w.want(statusFailed, append(few, more...)...); !strings.Contains(r.err, "--pg-table itmes: nothing in postgres/") {
			t.Errorf("%q:\n%s", more, r.err)
		}
	}
	w.want(statusFailed, append([]string{"restore", "latest", "--pg-schema", "pubic", "--dump", w.path("few.dump")}, bin...)...)
	if _, err := os.Stat(w.path("few.dump")); err == nil {
		t.Error("an archive was written")
	}
	if r := w.want(statusFailed, append([]string{"restore", "latest", "--to", s.URL("no_such_db")}, bin...)...); !strings.Contains(r.err, "--create") {
		t.Errorf("restore into nothing:\n%s", r.err)
	}
}

func TestDatabaseDump(t *testing.T) {
	w, s, db := shopWorld(t)
	at := "latest:postgres/" + db
	restore := func(args ...string) string {
		t.Helper()
		to := s.NewDatabase(t)
		cmd := exec.Command(filepath.Join(s.BinDir(), args[0]), args[1:]...)
		cmd.Env = s.Env(to)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return to
	}
	file, dir, sql := w.path("shop.dump"), w.path("shop.dir"), w.path("shop.sql")
	w.ok("restore", at, "--dump", file)
	w.ok("restore", at, "--dump", dir, "--dump-format", "directory")
	w.ok("restore", at, "--dump", sql, "--dump-format", "sql", "--pg-bin", s.BinDir())
	for _, args := range [][]string{
		{"pg_restore", "-e", "-d", "application_name=x", file}, {"pg_restore", "-e", "-j", "2", "-d", "application_name=x", file},
		{"pg_restore", "-e", "-j", "2", "-d", "application_name=x", dir}, {"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", sql},
	} {
		pgtest.Compare(t, s.URL(db), s.URL(restore(args...)))
	}
	if got := w.ok("restore", at, "--dump", "-").out; got != read(t, file) {
		t.Error("the archive on the standard output is another one")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read the archive: %v, %v", info.Mode(), err)
	}
	w.want(statusUsage, "restore", at, "--dump", file) // it is there
	said := messages(t, w.ok("restore", at, "--json", "--dump", w.path("one.dump"), "--pg-table", "items").out)
	if last := said[len(said)-1]; last["message_type"] != "summary" || last["tables"] != 1.0 {
		t.Errorf("one table was written: %v", last)
	}
	w.want(statusFailed, "restore", at, "--dump", dir, "--dump-format", "directory")
}

func read(t *testing.T, name string) string {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func TestSeveralDatabases(t *testing.T) {
	s, w := pgtest.Start(t), newWorld(t)
	s.CreateDatabase(t, "one")
	s.CreateDatabase(t, "two, three")
	s.Exec("one", "CREATE TABLE t AS SELECT 1 AS n")
	bin := []string{"--pg-bin", s.BinDir()}
	w.ok(append([]string{"snapshot", s.URL("")}, bin...)...)
	got := w.ok("snapshots").out
	for _, want := range []string{"postgres/one", "postgres/postgres", "postgres/two, three"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not there:\n%s", want, got)
		}
	}
	if r := w.want(statusUsage, "restore", "latest", "--to", s.URL("one")); !strings.Contains(r.err, "--component") {
		t.Errorf("which of several:\n%s", r.err)
	}
	w.ok(append([]string{"restore", "latest", "--component", "postgres/one", "--create", "--to", s.URL("copy")}, bin...)...)
	if s.Query("copy", "SELECT n FROM t") != "1" {
		t.Error("the copy is none")
	}
}

func TestDatabaseUsage(t *testing.T) {
	w := shared(t)
	for _, args := range [][]string{
		{"snapshot", "postgres://u:secret@localhost/db"}, {"snapshot", "postgres://localhost/db?password=secret"},
		{"snapshot", "postgres://localhost/db", "--parallel", "0"},
		{"restore", "latest", "--to", "mysql://localhost/db"}, {"restore", "latest", "--to", "postgres://u:secret@localhost/db"},
		{"restore", "latest", "--to", "postgres://localhost/a,b"},
		{"restore", "latest", "--to", "postgres://localhost/db", "--dump", "x"}, {"restore", "latest", "--to", "postgres://localhost/db", "--target", "x"},
		{"restore", "latest", "--to", "postgres://localhost/db", "--create", "--clean"}, {"restore", "latest", "--to", "postgres://localhost/db", "--jobs", "0"},
		{"restore", "latest", "--dump", "x", "--dry-run"}, {"restore", "latest", "--dump", "x", "--no-owner"},
		{"restore", "latest", "--dump", "x", "--dump-format", "directory", "--no-privileges"},
		{"restore", "latest", "--dump", "x", "--dump-format", "tar"}, {"restore", "latest", "--dump", "-", "--dump-format", "directory"},
		{"restore", "latest", "--dump", "x", "--create"}, {"restore", "latest", "--target", "x", "--create"}, {"restore", "latest", "--target", "x", "--pg-table", "x"},
	} {
		r := w.run(args...)
		if r.status != statusUsage && !slices.Contains(args, "postgres://localhost/a,b") { // asked when the snapshot is known
			t.Errorf("%q: status %d\n%s", args, r.status, r.err)
		}
		if strings.Contains(r.out+r.err, "secret") {
			t.Errorf("%q: the password is shown:\n%s", args, r.err)
		}
	}
}

// Damage to what is stored of a database is damage, whatever is asked for: nothing half is taken for whole.
func TestDatabaseDamaged(t *testing.T) {
	s, w := pgtest.Shared(t), newWorld(t)
	db := s.NewDatabase(t)
	s.Exec(db, shopSQL+"CREATE TABLE big AS SELECT i, md5(i::text) FROM generate_series(1, 30000) i")
	w.ok("snapshot", s.URL(db), "--pg-bin", s.BinDir())
	packs, err := filepath.Glob(filepath.Join(w.repo, "data", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs: %q, %v", packs, err)
	}
	for _, name := range packs {
		if info, err := os.Stat(name); err != nil || info.Size() < 100<<10 {
			continue // not that of the large table
		}
		p := []byte(read(t, name))
		p[len(p)/2] ^= 1
		if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, p, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(w.path("cache")); err != nil {
		t.Fatal(err)
	}
	to, file := s.NewDatabase(t), w.path("x.dump")
	if r := w.want(statusDamage, "restore", "latest", "--to", s.URL(to), "--pg-bin", s.BinDir()); !strings.Contains(r.err, "not there: the rows of public.big") {
		t.Errorf("restore:\n%s", r.err)
	}
	if n := s.Query(to, "SELECT count(*) FROM big"); n != "0" {
		t.Errorf("half of a table is there: %s rows", n)
	}
	w.want(statusDamage, "restore", "latest", "--dump", file)
	w.want(statusDamage, "restore", "latest", "--dump", w.path("x.sql"), "--dump-format", "sql", "--pg-bin", s.BinDir())
	for _, name := range []string{file, w.path("x.sql")} {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is there, and not whole", name)
		}
	}
	w.want(statusDamage, "cat", "--csv", "latest:postgres/"+db+"/public.big")
	if r := w.want(statusDamage, "check", "--semantic"); !strings.Contains(r.err, "public.big") {
		t.Errorf("check:\n%s", r.err)
	}
}
