package termui

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Column describes a column of a Table.
type Column struct {
	Title string
	// Right aligns the column to the right, as numbers want it.
	Right bool
	// Shrink allows to cut off the ends of long cells, with an ellipsis, where
	// the table is wider than the terminal.
	Shrink bool
}

// Table collects rows and writes them in aligned columns. It is not safe for
// concurrent use.
type Table struct {
	columns []Column
	widths  []int
	rows    [][]string
}

const (
	columnGap = "  "
	minShrunk = 8 // a column does not shrink below this
)

// NewTable returns a table without rows.
func NewTable(columns ...Column) *Table {
	t := &Table{columns: columns, widths: make([]int, len(columns))}
	for i, c := range columns {
		t.widths[i] = textColumns(c.Title)
	}
	return t
}

// Row adds a row with one cell for each column; what is missing at the end is
// empty. Cells are made harmless with Clean; for names use Quote. It panics if
// there are more cells than columns.
func (t *Table) Row(cells ...string) {
	if len(cells) > len(t.columns) {
		panic(fmt.Sprintf("termui: %d cells for %d columns", len(cells), len(t.columns)))
	}
	row := make([]string, len(t.columns))
	for i, c := range cells {
		row[i] = Clean(c)
		t.widths[i] = max(t.widths[i], textColumns(row[i]))
	}
	t.rows = append(t.rows, row)
}

// Len returns the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes a line with the titles, if any column has one, and a line for
// each row. With width above 0, as Width gives it for a terminal, it shrinks
// columns so that lines fit where that is possible.
func (t *Table) Write(w io.Writer, width int) error {
	out := bufio.NewWriter(w)
	widths := t.fit(width)
	titles, titled := make([]string, len(t.columns)), false
	for i, c := range t.columns {
		titles[i] = c.Title
		titled = titled || c.Title != ""
	}
	if titled {
		t.writeRow(out, titles, widths)
	}
	for _, row := range t.rows {
		t.writeRow(out, row, widths)
	}
	return out.Flush()
}

// writeRow leaves errors to out, which keeps the first for Flush.
func (t *Table) writeRow(out *bufio.Writer, cells []string, widths []int) {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteString(columnGap)
		}
		cell = truncate(cell, widths[i])
		pad := strings.Repeat(" ", widths[i]-textColumns(cell))
		if t.columns[i].Right {
			line.WriteString(pad + cell)
		} else {
			line.WriteString(cell + pad)
		}
	}
	out.WriteString(strings.TrimRight(line.String(), " "))
	out.WriteByte('\n')
}

// fit returns the widths of the columns, of which the widest have been shrunk
// evenly to make a line fit.
func (t *Table) fit(width int) []int {
	widths := append([]int(nil), t.widths...)
	if width <= 0 {
		return widths
	}
	line := len(columnGap) * (len(widths) - 1)
	for _, w := range widths {
		line += w
	}
	for ; line > width; line-- {
		widest := -1
		for i, c := range t.columns {
			if c.Shrink && widths[i] > minShrunk && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}
