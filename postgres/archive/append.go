package archive

import (
	"io"
	"strconv"
)

// Append appends the header and the table of contents to b. For what ReadTOC
// returned these are the bytes that it read. Fields that the version or the format does
// not have are left out.
func (t *TOC) Append(b []byte) []byte {
	b = t.Header.append(b)
	b = appendInt(b, int32(len(t.Entries)))
	for i := range t.Entries {
		b = t.Entries[i].append(b, &t.Header)
	}
	return b
}

// WriteTo writes what Append appends.
func (t *TOC) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(t.Append(nil))
	return int64(n), err
}

func (h *Header) append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, h.Version.Major, h.Version.Minor, h.Version.Rev, intSize, offsetSize, byte(h.Format))
	if h.Version.Minor >= withMethod {
		b = append(b, byte(h.Compression))
	} else {
		b = appendInt(b, h.Compression)
	}
	c := &h.Created
	for _, v := range [...]int32{c.Second, c.Minute, c.Hour, c.Day, c.Month, c.Year, c.DST} {
		b = appendInt(b, v)
	}
	return appendTexts(b, h.Database, h.ServerVersion, h.DumpVersion)
}

func (e *Entry) append(b []byte, h *Header) []byte {
	b = appendInt(b, e.DumpID)
	var hasData int32
	if e.HasData {
		hasData = 1
	}
	b = appendInt(b, hasData)
	b = appendTexts(b, decimal(int64(e.TableOID)), decimal(int64(e.OID)), e.Tag, e.Desc)
	b = appendInt(b, int32(e.Section))
	b = appendTexts(b, e.Defn, e.Drop, e.Copy, e.Schema, e.Tablespace)
	if h.Version.Minor >= withTableAM {
		b = appendTexts(b, e.TableAM)
	}
	if h.Version.Minor >= withRelKind {
		b = appendInt(b, e.RelKind)
	}
	b = appendTexts(b, e.Owner, e.WithOIDs)
	for _, dep := range e.Deps {
		b = appendTexts(b, decimal(int64(dep)))
	}
	b = appendTexts(b, Text{Null: true})
	if h.Format == Directory {
		return appendTexts(b, e.File)
	}
	b = append(b, byte(e.Offset.State))
	for i := range offsetSize {
		b = append(b, byte(e.Offset.Pos>>(8*i)))
	}
	return b
}

func decimal(v int64) Text { return Text{S: strconv.FormatInt(v, 10)} }

func appendInt(b []byte, v int32) []byte {
	sign, m := byte(0), uint32(v)
	if v < 0 {
		sign, m = 1, -m
	}
	return append(b, sign, byte(m), byte(m>>8), byte(m>>16), byte(m>>24))
}

func appendTexts(b []byte, texts ...Text) []byte {
	for _, t := range texts {
		if t.Null {
			b = appendInt(b, -1)
			continue
		}
		b = append(appendInt(b, int32(len(t.S))), t.S...)
	}
	return b
}
