package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Regression starts a server, runs PostgreSQL's own regression tests on it, and gives
// the name of the database that they leave behind: some thousand objects, made by those
// who know what is hard. It needs the directory that tools/pg-regress.sh makes; without
// one the test is skipped, as fetching the source of PostgreSQL is not for each run.
func Regression(t testing.TB, opts ...Option) (s *Server, db string) {
	t.Helper()
	source := os.Getenv("CAIRN_PG_REGRESS")
	if source == "" {
		t.Skip("SKIPPED, NOTHING WAS TESTED: PostgreSQL's own regression tests are not here: tools/pg-regress.sh DIR fetches them, then set CAIRN_PG_REGRESS=DIR")
	}
	s = Start(t, opts...)
	config, err := exec.Command(filepath.Join(s.BinDir(), "pg_config"), "--pkglibdir").Output()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(s.dir, "regress")
	for _, dir := range []string{out, filepath.Join(out, "results"), filepath.Join(out, "testtablespace")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := s.home.give(dir); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(strings.TrimSpace(string(config)), "pgxs/src/test/regress/pg_regress"),
		"--inputdir="+source, "--outputdir="+out, "--dlpath="+source, "--bindir="+s.BinDir(),
		"--schedule="+filepath.Join(source, "parallel_schedule"), "--max-concurrent-tests=20",
		"--host="+s.SocketDir(), "--port="+s.Port(), "--user="+superuser)
	if s.Version() >= 16 {
		cmd.Args = append(cmd.Args, "--expecteddir="+source)
	}
	cmd.Dir = out
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = s.home.attributes()
	// Some tests expect another locale than ours, so it may end with a status of failure;
	// what it made is what counts.
	text, err := cmd.CombinedOutput()
	if n := s.Query("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'regression'"); n != "1" {
		t.Fatalf("pg_regress left no database: %v\n%s", err, text)
	}
	if n := s.Query("regression", "SELECT count(*) > 1000 FROM pg_class WHERE oid >= 16384"); n != "t" {
		t.Fatalf("pg_regress left few objects: %v\n%s", err, text)
	}
	s.Exec("regression", unequal)
	return s, "regression"
}

// unequal takes out what differs after pg_dump and pg_restore too, as PostgreSQL's own
// test of upgrades does: children whose columns stand in another order than those of
// their parents, and materialised views whose tables have changed since.
const unequal = `
	SET client_min_messages = error;
	DROP TABLE IF EXISTS public.gtestxx_4, public.test_type_diff2_c1, public.test_type_diff2_c2;
	SELECT format('REFRESH MATERIALIZED VIEW %s', oid::regclass) FROM pg_class, generate_series(1, 3) WHERE relkind = 'm' AND relispopulated ORDER BY generate_series, oid \gexec
`
