package gitignore

import "strings"

// glob is a compiled pattern: what it matches is what its ops match one after
// the other.
type glob []op

type opKind uint8

const (
	opLiteral opKind = iota // these bytes
	opOne                   // "?": one byte that is no slash
	opClass                 // "[...]": one byte of the class, never a slash
	opStar                  // "*": any bytes but slashes
	opDirs                  // "**/": nothing, or any bytes and a slash
	opAll                   // "**" elsewhere: any bytes
)

type op struct {
	kind    opKind
	literal string
	class   *class
}

// match reports whether g matches the whole of s.
//
// It backtracks, but only to the last "*", and when that can't reach further,
// to the last "**"; what came before needs no second try:
//
//   - With two "*" and no "**" between them, it is enough to match the ops in
//     between as early as possible. If they match no slash, a later match ends
//     in the same component and the second "*" can take up the difference. If
//     they match one, it is the first slash after the first "*", which leaves
//     them a single place.
//   - Whatever stands before a "**" may match as early as possible, as "**"
//     takes up any difference. An opDirs starts at s's start or after a slash,
//     so this is true of it too.
//
// So the time is never exponential, whatever the pattern: between two moves of
// "**" it is at worst len(s) times len(g), and "**" moves at most len(s) times.
func (g glob) match(s string) bool {
	// Most paths end otherwise than most patterns: this saves them the rest.
	if end := &g[len(g)-1]; end.kind == opLiteral && !strings.HasSuffix(s, end.literal) {
		return false
	}
	var (
		pi, si       int
		starP, starS = -1, 0 // the op after the last "*", and where "*" ends now
		deepP, deepS = -1, 0 // the same for opDirs and opAll
	)
	for {
		if pi == len(g) {
			if si == len(s) {
				return true
			}
		} else {
			switch o := &g[pi]; o.kind {
			case opStar:
				pi++
				if pi == len(g) && strings.IndexByte(s[si:], '/') < 0 {
					return true
				}
				starP, starS = pi, si
				continue
			case opDirs, opAll:
				pi++
				if pi == len(g) {
					return true // only opAll stands at the end
				}
				starP = -1
				deepP, deepS = pi, si
				continue
			default:
				if n := o.step(s[si:]); n > 0 {
					si += n
					pi++
					continue
				}
			}
		}

		// Mismatch: let the last "*" take one byte more, or the last "**".
		switch {
		case starP >= 0 && starS < len(s) && s[starS] != '/':
			starS++
			pi, si = starP, starS
		case deepP >= 0:
			n := g[deepP-1].extend(s[deepS:])
			if n == 0 {
				return false
			}
			starP = -1
			deepS += n
			pi, si = deepP, deepS
		default:
			return false
		}
	}
}

// step returns how many bytes at the start of s an op of fixed length matches;
// 0 is a mismatch.
func (o *op) step(s string) int {
	switch o.kind {
	case opLiteral:
		if strings.HasPrefix(s, o.literal) {
			return len(o.literal)
		}
	case opOne:
		if len(s) > 0 && s[0] != '/' {
			return 1
		}
	case opClass:
		if len(s) > 0 && s[0] != '/' && o.class.has(s[0]) {
			return 1
		}
	}
	return 0
}

// extend returns by how many bytes an opDirs or opAll that ends before s can
// end later; 0 if it can't.
func (o *op) extend(s string) int {
	if o.kind == opAll {
		return min(1, len(s))
	}
	return strings.IndexByte(s, '/') + 1
}
