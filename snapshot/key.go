package snapshot

import (
	"errors"
	"fmt"
	"strings"
)

// Key is an entry's place in the tree: the components of its path, joined by
// NUL, so that the order of keys as strings is the order of paths by
// components and what is in a directory stands together. Files of the system
// have an empty first component; contents of other sources begin with the
// source's kind:
//
//	/            ""
//	/srv/x       "\x00srv\x00x"
//	stdin/dump   "stdin\x00dump"
//
// A key is any bytes that a path can be: it need not be UTF-8.
type Key string

// MaxComponent is the largest size of a component of a key in bytes.
const MaxComponent = 255

// KeyOf returns the key of a path as Key.Path writes it: with single slashes,
// and neither "." nor ".." in it. One slash at the end is ignored.
func KeyOf(path string) (Key, error) {
	switch {
	case path == "":
		return "", errors.New("empty path")
	case path == "/":
		return "", nil
	case strings.IndexByte(path, 0) >= 0:
		return "", fmt.Errorf("path %q: it has a NUL byte", path)
	}
	k := Key(strings.ReplaceAll(strings.TrimSuffix(path, "/"), "/", "\x00"))
	if err := k.Validate(); err != nil {
		return "", fmt.Errorf("path %q: %w", path, err)
	}
	return k, nil
}

// Path returns the path that the key stands for, for people and for KeyOf.
func (k Key) Path() string {
	if k == "" {
		return "/"
	}
	return strings.ReplaceAll(string(k), "\x00", "/")
}

// Parent returns the key of the directory that k is in; false if k is the
// start of a source ("/" or a source's kind), which is in none.
func (k Key) Parent() (Key, bool) {
	i := strings.LastIndexByte(string(k), 0)
	if i < 0 {
		return "", false
	}
	return k[:i], true
}

// Base returns the last component; it is empty for "/".
func (k Key) Base() string { return string(k[strings.LastIndexByte(string(k), 0)+1:]) }

// Child returns the key of an entry in the directory k. Whether name can be a
// component, Validate knows.
func (k Key) Child(name string) Key { return k + "\x00" + Key(name) }

// IsBelow reports whether k is inside of the directory dir, at any depth; a key
// is not below itself.
func (k Key) IsBelow(dir Key) bool {
	return len(k) > len(dir) && k[len(dir)] == 0 && k[:len(dir)] == dir
}

// after returns the least string above k and all that is below it. It is no
// key, but the place of one.
func (k Key) after() Key { return k + "\x01" }

// below returns the place of the first key below k.
func (k Key) below() Key { return k + "\x00" }

// Validate reports why k is no key.
func (k Key) Validate() error { return validateKey(string(k), 0) }

var (
	errLongKey    = fmt.Errorf("longer than %d bytes", MaxKey)
	errEmpty      = errors.New("empty component")
	errLong       = fmt.Errorf("component longer than %d bytes", MaxComponent)
	errDots       = errors.New(`component "." or ".."`)
	errSlash      = errors.New("slash in a component")
	errOrder      = errors.New("not in ascending order")
	errNoParent   = errors.New("no entry for the directory that it is in")
	errKeysTooBig = fmt.Errorf("keys of more than %d bytes in a node", MaxNodeKeys)
)

// validateKey is Key.Validate, told that the components that end before byte
// good are valid.
func validateKey[T string | []byte](k T, good int) error {
	if len(k) == 0 {
		return nil
	}
	if len(k) > MaxKey {
		return errLongKey
	}
	start := good
	for start > 0 && k[start-1] != 0 {
		start--
	}
	for i := start; i <= len(k); i++ {
		if i < len(k) && k[i] != 0 {
			if k[i] == '/' {
				return errSlash
			}
			continue
		}
		if n := i - start; n == 0 && start > 0 {
			return errEmpty
		} else if n > MaxComponent {
			return errLong
		} else if n > 0 && n <= 2 && k[start] == '.' && k[i-1] == '.' {
			return errDots
		}
		start = i + 1
	}
	return nil
}

// commonPrefix returns how many bytes a and b begin with together.
func commonPrefix(a, b Key) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// hasParent reports whether the entry before, whose key has prevLen bytes and
// shares the given number with key, leaves no doubt that the directory that key is in
// has an entry. Keys being sorted, all that stands between a directory and an entry in
// it is below the directory too.
func hasParent[T Key | []byte](key T, prevLen, shared int, prevIsDir bool) bool {
	parent := len(key) - 1
	for parent >= 0 && key[parent] != 0 {
		parent--
	}
	if parent < 0 || shared > parent {
		return true
	}
	return shared == parent && prevLen == parent && prevIsDir
}

// sequence checks that entries come in order and after their directories.
type sequence struct {
	prev    Key
	isDir   bool
	started bool
}

// next takes the entry e and returns how much of its key it shares with the
// one before. Partial sequences, such as a leaf's, may begin anywhere.
func (s *sequence) next(e *Entry, partial bool) (shared int, err error) {
	if s.started {
		shared = commonPrefix(s.prev, e.Key)
		if s.prev >= e.Key {
			return 0, fmt.Errorf("%q after %q: %w", e.Key.Path(), s.prev.Path(), errOrder)
		}
	}
	if (s.started || !partial) && !hasParent(e.Key, len(s.prev), shared, s.isDir) {
		return 0, fmt.Errorf("%q: %w", e.Key.Path(), errNoParent)
	}
	*s = sequence{prev: e.Key, isDir: e.Type == Directory, started: true}
	return shared, nil
}
