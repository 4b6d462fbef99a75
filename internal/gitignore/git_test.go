package gitignore_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/gitignore"
	"github.com/cairn-backup/cairn/internal/need"
)

var seedFlag = flag.Uint64("seed", 0, "seed of TestLikeGit; 0 is a new one")

// gitRepo is an empty git repository with a tree of files in it.
type gitRepo struct {
	dir   string
	paths []string // relative
	isDir map[string]bool
}

func newGitRepo(t *testing.T) *gitRepo {
	t.Helper()
	need.Commands(t, "git")
	r := &gitRepo{dir: t.TempDir(), isDir: make(map[string]bool)}
	r.git(t, nil, "init", "-q")
	return r
}

func (r *gitRepo) add(t *testing.T, path string, isDir bool) {
	t.Helper()
	full := filepath.Join(r.dir, path)
	var err error
	if isDir {
		err = os.Mkdir(full, 0o777)
	} else {
		err = os.WriteFile(full, nil, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.paths = append(r.paths, path)
	r.isDir[path] = isDir
}

// git runs git without the user's own settings.
func (r *gitRepo) git(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "HOME="+r.dir+"/nowhere", "XDG_CONFIG_HOME="+r.dir+"/nowhere",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CEILING_DIRECTORIES="+filepath.Dir(r.dir))
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	// check-ignore exits 1 when it excludes nothing.
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) {
		t.Fatalf("git %s: %v\n%s", args[0], err, stderr.String())
	}
	return out
}

// check returns for each path the pattern that git decides by, "" for none.
func (r *gitRepo) check(t *testing.T, patterns string) map[string]string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, ".git/info/exclude"), []byte(patterns), 0o666); err != nil {
		t.Fatal(err)
	}
	// With "./" in front git takes no name, such as ":", for pathspec magic.
	stdin := "./" + strings.Join(r.paths, "\x00./") + "\x00"
	out := r.git(t, []byte(stdin), "check-ignore", "--no-index", "-v", "-n", "-z", "--stdin")
	fields := strings.Split(string(out), "\x00")
	decided := make(map[string]string)
	for i := 0; i+3 < len(fields); i += 4 { // source, line, pattern, path
		decided[strings.TrimPrefix(fields[i+3], "./")] = fields[i+2]
	}
	if len(decided) != len(r.paths) {
		t.Fatalf("git answered for %d of %d paths", len(decided), len(r.paths))
	}
	return decided
}

// compare reports the paths for which git and this package decide by different
// patterns.
func (r *gitRepo) compare(t *testing.T, patterns []string) (matched int) {
	t.Helper()
	s := gitignore.New(r.dir)
	for i, p := range patterns {
		// One that Add refuses stays in git's file: git must never match by it.
		_ = s.AddFrom(strings.NewReader(p), fmt.Sprint(i))
	}
	want := r.check(t, strings.Join(patterns, "\n")+"\n")
	for _, path := range r.paths {
		got := s.MatchWithParents(r.dir+"/"+path, r.isDir[path]).Pattern
		if got != want[path] {
			t.Errorf("patterns %q\npath %q (directory: %v): decided by %q, git by %q", patterns, path, r.isDir[path], got, want[path])
		}
		if got != "" {
			matched++
		}
	}
	return matched
}

// TestLikeGit compares random patterns over a tree of all paths of a small
// alphabet.
func TestLikeGit(t *testing.T) {
	r := newGitRepo(t)
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	names := []string{"a", "b", "ab", "ba", "aab", "a.b", ".b", "a b", "a]", "-", "\xff", "!a", "#a", `a\`, "*"}
	for _, n1 := range names {
		dir1 := rng.IntN(2) == 0
		r.add(t, n1, dir1)
		for i := 0; dir1 && i < len(names); i += 1 + rng.IntN(3) {
			p2, dir2 := n1+"/"+names[i], rng.IntN(2) == 0
			r.add(t, p2, dir2)
			for j := rng.IntN(4); dir2 && j < len(names); j += 2 + rng.IntN(5) {
				r.add(t, p2+"/"+names[j], rng.IntN(3) == 0)
			}
		}
	}

	matched := 0
	for range 250 {
		var patterns []string
		for range 1 + rng.IntN(6) {
			patterns = append(patterns, randomPattern(rng))
		}
		matched += r.compare(t, patterns)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d paths, %d matches", len(r.paths), matched)
	if matched < 1000 {
		t.Errorf("only %d matches: the patterns are too poor to test anything", matched)
	}
}

// gitQuirk is where git departs from its own manual, see the package comment.
var gitQuirk = regexp.MustCompile(`([^/*])\*\*+`)

func randomPattern(rng *rand.Rand) string {
	pieces := []string{
		"a", "a", "b", "b", "a", "b", ".", "/", "/", "/", "*", "*", "*", "**", "**/", "/**", "?", " ", `\`, `\a`, `\*`, `\/`, `\ `, `\\`,
		"-", "]", "[", "[ab]", "[!a]", "[^ab]", "[]a]", "[a-]", "[b-a]", "[a-b]", `[\]]`, `[\a-b]`, "[[:alpha:]]", "[[:punct:]b]", "[[:x:]]", "[[:alpha]", "[[]", "[a/]",
		"\xff", "!", "#", "\r",
	}
	var b strings.Builder
	if rng.IntN(4) == 0 {
		b.WriteString("!")
	}
	for range 1 + rng.IntN(6) {
		b.WriteString(pieces[rng.IntN(len(pieces))])
	}
	if rng.IntN(5) == 0 {
		b.WriteString("/")
	}
	return gitQuirk.ReplaceAllString(b.String(), "$1*")
}

// TestClassesLikeGit compares each named class, and some ranges, over names of
// every single byte that a name can be.
func TestClassesLikeGit(t *testing.T) {
	r := newGitRepo(t)
	for c := 1; c < 256; c++ {
		if c != '/' && c != '.' {
			r.add(t, string([]byte{byte(c)}), false)
		}
	}
	for _, name := range []string{
		"alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit",
	} {
		r.compare(t, []string{"[[:" + name + ":]]"})
		r.compare(t, []string{"[^[:" + name + ":]x]"})
	}
	for _, p := range []string{"[!-~]", "[ --]", "[+--]", "[a-c-e]", "[[:digit:]-z]", "[\x80-\xff]", "[!\x01-\x7f]", "[^^]", "[!!]", "[]-a]", `[\\-\]]`, "[[-a]", "[a-[:x:]"} {
		r.compare(t, []string{p})
	}
}
