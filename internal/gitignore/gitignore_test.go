package gitignore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/gitignore"
)

// TestMatch has one block a rule. A path that ends in a slash is a directory.
func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		rule     string
		patterns string
		excluded string // paths, separated by spaces
		kept     string
	}{
		{"a name matches at any depth", "foo", "/foo /foo/ /a/foo /a/b/foo/", "/food /a/xfoo /foo.c"},
		{"a slash at the end means directories", "foo/", "/foo/ /a/foo/", "/foo /a/foo"},
		{"a leading slash anchors", "/foo", "/foo /foo/", "/a/foo"},
		{"a slash in the middle anchors", "a/b", "/a/b /a/b/", "/x/a/b /a/bc"},
		{"anchored directories", "a/b/", "/a/b/", "/a/b"},
		{"extension", "*.o", "/x.o /a/b.c.o /.o", "/x.oo /x.o.c /o"},
		{"long extension", "*.tar.gz", "/x.tar.gz /a/.tar.gz", "/x.gz /tar.gz"},
		{"ending", "*~", "/x~ /a/~", "/~x"},
		{"star does not cross a slash", "/tmp/*", "/tmp/x /tmp/x/", "/tmp/ /tmp/x/y"},
		{"star within a component", "/a*/b", "/a/b /axy/b", "/a/x/b /ax/y/b"},
		{"star matches nothing too", "a*b*c", "/abc /axbyc /a/abbc", "/ab /abcd"},
		{"question mark", "a?c", "/abc /a.c", "/ac /abbc"},
		{"question mark is a byte", "a?", "/ab", "/aé"},
		{"question mark is no slash", "/a?c", "/abc", "/a/c"},
		{"class", "[ab]x", "/ax /bx", "/cx /x /abx"},
		{"range", "[b-d]x", "/bx /cx /dx", "/ax /ex /-x"},
		{"negated class", "[!a]x", "/bx /!x", "/ax /x"},
		{"negated class, caret", "[^a]x", "/bx /^x", "/ax"},
		{"bracket in a class", "[]a]x", "/]x /ax", "/bx"},
		{"dash in a class", "[a-]x", "/-x /ax", "/bx"},
		{"escape in a class", `[\]a]x`, "/]x /ax", `/\x /bx`},
		{"named class", "[[:digit:]_]x", "/0x /9x /_x", "/ax /:x"},
		{"class never matches a slash", "/a[!b]c", "/axc", "/abc /a/c"},
		{"dirs in front", "**/foo", "/foo /a/foo /a/b/foo/", "/food"},
		{"dirs in front of a path", "**/a/b", "/a/b /x/a/b /x/y/a/b", "/a/x/b /xa/b"},
		{"dirs at the end", "a/**", "/a/b /a/b/c", "/a /a/ /b/a/c"},
		{"dirs in the middle", "a/**/b", "/a/b /a/x/b /a/x/y/b", "/ab /x/a/b /a/xb"},
		{"two dirs", "a/**/b/**/c", "/a/b/c /a/x/b/y/z/c /a/b/b/c", "/a/c /a/b/xc"},
		{"dirs and stars", "a/**/*x*/z", "/a/x/z /a/q/axb/z", "/a/z /a/x/y/z"},
		{"other double stars are stars", "/a**/c", "/a/c /ab/c", "/a/b/c /ab/x/c"},
		{"other double stars are stars, not dirs", "/a/b**/c", "/a/b/c /a/bx/c", "/a/bc /a/bx/y/c"},
		{"double star alone", "**", "/a /a/b/", ""},
		{"star alone", "*", "/a /a/b/", ""},
		{"comments and blank lines", "# foo\n\n  \n#\nbar", "/bar", "/foo /# /#foo"},
		{"escaped comment", `\#foo`, "/#foo", "/foo"},
		{"a comment starts at the start", "a #b", "", "/a"},
		{"negation", "*.o\n!keep.o", "/x.o", "/keep.o /a/keep.o"},
		{"the last match wins", "*.o\n!keep.o\nkeep.*", "/x.o /keep.o /keep.c", "/x.c"},
		{"the last match wins among names", "foo\n!foo\nfoo/", "/foo/", "/foo"},
		{"the last match wins among forms", "/a/foo\n!foo\n", "", "/a/foo /foo"},
		{"escaped negation", `\!foo`, "/!foo", "/foo"},
		{"double negation is a name", "*\n!!foo", "/foo", "/!foo"},
		{"spaces at the end", "foo   ", "/foo", ""},
		{"escape", `a\*b`, "/a*b", "/axb"},
		{"useless escape", `\f\o\o`, "/foo", `/\f\o\o`},
		{"carriage return", "foo\r\nbar\r\n", "/foo /bar", ""},
		{"byte order mark", "\ufefffoo\nbar", "/foo /bar", ""},
		{"not UTF-8", "\xff*\xfe", "/\xff\xfe /\xffx\xfe", "/\xff /\xfe"},
		{"stream entries", "*.log\n/tar/x", "tar/y/a.log tar/x", "tar/y/tar/x"},
		{"the root stays", "*", "", "/"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			s, err := gitignore.Parse(strings.NewReader(tc.patterns), "test")
			if err != nil {
				t.Fatal(err)
			}
			for want, list := range map[bool]string{true: tc.excluded, false: tc.kept} {
				for path := range strings.FieldsSeq(list) {
					clean, isDir := strings.CutSuffix(path, "/")
					if clean == "" {
						clean = "/"
					}
					if d := s.Match(clean, isDir); d.Excluded != want {
						t.Errorf("%q: excluded %v by %q, want %v", path, d.Excluded, d.Pattern, want)
					}
				}
			}
		})
	}
}

