package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/bench/corpus"
)

// dumperName is the column of PostgreSQL's own programs: pg_dump to nowhere, pg_restore of a file.
const dumperName = "pg_dump"

// pgJobs is how many processes restore at once.
const pgJobs = "2"

// The tables are those of corpus.Dump, with indexes that such tables have.
const (
	tablesSQL = `
		CREATE TABLE pgbench_accounts (aid int, bid int, abalance int, filler char(84));
		CREATE TABLE documents (id int, author text, created timestamp, modified timestamp, state text, attributes jsonb, body text);
		CREATE TABLE events (id int, at timestamp, kind text, document int, detail jsonb);`
	indexesSQL = `
		ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid);
		ALTER TABLE documents ADD PRIMARY KEY (id);
		ALTER TABLE events ADD PRIMARY KEY (id);
		CREATE INDEX ON documents (author);
		CREATE INDEX ON documents USING gin (attributes);
		CREATE INDEX ON events (at);
		VACUUM ANALYZE;`
	// 1 % of the rows, chosen by a hash, in two halves: the second finds the room that the first left. Then
	// one row in 500 is added, of events five times as many.
	updatesSQL = `
		UPDATE pgbench_accounts SET abalance = abalance + aid % 5000 WHERE abs(hashint4(aid)) % 200 = 0;
		UPDATE documents SET modified = modified + interval '10 days', state = 'published', attributes = jsonb_set(attributes, '{views}', to_jsonb(id)) WHERE abs(hashint4(id)) % 200 = 0;
		VACUUM;
		UPDATE pgbench_accounts SET abalance = abalance + aid % 5000 WHERE abs(hashint4(aid)) % 200 = 1;
		UPDATE documents SET modified = modified + interval '10 days', state = 'published', attributes = jsonb_set(attributes, '{views}', to_jsonb(id)) WHERE abs(hashint4(id)) % 200 = 1;
		INSERT INTO pgbench_accounts SELECT aid + 10000000, bid, 0, filler FROM pgbench_accounts WHERE aid % 500 = 0;
		INSERT INTO documents SELECT id + 10000000, author, created, modified, 'draft', attributes, reverse(body) FROM documents WHERE id % 500 = 0;
		INSERT INTO events SELECT id + 10000000, at + interval '1 year', kind, document, detail FROM events WHERE id % 100 = 0;
		VACUUM;`
	// sumsSQL tells whether two databases have the same rows.
	sumsSQL = `
		SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM pgbench_accounts t;
		SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM documents t;
		SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM events t;`
)

// A pgServer is a private server of PostgreSQL.
type pgServer struct {
	bin, dir string
	cmd      *exec.Cmd
}

// startServer makes and starts a server in a new directory, with its socket there. It refuses root, so that for root it
// runs as nobody.
func startServer(ctx context.Context, dir string) (*pgServer, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err == nil && len(found) == 0 {
		err = errors.New("PostgreSQL is not there (apt-get install postgresql)")
	}
	if err != nil {
		return nil, err
	}
	s := &pgServer{bin: found[len(found)-1], dir: dir}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		// What is above must let another user through.
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chown(dir, nobody, nobody)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	if out, err := s.command(ctx, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--locale=C.UTF-8").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = s.command(ctx, "postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB", "-c", "autovacuum=off")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGQUIT) }
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 300 {
		if err = exec.CommandContext(ctx, filepath.Join(s.bin, "pg_isready"), "-q", "-h", dir).Run(); err == nil {
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("the server does not answer: %w", err), s.stop())
}

// nobody is who the server runs as for root.
const nobody = 65534

// command is a program of the server as its user.
func (s *pgServer) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return c
}

// stop ends the server.
func (s *pgServer) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	_ = s.cmd.Wait() // by that signal
	return os.RemoveAll(s.dir)
}

// env makes client programs connect to a database.
func (s *pgServer) env(db string) []string {
	return []string{"PGHOST=" + s.dir, "PGUSER=postgres", "PGDATABASE=" + db, "PATH=" + s.bin + ":" + os.Getenv("PATH")}
}

