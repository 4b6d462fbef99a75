package connect_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// who is what a connection is, by the server's account.
const who = `SELECT concat_ws(' ', 'user', session_user, 'database', current_database(), 'at', coalesce(host(inet_server_addr()), 'the socket'), current_setting('port'),
	'ssl', (SELECT concat_ws(' ', ssl, version, client_dn) FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
	'work_mem', current_setting('work_mem'), 'standby', pg_is_in_recovery())`

// psql asks with psql, in an environment, and with arguments if there are any.
func psql(s *pgtest.Server, env []string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(s.BinDir(), "psql"), append([]string{"-X", "-w", "-A", "-t", "-c", who}, args...)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ask asks with a connection of pgx, and with psql in the environment that leads to the
// same; they must agree.
func ask(t *testing.T, s *pgtest.Server, target *connect.Target, db string) string {
	t.Helper()
	conn, err := target.Connect(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), who).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	env, cleanup, err := target.Environ(db, conn)
	if err != nil {
		t.Fatal(err)
	}
	defer cleanup()
	if got, err := psql(s, env); err != nil || got != answer {
		t.Errorf("psql: %q, %v\npgx:  %q", got, err, answer)
	}
	for _, e := range env {
		if strings.Contains(e, pgtest.Password) {
			t.Errorf("the environment contains the password: %s", e)
		}
	}
	return answer
}

// TestSameAsLibpq compares with what libpq itself makes of URLs and environments.
func TestSameAsLibpq(t *testing.T) {
	s := pgtest.Start(t, pgtest.Listen())
	db := pgtest.Awkward(t, s)
	s.Exec("postgres", `ALTER ROLE cairn_reader PASSWORD 'reader''s'; CREATE DATABASE "a,b"; CREATE DATABASE cairn_owner;`)
	passfile := "127.0.0.1:" + s.Port() + ":*:cairn_reader:reader's\nlocalhost:*:*:postgres:" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(pgtest.Password) + "\n"
	service := "[local]\nhost=localhost\nport=" + s.Port() + "\nuser=postgres\ndbname=a,b\nkeepalives_idle=77\n"
	at, port := s.SocketDir(), s.Port()
	for _, c := range []struct {
		name, url, db string
		env           []string
	}{
		{"socket", s.URL(db), db, nil},
		{"socket as host", "postgres://postgres@" + strings.ReplaceAll(at, "/", "%2F") + ":" + port + "/postgres", "postgres", nil},
		{"comma", "postgres://postgres@/a%2Cb?host=" + at + "&port=" + port, "a,b", nil},
		{"loopback", "postgres://cairn_reader@127.0.0.1:" + port + "/postgres", "postgres", nil},
		{"name", "postgres://postgres@localhost:" + port + "/postgres", "postgres", nil},
		{"name and address", "postgres://postgres@localhost:" + port + "/postgres?hostaddr=127.0.0.1", "postgres", nil},
		{"options", "postgres://postgres@localhost:" + port + "/postgres?options=-c%20work_mem%3D1234kB", "postgres", nil},
		{"several hosts", "postgres://postgres@127.0.0.1:1,localhost:" + port + "/a%2Cb?connect_timeout=10", "a,b", []string{"PGPASSWORD=" + pgtest.Password}},
		{"a socket that is not there", "postgres://postgres@" + strings.ReplaceAll(at, "/", "%2F") + ":9," + "localhost:" + port + "/postgres", "postgres", []string{"PGPASSWORD=" + pgtest.Password}},
		{"environment", "postgres:///postgres", "postgres", []string{"PGHOST=" + at, "PGPORT=" + port, "PGUSER=cairn_other", "PGOPTIONS=-c work_mem=99kB"}},
		{"password of the environment", "postgres://postgres@127.0.0.1:" + port + "/postgres", "postgres", []string{"PGPASSWORD=" + pgtest.Password}},
		{"service", "postgres:///?service=local", "a,b", nil},
		{"service of the environment", "postgres:///postgres", "postgres", []string{"PGSERVICE=local"}},
		{"service before environment", "postgres:///postgres", "postgres", []string{"PGSERVICE=local", "PGHOST=nowhere.invalid", "PGUSER=nobody"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := clean(t, c.env...)
			write(t, filepath.Join(home, ".pgpass"), passfile, 0o600)
			write(t, filepath.Join(home, ".pg_service.conf"), service, 0o600)
			target, err := connect.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(target.Databases, []string{c.db}) {
				t.Errorf("databases: %q", target.Databases)
			}
			want, err := psql(s, os.Environ(), "-d", c.url)
			if err != nil {
				t.Fatalf("psql: %v\n%s", err, want)
			}
			if got := ask(t, s, target, c.db); got != want {
				t.Errorf("got  %q\nlibpq %q", got, want)
			}
		})
	}
}

