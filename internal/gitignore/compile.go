package gitignore

import (
	"errors"
	"strings"
)

// form says by what means Set finds a pattern.
type form int

const (
	formGeneral form = iota // by trying its glob
	formName                // by its literal in Set.names
	formExt                 // by its literal in Set.exts
	formPath                // by its literal in Set.paths
)

// compile translates a pattern. For the forms that are found by a look-up it
// also returns the literal to look up. The error says why the pattern can never
// match.
func compile(text string) (p pattern, f form, literal string, err error) {
	p.text = text
	body, negated := strings.CutPrefix(text, "!")
	p.negated = negated
	body, p.dirOnly = strings.CutSuffix(body, "/")
	if body == "" {
		return p, 0, "", errors.New("it is empty and would never match")
	}
	p.whole = strings.Contains(body, "/")
	body = strings.TrimPrefix(body, "/")
	if p.glob, err = parseGlob(body); err != nil {
		return p, 0, "", err
	}
	if err := p.glob.checkComponents(); err != nil {
		return p, 0, "", err
	}

	g := p.glob
	// "**/name" says in more words what "name" says.
	if p.whole && len(g) > 1 && g[0].kind == opDirs && !g[1:].crossesSlash() {
		p.whole, p.glob = false, g[1:]
		g = p.glob
	}
	switch {
	case len(g) == 1 && g[0].kind == opLiteral && p.whole:
		return p, formPath, g[0].literal, nil
	case len(g) == 1 && g[0].kind == opLiteral:
		return p, formName, g[0].literal, nil
	case len(g) == 2 && !p.whole && g[0].kind == opStar && g[1].kind == opLiteral &&
		strings.LastIndexByte(g[1].literal, '.') == 0:
		return p, formExt, g[1].literal, nil
	}
	return p, formGeneral, "", nil
}

// checkComponents refuses a pattern with a component that no path has.
func (g glob) checkComponents() error {
	var b strings.Builder
	for _, o := range g {
		switch o.kind {
		case opLiteral:
			b.WriteString(o.literal)
		case opDirs:
			b.WriteString("*/")
		default:
			b.WriteByte('*')
		}
	}
	for c := range strings.SplitSeq(b.String(), "/") {
		switch c {
		case "":
			return errors.New("it has an empty component and would never match")
		case ".", "..":
			return errors.New(`it has a component "` + c + `" and would never match; write the path without it`)
		}
	}
	return nil
}

// parseGlob translates a pattern without its "!", its anchoring slash and its
// slash at the end.
func parseGlob(body string) (glob, error) {
	if strings.IndexByte(body, 0) >= 0 {
		return nil, errors.New("it holds a zero byte, which no file name does")
	}
	var g glob
	for i := 0; i < len(body); {
		switch c := body[i]; c {
		case '*':
			o, n := parseStars(body, i)
			g = append(g, o)
			i += n
		case '?':
			g = append(g, op{kind: opOne})
			i++
		case '[':
			set, n, err := parseClass(body[i:])
			if err != nil {
				return nil, err
			}
			g = append(g, op{kind: opClass, class: set})
			i += n
		case '\\':
			i++
			if i == len(body) {
				return nil, errors.New(`it ends in a backslash that escapes nothing; write \\ for a backslash`)
			}
			g = g.appendByte(body[i])
			i++
		default:
			g = g.appendByte(c)
			i++
		}
	}
	return g, nil
}

// parseStars translates the run of asterisks at body[i] and returns the number
// of bytes that it took.
func parseStars(body string, i int) (op, int) {
	n := 1
	for i+n < len(body) && body[i+n] == '*' {
		n++
	}
	rest := body[i+n:]
	switch {
	case n == 1 || i > 0 && body[i-1] != '/':
		return op{kind: opStar}, n
	case rest == "":
		return op{kind: opAll}, n
	case rest[0] == '/':
		return op{kind: opDirs}, n + 1
	case strings.HasPrefix(rest, `\/`):
		// As git has it: with the slash escaped, at least one directory.
		return op{kind: opAll}, n
	}
	return op{kind: opStar}, n
}

// appendByte adds a byte that stands for itself.
func (g glob) appendByte(c byte) glob {
	if n := len(g); n > 0 && g[n-1].kind == opLiteral {
		g[n-1].literal += string([]byte{c})
		return g
	}
	return append(g, op{kind: opLiteral, literal: string([]byte{c})})
}

// crossesSlash reports whether g can match a slash.
func (g glob) crossesSlash() bool {
	for _, o := range g {
		switch o.kind {
		case opDirs, opAll:
			return true
		case opLiteral:
			if strings.Contains(o.literal, "/") {
				return true
			}
		}
	}
	return false
}
