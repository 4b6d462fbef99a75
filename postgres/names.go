// Package postgres says what a PostgreSQL database looks like in a snapshot: which
// entries it has, and what is recorded of it. It neither reads nor writes snapshots: package
// capture makes these entries of a server, package reload makes of them what pg_restore takes.
//
// A database is a directory, postgres/NAME:
//
//	toc           the header and table of contents of pg_dump's archive, in the
//	              canonical form of package archive
//	manifest      the Record, in JSON
//	globals       SQL for roles and tablespaces, as pg_dumpall writes it
//	SCHEMA.TABLE  the rows of a table as COPY writes them, without its end mark
//	blobs/OID     a large object
//
// Everything else that a database has is SQL in the table of contents. docs/postgres.md
// describes it for those who write other programs.
package postgres

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

// Kind is the kind of the source, and so the first component of the paths.
const Kind = "postgres"

// Names of entries of a database. The name of a table has a dot outside of quotes, these have none.
const (
	TOCFile     = "toc"
	RecordFile  = "manifest"
	GlobalsFile = "globals"
	BlobsDir    = "blobs"
)

// escape writes what can't be in a component of a path, what is not UTF-8, and the escape character, as in
// URLs.
func escape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if c := name[i]; c == '%' || c == '/' || c == 0 || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteString(name[i : i+n])
		}
		i += n
	}
	return b.String()
}

// DatabaseFile returns the component that stands for a database.
func DatabaseFile(name string) string {
	switch name {
	case ".", "..":
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return escape(name)
}

// maxComponent is the greatest length of a component of a path, in bytes.
const maxComponent = 255

// TableFile returns the component that stands for a table: both names with a dot between them. A
// name with a dot or a double quote in it is put into double quotes, as in SQL; one without is
// not, whatever SQL would need. What is too long for a component, as 63 slashes in both names are,
// ends in a hash instead. Different tables have different components.
func TableFile(schema, table string) string {
	file := escape(quote(schema) + "." + quote(table))
	if len(file) <= maxComponent {
		return file
	}
	sum := blake3.Sum256([]byte(schema + "\x00" + table))
	end := "%" + hex.EncodeToString(sum[:16]) // no escape is so long
	return strings.ToValidUTF8(file[:maxComponent-len(end)], "") + end
}

func quote(name string) string {
	if name != "" && !strings.ContainsAny(name, `."`) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// BlobFile returns the component that stands for a large object below BlobsDir. All have the same length,
// so that they stand in the order of numbers.
func BlobFile(oid uint32) string { return fmt.Sprintf("%010d", oid) }

// Name is a name in a database, and a path made of one. Of a database whose encoding is SQL_ASCII it may
// be any bytes, which JSON's strings can't be: then that is an object with the bytes in base64.
type Name string

// MarshalJSON implements json.Marshaler.
func (n Name) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(n)) {
		return marshal(string(n))
	}
	return marshal(rawName{[]byte(n)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Name) UnmarshalJSON(p []byte) error {
	var s string
	if err := json.Unmarshal(p, &s); err == nil {
		*n = Name(s)
		return nil
	}
	var raw rawName
	if err := json.Unmarshal(p, &raw); err != nil {
		return err
	}
	*n = Name(raw.Bytes)
	return nil
}

// marshal is json.Marshal without the care for what stands in HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

type rawName struct {
	Bytes []byte `json:"bytes"`
}
