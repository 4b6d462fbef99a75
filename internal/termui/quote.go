package termui

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote returns a name for the eyes of people. One that is all printable stays
// as it is; any other, with control characters, marks that change the
// direction of writing, or bytes that are not UTF-8, comes in double quotes
// with the escapes of Go, such as "a\nb\xff". So does one that starts with a
// double quote: what is printed always stands for one name only.
func Quote(name string) string {
	if isPrintable(name) && !strings.HasPrefix(name, `"`) {
		return name
	}
	return strconv.Quote(name)
}

// Clean returns a message with everything that is not printable escaped as in
// Quote, but without the quotes. It keeps a message on one line: an error text
// with a name in it can't pretend to be two messages.
func Clean(message string) string {
	if isPrintable(message) {
		return message
	}
	var b strings.Builder
	for i := 0; i < len(message); {
		r, n := utf8.DecodeRuneInString(message[i:])
		if isPrintableRune(r, n) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(message[i : i+n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !isPrintableRune(r, n) {
			return false
		}
		i += n
	}
	return true
}

// isPrintableRune judges a rune that took n bytes.
func isPrintableRune(r rune, n int) bool {
	return strconv.IsPrint(r) && (r != utf8.RuneError || n > 1)
}

// textColumns returns how many columns of a terminal s takes. s is printable.
func textColumns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns knows what matters of Unicode's East Asian Width and combining
// marks. A terminal may know better; then a column of a table is ragged.
func runeColumns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, // Hangul Jamo
		{Lo: 0x2e80, Hi: 0x303e, Stride: 1}, // CJK radicals and punctuation
		{Lo: 0x3041, Hi: 0xa4cf, Stride: 1}, // kana, CJK ideographs, Yi
		{Lo: 0xa960, Hi: 0xa97f, Stride: 1}, // Hangul Jamo Extended-A
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, // Hangul syllables
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, // CJK compatibility ideographs
		{Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, // CJK compatibility forms
		{Lo: 0xff00, Hi: 0xff60, Stride: 1}, // fullwidth forms
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, // pictographs and emoticons
		{Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1},
		{Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1}, // more CJK ideographs
	},
}

// truncate returns s if it takes at most limit columns, and else its start with
// an ellipsis.
func truncate(s string, limit int) string {
	if textColumns(s) <= limit {
		return s
	}
	if limit <= 0 {
		return ""
	}
	n := 0
	for i, r := range s {
		n += runeColumns(r)
		if n > limit-1 {
			return s[:i] + "…"
		}
	}
	return s
}
