package pgtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cairn-backup/cairn/postgres/pgtest"
)

func TestShared(t *testing.T) {
	s := pgtest.Shared(t)
	if again := pgtest.Shared(t); again.PID() != s.PID() {
		t.Errorf("two shared servers: %d and %d", s.PID(), again.PID())
	}
	var db string
	t.Run("one test", func(t *testing.T) {
		db = pgtest.Shared(t).NewDatabase(t, pgtest.Encoding("LATIN1"), pgtest.Locale("C"))
		s.Exec(db, "CREATE TABLE t (a text, b int); INSERT INTO t VALUES ('x', 1), ('y', NULL);")
		if got := s.Query(db, "SELECT * FROM t ORDER BY a"); got != "x|1\ny|" {
			t.Errorf("rows: %q", got)
		}
		if got := s.Query(db, "SHOW server_encoding"); got != "LATIN1" {
			t.Errorf("encoding %s", got)
		}
	})
	if got := s.Query("postgres", "SELECT count(*) FROM pg_database WHERE datname = '"+db+"'"); got != "0" {
		t.Errorf("database %s outlived its test", db)
	}
}

func TestStart(t *testing.T) {
	s := pgtest.Start(t, pgtest.Listen(), pgtest.Setting("work_mem", "1234kB"), pgtest.File("some.pem", []byte("text")))
	if got := s.Query("postgres", "SHOW work_mem"); got != "1234kB" {
		t.Errorf("work_mem is %s", got)
	}
	if got := s.Query("postgres", "SELECT pg_read_file('some.pem')"); got != "text" {
		t.Errorf("file: %q", got)
	}
	cmd := exec.Command(filepath.Join(s.BinDir(), "psql"), "-X", "-A", "-t", "-c", "SELECT 'by TCP', host(inet_server_addr())")
	cmd.Env = append(s.Env("postgres"), "PGHOST=127.0.0.1", "PGPASSWORD="+pgtest.Password)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "by TCP|127.0.0.1\n" {
		t.Errorf("with the password: %v %s", err, out)
	}
	cmd = exec.Command(filepath.Join(s.BinDir(), "psql"), "-X", "-w", "-c", "SELECT 1")
	cmd.Env = append(s.Env("postgres"), "PGHOST=127.0.0.1")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("without a password: %s", out)
	}
}

func TestKill(t *testing.T) {
	s := pgtest.Start(t)
	db := s.NewDatabase(t)
	s.Exec(db, "CREATE TABLE t (n int); INSERT INTO t VALUES (7);")
	sleeper := exec.Command(filepath.Join(s.BinDir(), "psql"), "-X", "-c", "SELECT pg_sleep(1000)")
	sleeper.Env = s.Env(db)
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	for s.Query(db, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") != "1" {
		time.Sleep(10 * time.Millisecond)
	}
	s.Kill()
	if err := sleeper.Wait(); err == nil {
		t.Error("a connection outlived the server")
	}
	s.Restart()
	if got := s.Query(db, "SELECT n FROM t"); got != "7" {
		t.Errorf("after a restart: %q", got)
	}
	s.Stop()
	s.Stop()
}

func TestStandby(t *testing.T) {
	s := pgtest.Start(t)
	follower := s.Standby(t)
	db := s.NewDatabase(t)
	if got := follower.Query("postgres", "SELECT pg_is_in_recovery()"); got != "t" {
		t.Fatalf("it is no standby: %s", got)
	}
	for follower.Query("postgres", "SELECT count(*) FROM pg_database WHERE datname = '"+db+"'") != "1" {
		time.Sleep(10 * time.Millisecond)
	}
}

// TestKeeper kills a test that has servers.
func TestKeeper(t *testing.T) {
	pgtest.Shared(t) // skips where there is no server
	if os.Getenv("CAIRN_PGTEST_VICTIM") != "" {
		s := pgtest.Start(t)
		os.Stdout.WriteString(strconv.Itoa(s.PID()) + " " + filepath.Dir(s.SocketDir()) + "\n")
		select {}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKeeper$")
	cmd.Env = append(os.Environ(), "CAIRN_PGTEST_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := out.Read(line)
	pid, dir, ok := strings.Cut(strings.TrimSpace(string(line[:n])), " ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", line[:n], err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	for {
		_, errDir := os.Stat(dir)
		exe, errPID := os.Readlink("/proc/" + pid + "/exe") // none of a process that has ended
		if os.IsNotExist(errDir) && errPID != nil {
			return
		}
		t.Logf("still there: %s %v, %s", dir, errDir, exe)
		time.Sleep(20 * time.Millisecond) // until the test times out
	}
}
