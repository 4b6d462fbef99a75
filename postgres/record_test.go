package postgres_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/copytext"
)

func record() *postgres.Record {
	return &postgres.Record{
		Server:   postgres.Server{Version: "15.18", VersionNumber: 150018, SystemIdentifier: "77", Timeline: 3},
		Database: postgres.Database{Name: "shop", Encoding: "UTF8"},
		Dump:     postgres.Dump{Program: "15.18", Archive: "1.14"},
		Scope:    postgres.Scope{ExcludedContents: []string{"log.*"}},
		Tables: []postgres.Table{
			{File: "public.orders", Schema: "public", Name: "orders", OID: 16384, DumpID: 3371, Columns: []postgres.Name{"id", `na"me`, "latin\xf6"}, Order: []postgres.Name{"id"},
				Totals: postgres.Totals{Rows: 2, Bytes: 9}, Hash: copytext.Hash{1, 2, 3}},
			{File: `public."a.b"`, Schema: "public", Name: "a.b", OID: 16385, DumpID: 3372, Columns: []postgres.Name{}},
		},
		Blobs: []postgres.BlobGroup{{DumpID: 3380}}, BlobTotals: postgres.Totals{Rows: 1, Bytes: 5},
		Globals: postgres.GlobalsWhole,
	}
}

func TestRecord(t *testing.T) {
	r := record()
	p, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := postgres.ParseRecord(p)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v was read as %+v, %v", r, got, err)
	}
	if again, _ := got.Encode(); string(again) != string(p) {
		t.Errorf("%s became %s", p, again)
	}
	if got.Table(`public."a.b"`) != &got.Tables[1] || got.Table("none") != nil {
		t.Error("tables are not found by their files")
	}
	// A field that a later program adds is no reason not to read the rest.
	if _, err := postgres.ParseRecord([]byte(strings.Replace(string(p), "{", `{"later": 1,`, 1))); err != nil {
		t.Error(err)
	}
	for what, bad := range map[string]string{
		"nothing": "", "no JSON": "x", "half": string(p[:len(p)/2]), "more": string(p) + "{}", "no version": `{}`,
		"a later version": strings.Replace(string(p), `"version": 1`, `"version": 2`, 1),
		"two files":       strings.Replace(string(p), `"public.\"a.b\""`, `"public.orders"`, 1),
		"a strange file":  strings.Replace(string(p), `"public.orders"`, `"../orders"`, 1),
		"negative rows":   strings.Replace(string(p), `"rows": 2`, `"rows": -2`, 1),
	} {
		if _, err := postgres.ParseRecord([]byte(bad)); !errors.Is(err, postgres.ErrRecord) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	p, err := record().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := postgres.ParseRecord(p)
		if err != nil {
			return
		}
		p, err = r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := postgres.ParseRecord(p); err != nil {
			t.Errorf("what was read can't be read again: %v\n%s", err, p)
		}
	})
}
