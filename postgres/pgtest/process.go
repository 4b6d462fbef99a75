package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a server: its directory, and the process while it runs.
type process struct {
	home      *home
	dir       string // of the socket, the data, the log, and the number of the process
	port      int
	listen    bool
	settings  []string
	hba       []string
	files     map[string][]byte
	databases atomic.Int64 // how many were made, for names
	globals   sync.Mutex   // held while Globals looks and makes

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

func (p *process) data() string    { return filepath.Join(p.dir, "data") }
func (p *process) log() string     { return filepath.Join(p.dir, "log") }
func (p *process) pidFile() string { return filepath.Join(p.dir, "pid") }

// make makes the server's directory.
func (p *process) make(data func(dir string) error) error {
	dir, err := os.MkdirTemp(p.home.dir, "s")
	if err != nil {
		return err
	}
	p.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // whoever runs the test connects
		return err
	}
	if err := p.home.give(dir); err != nil {
		return err
	}
	if err := data(p.data()); err != nil {
		return err
	}
	hba := append([]string{"local all all trust", "local replication all trust"}, p.hba...)
	hba = append(hba, "host all all 127.0.0.1/32 scram-sha-256", "host all all ::1/128 scram-sha-256", "")
	if err := p.write("pg_hba.conf", []byte(strings.Join(hba, "\n"))); err != nil {
		return err
	}
	for name, contents := range p.files {
		if err := p.write(name, contents); err != nil {
			return err
		}
	}
	if p.listen {
		p.port, err = freePort()
	}
	return err
}

// write writes a file of the data directory.
func (p *process) write(name string, contents []byte) error {
	path := filepath.Join(p.data(), name)
	if err := os.WriteFile(path, contents, 0o600); err != nil {
		return err
	}
	return p.home.give(path)
}

// run starts the server and waits until it answers.
func (p *process) run(ctx context.Context) error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	addresses := ""
	if p.listen {
		addresses = "127.0.0.1,::1"
	}
	args := []string{"-D", p.data(), "-k", p.dir, "-p", fmt.Sprint(p.port),
		"-c", "listen_addresses=" + addresses, "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=16MB", "-c", "max_connections=40", "-c", "autovacuum=off", "-c", "jit=off"}
	cmd := exec.Command(p.home.postgres, append(args, p.settings...)...)
	cmd.Dir = p.dir
	cmd.Env = append(cleanEnv(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = p.home.attributes()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() { cmd.Wait(); close(exited) }()
	if err := os.WriteFile(p.pidFile(), fmt.Appendln(nil, cmd.Process.Pid), 0o644); err != nil {
		return errors.Join(err, p.kill())
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := p.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended: %v", cmd.ProcessState)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("it does not answer: %w", err), p.kill())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end stops the server, if it runs.
func (p *process) end() error {
	if p.cmd == nil {
		return nil
	}
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-p.exited:
			return p.forget()
		case <-time.After(30 * time.Second):
		}
	}
	return errors.Join(fmt.Errorf("process %d ends neither by SIGINT nor by SIGQUIT", p.cmd.Process.Pid), p.kill())
}

// kill kills the server and its processes. A process of its connections would
// otherwise go on until it waits for something, and only then see that it is alone.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	pids := children(p.cmd.Process.Pid)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	for _, pid := range pids {
		for !gone(pid) {
			time.Sleep(time.Millisecond)
		}
	}
	return p.forget()
}

// forget takes back the number of a process that ended, which may soon be another's.
func (p *process) forget() error {
	p.cmd = nil
	if err := os.Remove(p.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// children gives the numbers of a process's children, where there is a /proc.
func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		var child int
		if _, err := fmt.Sscan(field, &child); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// gone reports whether a process runs no more; a dead one may remain, with nobody to
// ask how it ended.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// logSize is how long the log is by now.
func (p *process) logSize() int64 {
	st, err := os.Stat(p.log())
	if err != nil {
		return 0
	}
	return st.Size()
}

// logFrom gives the log from a position on, its end if that is much.
func (p *process) logFrom(from int64) string {
	const most = 16 << 10
	f, err := os.Open(p.log())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	from = max(from, p.logSize()-most)
	text, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
