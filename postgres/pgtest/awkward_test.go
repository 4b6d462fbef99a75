package pgtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// roundTrip copies a database to another server, or to the same, with PostgreSQL's own
// programs, and gives the URL of the copy.
func roundTrip(t *testing.T, from *pgtest.Server, db string, to *pgtest.Server, opts ...pgtest.DatabaseOption) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "archive")
	into := to.NewDatabase(t, opts...)
	for _, args := range [][]string{
		{"pg_dump", "-Fc", "-Z0", "-f", archive, "-d", from.URL(db)},
		{"pg_restore", "--exit-on-error", "-d", to.URL(into), archive},
	} {
		cmd := exec.Command(filepath.Join(to.BinDir(), args[0]), args[1:]...)
		cmd.Env = os.Environ()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	return to.URL(into)
}

// TestAwkward shows that what is awkward is there, that PostgreSQL's own programs can
// copy it, and that Compare finds the copy equal.
func TestAwkward(t *testing.T) {
	s := pgtest.Shared(t)
	db := pgtest.Awkward(t, s)
	other := pgtest.Start(t)
	pgtest.Globals(t, other)
	pgtest.Compare(t, s.URL(db), roundTrip(t, s, db, other))
	// The copy itself was compared, not only what both say of it.
	if got := s.Query(db, "SELECT count(*), sum(id) FROM kept.orders"); got != "19799|198113907" {
		t.Errorf("orders: %s", got)
	}
}

func TestAwkwardEncodings(t *testing.T) {
	s := pgtest.Shared(t)
	for _, c := range []struct {
		name string
		make func(testing.TB, *pgtest.Server) string
		opts []pgtest.DatabaseOption
	}{
		{"LATIN1", pgtest.AwkwardLatin1, []pgtest.DatabaseOption{pgtest.Encoding("LATIN1"), pgtest.Locale("C")}},
		{"SQL_ASCII", pgtest.AwkwardBytes, []pgtest.DatabaseOption{pgtest.Encoding("SQL_ASCII"), pgtest.Locale("C")}},
		{"ICU", pgtest.AwkwardICU, []pgtest.DatabaseOption{pgtest.Encoding("UTF8"), pgtest.ICU("de-u-co-phonebk"), pgtest.Locale("C")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := c.make(t, s)
			pgtest.Compare(t, s.URL(db), roundTrip(t, s, db, s, c.opts...))
		})
	}
}

// TestRegression compares what PostgreSQL's own programs make of the database of its
// own regression tests.
func TestRegression(t *testing.T) {
	s, db := pgtest.Regression(t)
	pgtest.Compare(t, s.URL(db), roundTrip(t, s, db, s))
}
