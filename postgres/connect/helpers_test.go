package connect_test

import (
	"maps"
	"slices"
	"strings"
)

// sorted writes variables in one line.
func sorted(vars map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		words = append(words, name+"="+vars[name])
	}
	return strings.Join(words, " ")
}
