package capture

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cairn-backup/cairn/postgres"
)

// session is the connection whose snapshot of the database all others share.
type session struct {
	conn     *pgx.Conn
	snapshot string // its exported name
	facts    facts
	taken    time.Time
}

// facts are what the server says of itself and of the database.
type facts struct {
	version       string
	versionNumber int
	systemID      string
	timeline      uint32
	standby       bool
	lsn           string
	encoding      string
	collate       string
	ctype         string
	extensions    []postgres.Extension
	canPasswords  bool // the user may read those of roles
}

// oldest is the first version that understands what is asked of it here.
const oldest = 90300

// prelude are the settings that rows depend on: what a table has as text must not hang on who reads it. They are those
// of pg_dump, and two besides that a database or a role can have for itself, with which nothing would be found again
// once they are changed.
var prelude = []string{
	"SET DateStyle = ISO",
	"SET IntervalStyle = postgres",
	"SET extra_float_digits = 3",
	"SET bytea_output = hex",
	"SET TimeZone = 'UTC'",
	"SET synchronize_seqscans = off",
	"SET statement_timeout = 0",
	"SET lock_timeout = 0",
	"SELECT pg_catalog.set_config('search_path', '', false)",
	"SET row_security = off",
	"SET idle_in_transaction_session_timeout = 0",
	"SET transaction_timeout = 0",
}

// settings since versions.
var preludeSince = map[string]int{
	"SET row_security = off":                      90500,
	"SET idle_in_transaction_session_timeout = 0": 90600,
	"SET transaction_timeout = 0":                 170000,
}

// open connects to the database such that rows are read as pg_dump reads them.
func (d *Database) open(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, d.target.Explain(d.name, err)
	}
	if err := prepare(ctx, conn); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the connection to database %s: %w", d.name, err), conn.Close(ctx))
	}
	return conn, nil
}

func prepare(ctx context.Context, conn *pgx.Conn) error {
	version, err := strconv.Atoi(show(ctx, conn, "server_version_num"))
	if err != nil {
		return fmt.Errorf("the version of the server: %w", err)
	}
	if version < oldest {
		return fmt.Errorf("the server is of version %s; cairn needs 9.3 or later", show(ctx, conn, "server_version"))
	}
	set := append([]string{"SET client_encoding = " + pgx.Identifier{show(ctx, conn, "server_encoding")}.Sanitize()}, prelude...)
	for _, s := range set {
		if version < preludeSince[s] {
			continue
		}
		if _, err := conn.PgConn().Exec(ctx, s).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// show returns a setting, empty if it can't be had.
func show(ctx context.Context, conn *pgx.Conn, name string) (value string) {
	if value = conn.PgConn().ParameterStatus(name); value != "" {
		return value
	}
	_ = conn.QueryRow(ctx, "SELECT pg_catalog.current_setting($1)", name).Scan(&value)
	return value
}

// begin takes the snapshot.
func begin(ctx context.Context, d *Database) (*session, error) {
	conn, err := d.open(ctx, d.target.Config(d.name))
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, taken: d.o.Now()}
	if err := s.begin(ctx); err != nil {
		s.end()
		return nil, fmt.Errorf("take a snapshot of database %s: %w", d.name, err)
	}
	return s, nil
}

const beginRead = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

func (s *session) begin(ctx context.Context) error {
	if _, err := s.conn.Exec(ctx, beginRead); err != nil {
		return err
	}
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&s.snapshot); err != nil {
		return err
	}
	return s.ask(ctx)
}

// end gives the snapshot up. Where it can't be told to, the server notices that the connection ended.
func (s *session) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// ask collects the facts.
func (s *session) ask(ctx context.Context) error {
	f := &s.facts
	f.version = show(ctx, s.conn, "server_version")
	f.versionNumber, _ = strconv.Atoi(show(ctx, s.conn, "server_version_num")) // it was one before
	err := s.conn.QueryRow(ctx, `
		SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype,
			pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')
		FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`).
		Scan(&f.standby, &f.encoding, &f.collate, &f.ctype, &f.canPasswords)
	if err != nil {
		return err
	}
	position := "pg_catalog.pg_current_wal_lsn()"
	switch {
	case f.standby && f.versionNumber >= 100000:
		position = "pg_catalog.pg_last_wal_replay_lsn()"
	case f.standby:
		position = "pg_catalog.pg_last_xlog_replay_location()"
	case f.versionNumber < 100000:
		position = "pg_catalog.pg_current_xlog_location()"
	}
	if err := s.conn.QueryRow(ctx, "SELECT coalesce("+position+"::text, '')").Scan(&f.lsn); err != nil {
		return err
	}
	if f.versionNumber >= 90600 {
		// Where only the administrator may ask, as with some providers, they stay unknown.
		if err := s.optional(ctx, "SELECT s.system_identifier::text, c.timeline_id::bigint FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c",
			&f.systemID, &f.timeline); err != nil {
			return err
		}
	}
	return s.askExtensions(ctx)
}

// optional is a query that the user may not be allowed. A savepoint keeps the transaction.
func (s *session) optional(ctx context.Context, sql string, to ...any) error {
	if _, err := s.conn.Exec(ctx, "SAVEPOINT optional"); err != nil {
		return err
	}
	if err := s.conn.QueryRow(ctx, sql).Scan(to...); err != nil && !isDenied(err) {
		return err
	}
	_, err := s.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT optional")
	return err
}

func (s *session) askExtensions(ctx context.Context) error {
	rows, err := s.conn.Query(ctx, `
		SELECT `+s.utf8("e.extname")+`, e.extversion, `+s.utf8("n.nspname")+`
		FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname`)
	if err != nil {
		return err
	}
	s.facts.extensions, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e postgres.Extension, err error) {
		var name, schema []byte
		err = row.Scan(&name, &e.Version, &schema)
		e.Name, e.Schema = postgres.Name(name), postgres.Name(schema)
		return e, err
	})
	return err
}

// utf8 is SQL that gives a name as bytes in UTF-8. In a database whose encoding says nothing, or
// can't be converted, they are the bytes that are there.
func (s *session) utf8(name string) string {
	switch s.facts.encoding {
	case "SQL_ASCII", "MULE_INTERNAL":
		return "pg_catalog.textsend(" + name + "::text)"
	}
	return "pg_catalog.convert_to(" + name + "::text, 'UTF8')"
}

// record begins the record of what is captured.
func (s *session) record() *postgres.Record {
	f := &s.facts
	return &postgres.Record{
		Server: postgres.Server{
			Version: f.version, VersionNumber: f.versionNumber, SystemIdentifier: f.systemID, Timeline: f.timeline, Standby: f.standby,
		},
		Database:   postgres.Database{Encoding: f.encoding, Collate: f.collate, CType: f.ctype},
		Extensions: f.extensions,
	}
}

// attributes are what holds for this capture alone.
func (s *session) attributes() map[string]string {
	a := map[string]string{
		postgres.AttributeTime: s.taken.UTC().Format(time.RFC3339Nano), postgres.AttributeServer: s.facts.version,
		postgres.AttributeLSN: s.facts.lsn, postgres.AttributeSnapshot: s.snapshot,
	}
	if s.facts.systemID != "" {
		a[postgres.AttributeSystem] = s.facts.systemID
		a[postgres.AttributeTimeline] = strconv.FormatUint(uint64(s.facts.timeline), 10)
	}
	return a
}
