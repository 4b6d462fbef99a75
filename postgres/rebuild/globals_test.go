package rebuild

import "testing"

func TestSubjectOf(t *testing.T) {
	for sql, want := range map[string]subject{
		"CREATE ROLE joe;":                                   {roles, "joe"},
		"ALTER ROLE \"a \"\" TO b\" WITH LOGIN;":             {roles, `a " TO b`},
		"ALTER ROLE joe SET search_path TO 'x';":             {roles, "joe"},
		"COMMENT ON ROLE joe IS 'GRANT x TO y';":             {roles, "joe"},
		"SECURITY LABEL FOR p ON ROLE joe IS 'x';":           {roles, "joe"},
		"GRANT \"x TO y\" TO joe WITH ADMIN OPTION;":         {roles, "joe"},
		"GRANT x TO \"jo e\" GRANTED BY postgres;":           {roles, "jo e"},
		"GRANT SET ON PARAMETER work_mem TO joe;":            {roles, "joe"},
		"CREATE TABLESPACE ssd OWNER joe LOCATION '/x';":     {tablespaces, "ssd"},
		"ALTER TABLESPACE ssd SET (seq_page_cost=1);":        {tablespaces, "ssd"},
		"COMMENT ON TABLESPACE \"s d\" IS 'x';":              {tablespaces, "s d"},
		"SECURITY LABEL FOR p ON TABLESPACE ssd IS 'x';":     {tablespaces, "ssd"},
		"GRANT ALL ON TABLESPACE ssd TO joe;":                {tablespaces, "ssd"},
		"REVOKE ALL ON TABLESPACE ssd FROM PUBLIC;":          {tablespaces, "ssd"},
		"GRANT \" ON TABLESPACE x\" TO joe;":                 {roles, "joe"},
		"SET client_encoding = 'UTF8';":                      {},
		"SELECT pg_catalog.set_config('search_path', '', 1)": {},
	} {
		if got, _ := subjectOf(sql); got != want {
			t.Errorf("%s: changes %+v, want %+v", sql, got, want)
		}
	}
}
