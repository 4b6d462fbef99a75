package gitignore

import (
	"errors"
	"fmt"
	"strings"
)

// class is a set of bytes.
type class [4]uint64

func (c *class) has(b byte) bool { return c[b>>6]&(1<<(b&63)) != 0 }

func (c *class) add(lo, hi byte) {
	for b := int(lo); b <= int(hi); b++ {
		c[b>>6] |= 1 << (b & 63)
	}
}

var errUnclosed = errors.New(`a "[" has no "]"; write \[ for the character itself`)

// parseClass translates the bracket expression at the start of s, which starts
// with "[", and returns its length. The rules are those of git's wildmatch:
// "]" at the start stands for itself, "!" and "^" negate, a backslash escapes,
// "-" makes a range unless it is first, last or follows a range or a named
// class.
func parseClass(s string) (*class, int, error) {
	set := new(class)
	i := 1
	negated := i < len(s) && (s[i] == '!' || s[i] == '^')
	if negated {
		i++
	}
	prev := byte(0) // what a range could start with; 0 is none
	for first := true; ; first = false {
		if i >= len(s) {
			return nil, 0, errUnclosed
		}
		c := s[i]
		switch {
		case c == ']' && !first:
			if negated {
				for j := range set {
					set[j] = ^set[j]
				}
			}
			return set, i + 1, nil
		case c == '-' && prev != 0 && i+1 < len(s) && s[i+1] != ']':
			i++
			if s[i] == '\\' {
				i++
			}
			if i >= len(s) {
				return nil, 0, errUnclosed
			}
			set.add(prev, s[i])
			prev = 0
			i++
		case c == '[' && strings.HasPrefix(s[i:], "[:"):
			n, err := set.addNamed(s[i:])
			if err != nil {
				return nil, 0, err
			}
			prev = 0
			if n == 0 { // not "[:name:]" after all
				set.add(c, c)
				prev, n = c, 1
			}
			i += n
		default:
			if c == '\\' {
				i++
				if i >= len(s) {
					return nil, 0, errUnclosed
				}
				c = s[i]
			}
			set.add(c, c)
			prev = c
			i++
		}
	}
}

// addNamed adds the class "[:name:]" at the start of s and returns its length,
// or 0 if s holds no such thing.
func (c *class) addNamed(s string) (int, error) {
	end := strings.IndexByte(s[2:], ']')
	if end < 0 {
		return 0, errUnclosed
	}
	name, ok := strings.CutSuffix(s[2:2+end], ":")
	if !ok {
		return 0, nil
	}
	ranges, ok := namedClasses[name]
	if !ok {
		return 0, fmt.Errorf("there is no character class [:%s:]", name)
	}
	for i := 0; i < len(ranges); i += 2 {
		c.add(ranges[i], ranges[i+1])
	}
	return 2 + end + 1, nil
}

// namedClasses lists the ranges of each class in the "C" locale, as pairs. As in
// git, space has neither vertical tab nor form feed.
var namedClasses = map[string]string{
	"alnum":  "09AZaz",
	"alpha":  "AZaz",
	"blank":  "  \t\t",
	"cntrl":  "\x00\x1f\x7f\x7f",
	"digit":  "09",
	"graph":  "!~",
	"lower":  "az",
	"print":  " ~",
	"punct":  "!/:@[`{~",
	"space":  "  \t\n\r\r",
	"upper":  "AZ",
	"xdigit": "09AFaf",
}
