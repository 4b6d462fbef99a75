// Package pgtest gives tests PostgreSQL servers of their own, a database with all
// that is awkward to copy (Awkward), and a comparison of two databases (Compare).
//
//	func TestX(t *testing.T) {
//		s := pgtest.Shared(t)                    // or pgtest.Start(t): a server for this test alone
//		db := s.NewDatabase(t, pgtest.Encoding("LATIN1"))
//		s.Exec(db, "CREATE TABLE t (n int)")
//		... postgres/connect of s.URL(db) ...
//	}
//
// Servers live in a temporary directory, listen on a Unix socket in it (Listen adds
// loopback), have no password for it, one superuser "postgres", and don't sync. Where
// PostgreSQL is not installed the test ends as package need says. Servers end with
// their test, the shared one with the test binary; should that be killed, a small
// process which notices stops them and removes their directory. Processes are stopped
// by their number only: others' servers on this machine are left alone.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// superuser is who may do anything on these servers, without a password through the
// socket.
const superuser = "postgres"

// Password is that of the superuser where the server asks for one: by default only
// for connections through TCP, see Listen.
const Password = "s3cret, with a space, a : and a \\"

// Server is a server as one test sees it: what fails ends that test. Its methods may
// be called from several goroutines, except for those that start and stop it.
type Server struct {
	t testing.TB
	*process
	shared bool
}

// Option is something that Start's server has and others have not.
type Option func(*process)

// Setting sets a parameter of the server, as in postgresql.conf.
func Setting(name, value string) Option {
	return func(p *process) { p.settings = append(p.settings, "-c", name+"="+value) }
}

// Listen makes the server listen on 127.0.0.1 and ::1 (where there is one) too, at
// Port, where it asks for Password. The lines, of pg_hba.conf, go before that: a test
// can ask for TLS or for certificates there.
func Listen(hba ...string) Option {
	return func(p *process) {
		p.listen = true
		p.hba = append(p.hba, hba...)
	}
}

// File puts a file into the server's data directory, as the server's user with mode
// 0600: a key and a certificate for TLS, which Setting then names.
func File(name string, contents []byte) Option {
	return func(p *process) { p.files[name] = contents }
}

// Start starts a server for this test alone.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	home := setUp(t)
	p := &process{home: home, files: make(map[string][]byte), port: 5432}
	for _, o := range opts {
		o(p)
	}
	return start(t, p, home.initdb)
}

// start starts a server whose data directory data makes, for this test.
func start(t testing.TB, p *process, data func(dir string) error) *Server {
	t.Helper()
	s := &Server{t: t, process: p}
	t.Cleanup(func() {
		if err := p.end(); err != nil {
			t.Errorf("stopping PostgreSQL: %v", err)
		}
		if t.Failed() {
			t.Logf("log of PostgreSQL in %s:\n%s", p.dir, p.logFrom(0))
		}
		os.RemoveAll(p.dir)
	})
	if err := p.make(data); err != nil {
		t.Fatalf("making a server of PostgreSQL: %v", err)
	}
	if err := p.run(t.Context()); err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	return s
}

// theShared is the server that all tests of this binary share.
var theShared struct {
	sync.Mutex
	*process
}

// Shared gives the server that all tests of this binary share: it is started once, so
// a test costs only its databases. Tests must not stop it or depend on what databases
// or roles it has, and not change its settings.
func Shared(t testing.TB) *Server {
	t.Helper()
	home := setUp(t)
	theShared.Lock()
	defer theShared.Unlock()
	if theShared.process == nil {
		p := &process{home: home, port: 5432}
		if err := p.make(home.initdb); err != nil {
			t.Fatalf("making the shared server of PostgreSQL: %v", err)
		}
		// Not the context of the test: the server outlives it.
		if err := p.run(context.Background()); err != nil {
			t.Fatalf("starting the shared server of PostgreSQL: %v\n%s", err, p.logFrom(0))
		}
		theShared.process = p
	}
	p := theShared.process
	from := p.logSize()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the shared PostgreSQL since this test began:\n%s", p.logFrom(from))
		}
	})
	return &Server{t: t, process: p, shared: true}
}

// Standby starts a hot standby of s, which follows it.
func (s *Server) Standby(t testing.TB, opts ...Option) *Server {
	t.Helper()
	p := &process{home: s.home, files: make(map[string][]byte), port: 5432}
	for _, o := range opts {
		o(p)
	}
	return start(t, p, func(dir string) error {
		return s.home.command("pg_basebackup", "-D", dir, "-R", "-c", "fast", "--no-sync", "-h", s.SocketDir(), "-p", s.Port(), "-U", superuser)
	})
}

// SocketDir is the directory of the server's Unix socket.
func (s *Server) SocketDir() string { return s.dir }

// Port is the port of the socket and, with Listen, on loopback.
func (s *Server) Port() string { return strconv.Itoa(s.port) }

// DataDir is the server's data directory, which belongs to the server's user.
func (s *Server) DataDir() string { return s.data() }

// BinDir is the directory of the server's programs, those for clients among them.
func (s *Server) BinDir() string { return s.home.bin }

