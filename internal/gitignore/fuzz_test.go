package gitignore_test

import (
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/gitignore"
)

// FuzzMatch looks for panics, for patterns that take for ever, and for a set
// that decides otherwise than each of its patterns alone, which the look-ups in
// maps could bring about.
func FuzzMatch(f *testing.F) {
	f.Add("*a*a*a*a*b", "/"+strings.Repeat("a", 200), false)
	f.Add("**/*a*/**/*a*/**/b", strings.Repeat("/aa", 100), true)
	f.Add("*.o\n!a.o\n/x/**/y\n[!a-z]?\\*\n# c\nfoo/", "/x/q/y", true)
	f.Add("a/**\\/b\n**\n[[:alpha:]-]", "a/b", false)
	f.Fuzz(func(t *testing.T, patterns, path string, isDir bool) {
		s := gitignore.New("/")
		var want gitignore.Decision
		for line := range strings.SplitSeq(patterns, "\n") {
			if s.Add(line, "fuzz") != nil {
				continue
			}
			one := gitignore.New("/")
			if err := one.Add(line, "fuzz"); err != nil {
				t.Fatal(err)
			}
			if d := one.Match(path, isDir); d.Pattern != "" {
				want = d
			}
		}
		if got := s.Match(path, isDir); got != want {
			t.Fatalf("patterns %q, path %q: %+v, each alone %+v", patterns, path, got, want)
		}
		s.MatchWithParents(path, isDir)
		if _, err := gitignore.Parse(strings.NewReader(patterns), "fuzz"); err != nil && err.Error() == "" {
			t.Fatal("an error without a text")
		}
	})
}

// TestNoBlowUp would run for ages if matching were exponential.
func TestNoBlowUp(t *testing.T) {
	for _, pattern := range []string{
		strings.Repeat("*a", 50) + "b",
		"/" + strings.Repeat("**/*a/", 30) + "b",
		strings.Repeat("?*", 50) + "b",
		"x" + strings.Repeat("/**", 50) + "/b",
	} {
		s := gitignore.New("/")
		if err := s.Add(pattern, "test"); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/" + strings.Repeat("a", 4000), strings.Repeat("/a", 2000), "/x" + strings.Repeat("/aaa", 1000)} {
			if s.Match(path, false).Excluded {
				t.Errorf("%q matches %q", pattern, path[:10])
			}
		}
	}
}
