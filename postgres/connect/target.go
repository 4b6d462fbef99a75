// Package connect finds PostgreSQL servers as libpq does, for the engine through pgx
// and for PostgreSQL's client programs, so that both have the same connection: URLs,
// the environment (PGHOST and so on), service files, .pgpass, TLS, several hosts.
//
// What libpq does and pgx does not is done here, or refused by the parameter's name;
// none is silently left out but for ~/.postgresql/root.crl, which libpq reads where it
// is. Passwords come from PGPASSWORD, files of passwords and service files, never from
// URLs, and reach neither an error nor an argument or the environment of a program.
package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
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

// host is one of the hosts of a target.
type host struct{ name, addr, port string }

// Parse reads a URL and, for what it leaves out, the service that it or PGSERVICE names,
// then the environment, then libpq's defaults.
//
// postgres://host/db names one database, .../db1,db2 several: a comma in a name is
// written %2C, an @ %40. With no path the databases are PGDATABASE or the service's, and if
// there is none, all. postgres://NAME, with nothing before or behind the name, is the
// service NAME if a service file has it; else, if PGHOST, PGHOSTADDR or PGSERVICE say
// where the server is, the database NAME there; else the host NAME.
func Parse(url string) (*Target, error) {
	t, err := parse(url, os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL source or target: %w", err)
	}
	return t, nil
}

func parse(url string, getenv func(string) string) (*Target, error) {
	u, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	env, err := fromEnv(getenv)
	if err != nil {
		return nil, err
	}
	files := serviceFiles(getenv)
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
	return t, t.configure(getenv)
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
	if err := t.resolveHosts(); err != nil {
		return err
	}
	return t.samePasswords()
}

// socketDir is where the socket of a server is that no host is named of.
func socketDir() string {
	for _, dir := range []string{"/var/run/postgresql", "/tmp"} {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return "localhost"
}

func (t *Target) resolveHosts() error {
	names := strings.Split(t.params["host"], ",")
	addrs := strings.Split(t.params["hostaddr"], ",")
	ports := strings.Split(t.params["port"], ",")
	if t.params["hostaddr"] != "" && t.params["host"] == "" {
		names = addrs
	}
	if t.params["hostaddr"] != "" && len(addrs) != len(names) || len(ports) != 1 && len(ports) != len(names) {
		return fmt.Errorf("%d hosts, %d addresses of hosts and %d ports are given: give as many of each, or one port for all", len(names), len(addrs), len(ports))
	}
	for i, name := range names {
		h := host{name: name, port: ports[min(i, len(ports)-1)]}
		if t.params["hostaddr"] != "" {
			h.addr = addrs[i]
		}
		h.name = or(h.name, or(h.addr, socketDir()))
		h.port = or(h.port, "5432")
		if h.addr != "" {
			if other, ok := t.names[h.name]; ok && other != h.addr {
				return fmt.Errorf("host %s has two addresses, %s and %s: name it once", h.name, other, h.addr)
			}
			t.names[h.name] = h.addr
		}
		t.hosts = append(t.hosts, h)
	}
	clear(t.names)
	t.params["host"], t.params["port"] = "", ""
	for i, h := range t.hosts {
		if i > 0 {
			t.params["host"] += ","
			t.params["port"] += ","
		}
		t.params["host"] += h.name
		t.params["port"] += h.port
	}
	return nil
}

// samePasswords refuses hosts of which each has a password of its own: pgx has one.
func (t *Target) samePasswords() error {
	for _, db := range append(slices.Clone(t.Databases), "postgres") {
		for _, h := range t.hosts[1:] {
			if t.passwordAt(h, db) != t.passwordAt(t.hosts[0], db) {
				return fmt.Errorf("hosts %s and %s have different passwords in %s, or only one has any, which is not supported: name one host", t.hosts[0].name, h.name, t.passwordFile)
			}
		}
	}
	return nil
}

// passwordFor gives the password for a database, "" for none. A password for one host
// is not shown to another, should a file have such for a database that is not named.
func (t *Target) passwordFor(db string) string {
	password := t.passwordAt(t.hosts[0], db)
	for _, h := range t.hosts[1:] {
		if t.passwordAt(h, db) != password {
			return ""
		}
	}
	return password
}

// passwordAt gives the password for a database on a host, "" for none.
func (t *Target) passwordAt(h host, db string) string {
	if t.password != "" {
		return t.password
	}
	name := h.name
	if name == socketDir() { // of other sockets the file has the directory
		name = "localhost"
	}
	password, _ := t.passwords.find(name, h.port, db, t.params["user"])
	return password
}

// configure makes the configuration for pgx. What can be wrong with it, files of
// certificates above all, is found here.
func (t *Target) configure(getenv func(string) string) error {
	words := make(map[string]string)
	for name, p := range parameters {
		if v := t.params[name]; p.use == both && v != "" {
			words[name] = v
		}
	}
	// pgx reads the environment by itself; these say that all of it is known already.
	words["passfile"], words["sslpassword"] = "", ""
	if service := getenv("PGSERVICE"); service != "" {
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

// tlsVersions sets the limits of the versions of TLS, which pgx does not know.
func (t *Target) tlsVersions() error {
	versions := map[string]uint16{"": 0, "TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	least, ok := versions[t.params["ssl_min_protocol_version"]]
	most, ok2 := versions[t.params["ssl_max_protocol_version"]]
	if !ok || !ok2 {
		return errors.New("ssl_min_protocol_version and ssl_max_protocol_version are one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3")
	}
	configs := []*tls.Config{t.config.TLSConfig}
	for _, f := range t.config.Fallbacks {
		configs = append(configs, f.TLSConfig)
	}
	for _, c := range configs {
		if c != nil {
			c.MinVersion, c.MaxVersion = least, most
		}
	}
	return nil
}

// lookup finds the addresses of a host: hostaddr if that was given. It remembers whose
// they are.
func (t *Target) lookup(ctx context.Context, name string) ([]string, error) {
	var addrs []string
	for _, h := range t.hosts {
		if h.name == name && h.addr != "" {
			addrs = []string{h.addr}
		}
	}
	if addrs == nil {
		var err error
		if addrs, err = net.DefaultResolver.LookupHost(ctx, name); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range addrs {
		t.names[a] = name
	}
	return addrs, nil
}

// where says where the server is, for people.
func (t *Target) where() string {
	var places []string
	for _, h := range t.hosts {
		if filepath.IsAbs(h.name) {
			places = append(places, filepath.Join(h.name, ".s.PGSQL."+h.port))
		} else {
			places = append(places, net.JoinHostPort(h.name, h.port))
		}
	}
	return strings.Join(places, " or ")
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
// connections and are no templates, by name.
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
	rows, err := c.Query(ctx, "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname::text COLLATE \"C\"")
	if err != nil {
		return nil, fmt.Errorf("listing the databases of %s: %w", t.where(), err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing the databases of %s: %w", t.where(), err)
	}
	return names, nil
}