// Version is the server's major version.
func (s *Server) Version() int { return s.home.version }

// PID is the number of the server's first process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// URL is the URL of a database through the socket, as the superuser.
func (s *Server) URL(db string) string { return s.URLAs(superuser, db) }

// URLAs is the URL of a database through the socket, as some other role that may log
// in: there is no password.
func (s *Server) URLAs(role, db string) string {
	return "postgres://" + "/" + escape(db) + "?host=" + escape(s.SocketDir()) + "&port=" + s.Port() + "&user=" + escape(role)
}

// escape escapes what may not stand in a part of a URL. Not as url.QueryEscape, which
// makes + of a space: libpq takes that for a +.
func escape(part string) string { return strings.ReplaceAll(url.QueryEscape(part), "+", "%20") }

// Env is the environment of this process, in which PG* name a database of the server
// and nothing else.
func (s *Server) Env(db string) []string {
	return append(cleanEnv(), "PGHOST="+s.SocketDir(), "PGPORT="+s.Port(), "PGUSER="+superuser, "PGDATABASE="+db)
}

// cleanEnv is the environment of this process without PG*.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PG") {
			env = append(env, e)
		}
	}
	return env
}

// Exec runs statements, and commands of psql, in a database. Each is a transaction of
// its own; what fails ends the test.
func (s *Server) Exec(db, sql string) {
	s.t.Helper()
	s.psql(db, sql)
}

// Query gives what statements return: a line a row, columns with | between, NULL as
// nothing.
func (s *Server) Query(db, sql string) string {
	s.t.Helper()
	return strings.TrimSuffix(s.psql(db, sql), "\n")
}

func (s *Server) psql(db, sql string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.home.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
	cmd.Env = append(s.Env(db), "PGOPTIONS=-c client_min_messages=warning")
	cmd.Stdin = strings.NewReader(sql)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("psql in %s: %v\n%s", db, err, errs.String())
	}
	return out.String()
}

// DatabaseOption is how NewDatabase's database differs from template1.
type DatabaseOption string

// Encoding is the database's encoding. LATIN1 and others go with the locale C.
func Encoding(name string) DatabaseOption { return DatabaseOption("ENCODING " + literal(name)) }

// Locale is the database's locale: C, POSIX or C.UTF-8 are everywhere.
func Locale(name string) DatabaseOption { return DatabaseOption("LOCALE " + literal(name)) }

// ICU makes ICU compare text in the database, in a locale such as de-u-co-phonebk.
func ICU(locale string) DatabaseOption {
	return DatabaseOption("LOCALE_PROVIDER icu ICU_LOCALE " + literal(locale))
}

// NewDatabase makes a database and gives its name. It is dropped after the test.
func (s *Server) NewDatabase(t testing.TB, opts ...DatabaseOption) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.CreateDatabase(t, name, opts...)
	return name
}

// CreateDatabase makes a database of a certain name, which is dropped after the test.
func (s *Server) CreateDatabase(t testing.TB, name string, opts ...DatabaseOption) {
	t.Helper()
	sql := "CREATE DATABASE " + identifier(name) + " TEMPLATE template0"
	for _, o := range opts {
		sql += " " + string(o)
	}
	s.Exec("postgres", sql+";")
	if !s.shared {
		return // it goes with the server
	}
	t.Cleanup(func() {
		// A subscription would keep its database from being dropped.
		s.Exec(name, "SELECT format('DROP SUBSCRIPTION %I', subname) FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid AND datname = current_database() \\gexec")
		s.Exec("postgres", "DROP DATABASE "+identifier(name)+" WITH (FORCE);")
	})
}

// identifier and literal quote text for SQL.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
func literal(text string) string    { return `'` + strings.ReplaceAll(text, `'`, `''`) + `'` }

// Kill ends the server and all its processes at once, as a loss of power would, and
// waits until they are gone.
func (s *Server) Kill() {
	s.t.Helper()
	s.mine()
	if err := s.kill(); err != nil {
		s.t.Fatalf("killing PostgreSQL: %v", err)
	}
}

// Stop stops the server: connections are cut.
func (s *Server) Stop() {
	s.t.Helper()
	s.mine()
	if err := s.end(); err != nil {
		s.t.Fatalf("stopping PostgreSQL: %v", err)
	}
}

// Restart starts a server again that was stopped or killed.
func (s *Server) Restart() {
	s.t.Helper()
	s.mine()
	if err := errors.Join(s.end(), s.run(s.t.Context())); err != nil {
		s.t.Fatalf("starting PostgreSQL again: %v", err)
	}
}

// mine ends a test that would do to the shared server what others would notice.
func (s *Server) mine() {
	s.t.Helper()
	if s.shared {
		s.t.Fatal("the shared server may not be stopped: use pgtest.Start")
	}
}

// answers reports whether the server takes connections, or why not.
func (p *process) answers(ctx context.Context) error {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=disable", p.dir, p.port, superuser))
	if err != nil {
		return err
	}
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// freePort finds a port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// isThere reports whether a file exists.
func isThere(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
