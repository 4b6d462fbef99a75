package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// errRewritten: what a transaction sees of a table that was truncated or rewritten after its snapshot is
// not what was there at that moment. TRUNCATE and some forms of ALTER TABLE are not
// transactional in this way (PostgreSQL's manual, section 13.6), and pg_dump takes such a table for
// empty.
var errRewritten = errors.New("tables were truncated or rewritten between the snapshot and the locks on them")

// locked is how many tables a statement locks.
const locked = 100

// lock locks the tables of an archive against changes of their definition, as pg_dump did, and makes sure
// that none was rewritten before.
func (r *run) lock(ctx context.Context, toc *archive.TOC) error {
	conn := r.session.conn
	var names []string
	var oids []uint32
	for i := range toc.Entries {
		if e := &toc.Entries[i]; e.HasData && e.Is(archive.KindTableData) {
			names = append(names, "ONLY "+e.Relation())
			oids = append(oids, e.OID)
		}
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", r.o.LockWait.Milliseconds())); err != nil {
		return err
	}
	for len(names) > 0 {
		n := min(locked, len(names))
		// As text: names may be in an encoding that the driver does not know.
		if _, err := conn.PgConn().Exec(ctx, "LOCK TABLE "+strings.Join(names[:n], ", ")+" IN ACCESS SHARE MODE").ReadAll(); err != nil {
			return fmt.Errorf("lock the tables: %w", isGone(err))
		}
		names = names[n:]
	}
	// The catalog as the snapshot has it, against what the server knows now.
	rows, err := conn.Query(ctx, `
		SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
		WHERE c.oid = ANY ($1) AND c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)`, oids)
	if err != nil {
		return err
	}
	rewritten, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for tables that were rewritten: %w", err)
	}
	if len(rewritten) > 0 {
		return fmt.Errorf("%w: %s", errRewritten, strings.Join(rewritten, ", "))
	}
	return nil
}

// isGone makes errRewritten of the error that a table is not there any more.
func isGone(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "42P01" {
		return fmt.Errorf("%w: %w", errRewritten, err)
	}
	return err
}

// isDenied reports whether the user lacks a right, or the server a function.
func isDenied(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "42501" || e.Code == "42883" || e.Code == "0A000")
}
