package rebuild_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/capture"
	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/pgtest"
	"github.com/cairn-backup/cairn/postgres/rebuild"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/postgres/verify"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// world is a repository, a server to capture databases of, and perhaps another to restore into.
type world struct {
	*testing.T
	repo *repo.Repository
	from *pgtest.Server
}

func newWorld(t *testing.T, from *pgtest.Server) *world {
	r, err := repo.Init(t.Context(), repo.Options{
		Storage: mem.New(time.Now), Cache: t.TempDir(), Random: rand.NewChaCha8([32]byte{1}),
	}, repo.Params{
		Chunker:  chunk.Params{Algorithm: chunk.FastCDC, Min: 8 << 10, Avg: 16 << 10, Max: 64 << 10},
		PackSize: 1 << 20,
		Lock:     seal.Passphrase{Text: []byte("secret"), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &world{t, r, from}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) target(s *pgtest.Server, db string) *connect.Target {
	w.Helper()
	t, err := connect.Parse(s.URL(db))
	w.must(err)
	return t
}

// capture takes a database, and checks it.
func (w *world) capture(db string) *stored.Database {
	w.Helper()
	res, err := ingest.Snapshot(w.Context(), w.repo, ingest.Options{
		Sources: []ingest.Source{capture.New(w.target(w.from, db), db, capture.Options{Globals: true, Bin: w.from.BinDir()})}, Host: "host",
		Observer: ingest.Observer{Problem: func(path string, err error, _ bool) { w.Errorf("%s: %v", path, err) }},
	})
	w.must(err)
	key, err := snapshot.KeyOf(postgres.Kind + "/" + postgres.DatabaseFile(db))
	w.must(err)
	d, err := stored.Open(w.Context(), w.repo, res.Root, key)
	w.must(err)
	c := verify.Checker{Problem: func(_ *stored.Database, path string, err error) { w.Errorf("%s: %v", path, err) }}
	w.must(c.Check(w.Context(), d))
	return d
}

// into restores a database, and returns what was said meanwhile.
func (w *world) into(to *pgtest.Server, name string, d *stored.Database, o rebuild.Options) (*rebuild.Result, []string, error) {
	w.Helper()
	o.Target, o.Name, o.Bin = w.target(to, name), name, to.BinDir()
	var mu sync.Mutex
	var said []string
	o.Observer.Warning = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, err.Error())
	}
	res, err := rebuild.Into(w.Context(), d, o)
	return res, said, err
}

// TestRoundTrip restores the databases with every awkward thing, and compares all that can be compared.
func TestRoundTrip(t *testing.T) {
	for name, make := range map[string]func(testing.TB, *pgtest.Server) string{
		"awkward": pgtest.Awkward, "LATIN1": pgtest.AwkwardLatin1, "any bytes": pgtest.AwkwardBytes, "ICU": pgtest.AwkwardICU,
	} {
		t.Run(name, func(t *testing.T) {
			from, to := pgtest.Shared(t), pgtest.Start(t)
			w := newWorld(t, from)
			db := make(t, from)
			pgtest.Globals(t, to) // no two servers can have one directory as a tablespace
			d := w.capture(db)
			for i, jobs := range []int{1, 3} {
				name := []string{db, "another name"}[i]
				res, _, err := w.into(to, name, d, rebuild.Options{Create: true, Jobs: jobs})
				w.must(err)
				pgtest.Compare(t, from.URL(db), to.URL(name))
				if res.Tables != len(d.Record.Tables) || int64(res.Blobs) != d.Record.BlobTotals.Rows {
					t.Errorf("the result is %+v", res)
				}
			}
			if a, b := pgtest.Properties(t, from.URL(db)), pgtest.Properties(t, to.URL(db)); a != b {
				t.Errorf("the database as such was\n%s\nand is\n%s", a, b)
			}
			// Over what is there.
			_, _, err := w.into(to, db, d, rebuild.Options{Clean: true, Jobs: 2})
			w.must(err)
			pgtest.Compare(t, from.URL(db), to.URL(db))
		})
	}
}

const shop = `
CREATE TABLE orders (id int PRIMARY KEY, who text);
INSERT INTO orders SELECT i, 'user ' || i FROM generate_series(1, 5000) i;
CREATE TABLE items (id int PRIMARY KEY, of int REFERENCES orders);
INSERT INTO items SELECT i, i FROM generate_series(1, 100) i;`

// A database that has something is left alone.
func TestTargetIsNotEmpty(t *testing.T) {
	s := pgtest.Shared(t)
	w := newWorld(t, s)
	db := s.NewDatabase(t)
	s.Exec(db, shop)
	d := w.capture(db)
	for what, sql := range map[string]string{
		"table": "CREATE TABLE precious (n int)", "view": "CREATE VIEW precious AS SELECT 1", "sequence": "CREATE SEQUENCE precious",
		"function": "CREATE FUNCTION precious() RETURNS int LANGUAGE sql AS 'SELECT 1'", "type": "CREATE TYPE precious AS ENUM ('a')",
		"schema": "CREATE SCHEMA precious", "large object": "SELECT lo_create(7)",
	} {
		to := s.NewDatabase(t)
		s.Exec(to, sql)
		_, _, err := w.into(s, to, d, rebuild.Options{})
		if !errors.Is(err, rebuild.ErrNotEmpty) || what != "large object" && !strings.Contains(err.Error(), "precious") {
			t.Errorf("%s: %v", what, err)
		}
		if n := s.Query(to, "SELECT count(*) FROM pg_class WHERE relname IN ('orders', 'items')"); n != "0" {
			t.Errorf("%s: something was restored", what)
		}
	}
	// What extensions brought is nobody's, nor is what a new database has.
	to := s.NewDatabase(t)
	s.Exec(to, "CREATE EXTENSION pg_trgm")
	_, _, err := w.into(s, to, d, rebuild.Options{})
	w.must(err)

	_, _, err = w.into(s, to, d, rebuild.Options{Create: true})
	if err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("made although it was there: %v", err)
	}
	if _, _, err = w.into(s, "no such", d, rebuild.Options{}); err == nil || !strings.Contains(err.Error(), "no such") {
		t.Errorf("restored into nothing: %v", err)
	}
}

