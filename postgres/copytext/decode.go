package copytext

import (
	"bytes"
	"errors"
)

var errField = errors.New("a column ends with a backslash, which no server writes")

// AppendField appends to dst what the column holds that stands in field: the bytes
// between two tabs. The text of NULL is \N; it appends nothing, and null is true. What
// comes out is text in the encoding of the rows, as a client gets
// it: bytea is \x and hexadecimal digits.
func AppendField(dst, field []byte) (_ []byte, null bool, err error) {
	if string(field) == `\N` {
		return dst, true, nil
	}
	for {
		i := bytes.IndexByte(field, '\\')
		if i < 0 {
			return append(dst, field...), false, nil
		}
		if i == len(field)-1 {
			return dst, false, errField
		}
		dst = append(dst, field[:i]...)
		b, n := unescape(field[i+1:])
		dst, field = append(dst, b), field[i+1+n:]
	}
}

// unescape returns the byte that is meant by what follows a backslash, and how many bytes
// say so. The server writes single letters and reads numbers as well.
func unescape(p []byte) (b byte, n int) {
	switch c := p[0]; c {
	case 'b':
		return '\b', 1
	case 'f':
		return '\f', 1
	case 'n':
		return '\n', 1
	case 'r':
		return '\r', 1
	case 't':
		return '\t', 1
	case 'v':
		return '\v', 1
	case '0', '1', '2', '3', '4', '5', '6', '7':
		for n < len(p) && n < 3 && '0' <= p[n] && p[n] <= '7' {
			b, n = b<<3|(p[n]-'0'), n+1
		}
		return b, n
	case 'x':
		for n = 1; n < len(p) && n < 3; n++ {
			d, ok := hexDigit(p[n])
			if !ok {
				break
			}
			b = b<<4 | d
		}
		if n > 1 {
			return b, n
		}
		return c, 1
	default:
		return c, 1
	}
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
