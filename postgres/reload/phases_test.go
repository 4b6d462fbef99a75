package reload

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
)

func vector(t *testing.T, name string) *archive.TOC {
	t.Helper()
	p, err := os.ReadFile("../archive/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	toc, err := archive.ReadTOC(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	return toc
}

// Every entry is restored once, what creates large objects with their contents at the
// latest, and large tables alone.
func TestSplit(t *testing.T) {
	for _, name := range []string{"pg15.dump", "pg17.dump"} {
		d := &Database{TOC: vector(t, name)}
		for i := range d.TOC.Entries {
			e := &d.TOC.Entries[i]
			item := archive.Item{DumpID: e.DumpID, Size: 1 << 20}
			if e.Tag.S == "users" || e.Tag.S == "orders" {
				item.Size = 1 << 30
			}
			if e.Is(archive.KindBlobs) {
				item.OID = 7
			}
			if e.HasData {
				d.Items = append(d.Items, item)
			}
		}
		p := d.split(2)
		times := make(map[*archive.Entry]int)
		for _, e := range slices.Concat(p.definitions, p.rest) {
			times[e]++
		}
		items := 0
		for i, b := range p.contents {
			var size int64
			for _, item := range b.items {
				size += item.Size
			}
			if size != b.size || i > 0 && size > p.contents[i-1].size {
				t.Errorf("%s: batch %d has %d bytes, and says %d", name, i, size, b.size)
			}
			if size >= 1<<30 && len(b.items) > 1 {
				t.Errorf("%s: batch %d has a large table and others", name, i)
			}
			items += len(b.items)
			for _, e := range slices.Concat(b.entries, b.indexes) {
				times[e]++
			}
			if err := d.part(b.entries, b.items).TOC.CheckItems(d.part(b.entries, b.items).Items); err != nil {
				t.Errorf("%s: batch %d: %v", name, i, err)
			}
		}
		if items != len(d.Items) || len(p.contents) < 3 || len(p.contents) > 6 {
			t.Errorf("%s: %d items in %d batches", name, items, len(p.contents))
		}
		for i := range d.TOC.Entries {
			e := &d.TOC.Entries[i]
			if times[e] != 1 {
				t.Errorf("%s: %s %s is there %d times", name, e.Desc.S, e.Tag.S, times[e])
			}
			created := e.Is("TABLE") || e.Is(archive.KindBlob) || e.Is("FUNCTION") || e.Is("TABLE ATTACH") || e.Is("DEFAULT")
			if created != slices.Contains(p.definitions, e) && (created || e.Is("INDEX") || e.Is("ACL") || e.Is("TRIGGER") || e.Is(archive.KindBlobMetadata)) {
				t.Errorf("%s: %s %s is not where it belongs", name, e.Desc.S, e.Tag.S)
			}
		}
	}
}

// pg_restore must see which entries alter a table, and create no table again.
func TestFinishing(t *testing.T) {
	d := &Database{TOC: vector(t, "pg15.dump")}
	for i := range d.TOC.Entries {
		if e := &d.TOC.Entries[i]; e.Tag.S == "users_name" {
			e.Defn.S += "\n\nALTER TABLE app.users CLUSTER ON users_name;\n"
		}
	}
	p := d.split(2)
	for _, b := range p.contents {
		p.rest = append(p.rest, b.indexes...)
	}
	toc := d.finishing(p.rest).TOC
	tables, clustered := 0, false
	for _, e := range toc.Entries {
		switch {
		case e.HasData, e.Is("TABLE") && e.Defn.S != "":
			t.Errorf("%s %s: %q", e.Desc.S, e.Tag.S, e.Defn.S)
		case e.Is("TABLE"):
			tables++
		case e.Tag.S == "users_name":
			clustered = e.Is("CONSTRAINT")
		}
	}
	if tables != 10 || !clustered {
		t.Errorf("%d tables, CLUSTER as a constraint: %v", tables, clustered)
	}
}

// To drop is not to create. The table of contents is one all the same.
func TestDrops(t *testing.T) {
	for _, name := range []string{"pg15.dump", "pg17.dump"} {
		blobs := 0
		toc := drops(vector(t, name))
		for _, e := range toc.Entries {
			setting := e.Is("ENCODING") || e.Is("STDSTRINGS") || e.Is("SEARCHPATH")
			if e.HasData || e.Defn.S != "--\n" && !setting {
				t.Errorf("%s: %s %s would be created: %q", name, e.Desc.S, e.Tag.S, e.Defn.S)
			}
			if e.Is(archive.KindBlob) {
				blobs++
			}
		}
		if blobs != 4 {
			t.Errorf("%s: %d large objects would be dropped, want 4", name, blobs)
		}
		if _, err := archive.ReadTOC(bytes.NewReader(toc.Canonical().Append(nil))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Indexes are made with the rows while others have as much to do, and one alone always is.
func TestIndexes(t *testing.T) {
	a, b, c := &archive.Entry{DumpID: 1}, &archive.Entry{DumpID: 2}, &archive.Entry{DumpID: 3}
	for _, x := range []struct {
		left    int64 // with the table's 10
		indexes []*archive.Entry
		late    bool
	}{
		{20, []*archive.Entry{b, c}, false},
		{19, []*archive.Entry{b, c}, true},
		{10, []*archive.Entry{b}, false},
		{10, nil, false},
	} {
		l := loading{left: x.left}
		got := l.begin(batch{entries: []*archive.Entry{a}, size: 10, indexes: x.indexes})
		want, late := append([]*archive.Entry{a}, x.indexes...), []*archive.Entry(nil)
		if x.late {
			want, late = want[:1], x.indexes
		}
		if !slices.Equal(got, want) || !slices.Equal(l.late, late) {
			t.Errorf("%d bytes left, %d indexes: late are %d", x.left, len(x.indexes), len(l.late))
		}
	}
}
