package faulty

import "testing"

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true},
		{"*", "a/b", true},
		{"a", "a", true},
		{"a", "ab", false},
		{"a", "", false},
		{"data/*", "data/ab/cd", true},
		{"data/*", "data/", true},
		{"data/*", "data", false},
		{"data/*", "meta/data/a", false},
		{"*/x", "a/b/x", true},
		{"*/x", "x", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "a-c-b-c", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"*ab*ab*", "abab", true},
		{"*ab*ab*", "ab", false},
		{"**", "x", true},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}
