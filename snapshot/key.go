package snapshot

import (
	"errors"
	"fmt"
	"strings"
)

// Key is the key of an entry: its path with the components joined by NUL
// bytes, so that the order of bytes is the order of components. "/srv/x" is
// "\x00srv\x00x", "/" is "", and "stdin/dump" is "stdin\x00dump".
type Key string

const separator = "\x00"

// KeyOf returns the key of a path, which is clean and may end with a slash.
func KeyOf(path string) (Key, error) {
	if path == "" {
		return "", errors.New("the path is empty")
	}
	if path == "/" {
		return "", nil
	}
	k := Key(strings.ReplaceAll(strings.TrimSuffix(path, "/"), "/", separator))
	if strings.Contains(path, separator) {
		return "", fmt.Errorf("path %q has a NUL byte", path)
	}
	return k, k.Validate()
}

// Path returns the path of a key: absolute for files, without a leading slash
// for other sources.
func (k Key) Path() string {
	if k == "" {
		return "/"
	}
	return strings.ReplaceAll(string(k), separator, "/")
}

// Base returns the last component.
func (k Key) Base() string {
	return string(k[strings.LastIndex(string(k), separator)+1:])
}

// Parent returns the key of the directory that k is in, or false for a key
// that is in none.
func (k Key) Parent() (Key, bool) {
	i := strings.LastIndex(string(k), separator)
	if i < 0 {
		return "", false
	}
	return k[:i], true
}

// Child returns the key of an entry in the directory k.
func (k Key) Child(name string) Key { return k + separator + Key(name) }

// IsBelow reports whether k is somewhere inside of the directory dir.
func (k Key) IsBelow(dir Key) bool {
	return len(k) > len(dir) && k[:len(dir)] == dir && k[len(dir)] == separator[0]
}

// maxName is the greatest length of a component.
const maxName = 255

// Validate reports what is wrong with a key.
func (k Key) Validate() error {
	if k == "" {
		return nil
	}
	rest, first := string(k), true
	for more := true; more; first = false {
		var name string
		name, rest, more = strings.Cut(rest, separator)
		switch {
		case name == "" && first: // an absolute path
		case name == "":
			return fmt.Errorf("path %q has an empty component", k.Path())
		case name == "." || name == "..":
			return fmt.Errorf("path %q has a component %q", k.Path(), name)
		case len(name) > maxName:
			return fmt.Errorf("path %.64q has a component of %d bytes", k.Path(), len(name))
		case strings.IndexByte(name, '/') >= 0:
			return fmt.Errorf("path %q has a slash within a component", k.Path())
		}
	}
	return nil
}
