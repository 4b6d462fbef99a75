// Package connect finds PostgreSQL servers as libpq does, for the engine through pgx
// and for PostgreSQL's client programs, so that both have the same connection: URLs,
// the environment (PGHOST and so on), service files, .pgpass, TLS, several hosts.
//
// What libpq does and pgx does not is done here, or refused by the parameter's name;
// nothing that was asked for is left out in silence. Passwords come from PGPASSWORD,
// files of passwords and service files, never from URLs, and reach neither an error nor
// an argument or the environment of a program.
package connect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Target is a server, or several of which one is to be taken, and databases on it. Its
// methods may be called from several goroutines.
type Target struct {
	// Databases are those that were named, in that order. None were if it is empty: then
	// all are meant, see List.
	Databases []string

	params map[string]string // libpq's by name, but for those that are resolved
	hosts  []host
	bare   string // the name in postgres://NAME, if it was taken for a host
	config *pgx.ConnConfig

	password     string // for all hosts and databases; if there is none, passwords
	passwords    passfile
	passwordFile string

	mu    sync.Mutex
	names map[string]string // the host of each address that was looked up
}

// Parse reads a URL and, for what it leaves out, the service that it or PGSERVICE names,
// then the environment, then libpq's defaults.
//
// postgres://host/db names one database, .../db1,db2 several: a comma in a name is
// written %2C, an @ %40. With no path the databases are PGDATABASE or the service's, and if
// there is none, all. postgres://NAME, with nothing before or behind the name, is the
// service NAME if a service file has it; else, if PGHOST, PGHOSTADDR or PGSERVICE say
// where the server is, the database NAME there; else the host NAME.
func Parse(url string) (*Target, error) {
	t, err := parse(url)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL source or target: %w", err)
	}
	return t, nil
}

func parse(url string) (*Target, error) {
	u, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	env, err := fromEnv()
	if err != nil {
		return nil, err
	}
	files := serviceFiles()
	t := &Target{names: make(map[string]string)}
	if u.bare != "" {
		_, isService, err := readService(files, u.bare)
		switch {
		case err != nil:
			return nil, err
		case isService:
			u.params = map[string]string{"service": u.bare}
		case env["host"] != "" || env["hostaddr"] != "" || env["service"] != "":
			u.params, u.databases = nil, []string{u.bare}
		default:
			t.bare = u.bare
		}
	}
	t.params = env
	if service := or(u.params["service"], env["service"]); service != "" {
		params, found, err := readService(files, service)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("there is no service %q in %s", service, strings.Join(files, ", "))
		}
		maps.Copy(t.params, params)
	}
	maps.Copy(t.params, u.params)
	t.Databases = u.databases
	if db := t.params["dbname"]; len(t.Databases) == 0 && db != "" {
		t.Databases = []string{db}
	}
	if err := t.resolve(); err != nil {
		return nil, err
	}
	return t, t.configure()
}

// or gives the first of two texts that is not empty.
func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// resolve fills in libpq's defaults, and takes out what is not passed on.
func (t *Target) resolve() error {
	if t.params["user"] == "" {
		u, err := user.Current()
		if err != nil {
			return fmt.Errorf("no user is named, and who runs this program can't be said: %w", err)
		}
		t.params["user"] = u.Username
	}
	t.passwordFile = t.params["passfile"]
	if home, err := os.UserHomeDir(); t.passwordFile == "" && err == nil {
		t.passwordFile = filepath.Join(home, ".pgpass")
	}
	if t.password = t.params["password"]; t.password == "" {
		t.passwords = readPassfile(t.passwordFile)
	}
	maps.DeleteFunc(t.params, func(name, value string) bool {
		return parameters[name].use != both && parameters[name].use != clients || value == ""
	})
	if err := t.checkTrust(); err != nil {
		return err
	}
	if err := t.resolveHosts(); err != nil {
		return err
	}
	return t.samePasswords()
}

// configure makes the configuration for pgx. What can be wrong with it, files of
// certificates above all, is found here.
func (t *Target) configure() error {
	words := make(map[string]string)
	for name, p := range parameters {
		if v := t.params[name]; p.use == both && v != "" {
			words[name] = v
		}
	}
	// pgx reads the environment by itself; these say that all of it is known already.
	words["passfile"], words["sslpassword"] = "", ""
	if service := os.Getenv("PGSERVICE"); service != "" {
		file, err := emptyService(service)
		if err != nil {
			return err
		}
		defer os.Remove(file)
		words["service"], words["servicefile"] = service, file
	}
	options := pgx.ParseConfigOptions{ParseConfigOptions: pgconn.ParseConfigOptions{
		GetSSLPassword: func(context.Context) string { return t.params["sslpassword"] },
	}}
	config, err := pgx.ParseConfigWithOptions(keywords(words), options)
	if err != nil {
		// pgx's text repeats all the words: what it wraps is enough.
		if cause := errors.Unwrap(err); cause != nil {
			err = cause
		}
		return fmt.Errorf("connecting to %s: %w", t.where(), err)
	}
	for name := range config.RuntimeParams { // PGTZ
		if name != "application_name" && name != "options" {
			delete(config.RuntimeParams, name)
		}
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "cairn"
	}
	config.LookupFunc = t.lookup
	t.config = config
	return t.tlsVersions()
}

// emptyService makes a service file that has a service without parameters.
func emptyService(service string) (path string, err error) {
	f, err := os.CreateTemp("", "cairn-pg-service-")
	if err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(f, "[%s]\n", service); err != nil {
		f.Close()
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), f.Close()
}

// Config gives the configuration of a connection to a database. It contains the
// password.
func (t *Target) Config(db string) *pgx.ConnConfig {
	c := t.config.Copy()
	c.Database = db
	c.Password = t.passwordFor(db)
	return c
}

// Connect connects to a database. Its errors say why it can't, and what to do.
func (t *Target) Connect(ctx context.Context, db string) (*pgx.Conn, error) {
	c, err := pgx.ConnectConfig(ctx, t.Config(db))
	if err != nil {
		return nil, t.Explain(db, err)
	}
	return c, nil
}

// List gives the databases that are meant: those that were named, else all that allow
// connections and are no templates, by name; not those that the server calls invalid, as it
// was stopped while it dropped them.
func (t *Target) List(ctx context.Context) ([]string, error) {
	if len(t.Databases) > 0 {
		return slices.Clone(t.Databases), nil
	}
	c, err := t.Connect(ctx, "postgres")
	if isCode(err, noSuchDatabase) {
		c, err = t.Connect(ctx, "template1")
	}
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname::text COLLATE \"C\"")
	if err != nil {
		return nil, fmt.Errorf("listing the databases of %s: %w", t.where(), err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing the databases of %s: %w", t.where(), err)
	}
	return names, nil
}
