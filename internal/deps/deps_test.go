// Package deps_test checks which package imports which against policy.txt, in
// the manner of go/build's deps_test.go.
package deps_test

import (
	_ "embed"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/cairn-backup/cairn"
	root   = "../.."
)

//go:embed policy.txt
var policyText string

// imports maps what a package imports to the file that does so. Where both
// do, it is a file of the package rather than one of its tests.
type imports map[string]string

func TestImports(t *testing.T) {
	p, err := parsePolicy(policyText)
	if err != nil {
		t.Fatal(err)
	}
	packages, err := readPackages(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.contradictions() {
		t.Error(s)
	}
	for _, s := range p.check(module, packages) {
		t.Error(s)
	}
}

// readPackages finds the packages of the module at root and reads their
// imports, those of files for other systems too: policy has no build
// constraints.
func readPackages(root string) (map[string]imports, error) {
	packages := make(map[string]imports)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root {
			if strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata" {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return fs.SkipDir
			}
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		pkg := filepath.ToSlash(filepath.Dir(rel))
		if packages[pkg] == nil {
			packages[pkg] = make(imports)
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if old, ok := packages[pkg][imported]; !ok || strings.HasSuffix(old, "_test.go") {
				packages[pkg][imported] = rel
			}
		}
		return nil
	})
	return packages, err
}

// sample is a small policy with a rule of each kind.
const sample = `
# Bytes.
NONE < low
NONE < side

# Middle.
low < mid
side < mid_test

# Top.
low, mid < top

# Apart.
top !< low
side !< top

# Few.
example.com/db only mid, low_test
log only top
`

func TestPolicyFinds(t *testing.T) {
	p, err := parsePolicy(sample)
	if err != nil {
		t.Fatal(err)
	}
	fine := func() map[string]imports {
		return map[string]imports{
			"low":  {"fmt": "low/a.go", "log": "low/a_test.go", "example.com/db": "low/a_test.go"},
			"side": {},
			"mid":  {"m/low": "mid/a.go", "m/side": "mid/a_test.go", "m/mid": "mid/a_test.go", "example.com/db/v2": "mid/a.go"},
			"top":  {"m/mid": "top/a.go", "log": "top/a.go"},
		}
	}
	if got := p.check("m", fine()); len(got) != 0 {
		t.Fatalf("allowed imports are found fault with: %q", got)
	}
	for _, c := range []struct {
		name   string
		change func(map[string]imports)
		want   string
	}{
		{"upwards", func(m map[string]imports) { m["low"]["m/mid"] = "low/a.go" }, "low/a.go imports mid, which policy.txt:3 does not allow: Bytes."},
		{"not listed", func(m map[string]imports) { m["top"]["m/side"] = "top/a.go" }, "top/a.go imports side, which policy.txt:11 does not allow: Top."},
		{"allowed to tests only", func(m map[string]imports) { m["mid"]["m/side"] = "mid/a.go" }, "mid/a.go imports side, which policy.txt:7 does not allow: Middle."},
		{"upwards in a test", func(m map[string]imports) { m["low"]["m/mid"] = "low/a_test.go" }, "low/a_test.go imports mid, which policy.txt:3 does not allow: Bytes."},
		{"another's module", func(m map[string]imports) { m["top"]["example.com/db"] = "top/a_test.go" }, "top/a_test.go imports example.com/db, which policy.txt:18 leaves to low_test, mid: Few."},
		{"another's module outside of tests", func(m map[string]imports) { m["low"]["example.com/db"] = "low/a.go" }, "low/a.go imports example.com/db, which policy.txt:18 leaves to low_test, mid: Few."},
		{"unknown module", func(m map[string]imports) { m["top"]["example.com/other"] = "top/a.go" }, "top/a.go imports example.com/other, a module without a rule in policy.txt: say there who may import it, and why it is worth having"},
		{"standard library", func(m map[string]imports) { m["low"]["log"] = "low/a.go" }, "low/a.go imports log, which policy.txt:19 leaves to top: Few."},
		{"without a rule", func(m map[string]imports) { m["new"] = imports{} }, "new has no rule in policy.txt: say there what it may import, and why"},
		{"without a package", func(m map[string]imports) { delete(m, "side") }, "policy.txt:4: there is no package side: remove its rule"},
	} {
		t.Run(c.name, func(t *testing.T) {
			packages := fine()
			c.change(packages)
			if got := p.check("m", packages); !slices.Equal(got, []string{c.want}) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestPolicyContradiction(t *testing.T) {
	p, err := parsePolicy(strings.Replace(sample, "low < mid\n", "low, side < mid\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"policy.txt:15: the rules let top import side (top -> mid -> side): Apart."}
	if got := p.contradictions(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestPolicyRejects(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"NONE < a", "without a reason"},
		{"# r\na b", "neither <, !< nor only"},
		{"# r\nNONE < a < b", "two relations"},
		{"# r\nNONE < a\nNONE < a", "has a rule at line 2 already"},
		{"# r\nb < a\nNONE < b", "may import b, which has no rule above"},
		{"# r\nNONE < a_test", "tests of a, which has no rule above"},
		{"# r\nNONE < a\nb !< a", "no rule for b"},
		{"# r\nlog only a", "no rule for a"},
		{"# r\nlog only NONE\nlog only NONE", "has a rule at line 2 already"},
	} {
		if _, err := parsePolicy(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("parsePolicy(%q): %v, want an error with %q", c.text, err, c.want)
		}
	}
}
