// Package termui is how the command line talks to people and to scripts: the
// forms of sizes, times and names, tables, the status line, and JSON.
//
// Data goes to stdout, everything else to stderr. Names of files, hosts and tags
// come from whoever could make such a file, and may hold escape sequences that
// a terminal obeys; everything in this package that prints makes them harmless,
// see Quote and Clean. Nothing here emits an escape sequence of its own, nor
// colour, so NO_COLOR has nothing to turn off.
package termui

import (
	"os"

	"golang.org/x/term"
)

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Width returns the number of columns of the terminal f, and 0, which stands for
// no limit, if f is none or does not know.
func Width(f *os.File) int {
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil || w < 0 {
		return 0
	}
	return w
}
