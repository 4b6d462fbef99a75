package reload_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// TestRegression restores PostgreSQL's own regression database as a whole, and then
// each of its relations alone.
func TestRegression(t *testing.T) {
	s, db := pgtest.Regression(t)
	d := dumped(t, s, db)
	copied := s.NewDatabase(t)
	r := into(t, s, copied)
	r.Jobs = 3
	if err := r.Restore(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	pgtest.Compare(t, s.URL(db), s.URL(copied))

	if testing.Short() {
		return // some 800 databases are made below, in three minutes
	}
	for _, e := range d.TOC.Entries {
		if e.HasData && !e.Is(archive.KindBlobs) {
			c, err := archive.ParseCopy(e.Copy.S)
			if err != nil || c.Schema != e.Schema.S {
				t.Errorf("%q: %q, %v", e.Copy.S, c, err)
			}
		}
		switch e.Desc.S {
		case "TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE":
		default:
			continue
		}
		part, _ := d.Select(func(o *archive.Entry) bool { return o.DumpID == e.DumpID })
		alone := s.NewDatabase(t)
		var w bytes.Buffer
		if err := part.Custom(t.Context(), &w); err != nil {
			t.Fatal(err)
		}
		if _, err := runWith(s, alone, w.Bytes(), r.Program, "-e", "-d", alone); err != nil {
			t.Errorf("%s %s: %v", e.Desc.S, e.Relation(), strings.TrimSpace(err.Error()))
		}
		s.Exec("postgres", "DROP DATABASE "+archive.QuoteName(alone))
	}
}
