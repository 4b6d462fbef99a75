// Package need says what a test needs of the machine. Where that is missing, the
// test fails in CI (CI=true), as a test that is skipped there is a test that nobody
// runs, and is skipped elsewhere with a line that can't be overlooked.
package need

import (
	"os"
	"os/exec"
)

// TB is what this package uses of a testing.TB; not that itself, as package testing
// adds flags to programs that import it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Missing ends a test that can't be done here: why says what is missing.
func Missing(t TB, why string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("can't be tested here, and CI must: "+why, args...)
		return
	}
	t.Skipf("SKIPPED, NOTHING WAS TESTED: "+why, args...)
}

// Root ends a test that only root can do.
func Root(t TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "only root can run this test")
	}
}

// Commands ends a test that uses programs which are not installed here;
// tools/install-test-deps.sh installs them.
func Commands(t TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			Missing(t, "%s is not installed", name)
		}
	}
}
