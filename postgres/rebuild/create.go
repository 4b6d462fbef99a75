package rebuild

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// create makes the database, with the encoding and locale that it had.
func (r *rebuilding) create(ctx context.Context, conn *pgx.Conn) error {
	sql, err := r.createStatement()
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		var e *pgconn.PgError
		if errors.As(err, &e) && e.Code == "42P04" {
			return fmt.Errorf("make database %s: it is there already; nothing was changed; without --create an empty one is filled, and --clean replaces what is in it: %w", r.o.Name, err)
		}
		return fmt.Errorf("make database %s: %w", r.o.Name, err)
	}
	return nil
}

// entry returns the entry of a kind, nil if there is none.
func (r *rebuilding) entry(kind string) *archive.Entry {
	for i := range r.db.TOC.Entries {
		if e := &r.db.TOC.Entries[i]; e.Is(kind) {
			return e
		}
	}
	return nil
}

// createStatement is that of pg_dump with another name.
func (r *rebuilding) createStatement() (string, error) {
	e := r.entry("DATABASE")
	if e == nil { // it was not dumped as a whole
		d := r.db.Record.Database
		sql := "CREATE DATABASE " + archive.QuoteName(r.o.Name) + " TEMPLATE template0 ENCODING " + quoteLiteral(d.Encoding)
		if d.Collate != "" {
			sql += " LC_COLLATE " + quoteLiteral(d.Collate) + " LC_CTYPE " + quoteLiteral(d.CType)
		}
		return sql, nil
	}
	_, options, ok := cutName(e.Defn.S, "CREATE DATABASE ")
	if !ok {
		return "", fmt.Errorf("how the database is made is not as pg_dump writes it: %q", e.Defn.S)
	}
	if r.o.NoTablespaces {
		options = tablespace.ReplaceAllString(options, ";")
	}
	return "CREATE DATABASE " + archive.QuoteName(r.o.Name) + options, nil
}

// tablespace is the last of the options of CREATE DATABASE.
var tablespace = regexp.MustCompile(` TABLESPACE = ("([^"]|"")*"|[^ ";]+);\s*$`)

// cutName takes a keyword and a name from the front of a statement.
func cutName(sql, keyword string) (name, rest string, ok bool) {
	if rest, ok = strings.CutPrefix(sql, keyword); !ok {
		return "", "", false
	}
	if !strings.HasPrefix(rest, `"`) {
		i := strings.IndexAny(rest, " ;\n")
		if i < 0 {
			return "", "", false
		}
		return rest[:i], rest[i:], true
	}
	for i := 1; i < len(rest); i++ {
		if rest[i] != '"' {
			continue
		}
		if i+1 < len(rest) && rest[i+1] == '"' {
			i++
			continue
		}
		return strings.ReplaceAll(rest[1:i], `""`, `"`), rest[i+1:], true
	}
	return "", "", false
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// properties gives the new database, which conn is connected to, the owner that it had and, if it has the name
// that it had, also its settings, comment and privileges, in which that name stands. All these are in the
// encoding of the database.
func (r *rebuilding) properties(ctx context.Context, conn *pgx.Conn) error {
	e := r.entry("DATABASE")
	if e == nil {
		return nil
	}
	var alter string
	if _, err := conn.PgConn().Exec(ctx, "SET client_encoding = "+quoteLiteral(r.db.Record.Database.Encoding)).ReadAll(); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT 'ALTER DATABASE ' || pg_catalog.quote_ident(pg_catalog.current_database())").Scan(&alter); err != nil {
		return err
	}
	if !r.o.NoOwner && e.Owner.S != "" {
		if _, err := conn.PgConn().Exec(ctx, alter+" OWNER TO "+archive.QuoteName(e.Owner.S)).ReadAll(); err != nil {
			return fmt.Errorf("give database %s its owner; --no-owner leaves it to who restores, --globals brings roles: %w", r.o.Name, err)
		}
	}
	others := r.belonging(e)
	if len(others) > 0 && r.o.Name != string(r.db.Record.Database.Name) {
		r.warn(fmt.Errorf("database %s has another name than it had (%s), so its own settings, comment and privileges were left out", r.o.Name, r.db.Record.Database.Name))
		return nil
	}
	for _, o := range others {
		if r.o.NoPrivileges && o.Is("ACL") {
			continue
		}
		if _, err := conn.PgConn().Exec(ctx, o.Defn.S).ReadAll(); err != nil {
			return fmt.Errorf("%s of database %s: %w", strings.ToLower(o.Desc.S), r.o.Name, err)
		}
	}
	return nil
}

// belonging returns what is said of the database as such.
func (r *rebuilding) belonging(db *archive.Entry) []*archive.Entry {
	var all []*archive.Entry
	for i := range r.db.TOC.Entries {
		e := &r.db.TOC.Entries[i]
		about := (e.Is("ACL") || e.Is("COMMENT") || e.Is("SECURITY LABEL")) && strings.HasPrefix(e.Tag.S, "DATABASE ")
		if e.Is("DATABASE PROPERTIES") || about {
			all = append(all, e)
		}
	}
	return all
}

// ErrNotEmpty: a database is not empty, and nothing says that it may be overwritten.
var ErrNotEmpty = errors.New("is not empty")

// isEmpty returns an error if the database has objects of anybody's.
func isEmpty(ctx context.Context, conn *pgx.Conn, name string) error {
	var what string
	err := conn.QueryRow(ctx, `
		SELECT coalesce(min(what), '') FROM (
			SELECT 'the relation ' || c.oid::pg_catalog.regclass::text, c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass, relnamespace FROM pg_catalog.pg_class c
			UNION ALL SELECT 'the function ' || p.oid::pg_catalog.regproc::text, p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass, pronamespace FROM pg_catalog.pg_proc p
			UNION ALL SELECT 'the type ' || t.oid::pg_catalog.regtype::text, t.oid, 'pg_catalog.pg_type'::pg_catalog.regclass, typnamespace FROM pg_catalog.pg_type t
			UNION ALL SELECT 'the schema ' || n.nspname::text, n.oid, 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname <> 'public'
			UNION ALL SELECT 'large object ' || m.oid::text, m.oid, 'pg_catalog.pg_largeobject'::pg_catalog.regclass, 0 FROM pg_catalog.pg_largeobject_metadata m
		) AS o (what, oid, class, namespace)
		LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace
		WHERE coalesce(n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\_temp\_%' AND n.nspname NOT LIKE 'pg\_toast\_temp\_%', true)
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'i', 'a'))`).Scan(&what)
	if err != nil {
		return fmt.Errorf("look whether database %s is empty: %w", name, err)
	}
	if what != "" {
		return fmt.Errorf("database %s %w: it has %s; nothing was changed; --clean replaces what the snapshot has too, --create makes a new database", name, ErrNotEmpty, what)
	}
	return nil
}
