package archive_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// client runs a program of the server's version on a database.
func client(t *testing.T, s *pgtest.Server, db string, stdin io.Reader, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.BinDir(), name), args...)
	cmd.Env, cmd.Stdin = s.Env(db), stdin
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, &stderr)
	}
	return out
}

// awkward makes the database that the archives in testdata are of.
func awkward(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	db := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	s.Exec(db, string(load(t, "awkward.sql")))
	return db
}

// A database that went through an archive written here is the same in the eyes of
// pg_dump, however pg_restore read it.
func TestServer(t *testing.T) {
	s := pgtest.Shared(t)
	db := awkward(t, s)
	dump := client(t, s, db, nil, "pg_dump", "-Fc", "-Z0")
	toc, all, err := readAll(bytes.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	if got := toc.Append(nil); !bytes.HasPrefix(dump, got) {
		t.Error("the table of contents is written in other bytes")
	}
	var w bytes.Buffer
	if err := write(&w, toc, all, 1<<16); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.dump")
	if err := os.WriteFile(file, w.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	// Comments, which pg_dump -Fp has, name no dump IDs, so they are equal too.
	plain := func(db string) string {
		return string(withoutRandom(client(t, s, db, nil, "pg_dump")))
	}
	want := plain(db)
	for how, restore := range map[string]func(db string){
		"a pipe":          func(db string) { client(t, s, db, &w, "pg_restore", "-e", "-d", db) },
		"a file, -j":      func(db string) { client(t, s, db, nil, "pg_restore", "-e", "-j3", "-d", db, file) },
		"a directory, -j": func(db string) { client(t, s, db, nil, "pg_restore", "-e", "-j3", "-d", db, directory(t, toc, all)) },
	} {
		t.Run(how, func(t *testing.T) {
			copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
			restore(copied)
			if got := plain(copied); got != want {
				t.Errorf("another database:\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What Select finds for each relation can be restored, and has all rows.
func TestServerSelect(t *testing.T) {
	s := pgtest.Shared(t)
	db := awkward(t, s)
	dump := client(t, s, db, nil, "pg_dump", "-Fc", "-Z0")
	toc, _, err := readAll(bytes.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range toc.Entries {
		if !e.Is("TABLE") && !e.Is("VIEW") && !e.Is("MATERIALIZED VIEW") && !e.Is("SEQUENCE") {
			continue
		}
		t.Run(e.Tag.S, func(t *testing.T) {
			sel := toc.Select(func(o *archive.Entry) bool { return o.DumpID == e.DumpID })
			list := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(list, archive.AppendList(nil, sel.Entries), 0o600); err != nil {
				t.Fatal(err)
			}
			copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
			client(t, s, copied, bytes.NewReader(dump), "pg_restore", "-e", "-d", copied, "-L", list)
			if !e.Is("TABLE") {
				return
			}
			count := "SELECT count(*) FROM " + e.Relation()
			if got, want := s.Query(copied, count), s.Query(db, count); got != want {
				t.Errorf("%s rows, want %s", got, want)
			}
		})
	}
}
