package reload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/pgtest"
	"github.com/cairn-backup/cairn/postgres/reload"
)

// into restores into a database of the server.
func into(t *testing.T, s *pgtest.Server, db string) *reload.Server {
	return &reload.Server{
		Program: filepath.Join(s.BinDir(), "pg_restore"), Args: []string{"--dbname=" + db}, Env: s.Env(db), Temp: t.TempDir(),
	}
}

// dumped captures a database.
func dumped(t *testing.T, s *pgtest.Server, db string) *reload.Database {
	t.Helper()
	return captured(t, bytes.NewReader(client(t, s, db, nil, "pg_dump", "-Fc", "-Z0")))
}

func TestServer(t *testing.T) {
	s := pgtest.Shared(t)
	for name, c := range map[string]struct {
		make    func(testing.TB, *pgtest.Server) string
		options []pgtest.DatabaseOption
		jobs    int
	}{
		"one job":    {pgtest.Awkward, nil, 0},
		"three jobs": {pgtest.Awkward, nil, 3},
		"LATIN1":     {pgtest.AwkwardLatin1, []pgtest.DatabaseOption{pgtest.Encoding("LATIN1"), pgtest.Locale("C")}, 2},
		"SQL_ASCII":  {pgtest.AwkwardBytes, []pgtest.DatabaseOption{pgtest.Encoding("SQL_ASCII"), pgtest.Locale("C")}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			db := c.make(t, s)
			d := dumped(t, s, db)
			copied := s.NewDatabase(t, c.options...)
			r := into(t, s, copied)
			r.Jobs = c.jobs
			var loaded []archive.Item
			r.Loaded = func(items []archive.Item) { loaded = append(loaded, items...) }
			if err := r.Restore(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			pgtest.Compare(t, s.URL(db), s.URL(copied))
			if len(loaded) != len(d.Items) {
				t.Errorf("%d items were said to be loaded, of %d", len(loaded), len(d.Items))
			}

			r.Clean = true
			if err := r.Restore(t.Context(), d); err != nil {
				t.Fatalf("once more, with Clean: %v", err)
			}
			pgtest.Compare(t, s.URL(db), s.URL(copied))
		})
	}
}

// Contents that can't be read stop the restore. Their table is empty, and so are those of its
// transaction; Loaded told of none of them.
func TestServerContentsFail(t *testing.T) {
	s := pgtest.Shared(t)
	_, d := awkward(t, s)
	broken := errors.New("broken")
	good := d.Open
	var table *archive.Entry
	d.Open = func(ctx context.Context, item archive.Item) (io.Reader, error) {
		r, err := good(ctx, item)
		if e := d.TOC.Entry(item.DumpID); e.Tag.S == "lines" {
			table = e
			return io.MultiReader(io.LimitReader(r, 8), readerFunc(func([]byte) (int, error) { return 0, broken })), err
		}
		return r, err
	}
	for _, keepGoing := range []bool{false, true} {
		copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
		r := into(t, s, copied)
		r.KeepGoing = keepGoing
		r.Loaded = func(items []archive.Item) {
			if slices.ContainsFunc(items, func(i archive.Item) bool { return i.DumpID == table.DumpID }) {
				t.Error("the table was said to be loaded")
			}
		}
		err := r.Restore(t.Context(), d)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), `"app"."lines"`) {
			t.Errorf("%v", err)
		}
		if n := s.Query(copied, "SELECT count(*) FROM app.lines"); n != "0" {
			t.Errorf("%s rows of a table that could not be read", n)
		}
	}
}

