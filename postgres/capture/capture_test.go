package capture_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/capture"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

const shop = `
CREATE TABLE orders (id int PRIMARY KEY, who text, total numeric GENERATED ALWAYS AS (id * 1.5) STORED);
INSERT INTO orders SELECT i, 'user ' || i FROM generate_series(1, 5000) i;
CREATE TABLE "a.b/c" (x text);
INSERT INTO "a.b/c" VALUES (NULL), (''), (E'\\N'), (E'tab\there'), (E'\\.');
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE SEQUENCE s START 7;
SELECT nextval('s');
SELECT lo_from_bytea(4711, 'large object');
SELECT lo_create(4712);`

func TestCapture(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, shop)
	k := w.take(db, capture.Options{Globals: true})
	d := k.database()

	type counted struct {
		file string
		rows int64
	}
	var got []counted
	for _, tb := range d.Record.Tables {
		got = append(got, counted{tb.File, tb.Rows})
	}
	slices.SortFunc(got, func(a, b counted) int { return strings.Compare(a.file, b.file) })
	if want := []counted{{`public."a.b%2Fc"`, 5}, {"public.nothing", 1}, {"public.orders", 5000}}; !slices.Equal(got, want) {
		t.Errorf("tables are %v, want %v", got, want)
	}
	if got, want := w.rows(d, `public."a.b%2Fc"`), "\\N\n\n\\\\N\ntab\\there\n\\\\.\n"; got != want {
		t.Errorf("rows are %q, want %q", got, want)
	}
	orders := d.Record.Table("public.orders")
	if !slices.Equal(orders.Columns, []postgres.Name{"id", "who"}) || !slices.Equal(orders.Order, []postgres.Name{"id"}) {
		t.Errorf("orders: columns %q in the order %q", orders.Columns, orders.Order)
	}
	if d.Record.BlobTotals != (postgres.Totals{Rows: 2, Bytes: 12}) || w.rows(d, "blobs/0000004711") != "large object" {
		t.Errorf("large objects are %v", d.Record.BlobTotals)
	}
	globals, err := d.Globals(t.Context())
	if w.must(err); !strings.Contains(string(globals), "CREATE ROLE postgres") || strings.Contains(string(globals), "restrict ") {
		t.Errorf("globals are:\n%s", globals)
	}
	r := d.Record
	if r.Server.VersionNumber/10000 != w.server.Version() || r.Server.SystemIdentifier == "" || r.Server.Timeline != 1 || string(r.Database.Name) != db ||
		r.Database.Encoding != "UTF8" || r.Globals != postgres.GlobalsWhole || len(r.Extensions) != 1 {
		t.Errorf("the record is %+v", r)
	}
	attributes := k.res.Sources[0].Attributes
	for _, name := range []string{postgres.AttributeLSN, postgres.AttributeTime, postgres.AttributeServer, postgres.AttributeSystem, postgres.AttributeTimeline, postgres.AttributeSnapshot} {
		if len(attributes[name]) == 0 {
			t.Errorf("attribute %s is missing", name)
		}
	}
	// The next one of the same state is the same, to the byte.
	again := w.take(db, capture.Options{Globals: true, Parallel: 1})
	for _, file := range []string{"toc", "manifest", "globals", "public.orders", "blobs/0000004711"} {
		if w.rows(d, file) != w.rows(again.database(), file) {
			t.Errorf("%s differs from one snapshot of the same state to the next", file)
		}
	}
}

// Rows are the same text whatever the database, or who reads it, has set.
func TestSettings(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, `CREATE TABLE t AS SELECT '\x00ff'::bytea AS b, timestamptz '2024-02-29 12:00+02' AS at, interval '1 day 2 hours' AS i, 0.1::float8 AS f`)
	const want = "\\\\x00ff\t2024-02-29 10:00:00+00\t1 day 02:00:00\t0.1\n"
	for _, set := range []string{"datestyle = 'German'", "bytea_output = 'escape'", "timezone = 'Asia/Kathmandu'", "intervalstyle = 'iso_8601'", "extra_float_digits = -15"} {
		w.server.Exec(db, `ALTER DATABASE "`+db+`" SET `+set)
		if got := w.rows(w.take(db, capture.Options{}).database(), "public.t"); got != want {
			t.Errorf("with %s: %q, want %q", set, got, want)
		}
	}
}

// A database may have any name.
func TestDatabaseNames(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	for _, db := range []string{"host=nowhere", "postgres://nowhere/x", `it's a "b\c"/%`, "..", " "} {
		w.server.CreateDatabase(t, db)
		d := w.take(db, capture.Options{Globals: true}).database()
		if string(d.Record.Database.Name) != db || d.Record.Globals != postgres.GlobalsWhole {
			t.Errorf("%q is recorded as %q, globals %s", db, d.Record.Database.Name, d.Record.Globals)
		}
	}
}

// Nothing that is committed after the snapshot is taken, and everything before, in whatever
// table and over whichever connection.
func TestSnapshotIsOne(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	const tables = 6
	for i := range tables {
		w.server.Exec(db, fmt.Sprintf("CREATE TABLE t%d (n int); INSERT INTO t%[1]d VALUES (1)", i))
	}
	// Who changes the definition of a table lets pg_dump wait, with the snapshot taken.
	blocker, writer := w.session(db), w.session(db)
	w.exec(blocker, "BEGIN; LOCK TABLE t0 IN ACCESS EXCLUSIVE MODE")
	done := make(chan taken)
	go func() { done <- w.take(db, capture.Options{Parallel: 3}) }()
	w.waitFor(db, waits)
	for i := range tables {
		if i > 0 {
			w.exec(writer, fmt.Sprintf("INSERT INTO t%d VALUES (2)", i))
		}
	}
	w.exec(blocker, "ROLLBACK")
	d := (<-done).database()
	for i := range tables {
		if got := w.rows(d, fmt.Sprintf("public.t%d", i)); got != "1\n" {
			t.Errorf("table %d has %q", i, got)
		}
	}
}

