package reload

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// program is a pg_restore that runs.
type program struct {
	ctx  context.Context
	cmd  *exec.Cmd
	errs head
}

// start starts pg_restore. It ends with ctx.
func (s *Server) start(ctx context.Context, stdin *os.File, args ...string) (*program, error) {
	if !s.KeepGoing {
		args = append([]string{"--exit-on-error"}, args...)
	}
	p := &program{ctx: ctx, cmd: exec.CommandContext(ctx, s.Program, append(append([]string{}, s.Args...), args...)...)}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = s.Env, s.out, &p.errs
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	// A group of its own, so that its children can be ended with it, and what ends cairn
	// by a terminal's keys is for cairn to hand on.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { p.stop(); return nil }
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Program, err)
	}
	return p, nil
}

// stop asks it to end, which it tells the server.
func (p *program) stop() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) }

// wait waits for its end, and returns why it failed.
func (p *program) wait() error {
	err := p.cmd.Wait()
	if err == nil {
		return nil
	}
	if p.ctx.Err() != nil { // it was stopped, whatever it says
		return p.ctx.Err()
	}
	name := filepath.Base(p.cmd.Path)
	if said := p.errs.String(); said != "" {
		return fmt.Errorf("%s: %w; it said: %s", name, err, said)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// head keeps the beginning of what a program writes: what went wrong first is the reason
// for the rest.
type head struct{ text []byte }

const headSize = 4 << 10

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), headSize-len(h.text))]...)
	return len(p), nil
}

// String returns it in one line.
func (h *head) String() string {
	return strings.Join(strings.FieldsFunc(string(h.text), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
