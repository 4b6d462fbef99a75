package backend

import (
	"fmt"
	"strings"
)

// MaxName is the greatest length of a name in bytes.
const MaxName = 255

// ValidName returns nil if name is the name of an object as the package comment
// defines it, and otherwise says what is wrong with it.
func ValidName(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("invalid object name %.40q...: longer than %d bytes", name, MaxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "":
			return fmt.Errorf("invalid object name %q: empty component", name)
		case ".", "..":
			return fmt.Errorf("invalid object name %q: component %q", name, part)
		}
		for i := range len(part) {
			c := part[i]
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
				return fmt.Errorf("invalid object name %q: only a-z, 0-9, dot, hyphen and slash are allowed", name)
			}
		}
	}
	return nil
}

// ValidPrefix returns nil if prefix may be given to List: it is empty, or a
// valid name followed by "/".
func ValidPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	dir, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("invalid prefix %q: must be empty or end with a slash", prefix)
	}
	if err := ValidName(dir); err != nil {
		return fmt.Errorf("invalid prefix %q: %w", prefix, err)
	}
	return nil
}
