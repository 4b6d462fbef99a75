package connect_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/connect"
)

// clean gives a test a home without files and an environment without PG*, and then
// what is listed.
func clean(t *testing.T, env ...string) (home string) {
	t.Helper()
	home = t.TempDir()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("PGSYSCONFDIR", home)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	return home
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// environ gives the PG* variables for client programs, and the contents of the files
// that they name under "passwords" and "service".
func environ(t *testing.T, target *connect.Target, db string) map[string]string {
	t.Helper()
	env, cleanup, err := target.Environ(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	vars := make(map[string]string)
	for _, e := range env {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, "PG") {
			vars[name] = value
		}
	}
	for name, variable := range map[string]string{"passwords": "PGPASSFILE", "service": "PGSERVICEFILE"} {
		file := vars[variable]
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for path, mode := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v", path, st.Mode(), err)
			}
		}
		vars[name] = string(text)
		delete(vars, variable)
		defer func() {
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("%s remains: %v", file, err)
			}
		}()
	}
	if err := cleanup(); err != nil {
		t.Fatal(err)
	}
	return vars
}

const services = `
# some services
[shop]
host=shop.example
port=6000
user=keeper
password=of the service
dbname=stock
sslmode=require
keepalives_idle=30

[bare]
host=bare.example
[nested]
service=shop
[unknown]
hots=x
[revoking]
sslcrl=/x
`

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, url string
		env       []string
		databases []string
		want      string // of the variables for the database "db"
	}{
		{"all parts", "postgres://u%40x@h:5433/a", nil, []string{"a"}, "PGHOST=h PGPORT=5433 PGUSER=u@x"},
		{"several databases", "postgresql://u@h/a,b%2Cc,d%40", nil, []string{"a", "b,c", "d@"}, "PGHOST=h PGPORT=5432 PGUSER=u"},
		{"several hosts", "postgres://u@h,[::1]:5433,/a?target_session_attrs=standby", []string{"PGPORT=1"}, []string{"a"}, "PGHOST=h,::1,SOCKET PGPORT=5432,5433,5432 PGTARGETSESSIONATTRS=standby PGUSER=u"},
		{"socket", "postgres:///a?host=/run/x&user=u", nil, []string{"a"}, "PGHOST=/run/x PGPORT=5432 PGUSER=u"},
		{"socket as host", "postgres://u@%2Frun%2Fx/a", nil, []string{"a"}, "PGHOST=/run/x PGPORT=5432 PGUSER=u"},
		{"no database", "postgres://u@h", nil, nil, "PGHOST=h PGPORT=5432 PGUSER=u"},
		{"no database and a slash", "postgres://h/?user=u", nil, nil, "PGHOST=h PGPORT=5432 PGUSER=u"},
		{"database of the environment", "postgres://u@h", []string{"PGDATABASE=e,f"}, []string{"e,f"}, "PGHOST=h PGPORT=5432 PGUSER=u"},
		{"database as a parameter", "postgres://u@h?dbname=p,q", []string{"PGDATABASE=e"}, []string{"p,q"}, "PGHOST=h PGPORT=5432 PGUSER=u"},
		{"plus is plus", "postgres://u@h/a+b?application_name=c+d%20e", nil, []string{"a+b"}, "PGAPPNAME=c+d e PGHOST=h PGPORT=5432 PGUSER=u"},
		{"ssl=true", "postgres://u@h?ssl=true", nil, nil, "PGHOST=h PGPORT=5432 PGSSLMODE=require PGUSER=u"},
		{"environment", "postgres://", []string{"PGHOST=h1,h2", "PGHOSTADDR=10.0.0.1,10.0.0.2", "PGPORT=1,2", "PGUSER=e", "PGOPTIONS=-c x=1", "PGTZ=Asia/Tokyo", "PGCLIENTENCODING=SJIS", "PGGSSENCMODE=prefer"}, nil,
			"PGHOST=h1,h2 PGHOSTADDR=10.0.0.1,10.0.0.2 PGOPTIONS=-c x=1 PGPORT=1,2 PGUSER=e"},
		{"address alone", "postgres://", []string{"PGHOSTADDR=10.0.0.1", "PGUSER=u"}, nil, "PGHOST=10.0.0.1 PGHOSTADDR=10.0.0.1 PGPORT=5432 PGUSER=u"},
		{"URL before environment", "postgres://u@h:7/a", []string{"PGHOST=e", "PGPORT=1", "PGUSER=e", "PGDATABASE=e"}, []string{"a"}, "PGHOST=h PGPORT=7 PGUSER=u"},
		{"service in the URL", "postgres:///?service=shop", []string{"PGUSER=e", "PGAPPNAME=e"}, []string{"stock"},
			"PGAPPNAME=e PGHOST=shop.example PGPORT=6000 PGSERVICE=cairn PGSSLMODE=require PGUSER=keeper passwords=*:*:*:*:of the service\n service=[cairn]\nkeepalives_idle=30\n"},
		{"service in the environment", "postgres://u@/a", []string{"PGSERVICE=bare", "PGHOST=e"}, []string{"a"}, "PGHOST=bare.example PGPORT=5432 PGUSER=u"},
		{"name of a service", "postgres://shop", nil, []string{"stock"},
			"PGHOST=shop.example PGPORT=6000 PGSERVICE=cairn PGSSLMODE=require PGUSER=keeper passwords=*:*:*:*:of the service\n service=[cairn]\nkeepalives_idle=30\n"},
		{"name of a database", "postgres://mine", []string{"PGHOST=e", "PGUSER=u"}, []string{"mine"}, "PGHOST=e PGPORT=5432 PGUSER=u"},
		{"name of a database of a service", "postgres://mine", []string{"PGSERVICE=bare", "PGUSER=u"}, []string{"mine"}, "PGHOST=bare.example PGPORT=5432 PGUSER=u"},
		{"name of a host", "postgres://mine", []string{"PGUSER=u"}, nil, "PGHOST=mine PGPORT=5432 PGUSER=u"},
		{"no bare name", "postgres://shop/", []string{"PGUSER=u"}, nil, "PGHOST=shop PGPORT=5432 PGUSER=u"},
		{"password", "postgres://u@h", []string{`PGPASSWORD=a:b\c`}, nil, "PGHOST=h PGPORT=5432 PGUSER=u passwords=*:*:*:*:a\\:b\\\\c\n"},
		{"parameters without a variable", "postgres://u@h?keepalives=0&tcp_user_timeout=5", nil, nil, "PGHOST=h PGPORT=5432 PGSERVICE=cairn PGUSER=u service=[cairn]\nkeepalives=0\ntcp_user_timeout=5\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := clean(t, c.env...)
			write(t, filepath.Join(home, ".pg_service.conf"), services, 0o644)
			target, err := connect.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(target.Databases, c.databases) {
				t.Errorf("databases %q, want %q", target.Databases, c.databases)
			}
			vars := environ(t, target, "db")
			if vars["PGDATABASE"] != "db" || vars["PGGSSENCMODE"] != "disable" {
				t.Errorf("variables: %q", vars)
			}
			delete(vars, "PGDATABASE")
			delete(vars, "PGGSSENCMODE")
			if vars["passwords"] == "" {
				delete(vars, "passwords")
			}
			if got := strings.ReplaceAll(sorted(vars), socket(), "SOCKET"); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			config := target.Config("db")
			hosts := []string{config.Host}
			for _, f := range config.Fallbacks {
				if f.Host != hosts[len(hosts)-1] { // one without TLS and one with
					hosts = append(hosts, f.Host)
				}
			}
			if got := strings.Join(hosts, ","); got != vars["PGHOST"] || config.User != vars["PGUSER"] || config.Database != "db" {
				t.Errorf("pgx connects to %s as %s", got, config.User)
			}
			for name, value := range config.RuntimeParams {
				if want := map[string]string{"application_name": first(vars["PGAPPNAME"], "cairn"), "options": vars["PGOPTIONS"]}[name]; value != want {
					t.Errorf("pgx sets %s to %q", name, value)
				}
			}
		})
	}
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// socket is libpq's default host on this machine.
func socket() string {
	if _, err := os.Stat("/var/run/postgresql"); err == nil {
		return "/var/run/postgresql"
	}
	return "/tmp"
}

