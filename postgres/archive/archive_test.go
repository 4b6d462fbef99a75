package archive_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// The archives in testdata are of the database that awkward.sql makes, in PostgreSQL 15:
//
//	pg_dump -Fc -Z0 | cat >pg15.dump
//	pg_dump -Fc -Z0 -f pg15.file.dump
//	pg_dump -Fd -Z0, of which toc.dat
//
// and the same by the pg_dump of PostgreSQL 17.
var (
	dumps = []string{"pg15.dump", "pg15.file.dump", "pg17.dump"}
	tocs  = []string{"pg15.toc.dat", "pg17.toc.dat"}
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	p, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readTOC(t testing.TB, name string) *archive.TOC {
	t.Helper()
	toc, err := archive.ReadTOC(bytes.NewReader(load(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	return toc
}

func find(t testing.TB, toc *archive.TOC, desc, tag string) *archive.Entry {
	t.Helper()
	for i := range toc.Entries {
		if e := &toc.Entries[i]; e.Desc.S == desc && e.Tag.S == tag {
			return e
		}
	}
	t.Fatalf("no %s %q", desc, tag)
	return nil
}

func TestReadTOC(t *testing.T) {
	for _, name := range slices.Concat(dumps, tocs) {
		t.Run(name, func(t *testing.T) {
			p := load(t, name)
			r := bytes.NewReader(p)
			toc, err := archive.ReadTOC(r)
			if err != nil {
				t.Fatal(err)
			}
			again := toc.Append(nil)
			if !bytes.HasPrefix(p, again) {
				t.Error("Append gives other bytes than were read")
			}
			if got := len(p) - r.Len(); got != len(again) {
				t.Errorf("%d bytes were read, the table of contents has %d", got, len(again))
			}
			if strings.HasSuffix(name, "toc.dat") && len(again) != len(p) {
				t.Errorf("toc.dat has %d bytes, %d were read", len(p), len(again))
			}
			var w bytes.Buffer
			if n, err := toc.WriteTo(&w); err != nil || int(n) != len(again) || !bytes.Equal(w.Bytes(), again) {
				t.Errorf("WriteTo: %d bytes, %v", n, err)
			}
			slow, err := archive.ReadTOC(iotest.OneByteReader(bytes.NewReader(p)))
			if err != nil || !reflect.DeepEqual(slow, toc) {
				t.Errorf("read byte by byte it is another: %v", err)
			}
		})
	}
}

func TestFields(t *testing.T) {
	toc := readTOC(t, "pg15.dump")
	if toc.Version != (archive.Version{Major: 1, Minor: 14}) || toc.Format != archive.Custom || toc.Compression != 0 ||
		toc.Database.S != "aw" || !strings.HasPrefix(toc.DumpVersion.S, "15.") || toc.Created.Year < 120 {
		t.Errorf("header: %+v", toc.Header)
	}
	e := *find(t, toc, archive.KindTableData, `Ta (b), le`)
	table := find(t, toc, archive.KindTable, `Ta (b), le`)
	null := archive.Text{Null: true}
	want := archive.Entry{
		DumpID: e.DumpID, HasData: true, OID: e.OID, Tag: archive.Text{S: "Ta (b), le"}, Desc: archive.Text{S: "TABLE DATA"},
		Section: archive.SectionData, Defn: null, Drop: null, Schema: archive.Text{S: `Se. "t`},
		Copy:       archive.Text{S: `COPY "Se. ""t"."Ta (b), le" ("co,l", "c""o) FROM stdin;", "é", plain) FROM stdin;` + "\n"},
		Tablespace: null, TableAM: null, Owner: archive.Text{S: "postgres"}, WithOIDs: archive.Text{S: "false"},
		Deps: []int32{table.DumpID}, File: archive.Text{}, Offset: archive.Offset{State: archive.OffsetUnknown},
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("%+v\nwant\n%+v", e, want)
	}
	if table.TableAM.S != "heap" || table.Tablespace.Null || table.Offset.State != archive.OffsetNoData {
		t.Errorf("%+v", table)
	}
	if k := find(t, readTOC(t, "pg17.dump"), archive.KindTable, "users").RelKind; k != 'r' {
		t.Errorf("the relkind of a table is %d", k)
	}
	if toc.Entry(e.DumpID).Tag != e.Tag || toc.Entry(99999) != nil {
		t.Error("Entry finds another, or what is not there")
	}
}

// Texts that are not there are not the same as empty ones, nor do fields get lost that
// only some versions have.
func TestVersions(t *testing.T) {
	toc := readTOC(t, "pg17.dump")
	for minor := byte(12); minor <= 16; minor++ {
		toc.Version.Minor = minor
		got, err := archive.ReadTOC(bytes.NewReader(toc.Append(nil)))
		if err != nil {
			t.Fatalf("1.%d: %v", minor, err)
		}
		for i, e := range toc.Entries {
			if minor < 14 {
				e.TableAM = archive.Text{}
			}
			if minor < 16 {
				e.RelKind = 0
			}
			if !reflect.DeepEqual(got.Entries[i], e) {
				t.Fatalf("1.%d: %+v\nwant\n%+v", minor, got.Entries[i], e)
			}
		}
	}
	for _, v := range []archive.Version{{1, 11, 0}, {1, 17, 0}, {2, 14, 0}, {0, 14, 0}} {
		toc.Version = v
		_, err := archive.ReadTOC(bytes.NewReader(toc.Append(nil)))
		var ve *archive.VersionError
		if !errors.As(err, &ve) || ve.Version != v {
			t.Errorf("%v: %v", v, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	pipe, file := readTOC(t, "pg15.dump"), readTOC(t, "pg15.file.dump")
	a, b := pipe.Canonical(), file.Canonical()
	if !bytes.Equal(a.Append(nil), b.Append(nil)) {
		t.Error("two dumps of a database have different canonical forms")
	}
	if a.Created != (archive.Created{}) || pipe.Created == (archive.Created{}) {
		t.Error("the time was kept, or taken from the original")
	}
	if e := find(t, file, archive.KindTableData, "users"); e.Offset.State != archive.OffsetKnown {
		t.Error("Canonical changed the original")
	}
	dir := readTOC(t, "pg15.toc.dat")
	if !bytes.Equal(dir.Canonical().Append(nil), a.Append(nil)) {
		t.Error("a dump to a directory has another canonical form")
	}
}

// A table of contents for a directory is what pg_dump writes into one.
func TestDirectory(t *testing.T) {
	for _, v := range []string{"pg15", "pg17"} {
		want := readTOC(t, v+".toc.dat")
		got := readTOC(t, v+".dump")
		got.Created = want.Created
		if !bytes.Equal(got.Directory().Append(nil), want.Append(nil)) {
			t.Errorf("%s: not what pg_dump writes", v)
		}
	}
	want := "20001 blob_20001.dat\n4000000000 blob_4000000000.dat\n"
	if got := string(archive.AppendBlobs(nil, []uint32{20001, 4000000000})); got != want {
		t.Errorf("%q", got)
	}
}

func TestCreatedAt(t *testing.T) {
	summer := time.FixedZone("", 7200)
	got := archive.CreatedAt(time.Date(2026, 7, 9, 1, 2, 3, 0, summer))
	if want := (archive.Created{Second: 3, Minute: 2, Hour: 1, Day: 9, Month: 6, Year: 126}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// What an archive claims to have takes no memory unless it is there.
func TestHostileLengths(t *testing.T) {
	toc := readTOC(t, "pg15.dump")
	toc.Entries = nil
	head := toc.Append(nil)
	for _, p := range [][]byte{
		append(head[:len(head)-4:len(head)-4], 0xff, 0xff, 0xff, 0x7f), // entries
		append(head[:46:46], 0, 0xff, 0xff, 0xff, 0x7f),                // name of the database
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := archive.ReadTOC(bytes.NewReader(p))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d bytes of memory for an archive of %d", n, len(p))
		}
	}
}

func TestRefusedTOC(t *testing.T) {
	good := readTOC(t, "pg15.dump")
	good.Entries = slices.Clone(good.Entries[:6])
	head := len((&archive.TOC{Header: good.Header}).Append(nil))
	for what, damage := range map[string]func(p []byte){
		"magic":            func(p []byte) { p[0] = 'Q' },
		"size of integers": func(p []byte) { p[8] = 8 },
		"size of offsets":  func(p []byte) { p[9] = 4 },
		"format":           func(p []byte) { p[10] = 4 },
		"sign":             func(p []byte) { p[11] = 2 },
		"negative zero":    func(p []byte) { p[11] = 1 },
		"entries":          func(p []byte) { p[head-5] = 1 },
		"ID":               func(p []byte) { p[head] = 1 },
		"has data":         func(p []byte) { p[head+6] = 2 },
		"length":           func(p []byte) { p[head+10] = 1; p[head+11] = 2 },
		"OID":              func(p []byte) { p[head+15] = 'x' },
	} {
		p := good.Append(nil)
		damage(p)
		if _, err := archive.ReadTOC(bytes.NewReader(p)); !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	good.Entries[1].DumpID = good.Entries[0].DumpID
	if _, err := archive.ReadTOC(bytes.NewReader(good.Append(nil))); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("the same ID twice: %v", err)
	}
}

// stream is an item with its contents.
type stream struct {
	archive.Item
	data string
}

// readAll reads a custom archive to its end.
func readAll(r io.Reader) (*archive.TOC, []stream, error) {
	br := bufio.NewReader(r)
	toc, err := archive.ReadTOC(br)
	if err != nil {
		return nil, nil, err
	}
	var all []stream
	for data := archive.NewData(br, toc); ; {
		item, err := data.Next()
		if err == io.EOF {
			return toc, all, nil
		}
		if err != nil {
			return nil, nil, err
		}
		p, err := io.ReadAll(data)
		if err != nil {
			return nil, nil, err
		}
		item.Size = int64(len(p))
		all = append(all, stream{item, string(p)})
	}
}
