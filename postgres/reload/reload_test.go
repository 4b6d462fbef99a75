package reload_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/pgtest"
	"github.com/cairn-backup/cairn/postgres/reload"
)

// captured keeps the contents of an archive in memory.
func captured(t testing.TB, dump io.Reader) *reload.Database {
	t.Helper()
	r := bufio.NewReader(dump)
	toc, err := archive.ReadTOC(r)
	if err != nil {
		t.Fatal(err)
	}
	d := &reload.Database{TOC: toc}
	contents := make(map[archive.Item][]byte)
	for data := archive.NewData(r, toc); ; {
		item, err := data.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(data)
		if err != nil {
			t.Fatal(err)
		}
		item.Size = int64(len(p))
		d.Items = append(d.Items, item)
		contents[item] = p
	}
	d.Open = func(_ context.Context, item archive.Item) (io.Reader, error) {
		p, ok := contents[item]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return bytes.NewReader(p), nil
	}
	return d
}

// client runs a program of the server's version on a database.
func client(t *testing.T, s *pgtest.Server, db string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	out, err := runWith(s, db, stdin, filepath.Join(s.BinDir(), name), args...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

func runWith(s *pgtest.Server, db string, stdin []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdin = s.Env(db), bytes.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, &stderr)
	}
	return out, nil
}

// awkward makes the database that package archive is tested with, and captures it.
func awkward(t *testing.T, s *pgtest.Server) (db string, d *reload.Database) {
	t.Helper()
	sql, err := os.ReadFile("../archive/testdata/awkward.sql")
	if err != nil {
		t.Fatal(err)
	}
	db = s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	s.Exec(db, string(sql))
	return db, captured(t, bytes.NewReader(client(t, s, db, nil, "pg_dump", "-Fc", "-Z0")))
}

// plain is a database as pg_dump shows it, without what is random.
func plain(t *testing.T, s *pgtest.Server, db string) string {
	t.Helper()
	var same strings.Builder
	for line := range strings.Lines(string(client(t, s, db, nil, "pg_dump"))) {
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			same.WriteString(line)
		}
	}
	return same.String()
}