func TestSelection(t *testing.T) {
	s := pgtest.Shared(t)
	w := newWorld(t, s)
	db, to := s.NewDatabase(t), s.NewDatabase(t)
	s.Exec(db, shop)
	d := w.capture(db)
	want := func(e *archive.Entry) bool { return e.Is(archive.KindTable) && e.Tag.S == "items" }
	res, _, err := w.into(s, to, d, rebuild.Options{Want: want})
	w.must(err)
	if got := s.Query(to, "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^(items|orders)'"); got != "items items_pkey" {
		t.Errorf("there are %s", got)
	}
	if len(res.LeftOut) != 1 || res.Rows != 100 {
		t.Errorf("the result is %+v", res)
	}
	if _, _, err := w.into(s, s.NewDatabase(t), d, rebuild.Options{Want: func(*archive.Entry) bool { return false }}); err == nil {
		t.Error("nothing was restored without a word")
	} else if !errors.Is(err, rebuild.ErrNothing) {
		t.Error(err)
	}
}

// TestHalf ends a restore in the middle: what is there and what not is told.
func TestHalf(t *testing.T) {
	s := pgtest.Shared(t)
	w := newWorld(t, s)
	db := s.NewDatabase(t)
	s.Exec(db, shop+"CREATE TABLE big AS SELECT i, repeat('x', 2000) FROM generate_series(1, 20000) i")
	d := w.capture(db)
	broken := errors.New("the storage is on fire")
	to := s.NewDatabase(t)
	o := rebuild.Options{Jobs: 1}
	ctx, cancel := context.WithCancelCause(w.Context())
	o.Target, o.Name, o.Bin = w.target(s, to), to, s.BinDir()
	o.Observer.Loaded = func(items []archive.Item) { cancel(broken) }
	_, err := rebuild.Into(ctx, d, o)
	var half *rebuild.Restored
	if !errors.As(err, &half) || len(half.Loaded) == 0 || len(half.Missing) == 0 {
		t.Fatalf("the error is %v", err)
	}
	for _, file := range half.Loaded {
		if got, want := s.Query(to, "SELECT count(*) FROM "+file), s.Query(db, "SELECT count(*) FROM "+file); got != want {
			t.Errorf("%s has %s rows, want %s", file, got, want)
		}
	}
	for _, file := range half.Missing {
		if got := s.Query(to, "SELECT count(*) FROM "+file); got != "0" {
			t.Errorf("%s has %s rows", file, got)
		}
	}
}

// Roles that are there stay as they are.
func TestGlobals(t *testing.T) {
	from, to := pgtest.Start(t), pgtest.Start(t)
	w := newWorld(t, from)
	db := from.NewDatabase(t)
	from.Exec(db, `CREATE ROLE "o'brien" SUPERUSER; CREATE ROLE writer LOGIN PASSWORD 'pass;word'; CREATE ROLE readers; GRANT readers TO writer; GRANT readers, pg_monitor TO "o'brien"; COMMENT ON ROLE "o'brien" IS 'of the source';
		COMMENT ON ROLE writer IS E'a line;\nanother'; CREATE TABLE t (n int); ALTER TABLE t OWNER TO writer; GRANT SELECT ON t TO readers`)
	to.Exec("postgres", "CREATE ROLE \"o'brien\" NOSUPERUSER")
	d := w.capture(db)
	_, said, err := w.into(to, db, d, rebuild.Options{Create: true, Globals: true})
	w.must(err)
	for sql, want := range map[string]string{
		"SELECT rolsuper FROM pg_roles WHERE rolname = 'o''brien'":                          "f",
		"SELECT count(*) FROM pg_auth_members WHERE member = '\"o''brien\"'::regrole":       "0",
		"SELECT shobj_description('\"o''brien\"'::regrole, 'pg_authid') IS NULL":            "t",
		"SELECT pg_has_role('writer', 'readers', 'member')":                                 "t",
		"SELECT rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname = 'writer'":          "t",
		"SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'writer'": "a line;\nanother",
	} {
		if got := to.Query("postgres", sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	if !strings.Contains(strings.Join(said, "\n"), "o'brien is there already") {
		t.Errorf("it was said: %q", said)
	}
	pgtest.Compare(t, from.URL(db), to.URL(db))
}

// A database that was made and could not be given to its owner is there: that is said.
func TestMadeAndNotFilled(t *testing.T) {
	from, to := pgtest.Start(t), pgtest.Start(t)
	w := newWorld(t, from)
	from.Exec("postgres", "CREATE ROLE keeper")
	db := from.NewDatabase(t)
	from.Exec(db, shop+`ALTER DATABASE "`+db+`" OWNER TO keeper`)
	d := w.capture(db)
	_, _, err := w.into(to, "new", d, rebuild.Options{Create: true})
	var half *rebuild.Restored
	if !errors.As(err, &half) || len(half.Loaded) != 0 || len(half.Missing) != 2 || !strings.Contains(err.Error(), "--no-owner") {
		t.Errorf("the error is %v", err)
	}
	// As the error says, it can be filled.
	_, _, err = w.into(to, "new", d, rebuild.Options{NoOwner: true})
	w.must(err)
	pgtest.Compare(t, from.URL(db), to.URL("new"))
}
