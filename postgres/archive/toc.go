package archive

import (
	"slices"
	"time"
)

// Format says what stands behind the table of contents, and with each entry.
type Format byte

// The formats with a header. Directories have that of tar, whose files they hold.
const (
	Custom    Format = 1 // data behind the table of contents, offsets in it
	Directory Format = 3 // data in files, named in the table of contents
)

// Version is the version of an archive's format, not that of a server.
type Version struct{ Major, Minor, Rev byte }

// What an entry is, as in Desc. There are many more; these are the ones with
// a meaning here.
const (
	KindTableData    = "TABLE DATA"
	KindBlobs        = "BLOBS"         // contents of large objects
	KindBlob         = "BLOB"          // a large object is created, until version 1.15
	KindBlobMetadata = "BLOB METADATA" // some are created, from version 1.16
	KindSequenceSet  = "SEQUENCE SET"  // where a sequence goes on
	KindTable        = "TABLE"
	KindSequence     = "SEQUENCE"
	KindSchema       = "SCHEMA"
)

// Text is a string of an archive. NULL and the empty string are different.
type Text struct {
	S    string // any bytes; "" if Null
	Null bool
}

// Header is what an archive begins with.
type Header struct {
	Version Version
	Format  Format

	// Compression of the data. Until version 1.14 the level of zlib, -1 for its
	// default; from 1.15 the method: 1 gzip, 2 lz4, 3 zstd. 0 is none in both.
	Compression int32

	Created Created

	Database      Text
	ServerVersion Text
	DumpVersion   Text // of pg_dump
}

// Created is when an archive was made, in the local time of that machine, as in C's
// struct tm: Month 0 is January, Year 0 is 1900.
type Created struct {
	Second, Minute, Hour, Day, Month, Year, DST int32
}

// CreatedAt returns t in the location that it has.
func CreatedAt(t time.Time) Created {
	c := Created{
		Second: int32(t.Second()), Minute: int32(t.Minute()), Hour: int32(t.Hour()),
		Day: int32(t.Day()), Month: int32(t.Month()) - 1, Year: int32(t.Year()) - 1900,
	}
	if t.IsDST() {
		c.DST = 1
	}
	return c
}

// TOC is the header and the table of contents of an archive.
type TOC struct {
	Header
	Entries []Entry // in the order in which they are restored
}

// Section is the part of a restore that an entry belongs to.
type Section int32

// The sections.
const (
	SectionNone     Section = 1 // comments and privileges: with what they are about
	SectionPreData  Section = 2
	SectionData     Section = 3
	SectionPostData Section = 4
)

// Entry is one object of a database, or its data.
type Entry struct {
	DumpID  int32 // names the entry within the archive; positive
	HasData bool  // it has a block of data, or a file

	TableOID, OID uint32 // the catalog that describes the object, and its row there

	Tag     Text // the name, for parts of a table with that in front: "orders orders_pkey"
	Desc    Text // the kind: "TABLE", "TABLE DATA", "FK CONSTRAINT"
	Section Section

	Defn, Drop Text // SQL
	Copy       Text // the COPY statement before the rows; see ParseCopy

	Schema     Text  // NULL or empty for what is in no schema
	Tablespace Text  // NULL: none; empty: that of the database
	TableAM    Text  // the table access method; from version 1.14
	RelKind    int32 // pg_class.relkind; from version 1.16
	Owner      Text
	WithOIDs   Text // "false", and "true" from old servers

	// DumpIDs of what must be restored before. Some may not be in the archive.
	Deps []int32

	Offset Offset // in Custom
	File   Text   // in Directory: the name of the file, empty without data
}

// Is reports whether the entry is of the kind, a KindX or another Desc.
func (e *Entry) Is(kind string) bool { return e.Desc.S == kind }

// Rows reports whether the data of the entry are rows as COPY writes them. Those of
// pg_dump --inserts are SQL, those of large objects any bytes.
func (e *Entry) Rows() bool { return e.HasData && e.Is(KindTableData) && e.Copy.S != "" }

// OffsetState says what is known of a block's place.
type OffsetState byte

// The states of an offset.
const (
	OffsetUnknown OffsetState = 1 // there is a block; the archive was written to a pipe
	OffsetKnown   OffsetState = 2
	OffsetNoData  OffsetState = 3 // there is no block
)

// Offset is where in the archive the block of an entry begins.
type Offset struct {
	State OffsetState
	Pos   uint64 // in bytes; 0 unless OffsetKnown
}

// Canonical returns t as it is for every dump of the same database in the same state:
// a custom archive without the time it was made, uncompressed, with no offset known.
// The copy shares texts and Deps with t.
func (t *TOC) Canonical() *TOC {
	c := &TOC{Header: t.Header, Entries: slices.Clone(t.Entries)}
	c.Format, c.Compression, c.Created = Custom, 0, Created{}
	for i := range c.Entries {
		e := &c.Entries[i]
		e.File, e.Offset = Text{}, Offset{State: OffsetNoData}
		if e.HasData {
			e.Offset.State = OffsetUnknown
		}
	}
	return c
}

// Entry returns the entry with the dump ID, nil if there is none. It searches through
// all of them: whoever asks for many makes a map.
func (t *TOC) Entry(dumpID int32) *Entry {
	for i := range t.Entries {
		if t.Entries[i].DumpID == dumpID {
			return &t.Entries[i]
		}
	}
	return nil
}
