package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cairn-backup/cairn/postgres/copytext"
)

// Record is what is recorded of a database besides its contents. Of what is here nothing
// changes as long as the contents do not: time and position in the log are
// attributes of the source in the snapshot's manifest.
type Record struct {
	Version    int          `json:"version"` // of this format
	Server     Server       `json:"server"`
	Database   Database     `json:"database"`
	Dump       Dump         `json:"dump"`
	Scope      Scope        `json:"scope,omitzero"`
	Extensions []Extension  `json:"extensions,omitempty"` // by name
	Tables     []Table      `json:"tables"`               // in the order of the archive
	Blobs      []BlobGroup  `json:"blobs,omitempty"`      // likewise
	BlobTotals Totals       `json:"blob_totals,omitzero"` // of large objects; Rows is how many
	Globals    GlobalsState `json:"globals"`
}

// RecordVersion is the version that this package writes, and the latest that it reads.
const RecordVersion = 1

// Server is the server that the database was captured from.
type Server struct {
	Version          string `json:"version"`           // as it names itself, "15.18 (Debian 15.18-0+deb12u1)"
	VersionNumber    int    `json:"version_number"`    // 150018
	SystemIdentifier string `json:"system_identifier"` // of the cluster; empty where it can't be asked for
	Timeline         uint32 `json:"timeline,omitempty"`
	Standby          bool   `json:"standby,omitempty"` // it was in recovery
}

// Database has what CREATE DATABASE needs besides the archive.
type Database struct {
	Name     Name   `json:"name"`
	Encoding string `json:"encoding"`
	Collate  string `json:"collate,omitempty"`
	CType    string `json:"ctype,omitempty"`
}

// Dump is the program that made the archive.
type Dump struct {
	Program string `json:"program"` // the version of pg_dump
	Archive string `json:"archive"` // the version of the archive's format, "1.14"
}

// Scope says what the user wanted of the database, in patterns of pg_dump. All empty: everything.
type Scope struct {
	Schemas          []string `json:"schemas,omitempty"`
	ExcludedSchemas  []string `json:"excluded_schemas,omitempty"`
	Tables           []string `json:"tables,omitempty"`
	ExcludedTables   []string `json:"excluded_tables,omitempty"`
	ExcludedContents []string `json:"excluded_contents,omitempty"` // tables of which only the definition was taken
}

// Extension is an installed extension.
type Extension struct {
	Name    Name   `json:"name"`
	Version string `json:"version"`
	Schema  Name   `json:"schema"`
}

// Totals count contents.
type Totals struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

// Table is a table whose rows were captured.
type Table struct {
	File    string `json:"file"` // the name of its entry
	Schema  Name   `json:"schema"`
	Name    Name   `json:"name"`
	OID     uint32 `json:"oid"`
	DumpID  int    `json:"dump_id"` // of its contents in the archive
	Columns []Name `json:"columns"`
	Totals
	// Hash is that of the multiset of rows, the same whatever their order.
	Hash copytext.Hash `json:"hash"`
	// Order are the columns that the rows are sorted by; none: the order of the server's table.
	// It is kept from snapshot to snapshot.
	Order []Name `json:"order,omitempty"`
}

// BlobGroup are the large objects that stand in the archive together.
type BlobGroup struct {
	DumpID int `json:"dump_id"`
	// OIDs in the order of the archive. If there is one group alone they are left out: it has all
	// of them.
	OIDs []uint32 `json:"oids,omitempty"`
}

// GlobalsState says what the file of globals has.
type GlobalsState string

// The states of globals.
const (
	GlobalsWhole       GlobalsState = "whole"
	GlobalsNoPasswords GlobalsState = "without passwords" // of roles, as the user may not read them
	GlobalsNone        GlobalsState = "none"              // not wanted
)

// ErrRecord: a record is not one that this program can read.
var ErrRecord = errors.New("the record of the database can't be read")

// Encode returns the record as it is stored.
func (r *Record) Encode() ([]byte, error) {
	r.Version = RecordVersion
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("encode the record of database %s: %w", r.Database.Name, err)
	}
	return b.Bytes(), nil
}

// ParseRecord reads what Encode returned.
func ParseRecord(p []byte) (*Record, error) {
	r := new(Record)
	if err := json.Unmarshal(p, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if r.Version < 1 || r.Version > RecordVersion {
		return nil, fmt.Errorf("%w: it is of version %d, and this program knows version %d; a newer one may read it", ErrRecord, r.Version, RecordVersion)
	}
	files := make(map[string]bool)
	for _, t := range r.Tables {
		if files[t.File] {
			return nil, fmt.Errorf("%w: it has the table %q twice", ErrRecord, t.File)
		}
		files[t.File] = true
		if t.Rows < 0 || t.Bytes < 0 {
			return nil, fmt.Errorf("%w: table %s has %d rows of %d bytes", ErrRecord, t.File, t.Rows, t.Bytes)
		}
		if t.File != TableFile(string(t.Schema), string(t.Name)) {
			return nil, fmt.Errorf("%w: table %q of schema %q has the file %q", ErrRecord, t.Name, t.Schema, t.File)
		}
	}
	return r, nil
}

// Table returns the table of an entry, or nil.
func (r *Record) Table(file string) *Table {
	for i := range r.Tables {
		if r.Tables[i].File == file {
			return &r.Tables[i]
		}
	}
	return nil
}

// Attributes that the snapshot's manifest has of a database, in text.
const (
	AttributeTime     = "postgres_time"     // when its snapshot was taken, RFC 3339
	AttributeLSN      = "postgres_lsn"      // the position in the log just after, replayed if it is a standby
	AttributeServer   = "postgres_server"   // version
	AttributeSystem   = "postgres_system"   // identifier of the cluster
	AttributeTimeline = "postgres_timeline" // of the log
	AttributeSnapshot = "postgres_snapshot" // the name under which it was exported
)
