package connect_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-backup/cairn/postgres/connect"
	"github.com/cairn-backup/cairn/postgres/pgtest"
)

// programs makes a directory of programs that say they are of a version.
func programs(t *testing.T, version string, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		write(t, filepath.Join(dir, name), fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version), 0o755)
	}
	return dir
}

var all = []string{"pg_dump", "pg_dumpall", "pg_restore", "psql"}

func TestFindNearest(t *testing.T) {
	dirs := map[string]string{}
	var path []string
	for _, v := range []string{"12.22", "40.1", "30.2 (Debian 30.2-1)", "30.4", "30.4.1 patched", "35beta2", "20.10"} {
		dirs[v] = programs(t, v, all...)
		path = append(path, dirs[v])
	}
	path = append(path, "/nonexistent", programs(t, "30.9", "pg_dump")) // incomplete: passed over
	t.Setenv("PATH", strings.Join(path, ":"))
	for server, want := range map[connect.Version]string{
		200003: "20.10", // the server's major version
		300000: "30.4",  // the newest minor version, and of equals the first
		300007: "30.4",  // older in the minor version alone
		310000: "35beta2",
		360000: "40.1",
	} {
		p, err := connect.Find(t.Context(), "", server)
		if err != nil {
			t.Fatal(err)
		}
		if p.Dump != filepath.Join(dirs[want], "pg_dump") || p.Psql != filepath.Join(dirs[want], "psql") {
			t.Errorf("server %s: %s of %s, want %s", server, p.Dump, p.Version, want)
		}
	}
	_, err := connect.Find(t.Context(), "", 410002)
	if err == nil || !strings.Contains(err.Error(), "pg_dump is of version 40.1 ("+dirs["40.1"]) || !strings.Contains(err.Error(), "the server of version 41.2") ||
		!strings.Contains(err.Error(), "postgresql-client-41") || !strings.Contains(err.Error(), "--pg-bin") {
		t.Errorf("only older ones: %v", err)
	}
}

func TestFindInDirectory(t *testing.T) {
	wrapper := filepath.Join(t.TempDir(), "pg_wrapper")
	write(t, wrapper, "#!/bin/sh\n", 0o755)
	wrapped := t.TempDir()
	for _, name := range all {
		if err := os.Symlink(wrapper, filepath.Join(wrapped, name)); err != nil {
			t.Fatal(err)
		}
	}
	mixed := programs(t, "30.1", "pg_dump", "pg_dumpall", "pg_restore")
	write(t, filepath.Join(mixed, "psql"), "#!/bin/sh\necho 'psql (PostgreSQL) 30.2'\n", 0o755)
	failing := programs(t, "30.1", all...)
	write(t, filepath.Join(failing, "pg_dump"), "#!/bin/sh\nexit 3\n", 0o755)
	for _, c := range []struct{ name, dir, want string }{
		{"older", programs(t, "29.9", all...), "pg_dump is of version 29.9"},
		{"nothing there", t.TempDir(), "no such file"},
		{"incomplete", programs(t, "30.1", "pg_dump", "psql"), "it is missing beside pg_dump"},
		{"of two versions", mixed, "of version 30.2"},
		{"wrapper", wrapped, "pg_dump: this is Debian's wrapper, whose version varies: name /usr/lib/postgresql/VERSION/bin"},
		{"failing", failing, "exit status 3"},
		{"another program", programs(t, "nonsense", all...), "which is no version"},
	} {
		if p, err := connect.Find(t.Context(), c.dir, 300000); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, p, err)
		}
	}
	dir := programs(t, "31.0", all...)
	if p, err := connect.Find(t.Context(), dir, 300000); err != nil || p.Version.String() != "31.0" {
		t.Errorf("newer: %v, %v", p, err)
	}
}

// TestFindInstalled finds the programs of the server that is installed here, which is
// not in PATH where Debian's packages are.
func TestFindInstalled(t *testing.T) {
	s := pgtest.Shared(t)
	var num int
	if _, err := fmt.Sscan(s.Query("postgres", "SHOW server_version_num"), &num); err != nil {
		t.Fatal(err)
	}
	server := connect.Version(num)
	if version := s.Query("postgres", "SHOW server_version"); !strings.HasPrefix(version, server.String()) {
		t.Errorf("%d is %s, and by the server %s", num, server, version)
	}
	p, err := connect.Find(t.Context(), "", server)
	if err != nil {
		t.Fatal(err)
	}
	if p.Version.Major() != server.Major() {
		t.Errorf("%s for a server of version %s", p.Version, server)
	}
	for _, path := range []string{p.Dump, p.DumpAll, p.Restore, p.Psql} {
		if out, err := exec.Command(path, "--version").Output(); err != nil || !strings.Contains(string(out), " "+p.Version.String()) {
			t.Errorf("%s: %s, %v", path, out, err)
		}
	}
}

func TestVersion(t *testing.T) {
	for v, want := range map[connect.Version]string{150018: "15.18 15", 100000: "10.0 10", 90624: "9.6.24 9"} {
		if got := fmt.Sprint(v, v.Major()); got != want {
			t.Errorf("%d: %s, want %s", int(v), got, want)
		}
	}
}
