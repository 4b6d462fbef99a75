// Package gitignore decides which paths a set of exclusion patterns excludes,
// with the meaning that gitignore(5) gives to them.
//
// A pattern without a slash, other than one at its end, matches the last
// component of a path at any depth. Any other pattern is anchored: it matches
// the whole path below the set's base directory. A slash at the end restricts a
// pattern to directories. "*" and "?" match what is no slash, "[...]" one byte
// of a class, "**" as a whole component any number of components, a backslash
// takes the meaning from the byte after it. "!" in front brings back what an
// earlier pattern excluded. The last pattern that matches decides; but nothing
// below an excluded directory can be brought back.
//
// Paths and patterns are bytes and need not be UTF-8: "?" is one byte, as in
// git, and upper and lower case differ.
//
// Two things differ from git on purpose:
//
//   - A pattern that can never match ("foo[", "./foo", "a//b") is an error here,
//     while git ignores it. A backup that silently keeps what somebody meant to
//     exclude is worse than one that refuses to start.
//   - "**" that is not a whole component means "*", as gitignore(5) says. Git's
//     code takes "a/b**/c" for "a/b" followed by "**/c", so that it also
//     excludes a/bc.
package gitignore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxLine is the length in bytes of the longest line that AddFrom accepts. It
// is far above the longest path, and keeps a wrong file, such as a device, from
// filling the memory.
const MaxLine = 1 << 20

// Set is a list of patterns below one base directory. It may be used from many
// goroutines at once as long as none adds to it. The zero value is not
// usable; see New.
type Set struct {
	base     string // "" for "/", else without a slash at its end
	patterns []pattern

	// The three most frequent forms of pattern are found by one map look-up
	// each, however many there are; only the others are tried one by one.
	names   map[string]rank // "name": the last component
	exts    map[string]rank // "*.ext": the last component from its last dot on
	paths   map[string]rank // "/a/b": the path below base
	general []int           // indices in patterns, ascending
}

// Decision says what a Set says about a path.
type Decision struct {
	Excluded bool
	// Pattern is the pattern that decided, as it was written, and Origin where
	// it came from. Both are empty if no pattern matched; with a pattern and
	// Excluded false, a "!" pattern brought the path back.
	Pattern, Origin string
}

// PatternError is a pattern that can never match anything.
type PatternError struct {
	Pattern string
	Origin  string // as it was given to Add
	Problem string
}

func (e *PatternError) Error() string {
	return fmt.Sprintf("pattern %q (%s): %s", e.Pattern, e.Origin, e.Problem)
}

// pattern is one pattern after compilation.
type pattern struct {
	text, origin string
	negated      bool
	dirOnly      bool
	whole        bool // matched against the path below base, not the last component
	glob         glob
}

// rank remembers, for patterns with the same literal, the last one that holds
// for everything and the last one that holds for directories only, as
// index in Set.patterns plus one.
type rank struct{ any, dir int }

func (r rank) last(isDir bool) int {
	if isDir {
		return max(r.any, r.dir)
	}
	return r.any
}

// New returns an empty set. base is the absolute path of the directory that
// anchored patterns are anchored at and below which the set holds at all: "/"
// for patterns of a command line or a global file.
func New(base string) *Set {
	return &Set{
		base:  strings.TrimRight(base, "/"),
		names: make(map[string]rank),
		exts:  make(map[string]rank),
		paths: make(map[string]rank),
	}
}

// Parse reads a file of patterns that are anchored at "/". name is what
// decisions and errors call the file. See Set.AddFrom.
func Parse(r io.Reader, name string) (*Set, error) {
	s := New("/")
	if err := s.AddFrom(r, name); err != nil {
		return nil, err
	}
	return s, nil
}

// AddFrom adds the patterns of a file, one a line. Empty lines and lines that
// start with "#" are skipped, spaces at the end of a line are cut off unless a
// backslash precedes them, and so are a carriage return there and a byte order
// mark at the start of the file. The origin of a pattern is "name:line". An
// error is of type *PatternError, or one of reading, and leaves the patterns of
// the lines before in the set.
func (s *Set) AddFrom(r io.Reader, name string) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, MaxLine)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = trimSpaces(line)
		if line == "" {
			continue
		}
		if err := s.Add(line, fmt.Sprintf("%s:%d", name, n)); err != nil {
			return err
		}
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("read exclusion patterns from %s: a line has more than %d bytes; is this a text file?", name, MaxLine)
	} else if err != nil {
		return fmt.Errorf("read exclusion patterns from %s: %w", name, err)
	}
	return nil
}

