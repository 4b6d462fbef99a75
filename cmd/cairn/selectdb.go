package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cairn-backup/cairn/internal/termui"
	"github.com/cairn-backup/cairn/postgres/archive"
	"github.com/cairn-backup/cairn/postgres/stored"
)

// wanted returns what --pg-schema and --pg-table choose, nil for everything. A pattern in which nothing fits is an
// error: who misspells one of several tables would take what comes for all that was asked for.
func wanted(c *cli.Context, d *stored.Database) (func(*archive.Entry) bool, error) {
	var all []func(*archive.Entry) bool
	for _, by := range []struct {
		flag string
		fits func(pattern string, e *archive.Entry) bool
	}{{"pg-schema", isOfSchema}, {"pg-table", isTable}} {
		for _, pattern := range c.StringSlice(by.flag) {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, usagef("--%s %q: a bracket or backslash has no end", by.flag, pattern)
			}
			fits := func(e *archive.Entry) bool { return by.fits(pattern, e) }
			if !slices.ContainsFunc(d.TOC.Entries, func(e archive.Entry) bool { return fits(&e) }) {
				return nil, fmt.Errorf("--%s %s: nothing in %s fits; nothing was restored", by.flag, termui.Quote(pattern), termui.Quote(d.Key.Path()))
			}
			all = append(all, fits)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return func(e *archive.Entry) bool {
		return slices.ContainsFunc(all, func(fits func(*archive.Entry) bool) bool { return fits(e) })
	}, nil
}

// isOfSchema reports whether an entry is a schema whose name fits, or in one.
func isOfSchema(pattern string, e *archive.Entry) bool {
	return fitsAny(pattern, e.Schema.S) || e.Is(archive.KindSchema) && fitsAny(pattern, e.Tag.S)
}

// isTable reports whether an entry is a table whose name fits, or something that can be selected from like one. A
// pattern with a dot is compared with schema and name.
func isTable(pattern string, e *archive.Entry) bool {
	for _, kind := range []string{archive.KindTable, "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", archive.KindSequence} {
		if e.Is(kind) {
			return fitsAny(pattern, e.Tag.S, e.Schema.S+"."+e.Tag.S)
		}
	}
	return false
}

func fitsAny(pattern string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		ok, _ := path.Match(pattern, name) // it was tried
		return ok
	})
}

// leftOut warns of what belongs to something that was not wanted.
func (p *program) leftOut(entries []*archive.Entry) {
	for _, e := range entries {
		p.warn("left out, as it needs what is not restored: %s %s", strings.ToLower(e.Desc.S), termui.Quote(e.Tag.S))
	}
}
