package archive_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// names describes entries by kind and tag, one a line.
func names(entries []*archive.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.Desc.S + " " + e.Tag.S + "\n")
	}
	return b.String()
}

func TestSelect(t *testing.T) {
	table := func(names ...string) func(*archive.Entry) bool {
		return func(e *archive.Entry) bool { return slices.Contains(names, e.Desc.S+" "+e.Tag.S) }
	}
	for name, c := range map[string]struct {
		want     func(*archive.Entry) bool
		sel, out string
	}{
		"nothing": {want: table()},
		"a table, with what it is of and what is of it": {
			want: table("TABLE users"),
			sel: `SCHEMA app
TYPE mood
DOMAIN positive
TABLE users
COMMENT COLUMN users.name
ACL TABLE users
SEQUENCE users_id_seq
SEQUENCE OWNED BY users_id_seq
DEFAULT users id
TABLE DATA users
SEQUENCE SET users_id_seq
CONSTRAINT users users_pkey
INDEX users_name
STATISTICS pairs
`,
			out: "FK CONSTRAINT orders orders_user_id_fkey\n",
		},
		"a trigger's function, an identity's sequence, foreign keys that lead out": {
			want: table("TABLE orders"),
			sel: `SCHEMA app
FUNCTION stamp()
TABLE orders
SEQUENCE orders_id_seq
TABLE DATA orders
SEQUENCE SET orders_id_seq
CONSTRAINT orders orders_pkey
TRIGGER orders stamp
`,
			out: "FK CONSTRAINT lines lines_order_id_fkey\nFK CONSTRAINT orders orders_user_id_fkey\n",
		},
		"a foreign key with both sides": {
			want: table("TABLE orders", "TABLE users"),
			sel: `SCHEMA app
TYPE mood
DOMAIN positive
FUNCTION stamp()
TABLE orders
TABLE users
COMMENT COLUMN users.name
ACL TABLE users
SEQUENCE orders_id_seq
SEQUENCE users_id_seq
SEQUENCE OWNED BY users_id_seq
DEFAULT users id
TABLE DATA orders
TABLE DATA users
SEQUENCE SET orders_id_seq
SEQUENCE SET users_id_seq
CONSTRAINT orders orders_pkey
CONSTRAINT users users_pkey
INDEX users_name
STATISTICS pairs
TRIGGER orders stamp
FK CONSTRAINT orders orders_user_id_fkey
`,
			out: "FK CONSTRAINT lines lines_order_id_fkey\n",
		},
		"tables of rules and policies as definitions, a sequence that is not owned": {
			want: table("TABLE lines"),
			sel: `SCHEMA app
TABLE audit
TABLE orders
SEQUENCE numbers
TABLE lines
TABLE DATA lines
SEQUENCE SET numbers
RULE lines audit
ROW SECURITY lines
POLICY lines mine
`,
			out: "FK CONSTRAINT lines lines_order_id_fkey\n",
		},
		"a view": {
			want: table("VIEW names"),
			sel: `SCHEMA app
TYPE mood
DOMAIN positive
TABLE users
COMMENT COLUMN users.name
ACL TABLE users
VIEW names
`,
		},
		"a materialized view without rows to fill it": {
			want: table("MATERIALIZED VIEW counts"),
			sel: `SCHEMA app
TABLE orders
MATERIALIZED VIEW counts
`,
			out: "MATERIALIZED VIEW DATA counts\n",
		},
		"partitions with their table": {
			want: table("TABLE events"),
			sel: `SCHEMA app
TABLE events
TABLE events_1
TABLE events_2
TABLE ATTACH events_1
TABLE ATTACH events_2
TABLE DATA events_1
TABLE DATA events_2
CONSTRAINT events events_pkey
CONSTRAINT events_1 events_1_pkey
CONSTRAINT events_2 events_2_pkey
INDEX ATTACH events_1_pkey
INDEX ATTACH events_2_pkey
`,
		},
		"one partition": {
			want: table("TABLE events_1"),
			sel: `SCHEMA app
TABLE events_1
TABLE DATA events_1
CONSTRAINT events_1 events_1_pkey
`,
			out: "TABLE ATTACH events_1\n",
		},
		"sequences": {
			want: table("SEQUENCE users_id_seq", "SEQUENCE orders_id_seq"),
			sel: `SCHEMA app
TABLE orders
SEQUENCE orders_id_seq
SEQUENCE users_id_seq
SEQUENCE SET orders_id_seq
SEQUENCE SET users_id_seq
`,
		},
		"a schema": {
			want: func(e *archive.Entry) bool { return e.Schema.S == `Se. "t` || e.Is("SCHEMA") && e.Tag.S == `Se. "t` },
			sel:  "SCHEMA Se. \"t\nTABLE Ta (b), le\nTABLE DATA Ta (b), le\n",
		},
		"large objects": {
			want: table("BLOBS BLOBS", "BLOB 20001"),
			sel:  "BLOB 20001\nCOMMENT LARGE OBJECT 20001\nBLOBS BLOBS\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := readTOC(t, "pg15.dump").Select(c.want)
			if sel := names(got.Entries); sel != c.sel {
				t.Errorf("got\n%s\nwant\n%s", sel, c.sel)
			}
			if out := names(got.LeftOut); out != c.out {
				t.Errorf("left out\n%s\nwant\n%s", out, c.out)
			}
		})
	}
}