// When the end of the archive is missing, as after the death of who writes it, pg_restore
// leaves no part of a table, wherever that is. All of this package leans on that.
func TestTruncatedPipe(t *testing.T) {
	s := pgtest.Shared(t)
	_, d := awkward(t, s)
	part, _ := d.Select(func(e *archive.Entry) bool { return e.Is("TABLE") && e.Tag.S == "audit" })
	part.Items[0].Size = 12
	part.Open = func(context.Context, archive.Item) (io.Reader, error) {
		return strings.NewReader("a\nbb\nc\ndd\ne\n"), nil
	}
	var w bytes.Buffer
	if err := part.Custom(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	r := into(t, s, copied)
	rows := bytes.Index(w.Bytes(), []byte("a\nbb\n"))
	for _, n := range []int{rows, rows + 2, rows + 4, rows + 12, rows + 17, w.Len() - 1} {
		cmd := r.Program
		if out, err := runWith(s, copied, w.Bytes()[:n], cmd, "--clean", "--if-exists", "-d", copied); err == nil {
			t.Errorf("%d of %d bytes: pg_restore is content: %s", n, w.Len(), out)
		}
		if got := s.Query(copied, "SELECT count(*) FROM app.audit"); got != "0" {
			t.Errorf("%d of %d bytes: %s rows", n, w.Len(), got)
		}
	}
	if out, err := runWith(s, copied, w.Bytes(), r.Program, "--clean", "--if-exists", "-d", copied); err != nil {
		t.Errorf("all bytes: %v: %s", err, out)
	}
	if got := s.Query(copied, "SELECT count(*) FROM app.audit"); got != "5" {
		t.Errorf("all bytes: %s rows", got)
	}
}

// A statement that fails ends the restore, or does not with KeepGoing; it fails in both.
func TestServerKeepGoing(t *testing.T) {
	s := pgtest.Shared(t)
	_, d := awkward(t, s)
	for keepGoing, want := range map[bool]string{false: "0", true: "20"} {
		copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
		s.Exec(copied, "CREATE SCHEMA app; CREATE TABLE app.lines (order_id bigint, no bigint)")
		r := into(t, s, copied)
		r.KeepGoing, r.Jobs = keepGoing, 2
		err := r.Restore(t.Context(), d)
		if err == nil || !strings.Contains(err.Error(), "already exists") {
			t.Errorf("%v", err)
		}
		if n := s.Query(copied, "SELECT count(*) FROM app.lines"); n != want {
			t.Errorf("keep going %v: %s rows, want %s", keepGoing, n, want)
		}
	}
}

func TestServerStops(t *testing.T) {
	s := pgtest.Shared(t)
	_, d := awkward(t, s)
	copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	ctx, cancel := context.WithCancel(t.Context())
	good := d.Open
	d.Open = func(ctx context.Context, item archive.Item) (io.Reader, error) {
		r, err := good(ctx, item)
		if d.TOC.Entry(item.DumpID).Tag.S == "orders" {
			return io.MultiReader(io.LimitReader(r, 8), readerFunc(func([]byte) (int, error) { cancel(); <-ctx.Done(); return 0, ctx.Err() })), err
		}
		return r, err
	}
	r := into(t, s, copied)
	r.KeepGoing, r.Jobs = true, 2
	if err := r.Restore(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := s.Query(copied, "SELECT count(*) FROM app.orders"); n != "0" {
		t.Errorf("%s rows", n)
	}
	r.Program = filepath.Join(t.TempDir(), "pg_restore")
	if err := r.Restore(t.Context(), d); err == nil || !strings.Contains(err.Error(), "pg_restore") {
		t.Errorf("without pg_restore: %v", err)
	}
}

// A pg_restore that waits for the server ends with the context, too.
func TestServerStopsWaiting(t *testing.T) {
	s := pgtest.Shared(t)
	_, d := awkward(t, s)
	copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	lock := exec.Command(filepath.Join(s.BinDir(), "psql"), "-X", "-c", "BEGIN", "-c", "LOCK TABLE pg_namespace", "-c", "SELECT pg_sleep(1000)")
	lock.Env = s.Env(copied)
	if err := lock.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		lock.Process.Kill()
		lock.Wait()
		s.Exec("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+copied+"'")
	}()
	locks := func(granted string) string {
		return s.Query("postgres", "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'pg_namespace'::regclass AND granted = "+granted)
	}
	for locks("true") != "t" {
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := into(t, s, copied)
	ended := make(chan error)
	go func() { ended <- r.Restore(ctx, d) }()
	for locks("false") != "t" {
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