// TestStandbyIsTaken gives several hosts of which only one will do.
func TestStandbyIsTaken(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Listen())
	standby := primary.Standby(t, pgtest.Listen())
	clean(t, "PGPASSWORD="+pgtest.Password)
	both := "postgres://postgres@localhost:" + primary.Port() + ",localhost:" + standby.Port() + "/postgres"
	for attrs, want := range map[string]string{
		"any": primary.Port(), "primary": primary.Port(), "read-write": primary.Port(),
		"standby": standby.Port(), "read-only": standby.Port(), "prefer-standby": standby.Port(),
	} {
		target, err := connect.Parse(both + "?target_session_attrs=" + attrs)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, primary, target, "postgres"); !strings.Contains(got, " "+want+" ssl") {
			t.Errorf("%s: %s", attrs, got)
		}
	}
}

func TestList(t *testing.T) {
	s := pgtest.Start(t)
	s.Exec("postgres", `CREATE DATABASE b; CREATE DATABASE "A b"; CREATE DATABASE closed ALLOW_CONNECTIONS false; CREATE DATABASE pattern IS_TEMPLATE true;
		CREATE DATABASE half_dropped; UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_dropped';`)
	clean(t)
	list := func(url string) []string {
		t.Helper()
		target, err := connect.Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		names, err := target.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	all := "postgres://postgres@/?host=" + s.SocketDir()
	if got := list(all); !reflect.DeepEqual(got, []string{"A b", "b", "postgres"}) {
		t.Errorf("all: %q", got)
	}
	if got := list(s.URL("b")); !reflect.DeepEqual(got, []string{"b"}) {
		t.Errorf("one: %q", got)
	}
	s.Exec("b", "DROP DATABASE postgres")
	if got := list(all); !reflect.DeepEqual(got, []string{"A b", "b"}) {
		t.Errorf("without postgres: %q", got)
	}
}

// TestErrors fails to connect in all ways, and looks for why and what to do.
func TestErrors(t *testing.T) {
	s := pgtest.Start(t, pgtest.Listen("host all cairn_other all reject"), pgtest.Setting("superuser_reserved_connections", "0"))
	pgtest.Globals(t, s)
	s.Exec("postgres", "CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM PUBLIC; ALTER ROLE cairn_reader CONNECTION LIMIT 0 PASSWORD 'hunter2';")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, silentPort, _ := net.SplitHostPort(silent.Addr().String())
	dir, port := s.SocketDir(), s.Port()
	for _, c := range []struct {
		name, url string
		env       []string
		want      []string
		code      string
	}{
		{"wrong password", "postgres://postgres@127.0.0.1:" + port + "/x", []string{"PGPASSWORD=hunter3"}, []string{"database x at 127.0.0.1:" + port + " as postgres", "password authentication failed", "the password from PGPASSWORD or the service file is not the right one"}, "28P01"},
		{"wrong password of the file", "postgres://postgres@127.0.0.1:" + port + "/x", []string{"FILE=*:*:*:*:hunter3"}, []string{"the password from ", ".pgpass is not"}, "28P01"},
		{"no password", "postgres://postgres@127.0.0.1:" + port + "/x", nil, []string{"asks for a password, and none was given; set PGPASSWORD, or add a line"}, "28P01"},
		{"open file of passwords", "postgres://postgres@127.0.0.1:" + port + "/x", []string{"OPEN=*:*:*:*:hunter3"}, []string{"is ignored because others may read it (mode 0644): chmod 0600 it"}, "28P01"},
		{"no such database", s.URL("none"), nil, []string{`database "none" does not exist; psql -l lists`}, "3D000"},
		{"no such role", s.URLAs("nobody here", "postgres"), nil, []string{`role "nobody here" does not exist; the server's pg_hba.conf`, "PGUSER"}, "28000"},
		{"rejected", "postgres://cairn_other@127.0.0.1:" + port + "/postgres", nil, []string{"pg_hba.conf rejects connection"}, "28000"},
		{"not this database", s.URLAs("cairn_other", "closed"), nil, []string{`permission denied for database "closed"; GRANT CONNECT ON DATABASE closed TO cairn_other`}, "42501"},
		{"too many", s.URLAs("cairn_reader", "postgres"), nil, []string{"too many connections", "try again"}, "53300"},
		{"no socket", "postgres://postgres@/x?host=" + dir + "&port=9", nil, []string{dir + "/.s.PGSQL.9", "there is no such socket; is the server running?"}, ""},
		{"nobody listens", "postgres://postgres@127.0.0.1:1/x", nil, []string{"nothing listens there; is the server running"}, ""},
		{"no such host", "postgres://postgres@nowhere.invalid/x", nil, []string{"there is no host nowhere.invalid"}, ""},
		{"no such host, or a database", "postgres://nowhere.invalid", nil, []string{"there is no host nowhere.invalid; for the database nowhere.invalid on this machine write postgres:///nowhere.invalid"}, ""},
		{"silence", "postgres://postgres@127.0.0.1:" + silentPort + "/x?connect_timeout=1&sslmode=disable", nil, []string{"there was no answer in time", "PGCONNECT_TIMEOUT"}, ""},
		{"no TLS", "postgres://postgres@127.0.0.1:" + port + "/x?sslmode=require", nil, []string{"the server has no TLS, and sslmode=require demands it"}, ""},
		{"no standby", "postgres://postgres@127.0.0.1:" + port + "/postgres?target_session_attrs=standby", []string{"PGPASSWORD=" + pgtest.Password}, []string{"none of the servers is what target_session_attrs=standby demands"}, ""},
		{"option", s.URL("postgres") + "&options=-c%20nonsense%3D1", nil, []string{"unrecognized configuration parameter", "(SQLSTATE 42704)"}, "42704"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := clean(t)
			for _, e := range c.env {
				switch name, value, _ := strings.Cut(e, "="); name {
				case "FILE":
					write(t, filepath.Join(home, ".pgpass"), value, 0o600)
				case "OPEN":
					write(t, filepath.Join(home, ".pgpass"), value, 0o644)
				default:
					t.Setenv(name, value)
				}
			}
			target, err := connect.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			db := "postgres"
			if len(target.Databases) > 0 {
				db = target.Databases[0]
			}
			conn, err := target.Connect(t.Context(), db)
			if err == nil {
				conn.Close(t.Context())
				t.Fatal("connected")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error: %v\nwant %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), pgtest.Password) || strings.Contains(err.Error(), "\n") {
				t.Errorf("a password or a line break in the error: %v", err)
			}
			var pg *pgconn.PgError
			if errors.As(err, &pg) != (c.code != "") || pg != nil && pg.Code != c.code {
				t.Errorf("it wraps %v, want code %q", pg, c.code)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		clean(t)
		target, err := connect.Parse(s.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := target.Connect(ctx, "postgres"); !errors.Is(err, context.Canceled) {
			t.Errorf("error: %v", err)
		}
	})
}

// TestConfigIsACopy changes what Config gave.
func TestConfigIsACopy(t *testing.T) {
	clean(t)
	target, err := connect.Parse("postgres://u@h")
	if err != nil {
		t.Fatal(err)
	}
	c := target.Config("a")
	c.Host, c.RuntimeParams["x"] = "other", "y"
	var d *pgx.ConnConfig = target.Config("b")
	if d.Host != "h" || d.RuntimeParams["x"] != "" || c.Database != "a" {
		t.Errorf("%s %q", d.Host, d.RuntimeParams)
	}
}
