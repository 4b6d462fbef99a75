package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Compare fails a test if two databases, given by their URLs, differ in what a backup
// must keep. It says the first difference of each kind. Compared are: what pg_dump
// says of their schemas; the rows of each table and materialised view, in any order;
// sequences; large objects with their owners, privileges and comments; extensions with
// their versions; encoding and locale. Not compared is what is said of the database as
// a whole and goes with its name: see Properties.
func Compare(t testing.TB, a, b string) {
	t.Helper()
	differences, err := Differences(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Error(d)
	}
}

// Differences says how two databases, given by their URLs, differ: at most one
// difference of each kind that Compare names.
func Differences(ctx context.Context, a, b string) ([]string, error) {
	two, err := openTwo(ctx, a, b)
	if err != nil {
		return nil, err
	}
	defer two.close()
	var found []string
	for _, kind := range []func(context.Context) (string, error){two.settings, two.schemas, two.tables, two.sequences, two.largeObjects, two.extensions} {
		d, err := kind(ctx)
		if err != nil {
			return nil, err
		}
		if d != "" {
			found = append(found, d)
		}
	}
	return found, nil
}

// Properties gives what is said of a database as a whole: its owner, comment,
// privileges and settings, a line each, without its name.
func Properties(t testing.TB, url string) string {
	t.Helper()
	s, err := openSide(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close(context.Background())
	rows, err := s.rows(t.Context(), `
		SELECT 'owner ' || datdba::regrole FROM pg_database WHERE datname = current_database()
		UNION ALL SELECT 'comment ' || description FROM pg_shdescription JOIN pg_database d ON d.oid = objoid AND classoid = 'pg_database'::regclass WHERE datname = current_database()
		UNION ALL SELECT 'may ' || x FROM pg_database, unnest(datacl::text[]) x WHERE datname = current_database()
		UNION ALL SELECT 'setting of ' || CASE setrole WHEN 0 THEN 'all' ELSE setrole::regrole::text END || ' ' || x
			FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) x WHERE datname = current_database()
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range rows {
		lines = append(lines, r[0])
	}
	return strings.Join(lines, "\n")
}

// two are the databases that are compared.
type two struct{ a, b *side }

type side struct {
	url  string
	conn *pgconn.PgConn
}

func openTwo(ctx context.Context, a, b string) (two, error) {
	sideA, err := openSide(ctx, a)
	if err != nil {
		return two{}, err
	}
	sideB, err := openSide(ctx, b)
	if err != nil {
		return two{}, errors.Join(err, sideA.conn.Close(ctx))
	}
	return two{sideA, sideB}, nil
}

func (t two) close() {
	t.a.conn.Close(context.Background())
	t.b.conn.Close(context.Background())
}

// openSide connects with settings in which equal values are written equally, and no
// two different ones are, whatever the database's own settings are.
func openSide(ctx context.Context, url string) (*side, error) {
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	s := &side{url, conn}
	_, err = s.rows(ctx, `SET search_path = pg_catalog; SET datestyle = ISO; SET intervalstyle = postgres; SET timezone = UTC;
		SET extra_float_digits = 3; SET bytea_output = hex; SET xmloption = content; SET quote_all_identifiers = off;
		SELECT set_config('client_encoding', getdatabaseencoding(), false)`)
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return s, nil
}

// rows gives what the last of some statements returns; NULL is \N.
func (s *side) rows(ctx context.Context, sql string) ([][]string, error) {
	results, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	var rows [][]string
	for _, r := range results[len(results)-1].Rows {
		row := make([]string, len(r))
		for i, v := range r {
			row[i] = string(v)
			if v == nil {
				row[i] = `\N`
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// list compares what a query returns of both: rows whose first column names something
// of a kind.
func (t two) list(ctx context.Context, kind, sql string) (difference string, err error) {
	a, err := t.a.rows(ctx, sql)
	if err != nil {
		return "", err
	}
	b, err := t.b.rows(ctx, sql)
	if err != nil {
		return "", err
	}
	byName := func(x, y []string) int { return cmp.Compare(x[0], y[0]) }
	slices.SortFunc(a, byName)
	slices.SortFunc(b, byName)
	for i := 0; i < max(len(a), len(b)); i++ {
		switch {
		case i == len(b) || i < len(a) && a[i][0] < b[i][0]:
			return fmt.Sprintf("%s %s is missing in the second database", kind, a[i][0]), nil
		case i == len(a) || a[i][0] > b[i][0]:
			return fmt.Sprintf("%s %s is only in the second database", kind, b[i][0]), nil
		case !slices.Equal(a[i], b[i]):
			return fmt.Sprintf("%s %s differs:\n  %s\n  %s", kind, a[i][0], strings.Join(a[i][1:], " | "), strings.Join(b[i][1:], " | ")), nil
		}
	}
	return "", nil
}

func (t two) settings(ctx context.Context) (string, error) {
	// By way of JSON, as the locale's column has another name from version 17 on.
	return t.list(ctx, "the database's", `
		SELECT k, v FROM pg_database, LATERAL (VALUES ('encoding', pg_encoding_to_char(encoding)), ('collation', datcollate), ('character type', datctype),
			('locale', coalesce(to_jsonb(pg_database) ->> 'datlocale', to_jsonb(pg_database) ->> 'daticulocale')), ('provider', to_jsonb(pg_database) ->> 'datlocprovider')) x (k, v)
		WHERE datname = current_database()`)
}

func (t two) sequences(ctx context.Context) (string, error) {
	const list = "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'S' ORDER BY 1"
	if d, err := t.list(ctx, "sequence", list); d != "" || err != nil {
		return d, err
	}
	names, err := t.a.rows(ctx, list)
	if err != nil || len(names) == 0 {
		return "", err
	}
	var queries []string
	for _, n := range names {
		queries = append(queries, fmt.Sprintf("SELECT %s, last_value, is_called FROM %s", literal(n[0]), n[0]))
	}
	return t.list(ctx, "sequence", strings.Join(queries, " UNION ALL "))
}

func (t two) largeObjects(ctx context.Context) (string, error) {
	// In pieces, as one may be larger than a value; through lo_get, as the zeros of a hole
	// may be stored or not.
	return t.list(ctx, "large object", `
		SELECT lpad(oid::text, 10, '0'), 'owner ' || lomowner::regrole, 'privileges ' || (SELECT string_agg(x, ',' ORDER BY x) FROM unnest(lomacl::text[]) x),
			'comment ' || obj_description(oid, 'pg_largeobject'), size || ' bytes',
			encode(sha256((SELECT string_agg(sha256(lo_get(oid, start, 1 << 20)), '' ORDER BY start) FROM generate_series(0, size, 1 << 20) start)), 'hex')
		FROM pg_largeobject_metadata, LATERAL (
			SELECT coalesce((SELECT pageno * (current_setting('block_size')::bigint / 4) + length(data)
				FROM pg_largeobject WHERE loid = oid ORDER BY pageno DESC LIMIT 1), 0) AS size) s`)
}

func (t two) extensions(ctx context.Context) (string, error) {
	return t.list(ctx, "extension", "SELECT extname, 'version ' || extversion, 'schema ' || extnamespace::regnamespace FROM pg_extension")
}

// schemas compares what pg_dump says without data.
func (t two) schemas(ctx context.Context) (string, error) {
	a, err := t.a.schema(ctx)
	if err != nil {
		return "", err
	}
	b, err := t.b.schema(ctx)
	if err != nil {
		return "", err
	}
	object := "the beginning"
	for i := 0; i < max(len(a), len(b)); i++ {
		if i < len(a) && strings.HasPrefix(a[i], "-- Name: ") {
			object = strings.TrimPrefix(a[i], "-- ")
		}
		if i == len(a) || i == len(b) || a[i] != b[i] {
			around := func(lines []string) string {
				return "    " + strings.Join(lines[min(max(i-3, 0), len(lines)):min(i+4, len(lines))], "\n    ")
			}
			return fmt.Sprintf("the schemas differ in line %d of pg_dump --schema-only, at %s\n  the first:\n%s\n  the second:\n%s", i+1, object, around(a), around(b)), nil
		}
	}
	return "", nil
}

// schema gives the lines of pg_dump --schema-only, without what is random in them.
func (s *side) schema(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(BinDir(), "pg_dump"), "--schema-only", "-d", s.url)
	cmd.Env = cleanEnv()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pg_dump --schema-only: %w\n%s", err, errs.Bytes())
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, `\restrict `) && !strings.HasPrefix(line, `\unrestrict `) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines, nil
}

// tables compares the rows of tables and materialised views.
func (t two) tables(ctx context.Context) (string, error) {
	const list = `
		SELECT format('%I.%I', nspname, relname), relkind, relispopulated::text, coalesce(string_agg(quote_ident(attname), ', ' ORDER BY attname), '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			LEFT JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
		WHERE relkind IN ('r', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND relpersistence <> 't'
			AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
				WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND NOT coalesce(c.oid = ANY (extconfig), false))
		GROUP BY 1, 2, 3 ORDER BY 1`
	if d, err := t.list(ctx, "table", list); d != "" || err != nil {
		return d, err
	}
	tables, err := t.a.rows(ctx, list)
	if err != nil {
		return "", err
	}
	for _, r := range tables {
		name, columns := r[0], r[3]
		if r[2] == "false" {
			continue
		}
		from := "ONLY " + name
		if r[1] == "m" {
			from = name
		}
		sql := fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT", columns, from)
		a, err := t.a.contents(ctx, sql)
		if err != nil {
			return "", err
		}
		b, err := t.b.contents(ctx, sql)
		if err != nil {
			return "", err
		}
		if d := a.differs(b); d != "" {
			return fmt.Sprintf("the rows of %s (%s) differ: %s", name, columns, d), nil
		}
	}
	return "", nil
}

// contents are the rows of a table, by the hashes of their text.
type contents struct {
	count map[[sha256.Size]byte]int
	head  map[[sha256.Size]byte]string // how a row begins
	rows  int

	line []byte // of which the end has not come yet
}

func (s *side) contents(ctx context.Context, sql string) (*contents, error) {
	c := &contents{count: make(map[[sha256.Size]byte]int), head: make(map[[sha256.Size]byte]string)}
	if _, err := s.conn.CopyTo(ctx, c, sql); err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	if len(c.line) > 0 {
		return nil, fmt.Errorf("%s: the last row has no end", sql)
	}
	return c, nil
}

func (c *contents) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			c.line = append(c.line, rest...)
			break
		}
		row := rest[:end]
		if len(c.line) > 0 {
			row = append(c.line, row...)
		}
		c.add(row)
		c.line, rest = c.line[:0], rest[end+1:]
	}
	return len(p), nil
}

func (c *contents) add(row []byte) {
	sum := sha256.Sum256(row)
	c.rows++
	if c.count[sum]++; c.count[sum] == 1 {
		c.head[sum] = string(row[:min(len(row), 200)])
	}
}

// differs says the first row, in the order of their text, that one of them has more
// often than the other.
func (c *contents) differs(d *contents) string {
	var found []string
	for _, x := range []struct {
		one, other *contents
		name       string
	}{{c, d, "first"}, {d, c, "second"}} {
		for sum, n := range x.one.count {
			if m := x.other.count[sum]; n > m {
				found = append(found, fmt.Sprintf("%q is %d times in the %s and %d times in the other (SHA-256 %s)", x.one.head[sum], n, x.name, m, hex.EncodeToString(sum[:4])))
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return fmt.Sprintf("%d and %d rows; %s", c.rows, d.rows, slices.Min(found))
}
