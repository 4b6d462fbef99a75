package rebuild_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
	"github.com/cairn-backup/cairn/postgres/pgtest"
	"github.com/cairn-backup/cairn/postgres/rebuild"
)

// A target whose disk is full: the restore fails, and says what is there.
func TestDiskIsFull(t *testing.T) {
	need.Root(t)
	s := pgtest.Start(t)
	w := newWorld(t, s)
	db := s.NewDatabase(t)
	s.Exec(db, "CREATE TABLE a_small AS SELECT 1 AS n; CREATE TABLE large AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) i")
	d := w.capture(db)

	// A tablespace of 24 MB.
	dir, err := os.MkdirTemp("/tmp", "cairn-full-")
	w.must(err)
	defer os.RemoveAll(dir)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "none", dir).CombinedOutput(); err != nil {
		need.Missing(t, "nothing can be mounted here: %v, %s", err, out)
	}
	defer exec.Command("umount", "-l", dir).Run()
	space := filepath.Join(dir, "space")
	w.must(os.Mkdir(space, 0o700))
	w.must(exec.Command("chown", "--reference", s.DataDir(), space).Run())
	s.Exec("postgres", "CREATE TABLESPACE tiny LOCATION '"+space+"'; CREATE DATABASE target TABLESPACE tiny TEMPLATE template0")

	_, _, err = w.into(s, "target", d, rebuild.Options{Jobs: 1})
	var half *rebuild.Restored
	if !errors.As(err, &half) || !strings.Contains(err.Error(), "No space left on device") {
		t.Fatalf("the error is %v", err)
	}
	if len(half.Missing) == 0 || half.Missing[len(half.Missing)-1] != "public.large" {
		t.Errorf("missing are %q, loaded %q", half.Missing, half.Loaded)
	}
}
