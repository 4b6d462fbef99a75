package archive

import (
	"slices"
	"strings"
)

// Selection is a part of a database that can be restored on its own.
type Selection struct {
	// Entries in the order of the table of contents, for AppendList.
	Entries []*Entry

	// LeftOut are entries that belong to something selected but also to something
	// that is not: foreign keys to other tables, the place of a partition
	// in its table, the contents of a materialized view whose tables have no rows.
	LeftOut []*Entry
}

// Select returns what has to be restored for the objects that want says to be there:
//
//   - the objects themselves; of tables also rows, defaults, owned sequences, indexes,
//     constraints, triggers, rules, policies and statistics; partitions of a table;
//   - what these need in order to be created: schemas, extensions, types, functions,
//     and tables, but these as definitions, without rows and indexes;
//   - for each of these sequences where it goes on, for everything comments, privileges
//     and labels;
//   - what joins two tables, as a foreign key, if both are wanted.
//
// Large objects belong to no table, so they are there only if wanted. want is asked
// about objects, not about what comes with one: not about "INDEX" or
// "COMMENT", but about "TABLE", "VIEW", "FUNCTION", "SCHEMA" and "BLOBS".
func (t *TOC) Select(want func(*Entry) bool) Selection {
	s := newSelector(t)
	for i := range t.Entries {
		if e := &t.Entries[i]; s.role(e) == object && want(e) {
			s.add(e, wanted)
		}
	}
	s.settle()

	var left []*Entry
	for i := range t.Entries {
		e := &t.Entries[i]
		if s.role(e) != link {
			continue
		}
		if s.joins(e) {
			s.add(e, needed)
		} else if s.missed(e) {
			left = append(left, e)
		}
	}
	s.settle()

	sel := Selection{LeftOut: left}
	for i := range t.Entries {
		if e := &t.Entries[i]; s.level[e.DumpID] > out {
			sel.Entries = append(sel.Entries, e)
		}
	}
	return sel
}

// Only returns a table of contents with these entries alone, in its own order, and those
// that say how SQL is to be read. The copy shares texts and Deps with t.
func (t *TOC) Only(entries []*Entry) *TOC {
	keep := make(map[int32]bool, len(entries))
	for _, e := range entries {
		keep[e.DumpID] = true
	}
	o := &TOC{Header: t.Header}
	for i := range t.Entries {
		e := &t.Entries[i]
		if keep[e.DumpID] || e.Is("ENCODING") || e.Is("STDSTRINGS") || e.Is("SEARCHPATH") {
			o.Entries = append(o.Entries, *e)
		}
	}
	return o
}

// role is how an entry gets into a selection.
type role byte

const (
	object   role = iota // asked for, or needed
	part                 // with the one table that it belongs to
	property             // with what it is about
	contents             // with the object that it fills
	link                 // with everything that it depends on
	setting              // of the whole database: never
)

// roles of the kinds that are not objects.
var roles = map[string]role{
	"DEFAULT": part, "INDEX": part, "CONSTRAINT": part, "CHECK CONSTRAINT": part, "TRIGGER": part,
	"RULE": part, "POLICY": part, "ROW SECURITY": part, "STATISTICS": part,

	"COMMENT": property, "ACL": property, "SECURITY LABEL": property, "STATISTICS DATA": property,

	KindTableData: contents, KindSequenceSet: contents,

	"FK CONSTRAINT": link, "TABLE ATTACH": link, "INDEX ATTACH": link, "PUBLICATION TABLE": link,
	"SEQUENCE OWNED BY": link, "MATERIALIZED VIEW DATA": link,

	"ENCODING": setting, "STDSTRINGS": setting, "SEARCHPATH": setting, "DATABASE": setting, "DATABASE PROPERTIES": setting,
}

// tables are the kinds that have columns.
var tables = map[string]bool{KindTable: true, "FOREIGN TABLE": true, "VIEW": true, "MATERIALIZED VIEW": true}

// level is how much of an entry is selected.
type level byte

const (
	out    level = iota
	needed       // without what belongs to it
	wanted       // with that
)

type selector struct {
	entries    map[int32]*Entry
	dependents map[int32][]*Entry // entries that depend on the key
	attached   map[int32]int32    // of a partition: the table that an entry attaches it to
	level      map[int32]level
	queue      []*Entry
}

func newSelector(t *TOC) *selector {
	s := &selector{
		entries:    make(map[int32]*Entry, len(t.Entries)),
		dependents: make(map[int32][]*Entry, len(t.Entries)),
		attached:   make(map[int32]int32),
		level:      make(map[int32]level),
	}
	for i := range t.Entries {
		s.entries[t.Entries[i].DumpID] = &t.Entries[i]
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		for _, id := range e.Deps {
			s.dependents[id] = append(s.dependents[id], e)
		}
		if e.Is("TABLE ATTACH") && len(e.Deps) == 2 {
			child, parent := e.Deps[0], e.Deps[1]
			if c := s.entries[child]; c == nil || c.Tag != e.Tag || c.Schema != e.Schema {
				child, parent = parent, child
			}
			s.attached[child] = parent
		}
	}
	return s
}

// role is that of the kind, but the rows of a table that the archive does not have, as
// it is an extension's, are an object of their own; and a trigger that a partition has from
// its table is made with that, and only changed by its own entry.
func (s *selector) role(e *Entry) role {
	r := roles[e.Desc.S]
	switch {
	case r == contents && s.filled(e) == nil:
		return object
	case e.Is("TRIGGER") && slices.ContainsFunc(e.Deps, func(id int32) bool {
		o := s.entries[id]
		return o != nil && o.Is("TRIGGER")
	}):
		return link
	}
	return r
}

