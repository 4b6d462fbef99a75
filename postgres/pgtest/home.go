package pgtest

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cairn-backup/cairn/internal/need"
)

// home is what the servers of this test binary share: a temporary directory, an
// installation with an extension of our own, and a data directory to copy.
type home struct {
	dir      string
	bin      string // the directory of PostgreSQL's own programs
	postgres string // the server, in the installation below dir
	version  int
	user     *syscall.Credential // who runs the servers; nil is who runs the test
	keeper   io.Closer           // closed by the end of this process: the keeper then cleans up

	template struct {
		sync.Once
		err error
	}
}

// newHome is called once.
var newHome = sync.OnceValues(makeHome)

// setUp makes the home, or ends a test that can't have one.
func setUp(t testing.TB) *home {
	t.Helper()
	if BinDir() == "" {
		need.Missing(t, "PostgreSQL's server is not installed")
	}
	h, err := newHome()
	if err != nil {
		t.Fatalf("preparing for servers of PostgreSQL: %v", err)
	}
	return h
}

// BinDir is where the programs of the newest PostgreSQL server of this machine are, ""
// if there is none.
var BinDir = sync.OnceValue(func() string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql*/bin"} {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	best, bin := 0, ""
	for _, dir := range dirs {
		if !isThere(filepath.Join(dir, "initdb")) || !isThere(filepath.Join(dir, "pg_config")) {
			continue
		}
		if v, err := major(filepath.Join(dir, "postgres")); err == nil && v > best {
			best, bin = v, dir
		}
	}
	return bin
})

// major asks one of PostgreSQL's programs for its major version.
func major(program string) (int, error) {
	out, err := exec.Command(program, "--version").Output() // "postgres (PostgreSQL) 15.18 (Debian ...)"
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(out), "(PostgreSQL) ")
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	if !ok || digits == 0 {
		return 0, fmt.Errorf("%s --version says %q", program, out)
	}
	return strconv.Atoi(rest[:digits])
}

func makeHome() (*home, error) {
	h := &home{bin: BinDir()}
	var err error
	if h.version, err = major(filepath.Join(h.bin, "postgres")); err != nil {
		return nil, err
	}
	if h.user, err = serverUser(); err != nil {
		return nil, err
	}
	if h.dir, err = os.MkdirTemp(tempDir(), "cairn-pg-"); err != nil {
		return nil, err
	}
	if h.keeper, err = keep(h.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(h.dir))
	}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		return nil, err
	}
	return h, h.install()
}

// serverUser says who runs the servers if the test is root, whom the server refuses.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("root may not run PostgreSQL, and who else could: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// tempDir is a directory for ours: with a short path, as that of a Unix socket is 107
// bytes at most, and open to the server's user.
func tempDir() string {
	const longest = 107 - len("/cairn-pg-1234567890/s1234567890/.s.PGSQL.12345.lock")
	dir := filepath.Clean(os.TempDir())
	if len(dir) > longest {
		return "/tmp"
	}
	for d := dir; os.Geteuid() == 0 && d != "/"; d = filepath.Dir(d) {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
	}
	return dir
}

// give makes a file the server's user's.
func (h *home) give(path string) error {
	if h.user == nil {
		return nil
	}
	return os.Chown(path, int(h.user.Uid), int(h.user.Gid))
}

// attributes are those of a process of the server's user. It does not get the signals
// that a terminal sends to the test: who stops a server is the test or the keeper.
func (h *home) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: h.user, Setpgid: true}
}

// command runs one of PostgreSQL's programs as the server's user.
func (h *home) command(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(h.bin, name), args...)
	cmd.Dir = h.dir
	cmd.Env = append(cleanEnv(), "LC_ALL=C")
	cmd.SysProcAttr = h.attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// initdb makes a data directory. The first one is made in a second, the others are
// copies.
func (h *home) initdb(dir string) error {
	template := filepath.Join(h.dir, "template", "data")
	h.template.Do(func() { h.template.err = h.makeTemplate(template) })
	if h.template.err != nil {
		return h.template.err
	}
	if out, err := exec.Command("cp", "-Rp", template, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copying a data directory: %w\n%s", err, out)
	}
	return nil
}

func (h *home) makeTemplate(dir string) error {
	parent := filepath.Dir(dir)
	if err := os.Mkdir(parent, 0o700); err != nil {
		return err
	}
	pw := filepath.Join(parent, "password")
	if err := os.WriteFile(pw, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	if err := errors.Join(h.give(parent), h.give(pw)); err != nil {
		return err
	}
	return h.command("initdb", "-D", dir, "-U", superuser, "--pwfile="+pw, "-A", "scram-sha-256", "--no-sync",
		"-E", "UTF8", "--locale=C", "--wal-segsize=1", "--no-instructions")
}

// keep starts the keeper: a shell that waits for this process to end, however it
// ends, then stops what servers it left and removes the directory.
func keep(dir string) (io.Closer, error) {
	cmd := exec.Command("/bin/sh", "-c", keeperScript, "cairn-pg-keeper", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return stdin, cmd.Start()
}

//go:embed keeper.sh
var keeperScript string
