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

	"github.com/cairn-backup/cairn/postgres"
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
	if r.db.Record.Globals == postgres.GlobalsNoPasswords {
		r.warn(errors.New("roles come without passwords, which could not be read when the snapshot was made: who logs in with one needs a new one"))
	}
	there := make(map[subject]bool)
	for _, s := range statements(sql) {
		about, isNew := subjectOf(s)
		if there[about] || r.o.NoTablespaces && about.kind == tablespaces {
			continue
		}
		_, err := conn.PgConn().Exec(ctx, s).ReadAll()
		var e *pgconn.PgError
		switch {
		case err == nil:
		case errors.As(err, &e) && e.Code == "42710" && isNew:
			there[about] = true
			r.warn(fmt.Errorf("the %s %s is there already and stays as it is", about.kind, about.name))
		case errors.As(err, &e) && about.kind == tablespaces:
			return fmt.Errorf("tablespaces: %q: %w; make its directory, or put everything into the default one with --no-tablespaces", strings.TrimSpace(s), err)
		case errors.As(err, &e):
			return fmt.Errorf("roles: %q: %w", hidden(s), err)
		default:
			return err
		}
	}
	return nil
}

// subject is what a statement changes: a role or a tablespace. The zero value: something that is neither.
type subject struct{ kind, name string }

const (
	roles       = "role"
	tablespaces = "tablespace"
)

// begins are the statements of pg_dumpall, up to the name of what they change.
var begins = []struct {
	text, kind string
	isNew      bool
}{
	{"CREATE ROLE ", roles, true}, {"ALTER ROLE ", roles, false}, {"COMMENT ON ROLE ", roles, false},
	{"CREATE TABLESPACE ", tablespaces, true}, {"ALTER TABLESPACE ", tablespaces, false}, {"COMMENT ON TABLESPACE ", tablespaces, false},
}

// subjectOf returns what a statement changes, and whether it makes it. GRANT and REVOKE change a tablespace if
// they are about one, and else the role after TO or FROM: to give that more rights is to change it.
func subjectOf(sql string) (about subject, isNew bool) {
	for _, b := range begins {
		if name, _, ok := cutName(sql, b.text); ok {
			return subject{b.kind, name}, b.isNew
		}
	}
	if after, ok := strings.CutPrefix(sql, "SECURITY LABEL "); ok {
		_, after, _ = strings.Cut(after, " ON ")
		for _, kind := range []string{roles, tablespaces} {
			if name, _, ok := cutName(after, strings.ToUpper(kind)+" "); ok {
				return subject{kind, name}, false
			}
		}
	}
	if strings.HasPrefix(sql, "GRANT ") || strings.HasPrefix(sql, "REVOKE ") {
		return granted(sql), false
	}
	return subject{}, false
}

// granted returns the subject of GRANT or REVOKE. What is granted, a role or privileges, may have any name.
func granted(sql string) subject {
	rest := outside(sql, " ON TABLESPACE ")
	if name, _, ok := cutName(rest, " ON TABLESPACE "); ok {
		return subject{tablespaces, name}
	}
	for _, word := range []string{" TO ", " FROM "} {
		if name, _, ok := cutName(outside(sql, word), word); ok {
			return subject{roles, name}
		}
	}
	return subject{}
}

// outside returns the statement from a word on that stands outside of quotes; empty if none does.
func outside(sql, word string) string {
	quoted := false
	for i := range len(sql) {
		if sql[i] == '"' {
			quoted = !quoted
		}
		if !quoted && strings.HasPrefix(sql[i:], word) {
			return sql[i:]
		}
	}
	return ""
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

// hidden is a statement without the password in it.
func hidden(sql string) string {
	before, _, found := strings.Cut(sql, " PASSWORD ")
	if found {
		return before + " PASSWORD ..."
	}
	return strings.TrimSpace(sql)
}