func TestSpacesThatStay(t *testing.T) {
	s, err := gitignore.Parse(strings.NewReader("a\\ \nb\\  \n c\nd\t\n"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/a ", "/b ", "/ c", "/d\t"} {
		if !s.Match(path, false).Excluded {
			t.Errorf("%q is kept", path)
		}
	}
	for _, path := range []string{"/a", "/b", "/b  ", "/c", "/d"} {
		if d := s.Match(path, false); d.Excluded {
			t.Errorf("%q is excluded by %q", path, d.Pattern)
		}
	}
}

func TestDecision(t *testing.T) {
	s, err := gitignore.Parse(strings.NewReader("# x\n*.o\n!keep.o\n"), "my.excludes")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("/srv/*", "--exclude"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]gitignore.Decision{
		"/a.o":      {Excluded: true, Pattern: "*.o", Origin: "my.excludes:2"},
		"/keep.o":   {Pattern: "!keep.o", Origin: "my.excludes:3"},
		"/srv/a.o":  {Excluded: true, Pattern: "/srv/*", Origin: "--exclude"},
		"/a":        {},
		"":          {},
		"/":         {},
		"/srv/a/bc": {},
	} {
		if got := s.Match(path, false); got != want {
			t.Errorf("%q: %+v, want %+v", path, got, want)
		}
	}
	if s.Len() != 3 {
		t.Errorf("Len: %d", s.Len())
	}
}

func TestBase(t *testing.T) {
	for _, base := range []string{"/srv/app", "/srv/app/"} {
		s := gitignore.New(base)
		for _, p := range []string{"/tmp", "*.o", "a/b"} {
			if err := s.Add(p, "test"); err != nil {
				t.Fatal(err)
			}
		}
		for path, want := range map[string]bool{
			"/srv/app/tmp":     true,
			"/srv/app/a/b":     true,
			"/srv/app/x/y.o":   true,
			"/srv/app/x/tmp":   false,
			"/srv/app/x/a/b":   false,
			"/tmp":             false,
			"/y.o":             false,
			"/srv/y.o":         false,
			"/srv/app":         false,
			"/srv/apple/y.o":   false,
			"srv/app/x/y.o":    false,
			"/srv/app2/a/b":    false,
			"/srv/app/a/b/c.o": true,
		} {
			if got := s.Match(path, false).Excluded; got != want {
				t.Errorf("base %s, %q: excluded %v, want %v", base, path, got, want)
			}
		}
	}
}

func TestMatchWithParents(t *testing.T) {
	s, err := gitignore.Parse(strings.NewReader("build/\n!keep\n/a/*\n!/a/b\n"), "test")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/x/build/keep":   "build/",
		"/x/build/y/keep": "build/",
		"/build":          "", // a file of that name
		"/keep":           "!keep",
		"/a/c/d":          "/a/*",
		"/a/b/d":          "",
		"/a/b":            "!/a/b",
	} {
		if got := s.MatchWithParents(path, false); got.Pattern != want {
			t.Errorf("%q: decided by %q, want %q", path, got.Pattern, want)
		}
	}
	if d := gitignore.New("/srv").MatchWithParents("/etc/x", false); d.Excluded {
		t.Error("a path outside the base is excluded")
	}
}

