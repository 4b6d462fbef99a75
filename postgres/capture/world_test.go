package capture_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cairn-backup/cairn/backend/mem"
	"github.com/cairn-backup/cairn/chunk"
	"github.com/cairn-backup/cairn/ingest"
	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/capture"
	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/pgtest"
	"github.com/cairn-backup/cairn/postgres/stored"
	"github.com/cairn-backup/cairn/postgres/verify"
	"github.com/cairn-backup/cairn/repo"
	"github.com/cairn-backup/cairn/seal"
	"github.com/cairn-backup/cairn/snapshot"
)

// world is a repository, and a server to capture databases of.
type world struct {
	*testing.T
	repo   *repo.Repository
	server *pgtest.Server
}

func newWorld(t *testing.T, server *pgtest.Server) *world {
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
	return &world{t, r, server}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// taken is what a snapshot of one database came to.
type taken struct {
	w        *world
	res      *ingest.Result
	err      error
	problems []string
}

// take makes a snapshot of a database.
func (w *world) take(db string, o capture.Options) taken { return w.takeAs("postgres", db, o) }

func (w *world) takeAs(role, db string, o capture.Options) taken {
	w.Helper()
	target, err := connect.Parse(w.server.URLAs(role, db))
	w.must(err)
	if o.Bin == "" {
		o.Bin = w.server.BinDir()
	}
	got := taken{w: w}
	var mu sync.Mutex
	got.res, got.err = ingest.Snapshot(w.Context(), w.repo, ingest.Options{
		Sources: []ingest.Source{capture.New(target, db, o)}, Host: "host", DeltaBudget: 1 << 30,
		Observer: ingest.Observer{Problem: func(path string, err error, _ bool) {
			mu.Lock()
			defer mu.Unlock()
			got.problems = append(got.problems, path+": "+err.Error())
		}},
	})
	return got
}

// database opens what was taken, which must be sound.
func (k taken) database() *stored.Database {
	w := k.w
	w.Helper()
	if k.err != nil {
		w.Fatalf("%v\n%s", k.err, strings.Join(k.problems, "\n"))
	}
	var found []snapshot.Key
	for key, err := range stored.All(w.Context(), w.repo, k.res.Root) {
		w.must(err)
		found = append(found, key)
	}
	if len(found) != 1 {
		w.Fatalf("the snapshot has the databases %q", found)
	}
	d, err := stored.Open(w.Context(), w.repo, k.res.Root, found[0])
	w.must(err)
	c := verify.Checker{Problem: func(_ *stored.Database, path string, err error) { w.Errorf("%s: %v", path, err) }}
	w.must(c.Check(w.Context(), d))
	return d
}

// fails returns why nothing was taken.
func (k taken) fails() string {
	k.w.Helper()
	if k.err == nil {
		k.w.Fatal("a snapshot was made")
	}
	return strings.Join(append(k.problems, k.err.Error()), "\n")
}

// failsWith checks that nothing was taken, and that the reason says all that is given.
func (k taken) failsWith(says ...string) {
	k.w.Helper()
	why := k.fails()
	for _, s := range says {
		if !strings.Contains(why, s) {
			k.w.Errorf("the error does not say %q:\n%s", s, why)
		}
	}
}

// rows returns the rows of a table of what was taken.
func (w *world) rows(d *stored.Database, file string) string {
	w.Helper()
	in, _, err := d.File(w.Context(), file)
	w.must(err)
	p, err := io.ReadAll(in)
	w.must(err)
	return string(p)
}

// session is a connection to a database, for what a test does beside a capture.
func (w *world) session(db string) *pgx.Conn {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), w.server.URL(db))
	w.must(err)
	w.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (w *world) exec(conn *pgx.Conn, sql string) {
	w.Helper()
	_, err := conn.Exec(w.Context(), sql)
	w.must(err)
}

// waitFor waits until a query on the database returns true.
func (w *world) waitFor(db, sql string) {
	w.Helper()
	for range 600 {
		if w.server.Query(db, sql) == "t" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.Fatalf("never true: %s", sql)
}

// program puts a shell script in place of a client program, beside the real ones.
func (w *world) program(name, script string) (dir string) {
	w.Helper()
	dir = w.TempDir()
	for _, p := range []string{"pg_dump", "pg_dumpall", "pg_restore", "psql"} {
		w.must(os.Symlink(filepath.Join(w.server.BinDir(), p), filepath.Join(dir, p)))
	}
	w.must(os.Remove(filepath.Join(dir, name)))
	if script != "" {
		// --version is asked by whoever looks for programs.
		script = fmt.Sprintf("#!/bin/sh\nreal=%s/%s\ncase $1 in --version) exec $real --version;; esac\n%s\n", w.server.BinDir(), name, script)
		w.must(os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func scopeWithout(table string) postgres.Scope {
	return postgres.Scope{ExcludedTables: []string{table}}
}
