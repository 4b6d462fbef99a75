package rebuild_test

import (
	"testing"

	"github.com/cairn-backup/cairn/postgres/pgtest"
	"github.com/cairn-backup/cairn/postgres/rebuild"
)

// TestRegression takes the database that PostgreSQL's own regression tests leave behind
// there and back.
func TestRegression(t *testing.T) {
	s, db := pgtest.Regression(t)
	w := newWorld(t, s)
	d := w.capture(db)
	res, _, err := w.into(s, "copy", d, rebuild.Options{Create: true, Jobs: 3})
	w.must(err)
	pgtest.Compare(t, s.URL(db), s.URL("copy"))
	if res.Tables != len(d.Record.Tables) || res.Tables < 100 {
		t.Errorf("the result is %+v of %d tables", res, len(d.Record.Tables))
	}
}

// TestHugeRow takes a row there and back that is a line of 128 MB.
func TestHugeRow(t *testing.T) {
	s := pgtest.Start(t)
	db := s.NewDatabase(t)
	pgtest.HugeRow(t, s, db)
	w := newWorld(t, s)
	_, _, err := w.into(s, "copy", w.capture(db), rebuild.Options{Create: true, Jobs: 1})
	w.must(err)
	pgtest.Compare(t, s.URL(db), s.URL("copy"))
}