// With everything wanted nothing is missing but what is of the database as a whole.
func TestSelectAll(t *testing.T) {
	for _, name := range dumps {
		toc := readTOC(t, name)
		got := toc.Select(func(*archive.Entry) bool { return true })
		have := make(map[int32]bool)
		for _, e := range got.Entries {
			have[e.DumpID] = true
		}
		for _, e := range toc.Entries {
			special := slices.Contains([]string{"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE"}, e.Desc.S)
			if have[e.DumpID] == special {
				t.Errorf("%s: %s %s: %v", name, e.Desc.S, e.Tag.S, have[e.DumpID])
			}
		}
		if len(got.LeftOut) > 0 {
			t.Errorf("%s: left out %s", name, names(got.LeftOut))
		}
	}
}

// Dependencies in a circle, on themselves and on what is not there end all the same.
func TestSelectCircle(t *testing.T) {
	text := func(s string) archive.Text { return archive.Text{S: s} }
	toc := &archive.TOC{Entries: []archive.Entry{
		{DumpID: 1, Desc: text("TABLE"), Tag: text("a"), Deps: []int32{2, 1, 77}},
		{DumpID: 2, Desc: text("VIEW"), Tag: text("b"), Deps: []int32{1}},
		{DumpID: 3, Desc: text("RULE"), Tag: text("b _RETURN"), Deps: []int32{2, 1}},
		{DumpID: 4, Desc: text("TABLE DATA"), Tag: text("of an extension"), Deps: []int32{78}},
		{DumpID: 5, Desc: text("MATERIALIZED VIEW DATA"), Tag: text("c"), Deps: []int32{2, 5}},
	}}
	got := toc.Select(func(e *archive.Entry) bool { return e.Tag.S == "a" || e.Is("TABLE DATA") })
	if sel, want := names(got.Entries), "TABLE a\nVIEW b\nRULE b _RETURN\nTABLE DATA of an extension\n"; sel != want {
		t.Errorf("got\n%s\nwant\n%s", sel, want)
	}
}

// A partition alone does not have the triggers of its table, so nothing changes them.
func TestSelectTriggersOfPartition(t *testing.T) {
	text := func(s string) archive.Text { return archive.Text{S: s} }
	toc := &archive.TOC{Entries: []archive.Entry{
		{DumpID: 1, Desc: text("FUNCTION"), Tag: text("f()")},
		{DumpID: 2, Desc: text("TABLE"), Tag: text("p")},
		{DumpID: 3, Desc: text("TABLE"), Tag: text("p1"), Deps: []int32{2}},
		{DumpID: 4, Desc: text("TABLE ATTACH"), Tag: text("p1"), Deps: []int32{3, 2}},
		{DumpID: 5, Desc: text("TRIGGER"), Tag: text("p t"), Deps: []int32{2, 1}, Defn: text("CREATE TRIGGER")},
		{DumpID: 6, Desc: text("TRIGGER"), Tag: text("p1 t"), Deps: []int32{1, 3, 5, 3}, Defn: text("ALTER TABLE p1 DISABLE TRIGGER t")},
	}}
	for table, want := range map[string]string{
		"p1": "TABLE p1\n",
		"p":  "FUNCTION f()\nTABLE p\nTABLE p1\nTABLE ATTACH p1\nTRIGGER p t\nTRIGGER p1 t\n",
	} {
		got := toc.Select(func(e *archive.Entry) bool { return e.Is("TABLE") && e.Tag.S == table })
		if sel := names(got.Entries); sel != want {
			t.Errorf("%s: got\n%s\nwant\n%s", table, sel, want)
		}
	}
}

func TestAppendList(t *testing.T) {
	toc := readTOC(t, "pg15.dump")
	e := find(t, toc, "TABLE", "users")
	line := *e
	line.Tag.S, line.Owner.S = "a\n12; x", ""
	blob := archive.Entry{DumpID: 7, OID: 4000000000, Desc: archive.Text{S: "BLOB"}, Tag: archive.Text{S: "4000000000"}, Owner: archive.Text{S: "me"}}
	e.OID, line.OID = 1, 2
	want := "217; 1259 1 TABLE app users postgres\n217; 1259 2 TABLE app a 12; x -\n7; 0 4000000000 BLOB - 4000000000 me\n"
	if got := string(archive.AppendList(nil, []*archive.Entry{e, &line, &blob})); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
