package reload

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-backup/cairn/postgres/archive"
)

// phases are the entries of a database in three parts, each to be restored after the
// one before.
type phases struct {
	definitions []*archive.Entry // of what rows need: tables, types, functions, large objects without contents
	contents    []batch          // rows and large objects, in any order
	rest        []*archive.Entry // foreign keys, triggers, privileges, where sequences go on, ...
}

// batch is contents that one process restores.
type batch struct {
	entries []*archive.Entry
	items   []archive.Item
	size    int64

	// Indexes of the tables, and constraints that are indexes: to be made by the same
	// process after the rows, or with the rest.
	indexes []*archive.Entry
}

// A batch is so small that all jobs have something to do to the end, and so large that
// starting a process costs little beside it. It is one transaction, and all of them share
// some thousand locks.
const (
	batchesPerJob   = 8
	smallestBatch   = 8 << 20
	entriesPerBatch = 100
)

// split divides a database for so many jobs.
func (d *Database) split(jobs int) phases {
	var p phases
	var all []batch           // one for each entry with contents
	at := make(map[int32]int) // dump ID of the entry, or of its table
	for i := range d.TOC.Entries {
		e := &d.TOC.Entries[i]
		if !e.HasData {
			continue
		}
		at[e.DumpID] = len(all)
		if e.Is(archive.KindTableData) && len(e.Deps) > 0 {
			at[e.Deps[0]] = len(all)
		}
		all = append(all, batch{entries: []*archive.Entry{e}})
	}
	tables := make(map[int32]bool)
	for i := range d.TOC.Entries {
		if e := &d.TOC.Entries[i]; e.Is(archive.KindTable) {
			tables[e.DumpID] = true
		}
	}
	for _, item := range d.Items {
		b := &all[at[item.DumpID]]
		b.items = append(b.items, item)
		b.size += item.Size
	}
	before := true // the first contents
	for i := range d.TOC.Entries {
		e := &d.TOC.Entries[i]
		before = before && e.Section < archive.SectionData
		switch k := creates(d.TOC, e); {
		case e.HasData:
		case k != 0:
			b := &all[at[k]]
			b.entries = append(b.entries, e)
		case e.Is("INDEX"), e.Is("CONSTRAINT"):
			if n, ok := at[onlyTable(e, tables)]; ok {
				all[n].indexes = append(all[n].indexes, e)
			} else {
				p.rest = append(p.rest, e)
			}
		case e.Section == archive.SectionPreData, before && e.Section == archive.SectionNone && !e.Is("ACL"):
			p.definitions = append(p.definitions, e)
		default:
			p.rest = append(p.rest, e)
		}
	}
	p.contents = join(all, jobs)
	return p
}

// creates returns the entry of large objects that e creates, where that is the business of
// the entry's own batch: from version 1.16 that counts as data.
func creates(t *archive.TOC, e *archive.Entry) int32 {
	if !e.Is(archive.KindBlobMetadata) {
		return 0
	}
	for i := range t.Entries {
		if b := &t.Entries[i]; b.HasData && b.Is(archive.KindBlobs) && slices.Contains(b.Deps, e.DumpID) {
			return b.DumpID
		}
	}
	return 0
}

// onlyTable returns the table that e depends on, 0 if it is not one.
func onlyTable(e *archive.Entry, tables map[int32]bool) (table int32) {
	for _, id := range e.Deps {
		switch {
		case !tables[id], id == table:
		case table != 0:
			return 0
		default:
			table = id
		}
	}
	return table
}

// join makes batches of small ones, the largest first.
func join(all []batch, jobs int) (joined []batch) {
	var total int64
	for _, b := range all {
		total += b.size
	}
	slices.SortStableFunc(all, func(a, b batch) int { return cmp.Compare(b.size, a.size) })
	full := max(smallestBatch, total/int64(batchesPerJob*jobs))
	for _, b := range all {
		if n := len(joined); n > 0 && joined[n-1].size+b.size <= full && len(joined[n-1].entries) < entriesPerBatch {
			last := &joined[n-1]
			last.entries = append(last.entries, b.entries...)
			last.items = append(last.items, b.items...)
			last.indexes = append(last.indexes, b.indexes...)
			last.size += b.size
			continue
		}
		joined = append(joined, b)
	}
	return joined
}