// filled is the object whose contents e has.
func (s *selector) filled(e *Entry) *Entry {
	for _, id := range e.Deps {
		if o := s.entries[id]; o != nil && (o.Is(KindTable) || o.Is("FOREIGN TABLE") || o.Is(KindSequence)) {
			return o
		}
	}
	return nil
}

// parent is the table, or the domain, that a part belongs to: the one whose
// name its own begins with, otherwise the first table that it depends on.
func (s *selector) parent(e *Entry) *Entry {
	var first *Entry
	for _, id := range e.Deps {
		o := s.entries[id]
		if o == nil {
			continue
		}
		if o.Schema == e.Schema && strings.HasPrefix(e.Tag.S, o.Tag.S+" ") {
			return o
		}
		if first == nil && tables[o.Desc.S] {
			first = o
		}
	}
	return first
}

func (s *selector) add(e *Entry, l level) {
	if s.level[e.DumpID] < l {
		s.level[e.DumpID] = l
		s.queue = append(s.queue, e)
	}
}

// settle adds what the entries of the queue bring with them.
func (s *selector) settle() {
	for len(s.queue) > 0 {
		e := s.queue[0]
		s.queue = s.queue[1:]
		for _, id := range e.Deps {
			if dep := s.entries[id]; dep != nil && s.needs(e, dep) {
				s.add(dep, needed)
			}
		}
		for _, d := range s.dependents[e.DumpID] {
			s.bring(e, d)
		}
	}
}

// needs reports whether e can't be created without dep. The other dependencies only
// say which comes first.
func (s *selector) needs(e, dep *Entry) bool {
	index := func(e *Entry) bool { return e.Is("INDEX") || e.Is("CONSTRAINT") }
	switch {
	case s.role(e) == link, s.role(dep) == contents:
		return false
	case index(e) && index(dep): // of the table that e's is a partition of
		return false
	case s.attached[e.DumpID] == dep.DumpID:
		return false
	case s.owned(e) && tables[dep.Desc.S]:
		return false
	}
	return true
}

// owned reports whether e is a sequence that can be there without the table it is
// for. That of an identity column can't.
func (s *selector) owned(e *Entry) bool {
	return e.Is(KindSequence) && strings.HasPrefix(e.Defn.S, "CREATE SEQUENCE")
}

// bring adds d, which depends on the selected e, if it belongs to that.
func (s *selector) bring(e, d *Entry) {
	all := s.level[e.DumpID] == wanted
	switch s.role(d) {
	case property:
		if !e.Is("ACL") {
			s.add(d, needed)
		}
	case contents:
		if s.filled(d) == e && (all || e.Is(KindSequence)) {
			s.add(d, needed)
		}
	case part:
		if s.parent(d) == e && (all || !tables[e.Desc.S] || strings.HasSuffix(d.Tag.S, " _RETURN")) {
			s.add(d, needed)
		}
	case link:
		if all && d.Is("TABLE ATTACH") {
			s.bringPartition(e, d)
		}
	case object:
		if all && d.Is(KindSequence) && tables[e.Desc.S] {
			s.add(d, needed)
		}
	}
}

// bringPartition adds the partition that is attached to the table.
func (s *selector) bringPartition(table, attach *Entry) {
	for _, id := range attach.Deps {
		if p := s.entries[id]; p != nil && s.attached[id] == table.DumpID {
			s.add(p, wanted)
		}
	}
}

// joins reports whether everything that a link joins is there.
func (s *selector) joins(e *Entry) bool {
	deps := e.Deps
	if e.Is("SEQUENCE OWNED BY") { // names its table only through the sequence
		for _, id := range e.Deps {
			if seq := s.entries[id]; seq != nil {
				deps = append(deps[:len(deps):len(deps)], seq.Deps...)
			}
		}
	}
	if e.Is("MATERIALIZED VIEW DATA") && !s.filledAll(e, make(map[int32]bool)) {
		return false
	}
	found := false
	for _, id := range deps {
		o := s.entries[id]
		if o == nil {
			continue
		}
		found = true
		if l := s.level[id]; l == out || tables[o.Desc.S] && l < wanted {
			return false
		}
	}
	return found
}

// filledAll reports whether every table that e is made of has its rows.
func (s *selector) filledAll(e *Entry, seen map[int32]bool) bool {
	if seen[e.DumpID] {
		return true
	}
	seen[e.DumpID] = true
	if e.Is(KindTable) && s.level[e.DumpID] < wanted {
		return false
	}
	for _, id := range e.Deps {
		if dep := s.entries[id]; dep != nil && (e.Is("MATERIALIZED VIEW DATA") || s.needs(e, dep)) && !s.filledAll(dep, seen) {
			return false
		}
	}
	return true
}

// missed reports whether people should hear that a link is not there.
func (s *selector) missed(e *Entry) bool {
	if !e.Is("FK CONSTRAINT") && !e.Is("TABLE ATTACH") && !e.Is("MATERIALIZED VIEW DATA") {
		return false
	}
	for _, id := range e.Deps {
		if o := s.entries[id]; o != nil && tables[o.Desc.S] && s.level[id] == wanted {
			return true
		}
	}
	return false
}