func TestCustom(t *testing.T) {
	s := pgtest.Shared(t)
	db, d := awkward(t, s)
	copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	seen := make(map[archive.Item]int64)
	d.Progress = func(item archive.Item, n int) { seen[item] += int64(n) }
	var w bytes.Buffer
	if err := d.Custom(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	client(t, s, copied, w.Bytes(), "pg_restore", "-e", "-d", copied)
	if got, want := plain(t, s, copied), plain(t, s, db); got != want {
		t.Errorf("another database:\n%s\nwant\n%s", got, want)
	}
	for _, item := range d.Items {
		if seen[item] != item.Size {
			t.Errorf("progress told of %d bytes of %v", seen[item], item)
		}
	}
}

func TestSQL(t *testing.T) {
	s := pgtest.Shared(t)
	db, d := awkward(t, s)
	program := filepath.Join(s.BinDir(), "pg_restore")
	var sql bytes.Buffer
	if err := d.SQL(t.Context(), program, []string{"--no-owner"}, &sql); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sql.String(), "OWNER TO") {
		t.Error("pg_restore did not get its option")
	}
	copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	client(t, s, copied, sql.Bytes(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1")
	if got, want := plain(t, s, copied), plain(t, s, db); got != want {
		t.Errorf("another database:\n%s\nwant\n%s", got, want)
	}

	if err := d.SQL(t.Context(), program, []string{"--no-such-option"}, io.Discard); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("an option that is none: %v", err)
	}
	broken := errors.New("broken")
	d.Open = func(context.Context, archive.Item) (io.Reader, error) { return nil, broken }
	if err := d.SQL(t.Context(), program, nil, io.Discard); !errors.Is(err, broken) {
		t.Errorf("contents that can't be read: %v", err)
	}
}

// A directory has the files that pg_dump makes, with the same contents.
func TestDirectory(t *testing.T) {
	s := pgtest.Shared(t)
	db, d := awkward(t, s)
	want := filepath.Join(t.TempDir(), "want")
	client(t, s, db, nil, "pg_dump", "-Fd", "-Z0", "-f", want)
	toc, err := os.ReadFile(filepath.Join(want, archive.TOCFile))
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := archive.ReadTOC(bytes.NewReader(toc))
	if err != nil {
		t.Fatal(err)
	}
	d.TOC.Created = wanted.Created
	got := filepath.Join(t.TempDir(), "got")
	if err := d.Directory(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("diff", "-r", want, got).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDirectoryRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := vector(t)
	if err := d.Directory(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a directory that is not empty: %v", err)
	}
	if err := d.Directory(t.Context(), filepath.Join(dir, "x")); err == nil {
		t.Error("a file: no error")
	}
	d.Items = d.Items[1:]
	if err := d.Directory(t.Context(), filepath.Join(dir, "y")); err == nil {
		t.Error("a table without rows: no error")
	}
}

// vector is the database of an archive in testdata.
func vector(t testing.TB) *reload.Database {
	t.Helper()
	p, err := os.ReadFile("../archive/testdata/pg15.dump")
	if err != nil {
		t.Fatal(err)
	}
	return captured(t, bytes.NewReader(p))
}

// What is not what it was said to be, or can't be read, fails the whole, by name, and
// a directory is then none for pg_restore.
func TestContentsFail(t *testing.T) {
	broken := errors.New("broken")
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"not there": func(io.Reader) (io.Reader, error) { return nil, broken },
		"error": func(r io.Reader) (io.Reader, error) {
			return io.MultiReader(io.LimitReader(r, 3), readerFunc(func([]byte) (int, error) { return 0, broken })), nil
		},
		"too little": func(r io.Reader) (io.Reader, error) { _, err := r.Read(make([]byte, 1)); return r, err },
		"too much":   func(r io.Reader) (io.Reader, error) { return io.MultiReader(r, strings.NewReader("x")), nil },
	} {
		t.Run(name, func(t *testing.T) {
			d := vector(t)
			good := d.Open
			d.Open = func(ctx context.Context, item archive.Item) (io.Reader, error) {
				r, err := good(ctx, item)
				if err == nil && item.OID == 20002 {
					return open(r)
				}
				return r, err
			}
			err := d.Custom(t.Context(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), "large object 20002") {
				t.Errorf("an archive: %v", err)
			}
			dir := filepath.Join(t.TempDir(), "d")
			err = d.Directory(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), "large object 20002") {
				t.Errorf("a directory: %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, archive.TOCFile)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the directory has a table of contents: %v", err)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestCanceled(t *testing.T) {
	d := vector(t)
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	d.Progress = func(archive.Item, int) { once.Do(cancel) }
	if err := d.Custom(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A part has what belongs to it, and is whole.
func TestSelect(t *testing.T) {
	s := pgtest.Shared(t)
	db, d := awkward(t, s)
	part, left := d.Select(func(e *archive.Entry) bool { return e.Is("TABLE") && e.Tag.S == "orders" })
	if len(left) != 2 {
		t.Errorf("%d foreign keys were left out, want 2", len(left))
	}
	copied := s.NewDatabase(t, pgtest.Encoding("UTF8"), pgtest.Locale("C"))
	var w bytes.Buffer
	if err := part.Custom(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	client(t, s, copied, w.Bytes(), "pg_restore", "-e", "-d", copied)
	const rows = "COPY app.orders TO STDOUT"
	if got, want := s.Query(copied, rows), s.Query(db, rows); got != want || want == "" {
		t.Errorf("rows:\n%s\nwant\n%s", got, want)
	}
	if got := s.Query(copied, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'app'::regnamespace"); got != "1" {
		t.Errorf("%s tables, want 1", got)
	}
}