func TestParseRefuses(t *testing.T) {
	const secret = "hunter2"
	for _, c := range []struct {
		name, url string
		env       []string
		want      string
	}{
		{"scheme", "mysql://h", nil, "begins with postgres://"},
		{"password", "postgres://u:hunter2@h/db", nil, "contains a password"},
		{"empty password", "postgres://u:@h/db", nil, "contains a password"},
		{"password with @", "postgres://u@hunter2@h/db", nil, "contains a password"},
		{"password with /", "postgres://u:12/hunter2@h/db", nil, "%40"},
		{"password with / and no digits", "postgres://u:hunter2/x@h/db", nil, "is not a number"},
		{"password as a parameter", "postgres://h/db?password=hunter2", nil, "contains a password"},
		{"password of a key", "postgres://h/db?sslpassword=hunter2", nil, "contains a password"},
		{"password by another name", "postgres://h/db?Passwd=hunter2", nil, "contains a password"},
		{"escape", "postgres://h/%zzhunter2", nil, "two hexadecimal digits"},
		{"NUL", "postgres://h/a%00", nil, "other than 00"},
		{"raw NUL", "postgres://h/a\x00", nil, "NUL"},
		{"empty name", "postgres://h/a,,b", nil, "empty"},
		{"bracket", "postgres://[::1/a", nil, "IPv6"},
		{"no =", "postgres://h/db?hunter2", nil, "has no ="},
		{"unknown parameter", "postgres://h/db?sslmod=require", nil, `the URL: there is no parameter "sslmod"`},
		{"unsupported parameter", "postgres://h/db?sslcrl=/x", nil, "the URL: the parameter sslcrl=/x is not supported"},
		{"unsupported in the environment", "postgres://h/db", []string{"PGREQUIREPEER=root"}, "environment variable PGREQUIREPEER"},
		{"encryption of another kind", "postgres://h/db?gssencmode=require", nil, "gssencmode=require is not supported"},
		{"mode", "postgres://h/db?sslmode=maybe", nil, "sslmode"},
		{"version of TLS", "postgres://h/db?ssl_min_protocol_version=SSLv3", nil, "TLSv1.2"},
		{"attribute", "postgres://h/db?target_session_attrs=fast", nil, "fast"},
		{"port", "postgres://h:99999/db", nil, "port"},
		{"ports", "postgres://h1:1,h2:2,h3:3/db?port=1,2", nil, "3 hosts"},
		{"addresses", "postgres://h1,h2/db?hostaddr=10.0.0.1", nil, "2 hosts, 1 addresses"},
		{"addresses of one host", "postgres://h,h/db?hostaddr=10.0.0.1,10.0.0.2", nil, "two addresses"},
		{"authority", "postgres://h/db?sslmode=verify-full&sslrootcert=/nonexistent", nil, "/nonexistent"},
		{"certificate without key", "postgres://h/db?sslcert=/x", nil, "sslkey"},
		{"no such service", "postgres://h/db?service=none", nil, `no service "none"`},
		{"service of a service", "postgres://nested", nil, ".pg_service.conf, line "},
		{"unknown in a service", "postgres://unknown", nil, `there is no parameter "hots"`},
		{"unsupported in a service", "postgres:///?service=revoking", nil, ".pg_service.conf: the parameter sslcrl"},
		{"passwords of hosts", "postgres://u@h1,h2/db", nil, "different passwords"},
		{"passwords of hosts for a database", "postgres://u@h3,h4/db", nil, "different passwords"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := clean(t, append(c.env, "PGPASSWORD=")...)
			write(t, filepath.Join(home, ".pg_service.conf"), services, 0o644)
			write(t, filepath.Join(home, ".pgpass"), "h1:*:*:*:hunter2\nh3:*:db:u:hunter2\n", 0o600)
			_, err := connect.Parse(c.url)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error: %v\nwant %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

func TestPassfile(t *testing.T) {
	const text = "# a comment:1:2:3:x\nno line\nh:5432:a:u:of a\nh:*:*:u:of h \\: with \\\\ and : and space \n*:7:*:*:of the port\n/run/x:*:*:*:of the socket\nlocalhost:*:*:*:of localhost\n"
	for _, c := range []struct{ url, db, want string }{
		{"postgres://u@h", "a", "of a"},
		{"postgres://u@h", "b", `of h : with \ and : and space `},
		{"postgres://v@h", "b", ""},
		{"postgres://v@h:7", "b", "of the port"},
		{"postgres://u@/?host=/run/x", "b", "of the socket"},
		{"postgres://u@/?host=/run/y", "b", ""},
		{"postgres://u@/", "b", "of localhost"},
		{"postgres://u@h?hostaddr=10.0.0.1", "a", "of a"},
	} {
		home := clean(t)
		write(t, filepath.Join(home, ".pgpass"), text, 0o600)
		target, err := connect.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := target.Config(c.db).Password; got != c.want {
			t.Errorf("%s, database %s: password %q, want %q", c.url, c.db, got, c.want)
		}
		os.Chmod(filepath.Join(home, ".pgpass"), 0o640)
		if target, err = connect.Parse(c.url); err != nil {
			t.Fatal(err)
		}
		if got := target.Config(c.db).Password; got != "" {
			t.Errorf("%s: a password from a file that others may read", c.url)
		}
		t.Setenv("PGPASSWORD", "of the environment")
		if target, err = connect.Parse(c.url); err != nil {
			t.Fatal(err)
		}
		if got := target.Config(c.db).Password; got != "of the environment" {
			t.Errorf("%s: password %q", c.url, got)
		}
	}
}

func TestPasswordOfLines(t *testing.T) {
	clean(t, "PGPASSWORD=a\nb")
	target, err := connect.Parse("postgres://u@h")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := target.Environ("db", nil); err == nil || !strings.Contains(err.Error(), "line break") {
		t.Errorf("error: %v", err)
	}
}
