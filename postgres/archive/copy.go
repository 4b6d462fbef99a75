package archive

import (
	"fmt"
	"strings"
)

// CopyStatement is what a COPY statement of an archive says. Names are as in the
// catalogs, without quotes.
type CopyStatement struct {
	// Schema and Table name where rows go. That need not be the table they came
	// from: those of a partition may go to the table it is a part of. Entry.Relation
	// is where they came from.
	Schema, Table string // Schema is "" in archives of version 1.12
	Columns       []string
}

// ParseCopy parses the COPY statement of an entry, as pg_dump writes it:
//
//	COPY app."or der" (id, "na""me") FROM stdin;
//
// A name in quotes may have anything in it. The text must be in an encoding in which no byte
// of a longer character is ASCII, as it is in all that servers use (other than clients,
// whose SJIS, BIG5, GBK, UHC, JOHAB and GB18030 have backslashes, and GB18030 digits, inside
// of characters): then looking at bytes finds every quote.
func ParseCopy(stmt string) (CopyStatement, error) {
	p := copyParser{stmt}
	c, ok := p.statement()
	if !ok {
		return CopyStatement{}, fmt.Errorf("the COPY statement %q is not as pg_dump writes it: %w", stmt, ErrCorrupt)
	}
	return c, nil
}

// copyParser has what is left of the statement.
type copyParser struct{ rest string }

func (p *copyParser) statement() (c CopyStatement, ok bool) {
	if !p.skip("COPY ") {
		return c, false
	}
	if c.Table, ok = p.name(); !ok {
		return c, false
	}
	if p.skip(".") {
		c.Schema = c.Table
		if c.Table, ok = p.name(); !ok {
			return c, false
		}
	}
	if !p.skip(" ") {
		return c, false
	}
	if p.skip("(") {
		for {
			column, ok := p.name()
			if !ok {
				return c, false
			}
			c.Columns = append(c.Columns, column)
			if !p.skip(", ") {
				break
			}
		}
		if !p.skip(")") {
			return c, false
		}
	}
	return c, p.skip(" FROM stdin;\n") && p.rest == ""
}

func (p *copyParser) skip(s string) (ok bool) {
	p.rest, ok = strings.CutPrefix(p.rest, s)
	return ok
}

// name reads an identifier: in quotes with those inside doubled, or of letters that
// pg_dump leaves without.
func (p *copyParser) name() (string, bool) {
	if p.skip(`"`) {
		var name strings.Builder
		for {
			before, after, ok := strings.Cut(p.rest, `"`)
			if !ok {
				return "", false
			}
			name.WriteString(before)
			if p.rest = after; !p.skip(`"`) {
				return name.String(), name.Len() > 0
			}
			name.WriteByte('"')
		}
	}
	n := strings.IndexFunc(p.rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
	if n <= 0 {
		return "", false
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name, true
}

// QuoteName returns a name as SQL has it in quotes.
func QuoteName(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Relation returns the name of the table whose data the entry of the kind
// KindTableData has, or of another object with a schema, as SQL has it in quotes.
func (e *Entry) Relation() string {
	if e.Schema.S == "" {
		return QuoteName(e.Tag.S)
	}
	return QuoteName(e.Schema.S) + "." + QuoteName(e.Tag.S)
}
