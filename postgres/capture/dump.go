package capture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-backup/cairn/postgres"
	"github.com/cairn-backup/cairn/postgres/archive"
)

// program is a client program that runs, and whose output is read.
type program struct {
	name    string
	cmd     *exec.Cmd
	cleanup func() error // of what its environment needs
	cancel  context.CancelFunc
	out     *bufio.Reader
	errs    tail
}

// start runs a client program on the database of the session.
func (r *run) start(ctx context.Context, path string, args ...string) (*program, error) {
	env, cleanup, err := r.target.Environ(r.name, r.session.conn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := exec.CommandContext(ctx, path, args...)
	p := &program{name: baseName(path), cmd: c, cleanup: cleanup, cancel: cancel}
	c.Env, c.Stderr = inItsEncoding(env), &p.errs
	// A group of its own: what ends cairn by a terminal's keys is for cairn to hand on.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // it tells the server
	c.WaitDelay = 10 * time.Second
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("start %s: %w", p.name, err), cleanup())
	}
	p.out = bufio.NewReaderSize(out, 256<<10)
	return p, nil
}

// inItsEncoding lets a program write in the encoding of the database.
func inItsEncoding(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "PGCLIENTENCODING=") })
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// wait waits for the end, and returns why the program failed. It must have been read to its end.
func (p *program) wait() error {
	err := p.cmd.Wait()
	p.cancel()
	if err != nil {
		err = p.failed(err)
	}
	return errors.Join(err, p.cleanup())
}

// stop ends a program of which nothing more is wanted.
func (p *program) stop() error {
	p.cancel()
	_ = p.cmd.Wait() // it was stopped; its status says nothing
	return p.cleanup()
}

// failed explains an error of what the program delivered, or of its status, by what it wrote.
func (p *program) failed(err error) error {
	said := p.errs.String()
	if said == "" {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return fmt.Errorf("%s: %w; it said: %s", p.name, err, said)
}

// tail keeps the first and the last lines that a program writes.
type tail struct{ first, last bytes.Buffer }

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if room := tailSize - t.first.Len(); room > 0 {
		k := min(room, len(p))
		t.first.Write(p[:k])
		p = p[k:]
	}
	t.last.Write(p)
	if extra := t.last.Len() - tailSize; extra > 0 {
		t.last.Next(extra)
	}
	return n, nil
}

// String returns it in one line.
func (t *tail) String() string {
	s := t.first.String()
	if t.last.Len() > 0 {
		s += " ... " + t.last.String()
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// dumpArgs are those of pg_dump. A pattern for what to take that fits nothing is an error: a misspelt table would be
// missing from all snapshots, and nobody would be told.
func (r *run) dumpArgs(more ...string) []string {
	args := []string{
		"--format=custom", "--compress=0", "--no-password", "--strict-names", "--snapshot=" + r.session.snapshot,
		fmt.Sprintf("--lock-wait-timeout=%d", r.o.LockWait.Milliseconds()),
	}
	for _, f := range []struct {
		flag     string
		patterns []string
	}{
		{"--schema=", r.o.Scope.Schemas}, {"--exclude-schema=", r.o.Scope.ExcludedSchemas},
		{"--table=", r.o.Scope.Tables}, {"--exclude-table=", r.o.Scope.ExcludedTables},
		{"--exclude-table-data=", r.o.Scope.ExcludedContents},
	} {
		for _, p := range f.patterns {
			args = append(args, f.flag+p)
		}
	}
	return append(args, more...)
}

// contents has pg_dump write the table of contents, and takes over its locks.
func (r *run) contents(ctx context.Context) (_ *archive.TOC, err error) {
	p, err := r.start(ctx, r.programs.Dump, r.dumpArgs()...)
	if err != nil {
		return nil, err
	}
	toc, err := archive.ReadTOC(p.out)
	if err != nil {
		return nil, p.ended(err)
	}
	// It waits for somebody to read on, and has locks meanwhile. Should it be done already, the
	// session sees what happened since.
	err = r.lock(ctx, toc)
	if err = errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	r.record.Database.Name = postgres.Name(r.name)
	r.record.Scope = r.o.Scope
	r.record.Dump.Program = toc.DumpVersion.S
	r.record.Dump.Archive = fmt.Sprintf("%d.%d", toc.Version.Major, toc.Version.Minor)
	return toc, nil
}

// ended is the error of an archive that broke off. If the program failed, that is the reason.
func (p *program) ended(err error) error {
	_, _ = io.Copy(io.Discard, p.out)
	status := p.wait()
	if status != nil {
		return status
	}
	return p.failed(err)
}
