package need_test

import (
	"fmt"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// recorder takes down how a test ended.
type recorder struct{ ended string }

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = "failed: " + fmt.Sprintf(format, args...)
}
func (r *recorder) Skipf(format string, args ...any) {
	r.ended = "skipped: " + fmt.Sprintf(format, args...)
}

func TestMissing(t *testing.T) {
	for ci, want := range map[string]string{
		"true": "failed: can't be tested here, and CI must: cairn-no-such-program is not installed",
		"":     "skipped: SKIPPED, NOTHING WAS TESTED: cairn-no-such-program is not installed",
	} {
		t.Setenv("CI", ci)
		var r recorder
		if need.Commands(&r, "go", "cairn-no-such-program"); r.ended != want {
			t.Errorf("CI=%q: %q, want %q", ci, r.ended, want)
		}
		if need.Commands(&r, "go"); r.ended != want {
			t.Errorf("CI=%q: a program that is there ended the test: %q", ci, r.ended)
		}
	}
}
