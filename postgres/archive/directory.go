package archive

import (
	"fmt"
	"strconv"
)

// TOCFile is the file of a directory archive that has the table of contents.
const TOCFile = "toc.dat"

// Directory returns t for the file toc.dat of an uncompressed directory archive: data
// are in files that it names. The copy shares texts and Deps with t.
func (t *TOC) Directory() *TOC {
	d := t.Canonical()
	d.Format, d.Created = Directory, t.Created
	for i := range d.Entries {
		e := &d.Entries[i]
		e.Offset, e.File = Offset{}, Text{S: d.file(e)}
	}
	return d
}

// file names the file of the entry's data, "" if it has none. Until version 1.15
// pg_restore takes blobs.toc for large objects, whatever the table of contents says.
func (t *TOC) file(e *Entry) string {
	switch {
	case !e.HasData:
		return ""
	case e.Is(KindBlobs) && t.Version.Minor < withRelKind:
		return "blobs.toc"
	case e.Is(KindBlobs):
		return fmt.Sprintf("blobs_%d.toc", e.DumpID)
	}
	return fmt.Sprintf("%d.dat", e.DumpID)
}

// BlobFile names the file of a large object in a directory archive.
func BlobFile(oid uint32) string { return fmt.Sprintf("blob_%d.dat", oid) }

// AppendBlobs appends the contents of a BLOBS entry's file, which lists the large
// objects that the entry has.
func AppendBlobs(b []byte, oids []uint32) []byte {
	for _, oid := range oids {
		b = strconv.AppendUint(b, uint64(oid), 10)
		b = append(b, ' ')
		b = append(b, BlobFile(oid)...)
		b = append(b, '\n')
	}
	return b
}
