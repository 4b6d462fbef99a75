package archive

import (
	"cmp"
	"strconv"
	"strings"
)

// AppendList appends entries in the form of pg_restore -l, which pg_restore -L takes: a
// line for each, of which the dump ID counts and the rest is for people.
func AppendList(b []byte, entries []*Entry) []byte {
	for _, e := range entries {
		b = strconv.AppendInt(b, int64(e.DumpID), 10)
		b = append(b, ';')
		for _, oid := range []uint32{e.TableOID, e.OID} {
			b = append(b, ' ')
			b = strconv.AppendUint(b, uint64(oid), 10)
		}
		for _, text := range []string{e.Desc.S, cmp.Or(e.Schema.S, "-"), e.Tag.S, cmp.Or(e.Owner.S, "-")} {
			b = append(b, ' ')
			b = append(b, oneLine.Replace(text)...)
		}
		b = append(b, '\n')
	}
	return b
}

// oneLine keeps a name from beginning a line of its own, in which pg_restore would
// look for a dump ID.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ")
