package copytext_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/copytext"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// In each encoding CSV is what this server writes, and the scanner counts what it counts. The
// values are characters of the encoding up to U+FFFF, between such as
// have a meaning in COPY or CSV.
func TestServer(t *testing.T) {
	s := pgtest.Shared(t)
	for _, encoding := range []string{"UTF8", "LATIN1", "WIN1251", "EUC_JP", "EUC_KR", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			db := s.NewDatabase(t, pgtest.Encoding(encoding), pgtest.Locale("C"))
			s.Exec(db, fill)
			for table, columns := range map[string][]string{"t": {"id", "Plain,", "mixed"}, "one": {"a"}} {
				rows := s.Query(db, "COPY "+table+" TO STDOUT") + "\n"
				var csv bytes.Buffer
				w := copytext.CSV(&csv, columns)
				scanner := copytext.NewScanner(len(columns))
				if _, err := io.Copy(io.MultiWriter(w, scanner), strings.NewReader(rows)); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if want := s.Query(db, "COPY "+table+" TO STDOUT (FORMAT csv, HEADER)") + "\n"; csv.String() != want {
					t.Errorf("%s: %d bytes of CSV, not the %d that the server writes", table, csv.Len(), len(want))
				}
				sum, err := scanner.Close()
				if count := s.Query(db, "SELECT count(*) FROM "+table); err != nil || count != strconv.FormatInt(sum.Rows, 10) || sum.Rows < 100 {
					t.Errorf("%s: %d rows, %v; the server has %s", table, sum.Rows, err, count)
				}
				shuffled, err := scan(len(columns), []byte(s.Query(db, "COPY (SELECT * FROM "+table+" ORDER BY random()) TO STDOUT")+"\n"), 1000)
				if err != nil || shuffled != sum {
					t.Errorf("%s in another order: %v, %v, want %v", table, shuffled, err, sum)
				}
			}
		})
	}
}

// fill makes tables of characters that can be converted to the database's encoding.
const fill = `
CREATE TABLE t (id integer, "Plain," text, mixed text);
CREATE TABLE one (a text);
DO $$
DECLARE
	c text;
	special CONSTANT text[] := ARRAY[E'\\', E'\t', E'\n', E'\r', '"', ',', '.', 'N', ' ', '', E'\b', E'\f', E'\x0b', E'\\.', E'\\N'];
BEGIN
	FOR i IN 1..65535 LOOP
		CONTINUE WHEN i BETWEEN 55296 AND 57343 OR i > 1000 AND i % 29 > 0;
		BEGIN
			c := CASE
				WHEN current_setting('server_encoding') = 'SQL_ASCII' THEN chr(i % 255 + 1)
				WHEN i < 128 THEN chr(i)
				WHEN i < 2048 THEN convert_from(set_byte(set_byte('\x0000', 0, 192 | i >> 6), 1, 128 | i & 63), 'UTF8')
				ELSE convert_from(set_byte(set_byte(set_byte('\x000000', 0, 224 | i >> 12), 1, 128 | i >> 6 & 63), 2, 128 | i & 63), 'UTF8')
			END;
		EXCEPTION WHEN OTHERS THEN
			CONTINUE;
		END;
		INSERT INTO t VALUES (i, c, special[1 + i % 15] || c || special[1 + i / 15 % 15]);
		INSERT INTO one VALUES (c), (special[1 + i % 15]), (NULL);
	END LOOP;
END
$$;
`
