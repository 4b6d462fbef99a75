package connect

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Environ gives an environment for PostgreSQL's client programs, in which they connect
// to a database just as Connect does, without an option of theirs. It is this process's
// but for PG*. With a connection it leads to the host and the address which that has,
// where several were possible; conn may be nil.
//
// Passwords stand in files of a directory that nobody else may enter. cleanup removes
// it; it must be called after the programs have ended, and after an error need not be.
func (t *Target) Environ(db string, conn *pgx.Conn) (env []string, cleanup func() error, err error) {
	vars := map[string]string{"PGDATABASE": db, "PGGSSENCMODE": "disable"} // pgx has no GSSAPI encryption
	extra := make(map[string]string)                                       // what no variable has
	for name, v := range t.params {
		if e := parameters[name].env; e != "" {
			vars[e] = v
		} else {
			extra[name] = v
		}
	}
	if conn != nil {
		h := t.connected(conn)
		vars["PGHOST"], vars["PGPORT"] = h.name, h.port
		if delete(vars, "PGHOSTADDR"); h.addr != "" {
			vars["PGHOSTADDR"] = h.addr
		}
	}
	dir, err := os.MkdirTemp("", "cairn-pg-")
	if err != nil {
		return nil, nil, fmt.Errorf("a private directory for passwords: %w", err)
	}
	if err := t.writeSecrets(dir, db, extra, vars); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PG") {
			env = append(env, e)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, name+"="+vars[name])
	}
	return env, func() error { return os.RemoveAll(dir) }, nil
}

// writeSecrets writes the password, and parameters that no variable has, to files, and
// names these in vars. Without a password the file is empty, so that none of the user's
// own is read, which may have another by now.
func (t *Target) writeSecrets(dir, db string, extra, vars map[string]string) error {
	password := t.passwordFor(db)
	if strings.ContainsAny(password, "\r\n\x00") {
		return errors.New("the password has a line break, which PostgreSQL's client programs can't be given: choose another")
	}
	var line string
	if password != "" {
		line = "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(password) + "\n"
	}
	vars["PGPASSFILE"] = filepath.Join(dir, "passwords")
	if err := os.WriteFile(vars["PGPASSFILE"], []byte(line), 0o600); err != nil {
		return fmt.Errorf("a file of passwords for PostgreSQL's programs: %w", err)
	}
	if len(extra) == 0 {
		return nil
	}
	service := "[cairn]\n"
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		service += name + "=" + extra[name] + "\n"
	}
	vars["PGSERVICE"], vars["PGSERVICEFILE"] = "cairn", filepath.Join(dir, "service")
	if err := os.WriteFile(vars["PGSERVICEFILE"], []byte(service), 0o600); err != nil {
		return fmt.Errorf("a service file for PostgreSQL's programs: %w", err)
	}
	return nil
}

// connected says which host a connection has: by name, for certificates, and address.
func (t *Target) connected(conn *pgx.Conn) host {
	remote := conn.PgConn().Conn().RemoteAddr()
	if remote.Network() == "unix" {
		for _, h := range t.hosts {
			if filepath.Join(h.name, ".s.PGSQL."+h.port) == remote.String() {
				return h
			}
		}
	}
	at, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return t.hosts[0] // pgx connects through no other networks
	}
	addr := at.Addr().Unmap().String()
	t.mu.Lock()
	defer t.mu.Unlock()
	return host{name: or(t.names[addr], addr), addr: addr, port: fmt.Sprint(at.Port())}
}
