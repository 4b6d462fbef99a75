package verify_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/copytext"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/postgres/verify"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// database is what a source delivers: files by their names.
type database map[string][]byte

func (database) Place() (kind, name string) { return postgres.Kind, "db" }
func (database) Rewind() error              { return nil }

func (d database) Capture(_ context.Context, to *ingest.Sink) error {
	for name, contents := range d {
		key, err := to.Key(name)
		if err != nil {
			return err
		}
		if _, err := to.File(snapshot.Entry{Key: key, Mode: 0o600, Mtime: to.Now()}, bytes.NewReader(contents)); err != nil {
			return err
		}
	}
	return nil
}

// sound makes the files of a database of an archive that pg_dump made.
func sound(t *testing.T) (database, *postgres.Record) {
	t.Helper()
	p, err := os.ReadFile("../archive/testdata/pg15.dump")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(bytes.NewReader(p))
	toc, err := archive.ReadTOC(in)
	if err != nil {
		t.Fatal(err)
	}
	d := database{postgres.TOCFile: toc.Canonical().Append(nil)}
	r := &postgres.Record{Database: postgres.Database{Name: "db", Encoding: "UTF8"}}
	data := archive.NewData(in, toc)
	for {
		item, err := data.Next()
		if err == io.EOF {
			return d, r
		}
		if err != nil {
			t.Fatal(err)
		}
		contents, err := io.ReadAll(data)
		if err != nil {
			t.Fatal(err)
		}
		if item.OID != 0 {
			d[postgres.BlobsDir+"/"+postgres.BlobFile(item.OID)] = contents
			r.BlobTotals.Rows++
			r.BlobTotals.Bytes += int64(len(contents))
			if len(r.Blobs) == 0 {
				r.Blobs = []postgres.BlobGroup{{DumpID: int(item.DumpID)}}
			}
			continue
		}
		r.Tables = append(r.Tables, tableOf(t, toc.Entry(item.DumpID), contents))
		d[r.Tables[len(r.Tables)-1].File] = contents
	}
}

func tableOf(t *testing.T, e *archive.Entry, contents []byte) postgres.Table {
	t.Helper()
	c, err := archive.ParseCopy(e.Copy.S)
	if err != nil {
		t.Fatal(err)
	}
	s := copytext.NewScanner(len(c.Columns))
	if _, err := s.Write(contents); err != nil {
		t.Fatal(err)
	}
	sum, err := s.Close()
	if err != nil {
		t.Fatal(err)
	}
	tb := postgres.Table{
		File: postgres.TableFile(e.Schema.S, e.Tag.S), Schema: postgres.Name(e.Schema.S), Name: postgres.Name(e.Tag.S), DumpID: int(e.DumpID),
		Totals: postgres.Totals{Rows: sum.Rows, Bytes: sum.Bytes}, Hash: sum.Hash,
	}
	for _, name := range c.Columns {
		tb.Columns = append(tb.Columns, postgres.Name(name))
	}
	return tb
}