// url is what cairn calls a database.
func (s *pgServer) url(db string) string {
	return "postgres://postgres@/" + db + "?host=" + strings.ReplaceAll(s.dir, "/", "%2F")
}

// psql runs SQL in a database.
func (s *pgServer) psql(ctx context.Context, db, sql string, more ...io.Reader) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(s.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
	c.Env = s.env(db)
	c.Stdin = io.MultiReader(append([]io.Reader{strings.NewReader(sql + "\n")}, more...)...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("psql: %w\n%s", err, lastLines(errs.String(), 10))
	}
	return string(out), err
}

// A databaseRun is the workload postgres while it runs.
type databaseRun struct {
	*config
	server *pgServer
	size   int64
}

// runDatabase measures snapshots of a database of about that size, and their restore into the server.
func (c *config) runDatabase(ctx context.Context, size int64, log io.Writer) (_ *workloadResult, err error) {
	server, err := startServer(ctx, filepath.Join(c.work, "pg"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	w := &databaseRun{c, server, size}
	res := &workloadResult{Name: "postgres", What: fmt.Sprintf("a database of %s of rows", formatMB(float64(size)))}
	for run := range c.runs {
		fmt.Fprintf(log, "postgres: making the database\n")
		if err := w.fill(ctx); err != nil {
			return nil, err
		}
		samples, err := w.once(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range samples {
			s.Run = run + 1
			res.Samples = append(res.Samples, s)
			fmt.Fprintf(log, "postgres: run %d of %d: %s: first %.2f s\n", run+1, c.runs, s.Tool, s.Steps[stepFirst].Wall.Seconds())
		}
	}
	return res, nil
}

// fill makes the first version of the database.
func (w *databaseRun) fill(ctx context.Context) error {
	if _, err := w.server.psql(ctx, "postgres", "DROP DATABASE IF EXISTS shop; CREATE DATABASE shop"); err != nil {
		return err
	}
	out, in := io.Pipe()
	go func() {
		_, err := corpus.Dump{Size: w.size, Version: 1}.WriteTo(in)
		in.CloseWithError(err)
	}()
	_, err := w.server.psql(ctx, "shop", tablesSQL, out, strings.NewReader(indexesSQL))
	out.Close()
	return err
}

// once lets every tool take both versions, and restores what there is to compare.
func (w *databaseRun) once(ctx context.Context) (all []*sample, err error) {
	type taker struct {
		tool
		places
		*sample
		unchanged int64 // bytes that the second snapshot added
	}
	var takers []*taker
	defer w.clear("pg-run")
	for _, t := range append(w.ofDatabases(), w.dumper()) {
		dir := filepath.Join(w.work, "pg-run", t.name)
		p := places{repo: filepath.Join(dir, "repo"), private: filepath.Join(dir, "private"), target: filepath.Join(dir, "target")}
		for _, d := range []string{p.private, p.target} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				return nil, err
			}
		}
		s := &sample{Tool: t.name, Steps: make(map[string]usage)}
		if t.init != nil {
			if err := s.step(ctx, t, p, stepInit, t.init(p)); err != nil {
				return nil, err
			}
		}
		takers = append(takers, &taker{tool: t, places: p, sample: s})
		all = append(all, s)
	}
	for _, step := range []string{stepFirst, stepUnchanged, stepChanged} {
		if step == stepChanged {
			if _, err := w.server.psql(ctx, "shop", updatesSQL); err != nil {
				return nil, err
			}
		}
		for _, t := range takers {
			before := t.FirstBytes + t.unchanged
			if err := t.sample.step(ctx, t.tool, t.places, step, t.tool.snapshot(t.places, step)); err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			if t.init == nil {
				continue // it keeps nothing
			}
			after, err := stored(t.repo)
			if err != nil {
				return nil, err
			}
			switch step {
			case stepFirst:
				t.FirstBytes = after
			case stepUnchanged:
				t.unchanged = after - before
			case stepChanged:
				t.ChangedBytes = after - before
			}
		}
	}
	for _, t := range takers {
		if t.tool.restore == nil {
			continue
		}
		if err := w.restore(ctx, t.tool, t.places, t.sample); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return all, nil
}

// restore measures the restore into a new database, and compares.
func (w *databaseRun) restore(ctx context.Context, t tool, p places, s *sample) error {
	if _, err := w.server.psql(ctx, "postgres", "DROP DATABASE IF EXISTS again; CHECKPOINT"); err != nil {
		return err
	}
	if t.setUp != nil {
		if _, err := t.output(ctx, p, t.setUp(p)); err != nil {
			return err
		}
	}
	if err := s.step(ctx, t, p, stepRestore, t.restore(p, "again")); err != nil {
		return err
	}
	want, err := w.server.psql(ctx, "shop", sumsSQL)
	if err != nil {
		return err
	}
	got, err := w.server.psql(ctx, "again", sumsSQL)
	if err == nil && got != want {
		err = fmt.Errorf("it restored something else:\n%s\nand not\n%s", got, want)
	}
	return err
}

// ofDatabases are the tools that take the database: cairn by itself, restic what pg_dump delivers.
func (w *databaseRun) ofDatabases() []tool {
	var all []tool
	for _, t := range w.tools {
		env := t.env
		t.env = func(p places) []string { return append(env(p), w.server.env("shop")...) }
		switch {
		case strings.HasPrefix(t.name, "cairn"):
			t.snapshot = func(places, string) []string { return []string{"snapshot", "-q", w.server.url("shop")} }
			t.restore = func(_ places, db string) []string {
				return []string{"restore", "-q", "latest", "--to", w.server.url(db), "--create", "--jobs", pgJobs}
			}
		case t.name == baseline:
			program := t.program
			t.program, t.restore = "/bin/bash", nil
			t.init = func(places) []string { return []string{"-c", program + " init -q --repository-version 2"} }
			t.snapshot = func(places, string) []string {
				return []string{"-c", "set -o pipefail; pg_dump -Fc -Z0 | " + program + " backup -q --stdin --stdin-filename shop.dump"}
			}
		default:
			continue
		}
		all = append(all, t)
	}
	return all
}

// dumper is pg_dump to nowhere, and pg_restore of a file in the form that people keep.
func (w *databaseRun) dumper() tool {
	file := func(p places) string { return filepath.Join(p.private, "shop.dump") }
	shell := func(script string) []string { return []string{"-c", "set -e; " + script} }
	return tool{
		name: dumperName, program: "/bin/bash",
		env:      func(places) []string { return w.server.env("shop") },
		snapshot: func(places, string) []string { return shell("pg_dump -Fc -Z0 > /dev/null") },
		setUp:    func(p places) []string { return shell("pg_dump -Fc -f " + file(p)) },
		restore: func(p places, db string) []string {
			return shell("createdb " + db + "; pg_restore -j " + pgJobs + " -d " + db + " " + file(p) + "; vacuumdb -q --analyze-only " + db)
		},
	}
}

// databaseRows are the rows of the workload postgres.
var databaseRows = []row{
	{"first snapshot", wallOf(stepFirst), formatSeconds, true},
	{"… CPU, without the server's", cpuOf(stepFirst), formatSeconds, true},
	{"… stored", firstBytes, formatMB, false},
	{"unchanged", wallOf(stepUnchanged), formatSeconds, true},
	{"1 % of rows updated", wallOf(stepChanged), formatSeconds, true},
	{"… CPU, without the server's", cpuOf(stepChanged), formatSeconds, true},
	{"… added", changedBytes, formatMB, false},
	{"restore into a server, 2 jobs", wallOf(stepRestore), formatSeconds, true},
	{"peak anonymous memory", peakAnon, formatMiB, false},
}
