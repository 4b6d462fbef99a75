package rebuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// globals restores roles and tablespaces. What is there already stays as it is: to give a role of a
// running server the password and powers that it had elsewhere would be a bad surprise.
func (r *rebuilding) globals(ctx context.Context, conn *pgx.Conn) error {
	sql, err := r.db.Globals(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the snapshot has no roles and tablespaces: they were not wanted when it was made; leave out --globals")
	}
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, s := range statements(sql) {
		if name, _, ok := cutName(s, "ALTER ROLE "); ok && there["role "+name] {
			continue
		}
		if name, _, ok := cutName(s, "ALTER TABLESPACE "); ok && there["tablespace "+name] {
			continue
		}
		if r.o.NoTablespaces && isAboutTablespace(s) {
			continue
		}
		_, err := conn.PgConn().Exec(ctx, s).ReadAll()
		var e *pgconn.PgError
		switch {
		case err == nil:
		case errors.As(err, &e) && e.Code == "42710": // there already
			if name, _, ok := cutName(s, "CREATE ROLE "); ok {
				there["role "+name] = true
			}
			if name, _, ok := cutName(s, "CREATE TABLESPACE "); ok {
				there["tablespace "+name] = true
			}
		case errors.As(err, &e) && isAboutTablespace(s):
			return fmt.Errorf("tablespaces: %q: %w; make its directory, or put everything into the default one with --no-tablespaces", strings.TrimSpace(s), err)
		case errors.As(err, &e):
			return fmt.Errorf("roles: %q: %w", hidden(s), err)
		default:
			return err
		}
	}
	for what := range there {
		r.warn(fmt.Errorf("the %s is there already and stays as it is", what))
	}
	return nil
}

// statements splits what pg_dumpall writes of globals. Each statement begins a line and ends one with a
// semicolon outside of quotes; between them are empty lines, comments and commands of psql. Quotes within
// quotes are doubled, so that they need no care of their own.
func statements(sql []byte) (all []string) {
	for len(sql) > 0 {
		if sql[0] == '\n' || sql[0] == '\\' || bytes.HasPrefix(sql, []byte("--")) {
			_, sql, _ = bytes.Cut(sql, []byte("\n"))
			continue
		}
		n := statementEnd(sql)
		all, sql = append(all, string(sql[:n])), sql[n:]
	}
	return all
}

// statementEnd returns how many bytes the first statement has, with the end of its last line.
func statementEnd(sql []byte) int {
	var quote byte // that is open
	for i, c := range sql {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '\n' && sql[i-1] == ';':
			return i + 1
		}
	}
	return len(sql)
}

func isAboutTablespace(sql string) bool {
	for _, begins := range []string{"CREATE TABLESPACE ", "ALTER TABLESPACE ", "COMMENT ON TABLESPACE ", "SECURITY LABEL ON TABLESPACE "} {
		if strings.HasPrefix(sql, begins) {
			return true
		}
	}
	return (strings.HasPrefix(sql, "GRANT ") || strings.HasPrefix(sql, "REVOKE ")) && strings.Contains(sql, " ON TABLESPACE ")
}

// hidden is a statement without the password in it.
func hidden(sql string) string {
	before, _, found := strings.Cut(sql, " PASSWORD ")
	if found {
		return before + " PASSWORD ..."
	}
	return strings.TrimSpace(sql)
}
