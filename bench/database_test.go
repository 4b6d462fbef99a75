package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// The workload runs to its end on a small database, and its database is what it should be.
func TestDatabaseWorkload(t *testing.T) {
	need.Commands(t, "pg_dump")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) == 0 {
		need.Missing(t, "there is no PostgreSQL server (apt-get install postgresql)")
	}
	dir, err := os.MkdirTemp("/tmp", "bench-pg-") // short, for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := &config{runs: 1, work: dir, tmpfs: t.TempDir()}
	res, err := c.runDatabase(t.Context(), 2e6, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Samples) != 1 || res.Samples[0].Tool != dumperName {
		t.Fatalf("samples are %+v", res.Samples)
	}
	for _, step := range []string{stepFirst, stepUnchanged, stepChanged, stepRestore} {
		if res.Samples[0].Steps[step].Wall.Duration <= 0 {
			t.Errorf("step %s was not measured", step)
		}
	}
	left, _ := os.ReadDir(dir)
	for _, f := range left {
		if !strings.HasSuffix(f.Name(), ".log") {
			t.Errorf("%s stayed", f.Name())
		}
	}
}
