package connect

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// parsed is what a URL says.
type parsed struct {
	params    map[string]string
	databases []string // of the path
	bare      string   // the name, if the URL is postgres://NAME and nothing else
}

// parseURL takes a URL apart as libpq does: postgres://user@host:port,host:port/db?x=y,
// of which each part may be missing. No error contains what may be a password that
// stands at the wrong place.
func parseURL(s string) (*parsed, error) {
	rest, ok := strings.CutPrefix(s, "postgres://")
	if !ok {
		if rest, ok = strings.CutPrefix(s, "postgresql://"); !ok {
			return nil, errors.New("a URL of a PostgreSQL server begins with postgres://")
		}
	}
	if strings.ContainsRune(s, 0) {
		return nil, errors.New("the URL contains a NUL byte")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, hasPath := strings.Cut(rest, "/")
	p := &parsed{params: make(map[string]string)}
	if err := p.authority(authority); err != nil {
		return nil, err
	}
	if err := p.path(path); err != nil {
		return nil, err
	}
	if err := p.query(query); err != nil {
		return nil, err
	}
	if authority != "" && !hasPath && !strings.Contains(s, "?") && !strings.ContainsAny(authority, "@:,[") {
		p.bare = p.params["host"]
	}
	return p, nil
}

func (p *parsed) authority(authority string) error {
	if user, hosts, ok := strings.Cut(authority, "@"); ok {
		if strings.Contains(user, ":") {
			return errPassword
		}
		if err := p.set("user", user); err != nil {
			return err
		}
		authority = hosts
	}
	if strings.Contains(authority, "@") {
		return errPassword // "user:pa@ss@host", or something like that
	}
	if authority == "" {
		return nil
	}
	var hosts, ports []string
	for _, h := range strings.Split(authority, ",") {
		host, port, err := splitHost(h)
		if err != nil {
			return err
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	if err := p.set("host", strings.Join(hosts, ",")); err != nil {
		return err
	}
	if len(hosts) == 1 && ports[0] == "" {
		return nil
	}
	return p.set("port", strings.Join(ports, ","))
}

// splitHost splits host:port, where the host may be an IPv6 address in brackets.
func splitHost(s string) (host, port string, err error) {
	if v6, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok = strings.Cut(v6, "]")
		if !ok || port != "" && port[0] != ':' {
			return "", "", errors.New("the host in the URL begins with [ and is no IPv6 address in brackets")
		}
		port = strings.TrimPrefix(port, ":")
	} else {
		host, port, _ = strings.Cut(s, ":")
	}
	if strings.Trim(port, "0123456789") != "" {
		return "", "", errors.New("a port in the URL is not a number; if it is part of a password: " + errPassword.Error())
	}
	return host, port, nil
}

// path takes the names of databases. A comma in a name is written %2C.
func (p *parsed) path(path string) error {
	if path == "" {
		return nil
	}
	if strings.Contains(path, "@") {
		return errors.New("the URL has an @ behind the first /: write %40 if it is part of a database's name; if it ends a password: " + errPassword.Error())
	}
	for _, name := range strings.Split(path, ",") {
		db, err := unescape("the name of a database", name)
		if err != nil {
			return err
		}
		if db == "" {
			return errors.New("a database's name in the URL is empty")
		}
		p.databases = append(p.databases, db)
	}
	return nil
}

func (p *parsed) query(query string) error {
	if query == "" {
		return nil
	}
	for _, pair := range strings.Split(query, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errors.New("a parameter in the URL has no =")
		}
		name, err := unescape("a parameter's name", name)
		if err != nil {
			return err
		}
		if lower := strings.ToLower(name); lower != "passfile" && (strings.Contains(lower, "pass") || strings.Contains(lower, "secret") || strings.HasPrefix(lower, "scram_")) {
			return errPassword
		}
		if name == "ssl" && value == "true" { // JDBC's, which libpq takes too
			name, value = "sslmode", "require"
		}
		if err := p.set(name, value); err != nil {
			return err
		}
	}
	if db, ok := p.params["dbname"]; ok {
		p.databases = []string{db}
		if db == "" {
			p.databases = nil
		}
	}
	return check(p.params, "the URL")
}

// set sets a parameter to what a part of the URL stands for.
func (p *parsed) set(name, value string) error {
	v, err := unescape("parameter "+name, value)
	p.params[name] = v
	return err
}

// unescape replaces %xx. As in libpq a + is a +.
func unescape(what, s string) (string, error) {
	v, err := url.PathUnescape(s)
	if err != nil || strings.ContainsRune(v, 0) {
		return "", fmt.Errorf("%s in the URL: %% is not followed by two hexadecimal digits other than 00", what)
	}
	return v, nil
}

var errPassword = errors.New("the URL contains a password, which the process list and the shell's history would show: remove it, and set PGPASSFILE or PGPASSWORD")
