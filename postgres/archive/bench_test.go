package archive_test

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// BenchmarkReadTOC reads the table of contents of some twenty thousand tables.
func BenchmarkReadTOC(b *testing.B) {
	toc := readTOC(b, "pg15.dump")
	var many []archive.Entry
	for range 2000 {
		for _, e := range toc.Entries {
			e.DumpID = int32(len(many) + 1)
			many = append(many, e)
		}
	}
	toc.Entries = many
	p := toc.Append(nil)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		got, err := archive.ReadTOC(bufio.NewReader(bytes.NewReader(p)))
		if err != nil || len(got.Entries) != len(many) {
			b.Fatal(err)
		}
	}
}
