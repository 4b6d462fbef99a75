package chunk_test

import (
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/chunk"
)

func TestParseID(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	id, err := chunk.ParseID(good)
	if err != nil || id.String() != good || id.Short() != "0123456789" || id.IsZero() {
		t.Errorf("ParseID(%q) = %v, %v", good, id, err)
	}
	for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), good[:63] + "g", good[:62] + " 0"} {
		if id, err := chunk.ParseID(bad); err == nil || !id.IsZero() {
			t.Errorf("ParseID(%q) = %v, %v, want the zero ID and an error", bad, id, err)
		}
	}
}

func TestKind(t *testing.T) {
	for _, c := range []struct {
		kind        chunk.Kind
		name        string
		valid, meta bool
	}{
		{0, "kind 0", false, false},
		{chunk.Data, "data", true, false},
		{chunk.Node, "node", true, true},
		{chunk.List, "list", true, true},
		{4, "kind 4", false, false},
	} {
		if k := c.kind; k.String() != c.name || k.Valid() != c.valid || k.IsMeta() != c.meta {
			t.Errorf("%d: String %q, Valid %v, IsMeta %v; want %+v", uint8(k), k, k.Valid(), k.IsMeta(), c)
		}
	}
}

// What parses prints as it was.
func FuzzParseID(f *testing.F) {
	f.Add(strings.Repeat("0", 64))
	f.Add(strings.Repeat("0123456789abcdef", 4))
	f.Add(strings.Repeat("F", 64))
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := chunk.ParseID(s); err == nil && id.String() != s {
			t.Errorf("%q parses as the ID %s", s, id)
		}
	})
}