// newRepository makes a repository in memory.
func newRepository(t *testing.T) *repo.Repository {
	t.Helper()
	r, err := repo.Init(t.Context(), repo.Options{Storage: mem.New(time.Now), Cache: t.TempDir(), Random: rand.NewChaCha8([32]byte{1})}, repo.Params{
		Lock: seal.Passphrase{Text: []byte("secret"), Cost: seal.Cost{Passes: 1, Memory: 8, Lanes: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// store makes a snapshot of a database, and opens it.
func store(t *testing.T, r *repo.Repository, d database, record *postgres.Record) (*stored.Database, error) {
	t.Helper()
	p, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d[postgres.RecordFile] = p
	res, err := ingest.Snapshot(t.Context(), r, ingest.Options{Host: "host", Sources: []ingest.Source{d}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := snapshot.KeyOf("postgres/db")
	if err != nil {
		t.Fatal(err)
	}
	return stored.Open(t.Context(), r, res.Root, key)
}

func TestCheck(t *testing.T) {
	largest := func(r *postgres.Record) *postgres.Table {
		return &r.Tables[slices.IndexFunc(r.Tables, func(tb postgres.Table) bool { return tb.Rows > 1 && len(tb.Columns) > 1 })]
	}
	for name, test := range map[string]struct {
		change func(database, *postgres.Record)
		says   string // empty: it is sound
	}{
		"sound":            {func(database, *postgres.Record) {}, ""},
		"more rows":        {func(_ database, r *postgres.Record) { largest(r).Rows++ }, "rows, and"},
		"another hash":     {func(_ database, r *postgres.Record) { largest(r).Hash[0] ^= 1 }, "another hash"},
		"more bytes":       {func(_ database, r *postgres.Record) { largest(r).Bytes++ }, "bytes, and"},
		"a column less":    {func(_ database, r *postgres.Record) { tb := largest(r); tb.Columns = tb.Columns[1:] }, "columns"},
		"no rows":          {func(d database, r *postgres.Record) { delete(d, largest(r).File) }, "missing"},
		"not in the TOC":   {func(_ database, r *postgres.Record) { largest(r).DumpID = 999999 }, "nowhere in the table of contents"},
		"not recorded":     {func(_ database, r *postgres.Record) { r.Tables = r.Tables[1:] }, "has no rows"},
		"a blob less":      {func(_ database, r *postgres.Record) { r.BlobTotals.Rows++ }, "large objects of"},
		"unrecorded blobs": {func(_ database, r *postgres.Record) { r.Blobs = nil }, "large objects of entry"},
		"half of a row": {func(d database, r *postgres.Record) {
			tb := largest(r)
			d[tb.File] = d[tb.File][:len(d[tb.File])-1]
			tb.Bytes--
		}, "row"},
	} {
		t.Run(name, func(t *testing.T) {
			d, r := sound(t)
			test.change(d, r)
			db, err := store(t, newRepository(t), d, r)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			c := verify.Checker{Problem: func(_ *stored.Database, path string, err error) { said = append(said, path+": "+err.Error()) }}
			if err := c.Check(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			all := strings.Join(said, "\n")
			if (test.says == "") != (all == "") || !strings.Contains(all, test.says) {
				t.Errorf("it said %q, want %q", all, test.says)
			}
		})
	}
}

// What is to be restored is refused if contents are missing, also without a check before.
func TestItemsAreWhole(t *testing.T) {
	for name, change := range map[string]func(database, *postgres.Record){
		"":                 func(database, *postgres.Record) {},
		"a blob less":      func(d database, _ *postgres.Record) { delete(d, anyBlob(d)) },
		"a blob cut":       func(d database, _ *postgres.Record) { d[anyBlob(d)] = nil },
		"unrecorded blobs": func(_ database, r *postgres.Record) { r.Blobs = nil },
		"a table less":     func(_ database, r *postgres.Record) { r.Tables = r.Tables[1:] },
	} {
		d, r := sound(t)
		change(d, r)
		db, err := store(t, newRepository(t), d, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Items(t.Context()); (err == nil) != (name == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// anyBlob returns the name of a large object that is not empty.
func anyBlob(d database) string {
	for name, contents := range d {
		if strings.HasPrefix(name, postgres.BlobsDir+"/") && len(contents) > 0 {
			return name
		}
	}
	return ""
}

// What several snapshots have is read once, and judged by each record.
func TestCheckReadsOnce(t *testing.T) {
	r := newRepository(t)
	d, record := sound(t)
	problems := 0
	c := verify.Checker{Problem: func(*stored.Database, string, error) { problems++ }}
	for i := range 2 {
		db, err := store(t, r, d, record)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if want := i; problems != want {
			t.Fatalf("%d problems, want %d", problems, want)
		}
		record.Tables[0].Rows++ // wrong in the second
	}
	var rows int64
	for _, tb := range record.Tables {
		rows += tb.Rows
	}
	if c.Counts.Rows != rows-2 || c.Counts.Databases != 2 {
		t.Errorf("%d rows were read of %d; %+v", c.Counts.Rows, rows-2, c.Counts)
	}
}

func TestNoDatabase(t *testing.T) {
	r := newRepository(t)
	d, record := sound(t)
	db, err := store(t, r, d, record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Globals(t.Context()); err == nil {
		t.Error("there are globals")
	}
	for key := range map[snapshot.Key]bool{"postgres\x00other": true, "postgres": true, "stdin\x00x": true, "postgres\x00db\x00toc": true} {
		res, err := ingest.Snapshot(t.Context(), r, ingest.Options{Host: "host", Sources: []ingest.Source{d}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stored.Open(t.Context(), r, res.Root, key); !errors.Is(err, stored.ErrNoDatabase) {
			t.Errorf("%s: %v", key.Path(), err)
		}
	}
}

func TestLosses(t *testing.T) {
	record := func(rows ...int64) *postgres.Record {
		r := new(postgres.Record)
		for i, n := range rows {
			r.Tables = append(r.Tables, postgres.Table{File: string(rune('a' + i)), Totals: postgres.Totals{Rows: n}})
		}
		return r
	}
	for _, test := range []struct {
		before, after *postgres.Record
		share         float64
		want          string
	}{
		{record(100, 100), record(100, 100), 0, ""},
		{record(100, 100), record(99, 101), 0, "a"},
		{record(100, 100), record(50, 100), 0.5, ""},
		{record(100, 100), record(49, 100), 0.5, "a"},
		{record(100, 1000), record(0, 0), 0.5, "a b all"},
		{record(100, 10), record(0), 0.5, "a b all"},
		{record(0, 0), record(0, 0), 0, ""},
		{record(1), record(2, 3), 0, ""},
	} {
		var got []string
		for _, l := range verify.Losses(test.before, test.after, test.share) {
			if l.File == "" {
				l.File = "all"
			}
			got = append(got, l.File)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%v to %v: %q, want %q", test.before.Tables, test.after.Tables, got, test.want)
		}
	}
}
