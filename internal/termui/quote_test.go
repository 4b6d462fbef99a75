package termui_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cairn-backup/cairn/internal/termui"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"/srv/x y/ö日.txt":    "/srv/x y/ö日.txt",
		`a"b`:                `a"b`,
		`a\x01`:              `a\x01`,
		`"a`:                 `"\"a"`,
		"a\x01":              `"a\x01"`,
		"a\nb\\":             `"a\nb\\"`,
		"\x1b[2Jowned":       `"\x1b[2Jowned"`,
		"\xff\xfe":           `"\xff\xfe"`,
		"a\u202etxt.exe":     `"a\u202etxt.exe"`,
		"\u009b31m":          `"\u009b31m"`,
		"a\ufffd":            "a\ufffd", // the character itself, in UTF-8
		"tab\there":          `"tab\there"`,
		"\u200bzero width":   `"\u200bzero width"`,
		"caf\u00e9 e\u0301.": "caf\u00e9 e\u0301.",
	} {
		if got := termui.Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"all is well":               "all is well",
		"open \x1b]0;x\x07: \"no\"": `open \x1b]0;x\a: "no"`,
		"a\nb":                      `a\nb`,
		"\xff é":                    `\xff é`,
		`C:\x`:                      `C:\x`,
	} {
		if got := termui.Clean(in); got != want {
			t.Errorf("Clean(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"a", "a\nb", "\"", "\xff", "\x1b[0m", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{termui.Quote(s), termui.Clean(s)} {
			if !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Fatalf("%q becomes %q, which is not printable", s, out)
			}
		}
		got := termui.Quote(s)
		if strings.HasPrefix(got, `"`) {
			var err error
			if got, err = strconv.Unquote(got); err != nil {
				t.Fatal(err)
			}
		}
		if got != s {
			t.Fatalf("%q can't be told from %q", s, got)
		}
	})
}