// trimSpaces cuts off the spaces at the end of a line that no backslash
// protects.
func trimSpaces(line string) string {
	end := 0 // after the last byte that stays
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
		} else if line[i] == ' ' {
			continue
		}
		end = min(i+1, len(line))
	}
	return line[:end]
}

// Add adds one pattern, which from now on decides before all patterns added
// earlier. Unlike a line of a file it is taken as it is: "#" starts no comment
// and spaces stay. origin says where the pattern came from, for people, such as
// "--exclude". A pattern that can never match is a *PatternError and is not
// added.
func (s *Set) Add(text, origin string) error {
	p, form, literal, err := compile(text)
	if err != nil {
		return &PatternError{Pattern: text, Origin: origin, Problem: err.Error()}
	}
	p.origin = origin
	s.patterns = append(s.patterns, p)
	n := len(s.patterns)
	switch form {
	case formName:
		add(s.names, literal, p.dirOnly, n)
	case formExt:
		add(s.exts, literal, p.dirOnly, n)
	case formPath:
		add(s.paths, literal, p.dirOnly, n)
	case formGeneral:
		s.general = append(s.general, n-1)
	}
	return nil
}

func add(m map[string]rank, literal string, dirOnly bool, n int) {
	r := m[literal]
	if dirOnly {
		r.dir = n
	} else {
		r.any = n
	}
	m[literal] = r
}

// Len returns the number of patterns.
func (s *Set) Len() int { return len(s.patterns) }

// Match decides on path alone, an absolute path without empty, "." or ".."
// components. A path without a leading slash, as entries of a stream have, is
// taken as if it had one. Match does not look at the directories above: the
// caller must not descend into directories that are excluded, which is what
// keeps everything below them excluded. See MatchWithParents.
//
// A path that is not below the set's base, or is the base itself, is never
// excluded.
func (s *Set) Match(path string, isDir bool) Decision {
	if len(s.patterns) == 0 {
		return Decision{}
	}
	rel, ok := s.below(path)
	if !ok {
		return Decision{}
	}
	return s.match(rel, isDir)
}

// MatchWithParents decides like Match, after it has asked for each directory
// between the base and path whether that is excluded. It is for paths that come
// from elsewhere than a walk.
func (s *Set) MatchWithParents(path string, isDir bool) Decision {
	rel, ok := s.below(path)
	if !ok {
		return Decision{}
	}
	for i := 0; i < len(rel); i++ {
		if rel[i] != '/' {
			continue
		}
		if d := s.match(rel[:i], true); d.Excluded {
			return d
		}
	}
	return s.match(rel, isDir)
}

// below returns path relative to the base and whether it is below it.
func (s *Set) below(path string) (string, bool) {
	if len(path) == 0 {
		return "", false
	}
	if path[0] != '/' {
		return path, s.base == ""
	}
	if !strings.HasPrefix(path, s.base) {
		return "", false
	}
	rel := path[len(s.base):]
	if len(rel) < 2 || rel[0] != '/' {
		return "", false
	}
	return rel[1:], true
}

func (s *Set) match(rel string, isDir bool) Decision {
	name := rel[strings.LastIndexByte(rel, '/')+1:]
	best := 0 // index of the last match so far, plus one
	if len(s.names) > 0 {
		best = s.names[name].last(isDir)
	}
	if len(s.exts) > 0 {
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			best = max(best, s.exts[name[dot:]].last(isDir))
		}
	}
	if len(s.paths) > 0 {
		best = max(best, s.paths[rel].last(isDir))
	}
	for i := len(s.general) - 1; i >= 0 && s.general[i] >= best; i-- {
		p := &s.patterns[s.general[i]]
		if p.dirOnly && !isDir {
			continue
		}
		subject := name
		if p.whole {
			subject = rel
		}
		if p.glob.match(subject) {
			best = s.general[i] + 1
			break
		}
	}
	if best == 0 {
		return Decision{}
	}
	p := &s.patterns[best-1]
	return Decision{Excluded: !p.negated, Pattern: p.text, Origin: p.origin}
}
