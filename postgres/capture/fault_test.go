package capture_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/postgres/capture"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// Whatever a client program does but its work, nothing is taken, and the reason is told.
func TestProgramFails(t *testing.T) {
	for name, test := range map[string]struct {
		program, script string
		says            []string
	}{
		"pg_dump is missing":            {"pg_dump", "", []string{"pg_dump"}},
		"pg_dump says why":              {"pg_dump", "echo 'pg_dump: error: the moon is full' >&2; exit 1", []string{"pg_dump", "the moon is full"}},
		"pg_dump ends with nothing":     {"pg_dump", "exit 0", []string{"pg_dump"}},
		"pg_dump is killed":             {"pg_dump", "$real \"$@\" | head -c 3000; kill -9 $$", []string{"pg_dump", "killed"}},
		"pg_dump is cut off":            {"pg_dump", "$real \"$@\" | head -c 3000", []string{"pg_dump", "unexpected EOF"}},
		"pg_dump prints something else": {"pg_dump", "seq 100000", []string{"pg_dump"}},
		"pg_dump fails with the large objects": {"pg_dump", `case "$*" in *exclude-table-data*) $real "$@"; echo oh >&2; exit 3;; esac; exec $real "$@"`,
			[]string{"pg_dump", "exit status 3", "oh"}},
		"the large objects are cut off": {"pg_dump", `case "$*" in *exclude-table-data*) $real "$@" | head -c -20; exit 0;; esac; exec $real "$@"`,
			[]string{"pg_dump", "unexpected EOF"}},
		"pg_dumpall fails": {"pg_dumpall", "echo half of it; echo why >&2; exit 1", []string{"pg_dumpall", "exit status 1", "why"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pgtest.Shared(t))
			db := w.server.NewDatabase(t)
			w.server.Exec(db, shop)
			w.take(db, capture.Options{Globals: true, Bin: w.program(test.program, test.script)}).failsWith(test.says...)
			w.take(db, capture.Options{Globals: true}).database()
		})
	}
}

// A table that the user may not read is named.
func TestDeniedTable(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, "CREATE TABLE open (n int); CREATE TABLE secret (n int); DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; GRANT SELECT ON open TO reader")
	t.Cleanup(func() { w.server.Exec(db, "DROP OWNED BY reader; DROP ROLE reader") })
	w.takeAs("reader", db, capture.Options{}).failsWith("permission denied", "secret")
	d := w.takeAs("reader", db, capture.Options{Globals: true, Scope: scopeWithout("secret")}).database()
	if d.Record.Globals != "without passwords" {
		t.Errorf("globals are %s", d.Record.Globals)
	}
	if got := w.rows(d, "globals"); !strings.Contains(got, "CREATE ROLE reader") {
		t.Errorf("globals are:\n%s", got)
	}
}

// Row security hides rows: a capture that would lack some fails.
func TestRowSecurity(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, `CREATE TABLE t (who text); INSERT INTO t VALUES ('me'), ('somebody else'); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
		DROP ROLE IF EXISTS me; CREATE ROLE me LOGIN; GRANT SELECT ON t TO me; CREATE POLICY p ON t USING (who = current_user)`)
	t.Cleanup(func() { w.server.Exec(db, "DROP OWNED BY me; DROP ROLE me") })
	w.takeAs("me", db, capture.Options{}).failsWith("row-level security", `"t"`)
}

func TestNoSuchDatabase(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	w.take("no such database", capture.Options{}).failsWith("no such database", "does not exist")
}

// large is a table that takes some time to be read.
const large = "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 200000) i"

// A connection that is cut in the middle, or a server that dies, voids the capture.
func TestConnectionCut(t *testing.T) {
	w := newWorld(t, pgtest.Start(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, large)
	reading := "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cairn' AND query LIKE 'COPY%' AND state = 'active'"
	start := func() chan taken {
		done := make(chan taken)
		go func() { done <- w.take(db, capture.Options{Parallel: 1}) }()
		w.waitFor(db, reading)
		return done
	}
	done := start()
	w.server.Exec(db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cairn' AND query LIKE 'COPY%'")
	(<-done).failsWith("large", "connection")

	done = start()
	w.server.Kill()
	(<-done).failsWith("large")
	w.server.Restart()
	w.take(db, capture.Options{}).database()
}

// Who holds a lock for longer than the user wants to wait is no reason to wait for ever.
func TestLockWait(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, "CREATE TABLE busy (n int)")
	w.exec(w.session(db), "BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE")
	w.take(db, capture.Options{LockWait: 200 * time.Millisecond}).failsWith("busy", "timeout")
}

func TestVacuumWarning(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, "CREATE TABLE t (n int)")
	k := w.take(db, capture.Options{VacuumWarning: time.Nanosecond})
	k.database()
	if got := strings.Join(k.problems, "\n"); !strings.Contains(got, "vacuum") {
		t.Errorf("problems are %q", got)
	}
}

// A standby is read like any server.
func TestStandby(t *testing.T) {
	primary := pgtest.Start(t)
	db := primary.NewDatabase(t)
	primary.Exec(db, shop)
	w := newWorld(t, primary.Standby(t))
	w.waitFor("postgres", "SELECT count(*) > 0 FROM pg_database WHERE datname = '"+db+"'")
	w.waitFor("postgres", "SELECT pg_last_wal_replay_lsn() >= '"+primary.Query(db, "SELECT pg_current_wal_lsn()")+"'")
	d := w.take(db, capture.Options{Globals: true}).database()
	if !d.Record.Server.Standby || d.Record.Table("public.orders").Rows != 5000 {
		t.Errorf("the record is %+v", d.Record)
	}
}

// A capture leaves nothing behind: no process, no file, no transaction on the server.
func TestNothingStays(t *testing.T) {
	w := newWorld(t, pgtest.Shared(t))
	db := w.server.NewDatabase(t)
	w.server.Exec(db, shop)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	w.take(db, capture.Options{Globals: true}).database()
	w.take(db, capture.Options{Bin: w.program("pg_dump", "exit 1")}).fails()
	w.waitFor("postgres", "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '"+db+"'")
	left, err := os.ReadDir(temp)
	w.must(err)
	for _, f := range left {
		if strings.HasPrefix(f.Name(), "cairn") {
			t.Errorf("%s stayed", filepath.Join(temp, f.Name()))
		}
	}
}