// waits tells whether pg_dump waits for a lock in this database.
const waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pg_dump' AND wait_event_type = 'Lock'"

// A table that is truncated between the snapshot and the locks looks empty in the snapshot, though
// it was not at that moment: the capture begins again.
func TestTruncatedMeanwhile(t *testing.T) {
	for what, change := range map[string]string{
		"truncated": "TRUNCATE t", "rewritten": "ALTER TABLE t ALTER n TYPE bigint", "dropped": "DROP TABLE t; CREATE TABLE t (n int); INSERT INTO t VALUES (7)",
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, pgtest.Shared(t))
			db := w.server.NewDatabase(t)
			w.server.Exec(db, "CREATE TABLE t (n int); INSERT INTO t VALUES (1); CREATE TABLE truth (n int); INSERT INTO truth VALUES (1)")
			changer := w.session(db)
			w.exec(changer, "BEGIN; "+change+"; DELETE FROM truth; INSERT INTO truth SELECT * FROM t")
			done := make(chan taken)
			go func() { done <- w.take(db, capture.Options{}) }()
			w.waitFor(db, waits)
			w.exec(changer, "COMMIT")
			k := <-done
			d := k.database()
			if got, want := w.rows(d, "public.t"), w.rows(d, "public.truth"); got != want {
				t.Errorf("the table has %q, and what was recorded with the change is %q", got, want)
			}
			if !slices.ContainsFunc(k.problems, func(p string) bool { return strings.Contains(p, "beginning again") }) {
				t.Errorf("nobody was told: %q", k.problems)
			}
		})
	}
}

func TestScope(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, `CREATE SCHEMA a; CREATE SCHEMA b;
		CREATE TABLE a.one AS SELECT 1; CREATE TABLE a.two AS SELECT 2; CREATE TABLE b.three AS SELECT 3;
		SELECT lo_create(1)`)
	for _, test := range []struct {
		scope postgres.Scope
		want  string
	}{
		{postgres.Scope{}, "a.one a.two b.three"},
		{postgres.Scope{Schemas: []string{"a"}}, "a.one a.two"},
		{postgres.Scope{ExcludedSchemas: []string{"a"}}, "b.three"},
		{postgres.Scope{Tables: []string{"*.t*"}}, "a.two b.three"},
		{postgres.Scope{ExcludedTables: []string{"a.one", "b.*"}}, "a.two"},
		{postgres.Scope{ExcludedContents: []string{"a.*"}}, "b.three"},
	} {
		d := w.take(db, capture.Options{Scope: test.scope}).database()
		var got []string
		for _, tb := range d.Record.Tables {
			got = append(got, tb.File)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: tables are %q, want %s", test.scope, got, test.want)
		}
	}
	w.take(db, capture.Options{Scope: postgres.Scope{Tables: []string{"none.such"}}}).failsWith("no matching tables")
	// One of several that fits nothing is no less a mistake; one to leave out may well.
	w.take(db, capture.Options{Scope: postgres.Scope{Tables: []string{"a.one", "a.tow"}}}).failsWith("no matching tables", "a.tow")
	w.take(db, capture.Options{Scope: postgres.Scope{Schemas: []string{"a", "c"}}}).failsWith("no matching schemas", "c")
	w.take(db, capture.Options{Scope: postgres.Scope{ExcludedTables: []string{"none.such"}}}).database()
}

// An order is kept from snapshot to snapshot, even if it would be chosen otherwise by now.
func TestOrderIsKept(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	const fill = `
		CREATE TABLE %s (id int PRIMARY KEY, pad text) WITH (autovacuum_enabled = off);
		INSERT INTO %[1]s SELECT %s, repeat('x', 400) FROM generate_series(1, 60000) i;
		ANALYZE %[1]s;`
	w.server.Exec(db, fmt.Sprintf(fill, "sorted", "i")+fmt.Sprintf(fill, "shuffled", "(i::bigint * 7919) % 1000003"))
	order := func() string {
		d := w.take(db, capture.Options{}).database()
		return fmt.Sprint(d.Record.Table("public.sorted").Order, d.Record.Table("public.shuffled").Order)
	}
	if got := order(); got != "[id] []" {
		t.Fatalf("orders are %s", got)
	}
	// Whatever ANALYZE would find now.
	w.server.Exec(db, "TRUNCATE sorted, shuffled; INSERT INTO sorted SELECT (i::bigint * 7919) % 1000003, '' FROM generate_series(1, 1000) i; INSERT INTO shuffled SELECT i, '' FROM generate_series(1, 1000) i; ANALYZE")
	if got := order(); got != "[id] []" {
		t.Errorf("orders are %s", got)
	}
	// A key that is gone can't be kept.
	w.server.Exec(db, "ALTER TABLE sorted DROP CONSTRAINT sorted_pkey")
	if got := order(); got != "[] []" {
		t.Errorf("orders are %s", got)
	}
}