func TestRefused(t *testing.T) {
	for _, p := range []string{
		"", "!", "/", "!/", "//", "a//b", "//a", "foo//", "./foo", "../foo", "foo/.", "a/../b", ".", "..",
		"[", "a[", "[!", "[]", "[!]", "[a", "[a-", `[\`, `[a\]`, `[a-\`, "[[:alpha:]", "[[:alpha:", "[[:nope:]]", `foo\`, `foo\/`, "a\x00b", `\./x`,
	} {
		s := gitignore.New("/")
		err := s.Add(p, "--exclude")
		var bad *gitignore.PatternError
		if !errors.As(err, &bad) || bad.Pattern != p || bad.Origin != "--exclude" || bad.Problem == "" {
			t.Errorf("%q: error %v", p, err)
		}
		if s.Len() != 0 {
			t.Errorf("%q was added", p)
		}
	}
	for _, p := range []string{"a[/./]", "...", "[z-a]", "[[:alpha]", "[:alpha:]", "#x", "x ", "-"} {
		if err := gitignore.New("/").Add(p, "test"); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	_, err := gitignore.Parse(strings.NewReader("ok\n# c\nfoo[\n"), "f")
	var bad *gitignore.PatternError
	if !errors.As(err, &bad) || bad.Origin != "f:3" {
		t.Errorf("bad pattern: error %v", err)
	}
	_, err = gitignore.Parse(strings.NewReader(strings.Repeat("x", gitignore.MaxLine+1)), "f")
	if err == nil || !strings.Contains(err.Error(), "from f") {
		t.Errorf("long line: error %v", err)
	}
	broken := errors.New("broken disk")
	if _, err = gitignore.Parse(failing{broken}, "f"); !errors.Is(err, broken) {
		t.Errorf("read error: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestMatchAllocatesNothing(t *testing.T) {
	s := manyPatterns(t)
	if n := testing.AllocsPerRun(100, func() {
		s.Match("/srv/www/example.org/htdocs/index.html", false)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// manyPatterns is what a careful administrator may have: 40 patterns of all forms.
func manyPatterns(t testing.TB) *gitignore.Set {
	s := gitignore.New("/")
	for i := range 8 {
		for _, p := range []string{
			fmt.Sprintf("cache%d", i), fmt.Sprintf("*.tmp%d", i), fmt.Sprintf("/var/lib/x%d/", i),
			fmt.Sprintf("/home/*/.cache%d/**", i), fmt.Sprintf("**/node%d*/x", i),
		} {
			if err := s.Add(p, "test"); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func BenchmarkMatch(b *testing.B) {
	s := manyPatterns(b)
	b.ReportAllocs()
	for b.Loop() {
		s.Match("/srv/www/example.org/htdocs/index.html", false)
	}
}

func ExampleSet_Match() {
	s := gitignore.New("/")
	for _, p := range []string{"*.log", "!important.log", "/var/cache/"} {
		if err := s.Add(p, "--exclude"); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(s.Match("/srv/app/debug.log", false).Excluded)
	fmt.Println(s.Match("/srv/app/important.log", false).Excluded)
	fmt.Println(s.Match("/var/cache", true).Pattern)
	// Output:
	// true
	// false
	// /var/cache/
}
