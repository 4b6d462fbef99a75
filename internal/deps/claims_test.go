package deps_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testNames maps each test, fuzz target and benchmark of the module to the packages that
// have one of that name.
func testNames(t *testing.T) map[string][]string {
	t.Helper()
	names := make(map[string][]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = append(names[fn.Name.Name], filepath.ToSlash(rel))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	// A package and the tests of it: "chunk: `TestA`, `TestB`".
	ofPackage = regexp.MustCompile("([a-z][a-z0-9]*(?:/[a-z0-9]+)*):\\s((?:`(?:Test|Fuzz)[A-Z][A-Za-z0-9]*`(?:,\\s)?)+)")
)

// A claim in the documents that names a test is worth no more than the test.
func TestDocumentsNameTests(t *testing.T) {
	have := testNames(t)
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(documents) < 4 {
		t.Fatalf("the documents are %q: %v", documents, err)
	}
	named := make(map[string]bool)
	for _, path := range append(documents, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			named[string(m[1])] = true
			if len(have[string(m[1])]) == 0 {
				t.Errorf("%s names %s, which does not exist", filepath.Base(path), m[1])
			}
		}
		for _, m := range ofPackage.FindAllSubmatch(text, -1) {
			for _, name := range testName.FindAllSubmatch(m[2], -1) {
				if !slices.Contains(have[string(name[1])], string(m[1])) {
					t.Errorf("%s says that %s is in %s; it is in %q", filepath.Base(path), name[1], m[1], have[string(name[1])])
				}
			}
		}
	}
	if len(named) < 50 {
		t.Errorf("only %d tests were found in the documents: is their form another?", len(named))
	}
	// What an attacker was shown to try is in the threat model.
	for name, packages := range have {
		isAttack := strings.HasPrefix(name, "TestAttack") || strings.HasPrefix(name, "TestStorage")
		if isAttack && slices.Contains(packages, "repo") && !named[name] {
			t.Errorf("no document names %s", name)
		}
	}
}