// part is the database with some of its entries alone, and their contents.
func (d *Database) part(entries []*archive.Entry, items []archive.Item) *Database {
	part := *d
	part.TOC = d.TOC.Only(entries)
	nth := make(map[int32]int)
	for i := range part.TOC.Entries {
		nth[part.TOC.Entries[i].DumpID] = i
	}
	part.Items = slices.Clone(items)
	slices.SortStableFunc(part.Items, func(a, b archive.Item) int { return cmp.Compare(nth[a.DumpID], nth[b.DumpID]) })
	return &part
}

// finishing is the database without contents, for pg_restore -j to restore the rest of.
// Besides its entries it has tables that are not created: that what alters one of them waits
// for others who do, pg_restore finds through their entries.
//
// It takes no entry of an index for one that alters its table. Where the SQL does, as for
// CLUSTER and REPLICA IDENTITY, two at once can end in a deadlock; so these pass for
// constraints.
func (d *Database) finishing(rest []*archive.Entry) *Database {
	all := slices.Clone(rest)
	for i := range d.TOC.Entries {
		if e := &d.TOC.Entries[i]; e.Is(archive.KindTable) {
			all = append(all, e)
		}
	}
	part := d.part(all, nil)
	for i := range part.TOC.Entries {
		switch e := &part.TOC.Entries[i]; {
		case e.Is(archive.KindTable):
			e.Defn = archive.Text{Null: true}
		case e.Is("INDEX") && strings.Contains(e.Defn.S, "\nALTER TABLE "):
			e.Desc.S = "CONSTRAINT"
		}
	}
	return part
}

// drops is a table of contents of which pg_restore --clean makes the statements that
// drop everything, in the right order, and then creates nothing.
func drops(t *archive.TOC) *archive.TOC {
	c := &archive.TOC{Header: t.Header}
	last := int32(0)
	for i := range t.Entries {
		last = max(last, t.Entries[i].DumpID)
	}
	null := archive.Text{Null: true}
	for i := range t.Entries {
		e := t.Entries[i]
		if e.Is(archive.KindBlobMetadata) {
			c.Entries = append(c.Entries, dropBlobs(&e, last)...)
			last += int32(strings.Count(e.Defn.S, "\n"))
			continue
		}
		e.HasData = false
		if !e.Is("ENCODING") && !e.Is("STDSTRINGS") && !e.Is("SEARCHPATH") {
			e.Defn, e.Owner, e.Tablespace, e.TableAM, e.RelKind = comment, archive.Text{}, null, null, 0
		}
		c.Entries = append(c.Entries, e)
	}
	return c
}

// comment is SQL that does nothing.
var comment = archive.Text{S: "--\n"}

// dropBlobs returns entries for large objects that one entry creates, a line of its
// definition each, as they were until version 1.15. Those pg_restore can drop without
// creating them again. Dump IDs are those after last.
func dropBlobs(e *archive.Entry, last int32) (all []archive.Entry) {
	for line := range strings.Lines(e.Defn.S) {
		tag := strings.TrimSuffix(line, "\n")
		oid, err := strconv.ParseUint(tag, 10, 32)
		if err != nil {
			continue // is created by no pg_restore either
		}
		last++
		all = append(all, archive.Entry{
			DumpID: last, TableOID: e.TableOID, OID: uint32(oid), Tag: archive.Text{S: tag}, Desc: archive.Text{S: archive.KindBlob},
			Section: archive.SectionPreData, Defn: comment, Drop: archive.Text{S: "SELECT pg_catalog.lo_unlink('" + tag + "');\n"},
			Copy: e.Copy, Schema: e.Schema, Tablespace: e.Tablespace, TableAM: e.TableAM, WithOIDs: e.WithOIDs,
		})
	}
	return all
}
