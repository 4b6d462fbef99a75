package corpus

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

// Dump is a dump of a database as pg_dump writes it in plain text: a table of accounts as
// pgbench makes them, one of documents with text and JSON, one of events to which is
// only ever appended. Rows stand in the order of the heap, the tables' files.
//
// From one version to the next 1 % of the accounts and documents are updated at random and
// rows are added. PostgreSQL never overwrites a row: the new version of half of those that
// are updated goes behind the table's end, and after a VACUUM that of the other half into
// the places that the first half has left. So an updated row is gone from its place, and
// stands, little changed, somewhere else.
type Dump struct {
	Size    int64 // about how many bytes the first version has
	Version int   // from 1
}

const (
	updatedRows  = 100 // one row in so many is updated
	appendedRows = 500 // for so many rows, one is added; of events five times as many
)

// dumpTable says how a table of a dump is made.
type dumpTable struct {
	name, columns string
	share         int64 // of the dump, in percent
	width         int64 // of a row, in bytes on average
	appendOnly    bool
	row           func(b []byte, row, revision uint32) []byte
}

var dumpTables = []dumpTable{
	{"pgbench_accounts", "aid, bid, abalance, filler", 45, 99, false, appendAccount},
	{"documents", "id, author, created, modified, state, attributes, body", 40, 498, false, appendDocument},
	{"events", "id, at, kind, document, detail", 15, 150, true, appendEvent},
}

// WriteTo implements [io.WriterTo].
func (d Dump) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	b := bufio.NewWriterSize(c, 1<<16)
	b.WriteString("--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\n")
	var line []byte
	for i, t := range dumpTables {
		fmt.Fprintf(b, "\n--\n-- Data for Name: %s; Type: TABLE DATA; Schema: public; Owner: postgres\n--\n\nCOPY public.%s (%s) FROM stdin;\n", t.name, t.name, t.columns)
		for _, tuple := range t.heap(d, uint64(i)) {
			if tuple.row == 0 {
				continue
			}
			line = append(t.row(line[:0], tuple.row, tuple.revision), '\n')
			if _, err := b.Write(line); err != nil {
				return c.n, err
			}
		}
		b.WriteString("\\.\n\n")
	}
	b.WriteString("--\n-- PostgreSQL database dump complete\n--\n\n")
	return c.n, b.Flush()
}

// tuple is a version of a row in its place of the heap; row 0 is a free place.
type tuple struct{ row, revision uint32 }

// heap is the table as it is after the changes that lead to the dump's version.
func (t dumpTable) heap(d Dump, seed uint64) []tuple {
	rows := uint32(max(1, d.Size*t.share/100/t.width))
	heap := make([]tuple, rows, rows+rows/20)
	for i := range heap {
		heap[i].row = uint32(i) + 1
	}
	for version := 2; version <= d.Version; version++ {
		r := rand.New(rand.NewPCG(seed, uint64(version)))
		added := len(heap) / appendedRows
		if t.appendOnly {
			added *= 5
		} else {
			heap = update(heap, r)
		}
		for range added {
			rows++
			heap = append(heap, tuple{row: rows})
		}
	}
	return heap
}

// update updates some of the rows, with a VACUUM after the first half.
func update(heap []tuple, r *rand.Rand) []tuple {
	n := max(1, len(heap)/updatedRows)
	places := len(heap)
	var free []int
	for half := range 2 {
		var dead []int
		for range (n + half) / 2 {
			i := r.IntN(places)
			for heap[i].row == 0 {
				i = r.IntN(places)
			}
			next := tuple{heap[i].row, heap[i].revision + 1}
			heap[i] = tuple{}
			dead = append(dead, i)
			if len(free) == 0 {
				heap = append(heap, next)
				continue
			}
			k := r.IntN(len(free))
			heap[free[k]] = next
			free[k] = free[len(free)-1]
			free = free[:len(free)-1]
		}
		free = append(free, dead...)
	}
	return heap
}

var dumpBegin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// rowRand is random for a row, and with a revision for what its updates change.
func rowRand(table, row, revision uint32) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(table)<<32|uint64(revision), uint64(row)))
}

const filler = "                                                                                    "

func appendAccount(b []byte, row, revision uint32) []byte {
	b = append(strconv.AppendUint(b, uint64(row), 10), '\t')
	b = append(strconv.AppendUint(b, uint64((row-1)/100_000)+1, 10), '\t')
	balance := int64(0)
	if revision > 0 {
		balance = rowRand(1, row, revision).Int64N(10_000) - 5000
	}
	b = append(strconv.AppendInt(b, balance, 10), '\t')
	return append(b, filler...)
}

func appendDocument(b []byte, row, revision uint32) []byte {
	r := rowRand(2, row, 0)
	prose := NewProse(r)
	created := dumpBegin.Add(time.Duration(row)*time.Minute + time.Duration(r.IntN(60))*time.Second)
	modified, state, views := created, []string{"draft", "review", "published"}[r.IntN(3)], r.IntN(100)
	if revision > 0 {
		u := rowRand(2, row, revision)
		modified = created.Add(time.Duration(revision)*240*time.Hour + time.Duration(u.IntN(86400))*time.Second)
		state, views = "published", views+u.IntN(1000)
	}
	b = append(strconv.AppendUint(b, uint64(row), 10), '\t')
	b = append(prose.Append(b, 2), '\t')
	b = append(created.AppendFormat(b, time.DateTime), '\t')
	b = append(modified.AppendFormat(b, time.DateTime), '\t')
	b = append(append(b, state...), '\t')
	b = fmt.Appendf(b, `{"key": "%016x", "tags": ["%s", "%s"], "views": %d, "lang": "%s"}`, r.Uint64(), prose.Word(), prose.Word(), views, []string{"en", "de", "fr"}[r.IntN(3)])
	b = append(b, '\t')
	return prose.Append(b, 20+r.IntN(80))
}

func appendEvent(b []byte, row, _ uint32) []byte {
	r := rowRand(3, row, 0)
	at := dumpBegin.Add(time.Duration(row)*7*time.Second + time.Duration(r.IntN(7000))*time.Millisecond)
	b = append(strconv.AppendUint(b, uint64(row), 10), '\t')
	b = append(at.AppendFormat(b, "2006-01-02 15:04:05.000"), '\t')
	b = append(append(b, []string{"login", "view", "edit", "comment"}[r.IntN(4)]...), '\t')
	b = append(strconv.AppendUint(b, uint64(r.IntN(1<<20)), 10), '\t')
	return fmt.Appendf(b, `{"session": "%016x", "address": "10.%d.%d.%d", "agent": "%s/%d.%d", "ms": %d}`,
		r.Uint64(), r.IntN(256), r.IntN(256), r.IntN(256), Words()[r.IntN(8)], r.IntN(20), r.IntN(10), r.IntN(5000))
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
