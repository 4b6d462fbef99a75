package connect

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// host is one of the hosts of a target.
type host struct{ name, addr, port string }

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
